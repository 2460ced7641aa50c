"""What the route of a stateful class leads to: the instance of the message's connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured

from django_gateway.instances import here
from django_gateway.message import Message
from django_gateway.routing import Call, is_async, name_of

if TYPE_CHECKING:
    from django_gateway.generic.base import BaseConsumer


def check(kind: type[BaseConsumer], methods: Mapping[str, str]) -> None:
    """Refuse what can have no state, and a method that nobody would call."""
    name = name_of(kind)
    reconnected = getattr(kind, "reconnected", None)
    if not kind.stateful:
        if reconnected is not None:
            raise ImproperlyConfigured(
                f"{name}.reconnected is never called: there is nothing to go on with. Write "
                f"stateful = True in {kind.__name__}, or leave the method out"
            )
        return
    if hasattr(kind, "reconnected") and not callable(reconnected):
        raise ImproperlyConfigured(
            f"{name}.reconnected is {reconnected!r}; write a method: def reconnected(self, message)"
        )
    for channel, method in methods.items():
        protocol = channel.rpartition(".")[0]
        missing = [
            one for one in (f"{protocol}.connect", f"{protocol}.disconnect") if one not in methods
        ]
        if protocol == "http":
            raise ImproperlyConfigured(
                f"{name} is stateful, and 'http' has no connections: each request is on its own. "
                "Take requests in a class of their own, without stateful"
            )
        if missing:
            raise ImproperlyConfigured(
                f"{name} is stateful, and {channel!r} belongs to no connection that it sees begin "
                f"and end: lead {' and '.join(map(repr, missing))} to methods, too, or put "
                f"{method} into a class of its own, without stateful"
            )


def resuming(kind: type[BaseConsumer], channels: Sequence[str]) -> list[Call]:
    """Return what is called before a method, where its instance is lost."""
    mid = any(one.rpartition(".")[2] not in ("connect", "disconnect") for one in channels)
    if not kind.stateful or not mid or not hasattr(kind, "reconnected"):
        return []
    return [Call(kind.reconnected, ("self", "message"))]


def keeping(
    kind: type[BaseConsumer], function: Callable[..., Any], calls: Sequence[Call]
) -> Callable[..., Any]:
    """Return the consumer that calls ``function`` of the connection's own instance.

    ``calls`` are those of the function alone.
    """
    reconnected: Any = getattr(kind, "reconnected", None)
    on_loop = any(is_async(one.function) for one in calls)

    def consumer(message: Message, **kwargs: Any) -> Any:
        instances = here()
        held = instances.begin(kind, message, kwargs)
        try:
            if held.lost:
                reconnected(held.one, message, **kwargs)
            result = function(held.one, message, **kwargs)
        except BaseException as error:
            instances.failed(held, error)
            raise
        instances.done(held)
        return result

    async def aconsumer(message: Message, **kwargs: Any) -> None:
        instances = here()
        held = instances.begin(kind, message, kwargs)
        try:
            if held.lost:
                await _either(reconnected, is_async(reconnected), held.one, message, kwargs)
            await _either(function, on_loop, held.one, message, kwargs)
        except BaseException as error:
            instances.failed(held, error)
            raise
        instances.done(held)

    found: Callable[..., Any] = aconsumer if on_loop or is_async(reconnected) else consumer
    found.__dict__["stateful"] = True  # for a worker to know of it
    return found


async def _either(
    function: Callable[..., Any],
    on_loop: bool,
    one: BaseConsumer,
    message: Message,
    kwargs: dict[str, Any],
) -> None:
    """Call a method where it may run: what is not ``on_loop`` may block."""
    if not on_loop:
        await sync_to_async(function)(one, message, **kwargs)
        return
    result = function(one, message, **kwargs)
    if result is not None:
        await result
