r"""The routing table: which consumer a message goes to.

::

    routing = [
        route("websocket.connect", connect, path=r"^/chat/(?P<room>\w+)/$"),
        route(["websocket.receive", "sse.receive"], "chat.consumers.receive"),
        include("shop.routing.routes", path=r"^/shop"),
    ]

The first route of the message's channel whose filters all match is taken. A filter is a
regular expression, matched at the start (``re.match``) of the value of that key as text:
bytes as UTF-8, numbers by ``str``, lists by element (any may match). A key that is missing
or None does not match. Named groups become arguments of the consumer.

The table is compiled per channel: a match costs what that channel's routes cost. Wrong usages
raise `ImproperlyConfigured` with a text that names the fix.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from django_gateway.message import Message
from gateway.core import names

Chain = tuple[re.Pattern[str], ...]
Filters = dict[str, Chain]
"""By key the expressions that match one after the other, each where the last one ended."""


class Route:
    """One line of the table, made by `route`: channels, a consumer, filters."""

    __slots__ = ("channels", "consumer", "filters", "is_async", "name", "on_loop")

    def __init__(
        self,
        channels: tuple[str, ...],
        consumer: Callable[..., Any],
        filters: Filters,
        on_loop: Callable[[Message], bool] | None = None,
    ) -> None:
        self.channels = channels
        self.consumer = consumer
        self.filters = filters
        self.is_async = is_async(consumer)
        self.on_loop = on_loop
        """Decides for each message whether ``consumer.on_loop(message)`` is awaited instead."""
        self.name = name_of(consumer)

    def under(self, prefix: Filters) -> Route:
        """Return the same route behind the filters of an `include`."""
        merged = {key: chain + self.filters.get(key, ()) for key, chain in prefix.items()}
        return Route(self.channels, self.consumer, {**self.filters, **merged}, self.on_loop)

    def match(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the consumer's arguments, or None where a filter does not match."""
        found: dict[str, Any] = {}
        for key, chain in self.filters.items():
            value = content.get(key)
            if value.__class__ is str:
                groups = _follow(chain, value)
            elif value.__class__ is list:
                groups = next(
                    (got for item in value if (got := _match(chain, item)) is not None), None
                )
            else:
                groups = _match(chain, value)
            if groups is None:
                return None
            if groups:
                found.update(groups)
        return found

    def __repr__(self) -> str:
        return f"<route {', '.join(self.channels)} to {self.name}>"


class Include:
    """Routes behind common filters, made by `include`."""

    __slots__ = ("filters", "routes")

    def __init__(self, routes: list[Route], filters: Filters) -> None:
        self.routes = [one.under(filters) for one in routes]
        self.filters = filters


Routing = str | Mapping[str, Any] | Sequence[Any]


def route(
    channels: str | Sequence[str], consumer: Callable[..., Any] | str, /, **filters: Any
) -> Route:
    """Send messages of ``channels`` (one name or several) to ``consumer`` where ``filters`` match.

    A channel is a normal one (``websocket.receive``), or a prefix of addresses that ends in
    ``!``. The consumer is a function of a `Message` and of the filters' named groups, plain or
    ``async def``, or its dotted path. Raises ImproperlyConfigured.
    """
    if callable(channels):
        raise ImproperlyConfigured(
            f"route() takes the channel first: route('websocket.receive', {name_of(channels)})"
        )
    several = (channels,) if isinstance(channels, str) else channels
    if not isinstance(several, list | tuple) or not several:
        raise ImproperlyConfigured(
            f"route() takes a channel's name, or a list of them, not {channels!r}"
        )
    for channel in several:
        _check_channel(channel)
    where = f"route({several[0]!r}, …)"
    compiled: Filters = {key: (_compile(where, key, value),) for key, value in filters.items()}
    return Route(tuple(several), _consumer(where, consumer), compiled)


