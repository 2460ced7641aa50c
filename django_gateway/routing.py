r"""The routing table: which consumer a message goes to.

::

    routing = [
        route("websocket.connect", connect, path=path("chat/<slug:room>/")),
        route(["websocket.receive", "sse.receive"], "chat.consumers.receive"),
        route_class(Room, path=path("rooms/<int:pk>/")),
        include("shop.routing.routes", path=path("shop/")),
    ]

The first route of the message's channel whose filters (`django_gateway.filters`) all match is
taken. Their named groups become arguments of the consumer.

The table is compiled per channel: a match costs what that channel's routes cost. Wrong usages
raise `ImproperlyConfigured` with a text that names the fix.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from django_gateway.filters import Chain, Filter, matched, read, wanted_by
from django_gateway.message import Message
from gateway.core import names

if TYPE_CHECKING:
    from django_gateway.middleware import Middleware

Filters = dict[str, Chain]


class Call(NamedTuple):
    """A call of the project's code that a route makes, with what its filters capture besides."""

    function: Callable[..., Any]
    given: tuple[str, ...] = ("message",)
    """Its arguments by position; a method's begin with ``self``."""
    named: tuple[str, ...] = ()
    """Its arguments by name, one of them at a time."""
    always: tuple[str, ...] = ()
    """Its arguments by name, all of them."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of all."""
        return (*self.given, *self.named, *self.always)


