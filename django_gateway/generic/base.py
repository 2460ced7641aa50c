"""`Consumer`: a class with a method for each kind of message, whatever the protocol."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured

from django_gateway.channel import Channel, Group
from django_gateway.generic import stateful
from django_gateway.generic.protocols import kinds_of
from django_gateway.generic.spelling import check_attributes
from django_gateway.message import Message
from django_gateway.routing import Call, Include, Route, check_runs, is_async, name_of, route_class
from gateway.core import names

Membership = Callable[[Group, Message], None]
"""What is done with a connection and each of its groups."""
DECORATORS: Final = (
    ("channel_session", "sessions", "channel_session"),
    ("http_session", "sessions", "http_session"),
    ("channel_and_http_session", "sessions", "channel_and_http_session"),
    ("channel_session_user", "auth", "channel_session_user"),
    ("http_user", "auth", "channel_session_user_from_http"),
    ("http_user_and_session", "auth", "channel_session_user_from_http"),
)
"""What a true attribute of a class puts around its methods: a decorator of ``django_gateway``."""


class BaseConsumer:
    """A class that a route leads to: an instance for each message, so ``self`` keeps no state.

    With ``stateful = True`` there is one for each connection, which ``self`` keeps state for.
    A method may be a ``def``, which runs on a thread, or an ``async def``, which runs on the
    loop; a class may have both. It is called with the `Message` and what the filters capture,
    which ``self.message`` and ``self.kwargs`` have too.
    """

    method_mapping: ClassVar[Mapping[str, str]] = {}
    """By channel the name of a method."""
    stateful: ClassVar[bool] = False
    """Whether a connection has one instance for all its messages, in the worker that runs its
    connect. Where that is lost, a new one gets ``reconnected(message, **kwargs)`` first; a class
    that has no such method has the connection closed."""
    state_lost: bool = False
    """Whether this instance is new, made for a disconnect whose own is lost."""
    channel_session: ClassVar[bool] = False
    channel_session_user: ClassVar[bool] = False
    channel_and_http_session: ClassVar[bool] = False
    http_session: ClassVar[bool] = False
    http_user: ClassVar[bool] = False
    http_user_and_session: ClassVar[bool] = False
    strict_ordering: ClassVar[bool] = False
    """Accepted for applications of Channels 1: messages of one connection are always in order."""

    def __init__(
        self,
        message: Message = None,  # type: ignore[assignment]  # for route_class(Chat()) to tell
        **kwargs: Any,
    ) -> None:
        self.message = message
        self.kwargs = kwargs

    if not TYPE_CHECKING:  # who checks types is told of them without this

        def __getattr__(self, name: str) -> Any:
            """Name what is meant by an attribute that the message has, and its consumer has not."""
            if hasattr(type(self), name):  # a property that raised AttributeError
                return object.__getattribute__(self, name)
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if hasattr(Message, name):
                text += f"; write self.message.{name}"
            elif name == "send":  # of other frameworks, and of other classes here
                text += "; write self.reply(…)"
            raise AttributeError(text, name=name, obj=self)

    # ---------------------------------------------------------------- answering

    @property
    def path(self) -> str:
        """The path of the connection."""
        return str(self.message.content["path"])

    @property
    def reply_channel(self) -> Channel:
        """Where this conversation is answered; LookupError where there is no such place."""
        return self.message.reply_channel

    def reply(self, data: str | bytes | None = None, /, **content: Any) -> None:
        """Answer, as `Message.reply`: a text, bytes, or any keys of the protocol's reply."""
        self.message.reply(data, **content)

    def accept(self, **content: Any) -> None:
        """Accept what waits for a decision: ``self.accept(subprotocol="v1")``."""
        self.reply(accept=True, **content)

    def close(self, status: int | None = None, reason: str = "") -> None:
        """End the conversation, after what was sent before; None is the protocol's own code."""
        self.message.close(status, reason)

    # ---------------------------------------------------------------- routes

    @classmethod
    def as_route(cls, attrs: Mapping[str, Any] | None = None, **filters: Any) -> Include:
        """Return the routes of this class, as `route_class` does, with ``attrs`` for its own.

        ``Chat.as_route(path=path("chat/"), attrs={"groups": ["chat"]})``. Raises
        ImproperlyConfigured.
        """
        if attrs is None:
            return route_class(cls, **filters)
        where = f"{cls.__name__}.as_route(attrs=…)"
        if not isinstance(attrs, Mapping):
            raise ImproperlyConfigured(f"{where} is a dict of class attributes, not {attrs!r}")
        for name in attrs:
            if not hasattr(cls, name):
                close = difflib.get_close_matches(name, dir(cls), n=1)
                hint = f"did you mean {close[0]!r}? If not, " if close else ""
                raise ImproperlyConfigured(
                    f"{where}: {cls.__name__} has no {name!r}; {hint}give the class one for it to "
                    "take the place of"
                )
        own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, **attrs}
        return route_class(type(cls.__name__, (cls,), own), **filters)

    @classmethod
    def channel_names(cls) -> set[str]:
        """Return the channels that the class has methods for."""
        return set(cls.methods())

    @classmethod
    def methods(cls) -> dict[str, str]:
        """Return by channel the name of the method that takes its messages."""
        mapping = cls.method_mapping
        if not isinstance(mapping, Mapping):
            raise ImproperlyConfigured(
                f"{name_of(cls)}.method_mapping is a dict of channel and method's name: "
                f"{{'websocket.receive': 'receive'}}, not {mapping!r}"
            )
        return dict(mapping)

    @classmethod
    def named(cls) -> set[str]:
        """Return the names of methods that are called besides those for kinds of messages."""
        return set(cls.method_mapping.values())

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes. Any that is async makes
        the route async.
        """  # noqa: D205 - one sentence
        return [Call(getattr(cls, method), ("self", "message"))]

    @classmethod
    def routes(cls) -> list[Route]:
        """Return a route for each method. Raises ImproperlyConfigured, which names the fix."""
        by_method: dict[str, list[str]] = {}
        methods = cls.methods()
        stateful.check(cls, methods)
        for channel, method in methods.items():
            _check_method(cls, channel, method)
            by_method.setdefault(method, []).append(channel)
        if not by_method:
            raise ImproperlyConfigured(f"{name_of(cls)} {cls._nothing()}")
        return [cls._route(tuple(several), method) for method, several in by_method.items()]

    @classmethod
    def dispatches(cls) -> bool:
        """Return whether messages go through a `dispatch` of its own: it costs nothing else."""
        return not (
            cls.dispatch is BaseConsumer.dispatch and cls.get_handler is BaseConsumer.get_handler
        )

    @classmethod
    def _nothing(cls) -> str:
        return "has no method_mapping; write method_mapping = {'websocket.receive': 'receive'}"

    @classmethod
    def _route(cls, channels: tuple[str, ...], method: str) -> Route:
        calls = cls.calls(method)
        for call in calls:
            check_runs(name_of(cls), call.function)
        resuming = stateful.resuming(cls, channels)
        consumer = _consumer(cls, method, calls, resuming)
        return Route(channels, consumer, {}, calls=[*calls, *resuming])

    # ---------------------------------------------------------------- a message

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """Return the method for a message."""
        channel = message.channel_name
        methods = _methods(type(self))  # type: ignore[arg-type]  # typeshed: a class is hashable
        name = methods.get(channel) or methods[channel[: channel.find("!") + 1]]
        handler: Callable[..., Any] = getattr(self, name)
        return handler

    def dispatch(self, message: Message, **kwargs: Any) -> Any:
        """Call the method for a message. What stands around all methods overrides this.

        ::

            def dispatch(self, message, **kwargs):
                if banned(message["client"]):
                    raise Reject(403)
                return super().dispatch(message, **kwargs)
        """
        return self.get_handler(message, **kwargs)(message, **kwargs)


@functools.cache
def _methods(kind: type[BaseConsumer]) -> dict[str, str]:
    return kind.methods()


class Consumer(BaseConsumer):
    """A consumer of any protocol, or of several::

        class Room(Consumer):
            protocols = ["websocket", "sse", "longpoll"]

            def groups(self, name):
                return [f"room-{name}"]

            def receive(self, message, name):
                Group(f"room-{name}").send({"text": message.text})


        routing = [route_class(Room, path=path("rooms/<slug:name>/"))]

    A method is named as the kind of message that it takes: ``connect``, ``receive``,
    ``disconnect``, and whatever else a protocol has (``request`` takes ``http.request``).
    """  # noqa: D400 - an example follows

    protocols: ClassVar[Sequence[str]] = ()
    """Whose messages it takes: ``["websocket"]``."""
    groups: Any = ()
    """What a connection is in from its connect on until its disconnect: names of groups, or a
    method that returns them, called with what the filters capture. A client that comes back gets
    what they kept since (``history`` of `Group.send`)."""

    _synonyms: ClassVar[Mapping[str, str]] = {}
    """What attributes are called by who does not know their names, where it is not close."""

    def connection_groups(self, **kwargs: Any) -> Any:
        """Return the groups of the connection: `groups`, where it is not overridden."""
        groups = self.groups
        return groups(**kwargs) if callable(groups) else groups

    def connect(self, message: Message, **kwargs: Any) -> Any:
        """Accept whoever connects."""
        self.accept()

    def disconnect(self, message: Message, **kwargs: Any) -> Any:
        """Do nothing."""

    def raw_connect(self, message: Message, **kwargs: Any) -> Any:
        """Join the groups, from where the client was last, then `connect`."""
        return self._with_groups(_join, self.connect, message, kwargs)

    def raw_disconnect(self, message: Message, **kwargs: Any) -> Any:
        """Leave the groups, then `disconnect`."""
        return self._with_groups(_leave, self.disconnect, message, kwargs)

    @classmethod
    def methods(cls) -> dict[str, str]:
        """Return by channel the name of the method that takes its messages."""
        found: dict[str, str] = {}
        kinds = {protocol: kinds_of(name_of(cls), protocol) for protocol in protocols_of(cls)}
        _check_names(cls, {kind for several in kinds.values() for kind in several})
        check_attributes(cls)
        for protocol, several in kinds.items():
            taken = [kind for kind in several if cls._takes(kind, several)]
            enough = any(cls._has(kind) for kind in taken) or (_joins(cls) and taken)
            if not enough and not cls._takes_more():
                raise ImproperlyConfigured(
                    f"{name_of(cls)} has no method for a message of {protocol!r}, which are "
                    f"{', '.join(several)}; write def {_wanted(several)}(self, message)"
                )
            for kind in taken:
                raw = f"raw_{kind}"
                found[f"{protocol}.{kind}"] = raw if hasattr(cls, raw) else kind
        if _joins(cls) and not any("connect" in several for several in kinds.values()):
            raise ImproperlyConfigured(
                f"{name_of(cls)}.groups are joined at connect, and "
                f"{' and '.join(cls.protocols) or 'method_mapping'} has none; join them in a "
                "method: Group(name).add(message.reply_channel)"
            )
        return {**found, **super().methods()}

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes."""
        found = super().calls(method)
        if method in ("raw_connect", "raw_disconnect"):
            if getattr(cls, method) is getattr(Consumer, method):
                found.append(Call(getattr(cls, method.removeprefix("raw_")), ("self", "message")))
            if callable(asked := _asked(cls)):
                found.append(Call(asked, ("self",)))
        return found

    @classmethod
    def _nothing(cls) -> str:
        return "has no protocols; write protocols = ['websocket']"

    @classmethod
    def _takes(cls, kind: str, kinds: Sequence[str]) -> bool:
        """Whether it takes messages of this kind: every connect and what ends it, and what it
        has a method for.
        """  # noqa: D205 - one sentence
        if kind == "disconnect" and "connect" not in kinds:
            return _own(cls, kind)
        return callable(getattr(cls, kind, None)) and not hasattr(BaseConsumer, kind)

    @classmethod
    def _takes_more(cls) -> bool:
        """Whether it has routes besides those of its methods for kinds of messages."""
        return False

    @classmethod
    def _has(cls, kind: str) -> bool:
        """Whether it has more for this kind of message than every consumer has."""
        return _own(cls, kind)

    def _with_groups(
        self,
        act: Callable[[Group, Message], None],
        method: Any,
        message: Message,
        kwargs: dict[str, Any],
    ) -> Awaitable[None] | None:
        kind = type(self)
        asked = _asked(kind)
        if is_async(method) or (callable(asked) and is_async(asked)):
            return self._awith_groups(act, method, message, kwargs)
        _act(kind, act, self.connection_groups(**kwargs), message)
        method(message, **kwargs)
        return None

    async def _awith_groups(
        self,
        act: Callable[[Group, Message], None],
        method: Any,
        message: Message,
        kwargs: dict[str, Any],
    ) -> None:
        kind = type(self)
        asked = _asked(kind)
        groups = asked
        if callable(asked):
            groups = await _either(self.connection_groups, is_async(asked), **kwargs)
        _act(kind, act, groups, message)
        if method.__func__ in (Consumer.connect, Consumer.disconnect):
            method(message, **kwargs)  # these block nobody
        else:
            await _either(method, is_async(method), message, **kwargs)


