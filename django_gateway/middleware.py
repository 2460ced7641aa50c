"""Middleware around consumers, in Django's own manner.

``CHANNEL_LAYERS["default"]["MIDDLEWARE"]`` lists dotted paths, outermost first, of factories::

    def timing(get_outcome):
        def call(message, consumer):
            began = time.monotonic()
            try:
                return get_outcome(message, consumer)
            finally:
                log.info("%s took %.3f s", consumer.name, time.monotonic() - began)

        return call

``get_outcome`` runs the consumer and returns its outcome, which is ``accepted``, or raises what
the consumer raised, `Reject` and `ConsumeLater` included. What ``call`` returns (nothing stands
for ``accepted``) or raises takes its place. A consumer that raises has sent nothing; what the
middleware itself sends leaves with the outcome.

Factories say what they can by ``sync_capable`` and ``async_capable``, which Django's decorators
(``sync_and_async_middleware``, …) set; without them they are synchronous. There is a chain for
each kind of consumers, built once at the start, and where a middleware is of the other kind it
is adapted as Django adapts. Views, and `HttpConsumer`, have Django's ``MIDDLEWARE``: this one is
not around them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.http.response import HttpResponseBase

from django_gateway.channel import Outbox
from django_gateway.exceptions import ConsumeLater, Reject, ResponseLater
from django_gateway.message import Message
from django_gateway.routing import Route, Router, load, name_of
from gateway.core.layers import codec
from gateway.core.layers.base import GROUP_ADD, GROUP_DISCARD, GROUP_SEND, OK, SEND, Outcome, Send

log = logging.getLogger("django.gateway")

KEY: Final = "CHANNEL_LAYERS['default']['MIDDLEWARE']"
VERBS: Final = {
    SEND: "send",
    GROUP_ADD: "group_add",
    GROUP_DISCARD: "group_discard",
    GROUP_SEND: "group_send",
}
REMEMBERED: Final = frozenset({"channel_session", "http_session", "user"})
"""What a message has from its first use on."""


class Sent:
    """Something that a consumer sent and that has not left yet."""

    __slots__ = ("action",)

    def __init__(self, action: Send) -> None:
        self.action = action

    @property
    def verb(self) -> str:
        """``send``, ``group_send``, ``group_add`` or ``group_discard``."""
        return VERBS.get(self.action[0], "other")

    @property
    def name(self) -> str:
        """The channel's name, or the group's."""
        return str(self.action[1])

    @property
    def content(self) -> dict[str, Any] | None:
        """What is sent, decoded anew at each look; None where nothing is."""
        if self.action[0] in {SEND, GROUP_SEND}:
            return codec.decode(self.action[2])
        return None

    @property
    def member(self) -> str | None:
        """The channel that joins or leaves the group; None where none does."""
        if self.action[0] in {GROUP_ADD, GROUP_DISCARD}:
            return str(self.action[2])
        return None

    def __repr__(self) -> str:
        what = self.member if self.content is None else self.content
        return f"<{self.verb} {self.name} {what!r}>"


class ConsumerCall:
    """What a middleware is told of the consumer that is about to run, or has run."""

    __slots__ = ("_box", "kwargs", "route")

    def __init__(self, route: Route, kwargs: dict[str, Any], box: Outbox) -> None:
        self.route = route
        self.kwargs = kwargs
        """The consumer's arguments beside the message: the filters' named groups. May be changed
        before it runs."""
        self._box = box

    @property
    def name(self) -> str:
        """The consumer's dotted path."""
        return self.route.name

    @property
    def function(self) -> Callable[..., Any]:
        """The consumer itself."""
        return self.route.consumer

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return self.route.is_async

    @property
    def sends(self) -> list[Sent]:
        """What will leave with the outcome, in order; assign the list that should instead."""
        return [Sent(action) for action in self._box.sends]

    @sends.setter
    def sends(self, sends: Sequence[Sent]) -> None:
        self._box.sends = [one.action for one in sends]

    def __repr__(self) -> str:
        return f"<call of {self.name}>"