class Route:
    """One line of the table, made by `route`: channels, a consumer, filters.

    ``calls`` are those whose arguments are checked; by default the consumer's own.
    """

    __slots__ = (
        "_chains",
        "calls",
        "channels",
        "consumer",
        "filters",
        "is_async",
        "name",
        "on_loop",
    )

    def __init__(
        self,
        channels: tuple[str, ...],
        consumer: Callable[..., Any],
        filters: Filters,
        on_loop: Callable[[Message], bool] | None = None,
        calls: Sequence[Call] | None = None,
    ) -> None:
        self.channels = channels
        self.consumer = consumer
        self.filters = filters
        self._chains = tuple((key, _placed(key, chain)) for key, chain in filters.items())
        self.calls = (Call(consumer),) if calls is None else tuple(calls)
        self.is_async = is_async(consumer)
        self.on_loop = on_loop
        """Decides for each message whether ``consumer.acall(message, …)`` is awaited instead."""
        self.name = name_of(consumer)

    def under(self, prefix: Filters) -> Route:
        """Return the same route behind the filters of an `include`."""
        merged = {key: chain + self.filters.get(key, ()) for key, chain in prefix.items()}
        filters = {**self.filters, **merged}
        return Route(self.channels, self.consumer, filters, self.on_loop, self.calls)

    def on(self, channels: tuple[str, ...]) -> Route:
        """Return the same route for ``channels`` alone."""
        return Route(channels, self.consumer, self.filters, self.on_loop, self.calls)

    def match(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the consumer's arguments, or None where a filter does not match."""
        found: dict[str, Any] = {}
        for key, chain in self._chains:
            groups = matched(chain, content.get(key))
            if groups is None:
                return None
            if groups:
                found.update(groups)
        return found

    def __repr__(self) -> str:
        return f"<route {', '.join(self.channels)} to {self.name}>"


class Include:
    """Routes that stand together in the table, made by `include` and `route_class`."""

    __slots__ = ("routes",)

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes


Routing = str | Mapping[str, Any] | Sequence[Any]


def route(
    channels: str | Sequence[str], consumer: Callable[..., Any] | str, /, *more: Any, **filters: Any
) -> Route:
    """Send messages of ``channels`` (one name or several) to ``consumer`` where ``filters`` match.

    A channel is a normal one (``websocket.receive``), or a prefix of addresses that ends in
    ``!``. The consumer is a function of a `Message` and of the filters' named groups, plain or
    ``async def``, or its dotted path. Raises ImproperlyConfigured.
    """
    if callable(channels):
        raise ImproperlyConfigured(
            f"route() takes the channel first: route('websocket.receive', {name_of(channels)})"
            + ("; or route_class(…) with the class alone" if inspect.isclass(channels) else "")
        )
    several = (channels,) if isinstance(channels, str) else channels
    if not isinstance(several, list | tuple) or not several:
        raise ImproperlyConfigured(
            f"route() takes a channel's name, or a list of them, not {channels!r}"
        )
    for channel in several:
        _check_channel(channel)
    where = f"route({several[0]!r}, …)"
    _by_key(where, more)
    compiled = read_filters(where, filters)
    return Route(tuple(several), _consumer(where, consumer), compiled)


def route_class(consumer: type | str, /, *more: Any, **filters: Any) -> Include:
    """Send the messages that a class has methods for to them, where ``filters`` match.

    ``consumer`` is a subclass of `django_gateway.Consumer` (or its dotted path), which says
    itself which channels those are. Its methods get the filters' named groups. Raises
    ImproperlyConfigured.
    """
    from django_gateway.generic.base import BaseConsumer  # noqa: PLC0415 - it imports this module

    if more:
        raise ImproperlyConfigured(
            "route_class() takes the class alone, which says itself what its channels are: "
            "route_class(Chat, path=…)"
        )
    found = load(consumer, "route_class(…)") if isinstance(consumer, str) else consumer
    if inspect.iscoroutine(found):
        found.close()
    if isinstance(found, BaseConsumer):
        raise ImproperlyConfigured(
            f"route_class() takes the class, not an instance: {type(found).__name__} without "
            "parentheses"
        )
    if not inspect.isclass(found):
        hint = f"; write route('websocket.receive', {name_of(found)})" if callable(found) else ""
        raise ImproperlyConfigured(
            f"route_class() takes a subclass of django_gateway.Consumer, not {found!r}{hint}"
        )
    if not issubclass(found, BaseConsumer):
        hint = "; Django's views stand in its URLs" if hasattr(found, "as_view") else ""
        raise ImproperlyConfigured(
            f"route_class(): {name_of(found)} is not a subclass of django_gateway.Consumer{hint}"
        )
    compiled = read_filters(f"route_class({found.__name__}, …)", filters)
    return Include([one.under(compiled) for one in found.routes()])


def include(routes: Routing, /, *more: Any, **filters: Any) -> Include:
    """Take other ``routes`` in (a dotted path, a list, a dict) where ``filters`` match.

    What a filter matches is stripped before the routes' own filters of that key see the value:
    with ``include(shop, path=path("shop/"))`` a route with ``path=path("cart/")`` serves
    ``/shop/cart/``.
    Consumers get the message whole. Raises ImproperlyConfigured.
    """
    _by_key("include(…)", more)
    compiled: Filters = {
        key: tuple(one.prefix() for one in chain)
        for key, chain in read_filters("include(…)", filters).items()
    }
    return Include([one.under(compiled) for one in _flatten(routes, "include(…)")])


def _by_key(where: str, more: tuple[Any, ...]) -> None:
    if more:
        raise ImproperlyConfigured(
            f"{where}: a filter stands behind the key that it is for: path={str(more[0])!r}"
            if isinstance(more[0], str)
            else f"{where}: a filter stands behind the key that it is for: path=path('{more[0]}')"
            if isinstance(more[0], Filter)
            else f"{where} takes filters by their keys alone, not {more[0]!r}"
        )


def read_filters(where: str, filters: Mapping[str, Any]) -> Filters:
    """Return the filters that somebody wrote, by key. Raises ImproperlyConfigured."""
    return {key: (read(where, key, value),) for key, value in filters.items()}


class Router:
    """A routing table, compiled. Raises ImproperlyConfigured.

    ``default`` routes stand behind the table's own, and are asked for once that is there.
    """

    def __init__(self, routing: Routing | None = None, default: Iterable[Route] = ()) -> None:
        table = [] if routing is None else list(_flatten(routing, "ROUTING"))
        self.routes = [*table, *default]
        self.middleware: Middleware | None = None
        """What is around the consumers."""
        self._by_channel: dict[str, tuple[Route, ...]] = {}
        for one in table:
            _check_channels(one)
            _check_keys(one)
            _check_slash(one)
        for one in self.routes:
            _check_arguments(one)
            for channel in one.channels:
                before = self._by_channel.get(channel, ())
                self._by_channel[channel] = (*before, one)
        self.table = [*self.channels(), *self._wants()]
        """The channels of the whole table, whatever part of it this is (`only`), and what its
        filters want of them."""

    def _wants(self) -> Iterator[str]:
        for channel, routes in self._by_channel.items():
            wants = {
                what
                for one in routes
                for chain in one.filters.values()
                for what in wanted_by(chain, one.filters)
            }
            for what in sorted(wants):
                try:
                    yield names.wanted(channel, what)
                except ValueError:
                    raise ImproperlyConfigured(
                        f"ROUTING: {what!r} is too long to be asked for; name it in the settings: "
                        "mqtt.brokers.NAME.subscribe, irc.networks.NAME.channels"
                    ) from None

    def only(self, channels: Collection[str]) -> Router:
        """Return the same table with these of its channels alone."""
        found = copy(self)
        part = {name: self._by_channel[name] for name in channels}
        found._by_channel = part  # noqa: SLF001 - of the same class
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
            raise ImproperlyConfigured(f"{where} holds {item!r}: {_instead(item)}")


def _instead(item: Any) -> str:
    if getattr(item, "__name__", "") == "as_route" and callable(item):
        return f"write {item.__self__.__name__}.as_route(), with parentheses"
    if inspect.isclass(item):
        return f"write route_class({item.__name__})"
    if hasattr(item, "url_patterns") or hasattr(item, "lookup_str"):
        return "this is Django's path(), for its URLs; here stand route(…) and include(…)"
    return "write route('channel', consumer) or include(…)"


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


def _consumer(where: str, consumer: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = load(consumer, where) if isinstance(consumer, str) else consumer
    if inspect.isclass(found):
        raise ImproperlyConfigured(
            f"{where}: {name_of(found)} is a class; write route_class({found.__name__}), with a "
            "subclass of django_gateway.Consumer"
        )
    if hasattr(found, "view_class"):
        raise ImproperlyConfigured(
            f"{where}: {name_of(found)} is a view of Django's, which stands in its URLs; a "
            "consumer is a function of a message"
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
    check_runs(where, found)
    return found


def check_runs(
    where: str, function: Callable[..., Any], instead: str = "send with message.reply(…) instead"
) -> None:
    """Refuse a function whose call runs nothing. Raises ImproperlyConfigured."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ImproperlyConfigured(
            f"{where}: {name_of(function)} has a yield in it, so calling it runs nothing; {instead}"
        )


def _placed(key: str, chain: Chain) -> Chain:
    before: tuple[Filter | None, ...] = (None, *chain)
    return tuple(one.placed(key, last) for one, last in zip(chain, before, strict=False))


def _check_channels(one: Route) -> None:
    """Refuse a kind of message that its protocol does not have: nothing would ever come."""
    from django_gateway.generic.protocols import known_kinds  # noqa: PLC0415 - imports this module

    for channel in one.channels:
        protocol, dot, kind = channel.partition(".")
        kinds = () if not dot or "!" in kind else known_kinds(protocol)
        if kinds and kind not in kinds:
            close = difflib.get_close_matches(kind, kinds, n=1)
            raise ImproperlyConfigured(
                f"{one!r}: {protocol} sends no {channel!r}; "
                + (
                    f"did you mean '{protocol}.{close[0]}'?"
                    if close
                    else f"it sends {', '.join(f'{protocol}.{each}' for each in kinds)}. Channels "
                    "of your own have another first word"
                )
            )


def _check_keys(one: Route) -> None:
    """Refuse a filter by a key that is nearly one that its messages have: it would never match."""
    from django_gateway.generic.protocols import keys_of  # noqa: PLC0415 - imports this module

    known = keys_of(one.channels) if one.filters else ()
    for key in one.filters if known else ():
        close = key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if close:
            raise ImproperlyConfigured(
                f"{one!r}: the filter {key}={one.filters[key][0]!s} never matches, since no such "
                f"message has a {key!r}; did you mean {close[0]}?"
            )


_NO_SLASH = re.compile(r"\^?[\w-](?![*?{])[^|]*$")


def _check_slash(one: Route) -> None:
    """Refuse an expression that no path can match."""
    for key in ("path", "raw_path"):
        first = next(iter(one.filters.get(key, ())), None)
        if type(first) is Filter and _NO_SLASH.match(first.pattern.pattern):
            written = first.pattern.pattern
            right = f"^/{written.removeprefix('^')}"
            raise ImproperlyConfigured(
                f"{one!r}: the filter {key}={written!r} never matches, since every path begins "
                f"with a slash; write {key}=r'{right}'"
            )


def _check_arguments(one: Route) -> None:
    captured = [name for chain in one.filters.values() for each in chain for name in each.names]
    twice = next((name for name in captured if captured.count(name) > 1), None)
    if twice is not None:
        raise ImproperlyConfigured(f"{one!r}: its filters capture {twice!r} twice; rename one")
    for call in one.calls:
        taken = next((name for name in captured if name in call.arguments), None)
        if taken is not None:
            raise ImproperlyConfigured(
                f"{one!r}: its filters capture {taken!r}, which the consumer is given anyway; "
                "rename it"
            )
        _check_call(one, call, captured)


def _check_call(one: Route, call: Call, captured: list[str]) -> None:
    try:
        signature = inspect.signature(call.function)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    try:
        for named in call.named or (None,):
            by_name = [*call.always, *captured, *([] if named is None else [named])]
            signature.bind(*call.given, **dict.fromkeys(by_name))
    except TypeError:
        inner = getattr(call.function, "__name__", "consumer")
        wanted = [*call.given, *(f"{named}=None" for named in call.named)]
        wanted += ["*"] if call.named and (call.always or captured) else []
        wanted += call.always
        raise ImproperlyConfigured(
            f"{one!r}: {inner}{signature} cannot be called with what the route gives it; "
            f"write def {inner}({', '.join([*wanted, *captured])})"
        ) from None


def _describe(filters: Filters) -> str:
    return ", ".join(
        f"{key}={' '.join(str(each) for each in chain)}" for key, chain in filters.items()
    )