def _asked(kind: type[Consumer]) -> Any:
    """Return what says which groups: a function of the class, or the names."""
    if kind.connection_groups is not Consumer.connection_groups:
        return kind.connection_groups
    return kind.groups


def _joins(kind: type[Consumer]) -> bool:
    return bool(_asked(kind))


async def _either(function: Callable[..., Any], awaited: bool, *args: Any, **kwargs: Any) -> Any:
    if awaited:
        return await function(*args, **kwargs)
    return await sync_to_async(function)(*args, **kwargs)


def _join(group: Group, message: Message) -> None:
    group.add(message.reply_channel, since=message.content.get("last_event_id"))


def _leave(group: Group, message: Message) -> None:
    group.discard(message.reply_channel)


def _act(kind: type[Consumer], act: Membership, groups: Any, message: Message) -> None:
    for group in _groups(kind, groups):
        act(group, message)


def _groups(kind: type[Consumer], groups: Any) -> Iterator[Group]:
    if isinstance(groups, str | bytes | Group) or not isinstance(groups, Iterable | None):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.groups is {groups!r}; write a list of names: groups = ['room']"
            + (", or return one" if callable(_asked(kind)) else "")
        )
    for group in groups or ():
        if isinstance(group, Group):
            yield group
            continue
        try:
            yield Group(group)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{name_of(kind)}.groups: {error}") from None