Chain = Callable[[Message, ConsumerCall], Any]


class Middleware:
    """The settings' list, built. Raises ImproperlyConfigured with a text that names the fix."""

    def __init__(self, paths: Sequence[str], router: Router) -> None:
        if isinstance(paths, str) or not isinstance(paths, list | tuple):
            raise ImproperlyConfigured(
                f"{KEY} is a list of dotted paths: ['shop.middleware.timing'], not {paths!r}"
            )
        self._factories = [(path, _factory(path)) for path in paths]
        of_consumers = [one for one in router.routes if one.on_loop is None]
        self._chains: dict[bool, Chain] = {}
        for is_async in {one.is_async for one in of_consumers}:
            self.chain(is_async=is_async)

    def chain(self, *, is_async: bool) -> Chain:
        """Return the chain around consumers of one kind: of a message and a `ConsumerCall`."""
        found = self._chains.get(is_async)
        if found is None:
            found = self._chains[is_async] = self._build(is_async=is_async)
        return found

    def _build(self, *, is_async: bool) -> Chain:
        chain: Chain = _arun if is_async else _run
        chain_is_async = is_async
        for path, factory in reversed(self._factories):
            can_sync = getattr(factory, "sync_capable", True)
            can_async = getattr(factory, "async_capable", False)
            its_async = can_async and (chain_is_async or not can_sync)
            adapted = _adapted(chain, chain_is_async, its_async)
            try:
                made = factory(adapted)
            except MiddlewareNotUsed as error:
                if settings.DEBUG:
                    log.debug("MiddlewareNotUsed: %r%s", path, f": {error}" if str(error) else "")
                continue
            _check(path, made, is_async=its_async)
            chain, chain_is_async = _watched(path, made, is_async=its_async), its_async
        return _adapted(chain, chain_is_async, is_async)


def middleware_of(layer: Any, router: Router) -> Middleware | None:
    """Return what ``CHANNEL_LAYERS["default"]`` asks for; None where it asks for nothing."""
    paths = layer.get("MIDDLEWARE", ())
    return None if paths in ([], ()) else Middleware(paths, router)


# ---------------------------------------------------------------- the innermost


def _run(message: Message, call: ConsumerCall) -> Outcome:
    with _nothing_of_a_failure(message, call):
        result = call.route.consumer(message, **call.kwargs)
        if result is not None:
            check_result(call.route, result)
    return OK


async def _arun(message: Message, call: ConsumerCall) -> Outcome:
    with _nothing_of_a_failure(message, call):
        result = await call.route.consumer(message, **call.kwargs)
        if result is not None:
            check_result(call.route, result)
    return OK


@contextmanager
def _nothing_of_a_failure(message: Message, call: ConsumerCall) -> Iterator[None]:
    """Have all be as before where the consumer raises: middleware may run it once more."""
    box = call._box  # noqa: SLF001 - its keeper
    mark = box.mark()
    there = message.__dict__.keys() & REMEMBERED
    try:
        yield
    except BaseException:
        box.back_to(mark)
        for name in REMEMBERED - there:
            message.__dict__.pop(name, None)
        raise