def include(routes: Routing, /, **filters: Any) -> Include:
    """Take other ``routes`` in (a dotted path, a list, a dict) where ``filters`` match.

    What a filter matches is stripped before the routes' own filters of that key see the value:
    with ``include(shop, path="^/shop")`` a route with ``path="^/cart$"`` serves ``/shop/cart``.
    Consumers get the message whole. Raises ImproperlyConfigured.
    """
    compiled: Filters = {
        key: (_compile("include(…)", key, value),) for key, value in filters.items()
    }
    return Include(list(_flatten(routes, "include(…)")), compiled)


class Router:
    """A routing table, compiled. Raises ImproperlyConfigured.

    ``default`` routes stand behind the table's own.
    """

    def __init__(self, routing: Routing | None = None, default: Sequence[Route] = ()) -> None:
        table = [] if routing is None else list(_flatten(routing, "ROUTING"))
        self.routes = [*table, *default]
        self._by_channel: dict[str, tuple[Route, ...]] = {}
        for one in self.routes:
            _check_arguments(one)
            for channel in one.channels:
                before = self._by_channel.get(channel, ())
                self._by_channel[channel] = (*before, one)
        self.table = self.channels()
        """The channels of the whole table, whatever part of it this is (`only`)."""

    def only(self, channels: Collection[str]) -> Router:
        """Return the same table with these of its channels alone."""
        found = Router()
        found.table = self.table
        found._by_channel = {name: self._by_channel[name] for name in channels}
        found.routes = [one for one in self.routes if not set(channels).isdisjoint(one.channels)]
        return found

    def of(self, channel: str) -> tuple[Route, ...]:
        """Return the routes of a full channel name, in order."""
        found = self._by_channel.get(channel)
        if found is None:
            found = self._by_channel.get(channel[: channel.find("!") + 1], ())
        return found

    def match(self, message: Message) -> tuple[Route, dict[str, Any]] | None:
        """Return the route of ``message`` and its consumer's arguments; None where none matches."""
        for one in self.of(message.channel_name):
            if not one.filters:
                return one, {}
            arguments = one.match(message.content)
            if arguments is not None:
                return one, arguments
        return None

    def channels(self) -> list[str]:
        """Return the channels that have a route, sorted."""
        return sorted(self._by_channel)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (channel, filters, consumer) for each route, by channel, in matching order."""
        return [
            (channel, _describe(one.filters), one.name)
            for channel in self.channels()
            for one in self._by_channel[channel]
        ]


def is_async(consumer: Any) -> bool:
    """Return whether calling ``consumer`` gives something to await."""
    return iscoroutinefunction(consumer) or iscoroutinefunction(
        getattr(consumer, "__call__", None)  # noqa: B004 - its kind is asked for, not its presence
    )


def name_of(thing: Any) -> str:
    """Return the dotted path of a function or class, for tables, logs and errors."""
    inner = getattr(thing, "func", thing)
    qualname = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return f"{inner.__module__}.{qualname}"


# ---------------------------------------------------------------- matching


def _match(chain: Chain, value: Any) -> dict[str, Any] | None:
    if value.__class__ is bytes:
        try:
            return _follow(chain, value.decode())
        except UnicodeDecodeError:
            return None
    if value.__class__ is str:
        return _follow(chain, value)
    if isinstance(value, int | float):
        return _follow(chain, str(value))
    return None


def _follow(chain: Chain, text: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for pattern in chain:
        match = pattern.match(text)
        if match is None:
            return None
        if pattern.groupindex:
            found.update(match.groupdict())
        text = text[match.end() :] if len(chain) > 1 else text
    return found


# ---------------------------------------------------------------- reading what people write


def _flatten(routing: Any, where: str) -> Iterator[Route]:
    if isinstance(routing, str):
        where = f"the routing {routing!r}"
        routing = load(routing, where)
    if isinstance(routing, Mapping):
        for channel, consumer in routing.items():
            yield consumer if isinstance(consumer, Route) else route(channel, consumer)
        return
    if isinstance(routing, Route | Include):
        raise ImproperlyConfigured(f"{where} is one {type(routing).__name__.lower()}: put it in []")
    if inspect.ismodule(routing):
        raise ImproperlyConfigured(
            f"{where} is a module: name the list in it, '{routing.__name__}.routes'"
        )
    if not isinstance(routing, list | tuple):
        raise ImproperlyConfigured(
            f"{where} is a list of route(…) and include(…), a dict of channel and consumer, or "
            f"the dotted path of one, not {type(routing).__name__}"
        )
    for item in routing:
        if isinstance(item, Route):
            yield item
        elif isinstance(item, Include):
            yield from item.routes
        else:
            raise ImproperlyConfigured(
                f"{where} holds {item!r}: write route('channel', consumer) or include(…)"
            )


def load(path: str, where: str) -> Any:
    """Import what ``path`` names; ImproperlyConfigured that says which part is missing."""
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise ImproperlyConfigured(
            f"{where}: {path!r} is not a dotted path, such as 'chat.consumers.receive'"
        )
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ImproperlyConfigured(
            f"{where}: there is no module {error.name!r} (from {path!r})"
        ) from None
    found = getattr(module, attribute, None)
    if found is None:
        try:
            return import_module(path)
        except ModuleNotFoundError:
            raise ImproperlyConfigured(
                f"{where}: the module {module_name!r} has no {attribute!r}"
            ) from None
    return found


def _check_channel(channel: Any) -> None:
    try:
        names.check_receivable(channel)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"route(): {error}") from None
    if "?" in channel or names.process_of(channel) is not None:
        raise ImproperlyConfigured(
            f"route(): {channel!r} belongs to one reader; a route names a normal channel "
            "('websocket.receive') or a prefix that ends in '!'"
        )


def _compile(where: str, key: str, value: Any) -> re.Pattern[str]:
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value
    if not isinstance(value, str):
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is not a regular expression; write it as a "
            f"str: {key}=r'^…$'"
        )
    try:
        return re.compile(value)
    except re.error as error:
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is not a regular expression: {error}"
        ) from None


def _consumer(where: str, consumer: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = load(consumer, where) if isinstance(consumer, str) else consumer
    if inspect.isclass(found):
        raise ImproperlyConfigured(
            f"{where}: {name_of(found)} is a class; a consumer is a function of a message"
        )
    if inspect.iscoroutine(found):
        found.close()
        raise ImproperlyConfigured(f"{where}: the consumer was called; name it without parentheses")
    if not callable(found):
        raise ImproperlyConfigured(
            f"{where}: {found!r} is not a consumer; a consumer is a function of a message, or its "
            "dotted path"
            + ("; was it called? name it without parentheses" if found is None else "")
        )
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise ImproperlyConfigured(
            f"{where}: {name_of(found)} has a yield in it, so calling it runs nothing; send with "
            "message.reply(…) instead"
        )
    return found


def _check_arguments(one: Route) -> None:
    captured = [
        group for chain in one.filters.values() for pattern in chain for group in pattern.groupindex
    ]
    twice = next((group for group in captured if captured.count(group) > 1), None)
    if twice is not None:
        raise ImproperlyConfigured(f"{one!r}: its filters capture {twice!r} twice; rename one")
    try:
        signature = inspect.signature(one.consumer)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    try:
        signature.bind(None, **dict.fromkeys(captured))
    except TypeError:
        inner = getattr(one.consumer, "__name__", "consumer")
        raise ImproperlyConfigured(
            f"{one!r}: {inner}{signature} cannot be called with what the route gives it; "
            f"write def {inner}({', '.join(['message', *captured])})"
        ) from None


def _describe(filters: Filters) -> str:
    def shown(chain: Iterable[re.Pattern[str]]) -> str:
        return " ".join(pattern.pattern for pattern in chain)

    return ", ".join(f"{key}={shown(chain)}" for key, chain in filters.items())