# ---------------------------------------------------------------- making the routes


def _consumer(
    kind: type[BaseConsumer], method: str, calls: Sequence[Call], resuming: Sequence[Call]
) -> Callable[..., Any]:
    """Return the function that a route leads to. It alone makes instances."""
    function = kind.dispatch if kind.dispatches() else getattr(kind, method)
    awaited = any(is_async(one.function) for one in calls)
    if kind.stateful:
        consumer = stateful.keeping(kind, function, calls)
    elif awaited:
        consumer = _awaiting(kind, function)
    else:
        consumer = _calling(kind, function)
    if is_async(kind.dispatch) and not awaited:
        raise ImproperlyConfigured(
            f"{name_of(kind)}.dispatch is async def, and {method.removeprefix('raw_')} is not; "
            "make both the same"
        )
    for one in (
        *calls,
        *resuming,
    ):  # what a decorator says of a method is said of the consumer, as by wraps()
        marks = {**getattr(one.function, "__dict__", {})}
        marks.pop("__wrapped__", None)
        consumer.__dict__.update(marks)
    consumer.__module__ = kind.__module__
    consumer.__name__ = method.removeprefix("raw_")
    consumer.__qualname__ = f"{kind.__qualname__}.{consumer.__name__}"
    for attribute, module, decorator in DECORATORS:
        if getattr(kind, attribute):
            consumer = getattr(import_module(f"django_gateway.{module}"), decorator)(consumer)
    return consumer