def check_result(route: Route, result: Any) -> None:
    """Look at what a consumer returned, which nobody gets: warn once, or raise TypeError.

    It raises for what says that the consumer has not done what it was meant to do.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{route.name} is no async def, yet returned a coroutine: nobody awaits it")
    decision = result.__name__ if inspect.isclass(result) else type(result).__name__
    if isinstance(result, _DECISIONS) or result in _DECISIONS:
        raise TypeError(f"{route.name} returned {decision}(…), which refuses nothing: raise it")
    if isinstance(result, HttpResponseBase):
        raise TypeError(
            f"{route.name} returned an {decision}, as views do: a consumer answers with "
            "message.reply(status=200, content=b'…'), an HttpConsumer with a response"
        )
    if route.name not in _returned:
        _returned.add(route.name)
        log.warning(
            "%s returned a %s, which nobody gets: answer with message.reply(…), or return nothing",
            route.name,
            type(result).__name__,
        )


_DECISIONS = (Reject, ConsumeLater, ResponseLater)
_returned: set[str] = set()
"""Consumers that were warned of: once in a process is enough."""


# ---------------------------------------------------------------- each level


def _adapted(chain: Chain, chain_is_async: bool, wanted_async: bool) -> Chain:
    if wanted_async and not chain_is_async:
        return cast("Chain", sync_to_async(chain, thread_sensitive=True))
    if chain_is_async and not wanted_async:
        return cast("Chain", async_to_sync(chain))
    return chain


def _watched(path: str, made: Any, *, is_async: bool) -> Chain:
    """Return a level of the chain that returns an outcome, or raises an error that names it."""
    if is_async:

        async def alevel(message: Message, call: ConsumerCall) -> Outcome:
            found = made(message, call)
            if not inspect.isawaitable(found):
                raise TypeError(
                    f"the middleware {path} was given an asynchronous get_outcome and returned "
                    f"{found!r}: what it makes must be async def here, or the factory be decorated "
                    "with django.utils.decorators.sync_only_middleware"
                )
            return _outcome(path, await found)

        return alevel

    def level(message: Message, call: ConsumerCall) -> Outcome:
        found = made(message, call)
        if inspect.iscoroutine(found):
            found.close()
            raise TypeError(
                f"the middleware {path} returned a coroutine around a synchronous consumer, where "
                "get_outcome is none to be awaited: return what it returned, or decorate the "
                "factory with django.utils.decorators.async_only_middleware"
            )
        return _outcome(path, found)

    return level


def _outcome(path: str, found: Any) -> Outcome:
    if found.__class__ is Outcome:
        return found
    if found is None:
        return OK
    raise TypeError(
        f"the middleware {path} returned {found!r}: return what get_outcome(message, consumer) "
        "returned, or nothing; to refuse, raise Reject"
    )


# ---------------------------------------------------------------- reading what people write


def _factory(path: Any) -> Callable[..., Any]:
    if not isinstance(path, str):
        raise ImproperlyConfigured(
            f"{KEY} holds {path!r}: write its dotted path, such as 'shop.middleware.timing'"
        )
    factory = load(path, KEY)
    if not callable(factory):
        raise ImproperlyConfigured(
            f"{KEY}: {path!r} is no middleware but {type(factory).__name__}; a middleware is a "
            "function of get_outcome that returns a function of (message, consumer)"
        )
    if iscoroutinefunction(factory):
        raise ImproperlyConfigured(
            f"{KEY}: {path!r} is async def; the factory is a plain def, what it returns may be "
            "async def"
        )
    if not getattr(factory, "sync_capable", True) and not getattr(factory, "async_capable", False):
        raise ImproperlyConfigured(
            f"{KEY}: {path!r} has neither sync_capable nor async_capable set to True"
        )
    return cast("Callable[..., Any]", factory)


def _check(path: str, made: Any, *, is_async: bool) -> None:
    if made is None:
        raise ImproperlyConfigured(
            f"{KEY}: the factory {path!r} returned None; does it return the function that it makes?"
        )
    if not callable(made):
        raise ImproperlyConfigured(
            f"{KEY}: the factory {path!r} returned {made!r}, which cannot be called"
        )
    if not is_async and iscoroutinefunction(made):
        raise ImproperlyConfigured(
            f"{KEY}: {path!r} made an async def around a synchronous consumer; decorate the "
            "factory with django.utils.decorators.async_only_middleware, or with "
            "sync_and_async_middleware and have it make a plain function where "
            "iscoroutinefunction(get_outcome) is false"
        )
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    try:
        signature.bind(None, None)
    except TypeError:
        hint = (
            "a middleware of views stands in MIDDLEWARE"
            if len(signature.parameters) == 1
            else "write def call(message, consumer)"
        )
        raise ImproperlyConfigured(
            f"{KEY}: what {path!r} makes, {name_of(made)}{signature}, cannot be called with "
            f"(message, consumer); {hint}"
        ) from None
