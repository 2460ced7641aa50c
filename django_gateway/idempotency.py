"""`idempotent`: a message that comes twice is handled once.

What is delivered at least once may come again: a device that did not hear the acknowledgement
sends it again, and the gateway hands in again what failed. This remembers, in Django's cache, what
was handled.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from django_gateway.message import Message

F = TypeVar("F", bound=Callable[..., Any])

DAY: Final = 86_400.0
"""Seconds for which it is remembered: a device that was away for longer starts anew."""


def identity_of(message: Message) -> tuple[str, bool] | None:
    """Return what a message is known by, and whether that alone says that it is the same.

    The application's own id, the user property ``id`` of MQTT 5, or the Message-ID of a mail, from
    the same sender to the same recipients; else the packet identifier and what it says, which tells
    only where it is marked ``duplicate``, since devices use their identifiers again. None where
    there is neither.
    """
    content = message.content
    who = str(content.get("client_id") or content.get("broker") or "")
    for name, value in content.get("user_properties") or ():
        if name == "id":
            return _digest("id", who, value), True
    if content.get("message_id"):
        # A mail to several comes once for each by LMTP, or by several ways; and anybody may write
        # the Message-ID of another's mail.
        whose = [str(content.get("mail_from")), *sorted(content.get("rcpt_to") or ())]
        return _digest("mail", "\n".join(whose), str(content["message_id"])), True
    if content.get("packet_id"):
        payload = content.get("bytes")
        if payload is None:
            payload = str(content.get("text", "")).encode()
        said = f"{content['packet_id']} {content.get('topic')} "
        return _digest("packet", who, said, bytes(payload)), False
    return None


def _digest(kind: str, who: str, text: str, payload: bytes = b"") -> str:
    known = hashlib.blake2b(f"{kind}\0{who}\0{text}\0".encode() + payload, digest_size=16)
    return f"gateway.idempotent.{known.hexdigest()}"


@overload
def idempotent(consumer: F, /) -> F: ...
@overload
def idempotent(*, seconds: float = ..., cache: str = ...) -> Callable[[F], F]: ...


def idempotent(consumer: Any = None, /, *, seconds: float = DAY, cache: str = "default") -> Any:
    """Have a consumer skip a message that it has handled: ``@idempotent``.

    Or ``@idempotent(seconds=3600, cache="shared")``. A message counts as handled once the consumer
    has returned; two copies that run at the same moment both do, so what must not happen twice at
    all needs a unique constraint besides. The cache has to be one that all workers share.
    """
    if consumer is None:
        return functools.partial(_decorated, seconds=seconds, cache=cache)
    return _decorated(consumer, seconds=seconds, cache=cache)


def _decorated(consumer: Callable[..., Any], *, seconds: float, cache: str) -> Callable[..., Any]:
    if not callable(consumer):
        raise TypeError(f"@idempotent stands over a consumer, not {consumer!r}")

    def message_of(args: tuple[Any, ...]) -> Message | None:
        return next((one for one in args if isinstance(one, Message)), None)

    if inspect.iscoroutinefunction(consumer):

        @functools.wraps(consumer)
        async def acalled(*args: Any, **kwargs: Any) -> Any:
            from django.core.cache import caches  # noqa: PLC0415 - needs settings

            message = message_of(args)
            known = None if message is None else identity_of(message)
            if known is None or message is None:
                return await consumer(*args, **kwargs)
            key, sure = known
            if (sure or message.get("duplicate")) and await caches[cache].aget(key):
                return None
            result = await consumer(*args, **kwargs)
            await caches[cache].aset(key, True, seconds)
            return result

        return acalled

    @functools.wraps(consumer)
    def called(*args: Any, **kwargs: Any) -> Any:
        from django.core.cache import caches  # noqa: PLC0415 - needs settings

        message = message_of(args)
        known = None if message is None else identity_of(message)
        if known is None or message is None:
            return consumer(*args, **kwargs)
        key, sure = known
        if (sure or message.get("duplicate")) and caches[cache].get(key):
            return None
        result = consumer(*args, **kwargs)
        caches[cache].set(key, True, seconds)
        return result

    return called