def _calling(kind: type[BaseConsumer], function: Callable[..., Any]) -> Callable[..., Any]:
    def consumer(message: Message, **kwargs: Any) -> Any:
        return function(kind(message, **kwargs), message, **kwargs)

    return consumer


def _awaiting(kind: type[BaseConsumer], function: Callable[..., Any]) -> Callable[..., Any]:
    async def consumer(message: Message, **kwargs: Any) -> None:
        result = function(kind(message, **kwargs), message, **kwargs)
        if result is not None:
            await result

    return consumer


# ---------------------------------------------------------------- reading what people write


def protocols_of(kind: type[Consumer]) -> Sequence[str]:
    """Return whose messages a class takes; raises ImproperlyConfigured, which names the fix."""
    protocols = kind.protocols
    if isinstance(protocols, str):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.protocols is one str; write protocols = [{protocols!r}]"
        )
    if not isinstance(protocols, Sequence | set | frozenset) or not all(
        isinstance(one, str) for one in protocols
    ):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.protocols is a list of names, such as ['websocket'], not "
            f"{protocols!r}"
        )
    if not callable(kind.groups):
        list(_groups(kind, kind.groups))
    return list(protocols)


def _written(kind: type[BaseConsumer]) -> set[str]:
    """Return the names of the functions that the project's own classes have."""
    return {
        name
        for one in kind.__mro__
        if not one.__module__.startswith("django_gateway.generic.")
        for name, value in vars(one).items()
        if inspect.isfunction(value)
    }


def _own(kind: type[Consumer], name: str) -> bool:
    return not _written(kind).isdisjoint((name, f"raw_{name}"))


def _check_names(kind: type[Consumer], kinds: set[str]) -> None:
    """Refuse a method that is nearly named as a kind of message, which would never be called."""
    written = _written(kind)
    if kind.stateful:
        kinds = {*kinds, "reconnected"}
    missing = [one for one in kinds if not _own(kind, one)]
    for name in sorted(written - kinds - kind.named()):
        if name.startswith("_") or hasattr(Consumer, name):
            continue
        close = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
        if close:
            raise ImproperlyConfigured(
                f"{name_of(kind)}.{name} is never called; did you mean {close[0]}? If not, begin "
                f"its name with an underscore: _{name}"
            )


def _wanted(kinds: Sequence[str]) -> str:
    return "receive" if "receive" in kinds else kinds[0]


def _check_method(kind: type[BaseConsumer], channel: str, method: str) -> None:
    try:
        names.check_receivable(channel)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{name_of(kind)}.method_mapping: {error}") from None
    if not isinstance(method, str):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.method_mapping: {channel!r} leads to a method's name, not to "
            f"{method!r}"
        )
    found = inspect.getattr_static(kind, method, None)
    if found is None:
        raise ImproperlyConfigured(
            f"{name_of(kind)} has no {method!r}, which {channel!r} leads to; write def "
            f"{method}(self, message)"
        )
    if isinstance(found, staticmethod | classmethod | property) or not callable(found):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.{method} is a {type(found).__name__}; write a method: def "
            f"{method}(self, message)"
        )
