"""`Demultiplexer`: several consumers on one connection, each with a stream of its own.

What either side sends is an object of two keys, of which the second may hold any JSON::

    {"stream": "scores", "payload": {"home": 2, "away": 1}}
"""

from __future__ import annotations

import functools
import inspect
import json
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Unpack

import msgspec
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder

from django_gateway.channel import Channel, Group, How, When
from django_gateway.exceptions import Reject, SendNotAvailableOnDemultiplexer
from django_gateway.generic.base import BaseConsumer, Consumer, protocols_of
from django_gateway.generic.protocols import kinds_of
from django_gateway.message import Message
from django_gateway.routing import Call, Route, name_of

NOT_TEXT: Final = {"websocket": 1003, "sse": 415, "longpoll": 415}
NOT_A_FRAME: Final = {"websocket": 1007, "sse": 400, "longpoll": 400}
NO_STREAM: Final = {"websocket": 1008, "sse": 404, "longpoll": 404}
"""With what each protocol answers a message that no consumer gets: RFC 6455 section 7.4.1, and
HTTP statuses. Others have their own default."""
SHAPE: Final = '{"stream": …, "payload": …}'


class Frame(msgspec.Struct):
    """What either side sends; the payload is read by the consumer that it is for."""

    stream: str
    payload: msgspec.Raw


_read = msgspec.json.Decoder(Frame).decode


class Multiplexer:
    """A stream of one connection: how a consumer behind a `Demultiplexer` answers."""

    def __init__(self, stream: str, reply_channel: Channel) -> None:
        self.stream = stream
        self.reply_channel = reply_channel

    def send(self, payload: Any, **when: Unpack[When]) -> None:
        """Send ``payload`` on this stream, as JSON; the keywords are those of `Channel.send`."""
        self.reply_channel.send(self.encode(self.stream, payload), **when)

    async def asend(self, payload: Any, **when: Unpack[When]) -> None:
        """Async twin of `send`, for where nothing is buffered."""
        await self.reply_channel.asend(self.encode(self.stream, payload), **when)

    @classmethod
    def group_send(
        cls, name: str, stream: str, payload: Any, close: bool | int = False, **how: Unpack[How]
    ) -> None:
        """Send ``payload`` on a stream of every member of a group; with the keywords of
        `Group.send`.
        """  # noqa: D205 - one sentence
        Group(name).send(cls.encode(stream, payload, close), **how)

    @classmethod
    async def agroup_send(
        cls, name: str, stream: str, payload: Any, close: bool | int = False, **how: Unpack[How]
    ) -> None:
        """Async twin of `group_send`, for where nothing is buffered."""
        await Group(name).asend(cls.encode(stream, payload, close), **how)

    @classmethod
    def encode(cls, stream: str, payload: Any, close: bool | int = False) -> dict[str, Any]:
        """Return the message that carries ``payload``, for a channel or a group."""
        if not isinstance(stream, str):
            raise TypeError(f"a stream is named by a str, not by {stream!r}")
        content: dict[str, Any] = {"text": cls.encode_json({"stream": stream, "payload": payload})}
        if close is not False:
            content["close"] = close
        return content

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return ``content`` as text. Dates, decimals and UUIDs are written as Django does."""
        return json.dumps(content, cls=DjangoJSONEncoder)


class StreamMessage(Message):
    """A message of a connection as the consumer of one stream gets it: ``text`` is its payload.

    Sessions and users are the connection's, read once for all streams.
    """

    __slots__ = ("stream",)

    def __init__(self, whole: Message, content: dict[str, Any], stream: str) -> None:
        super().__init__(content, whole.channel_name, whole.attempt)
        self.__dict__ = whole.__dict__
        self.stream = stream

    def reply(self, data: str | bytes | None = None, /, **content: Any) -> None:
        """Accept or close the connection, as `Message.reply`; data goes by the multiplexer.

        Raises `SendNotAvailableOnDemultiplexer` for any: the client could not tell whose it is.
        """
        if data is not None or "text" in content or "bytes" in content:
            raise SendNotAvailableOnDemultiplexer(
                f"the consumer of stream {self.stream!r} answers with multiplexer.send(…): what "
                "is sent otherwise has no stream"
            )
        if "subprotocol" in content or "headers" in content:
            raise SendNotAvailableOnDemultiplexer(
                f"the consumer of stream {self.stream!r} does not accept for all streams: choose "
                "subprotocol and headers in the demultiplexer's connect"
            )
        super().reply(**content)


class Demultiplexer(Consumer):
    """A consumer that hands each message to the consumer of its stream::

        class Page(Demultiplexer):
            protocols = ["websocket", "sse", "longpoll"]
            consumers = {"scores": Scores, "chat": Chat}

    Connect and disconnect go to all of them, in this order, after its own method. Their methods
    are called with ``multiplexer=``, the `Multiplexer` of their stream, besides what the filters
    capture. Each has its own groups, sessions, users and state, as if it stood alone;
    its ``protocols`` are the demultiplexer's.
    """  # noqa: D400 - an example follows

    consumers: ClassVar[Mapping[str, type[BaseConsumer]]] = {}
    """By stream the class that takes its messages."""
    multiplexer_class: ClassVar[type[Multiplexer]] = Multiplexer
    """What makes the messages of a stream."""

    # ---------------------------------------------------------------- a message

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Call the consumer of the message's stream. Raises `Reject` where there is none."""
        text = message.content.get("text")
        if text is None:
            raise Reject(_code(NOT_TEXT, message), "messages of streams are text")
        try:
            stream, payload = self.demultiplex(text)
        except ValueError:
            raise Reject(_code(NOT_A_FRAME, message), f"not {SHAPE}") from None
        if stream not in self.consumers:
            raise Reject(_code(NO_STREAM, message), f"there is no stream {stream!r}")
        route = self._routes(message).get(stream)
        if route is None:
            raise Reject(_code(NO_STREAM, message), f"stream {stream!r} takes no messages")
        content = {**message.content, "text": payload}
        return self._call(route, StreamMessage(message, content, stream), kwargs)

    @classmethod
    def demultiplex(cls, text: str) -> tuple[str, str]:
        """Return the stream of a message, and its payload as text. Raises ValueError."""
        found = _read(text)
        return found.stream, bytes(found.payload).decode()

    def _with_groups(
        self, act: Callable[..., None], method: Any, message: Message, kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Do what any consumer does, then have the streams do it; at the end whatever raises."""
        streams = [
            functools.partial(
                self._call, route, StreamMessage(message, message.content, stream), kwargs
            )
            for stream, route in self._routes(message).items()
        ]
        to_the_last = message.channel_name.endswith(".disconnect")
        if _get_running_loop() is None:
            own = functools.partial(super()._with_groups, act, method, message, kwargs)
            _in_turn((own, *streams), to_the_last=to_the_last)
            return None
        aown = functools.partial(self._awith_groups, act, method, message, kwargs)
        return _ain_turn((aown, *streams), to_the_last=to_the_last)

    def _routes(self, message: Message) -> Mapping[str, Route]:
        table = _table(type(self))  # type: ignore[arg-type]  # typeshed: a class is hashable
        return table.get(message.channel_name, {})

    def _call(self, route: Route, message: StreamMessage, kwargs: dict[str, Any]) -> Any:
        multiplexer = self.multiplexer_class(message.stream, message.reply_channel)
        consumer = route.consumer
        if not route.is_async and _get_running_loop() is not None:  # it may block
            consumer = sync_to_async(consumer)
        return consumer(message, multiplexer=multiplexer, **kwargs)

    # ---------------------------------------------------------------- routes

    @classmethod
    def routes(cls) -> list[Route]:
        """Return a route for each method. Raises ImproperlyConfigured, which names the fix."""
        _check(cls)
        return super().routes()

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes, on any stream."""
        streams = (call for route in _routes(cls, method) for call in route.calls)
        return [*super().calls(method), *map(_given, streams)]

    @classmethod
    def _route(cls, channels: tuple[str, ...], method: str) -> Route:
        route = super()._route(channels, method)
        if any(getattr(one.consumer, "stateful", False) for one in _routes(cls, method)):
            route.consumer.__dict__["stateful"] = True  # for a worker to know of it
        return route

    @classmethod
    def _takes(cls, kind: str, kinds: Sequence[str]) -> bool:
        return kind == "receive" or super()._takes(kind, kinds)

    @classmethod
    def _has(cls, kind: str) -> bool:
        return kind == "receive" or super()._has(kind)


def _in_turn(calls: Sequence[Callable[[], Any]], *, to_the_last: bool) -> None:
    error: Exception | None = None
    for call in calls:
        try:
            call()
        except Exception as raised:
            if not to_the_last:
                raise
            error = error or raised
    if error is not None:
        raise error


async def _ain_turn(calls: Sequence[Callable[[], Any]], *, to_the_last: bool) -> None:
    error: Exception | None = None
    for call in calls:
        try:
            await call()
        except Exception as raised:
            if not to_the_last:
                raise
            error = error or raised
    if error is not None:
        raise error


def _given(call: Call) -> Call:
    """Return a call with what a stream's consumer is given; it never is given bytes."""
    named = tuple(name for name in call.named if name != "bytes")
    return call._replace(named=named, always=(*call.always, "multiplexer"))


def _code(codes: Mapping[str, int], message: Message) -> int | None:
    return codes.get(message.channel_name.partition(".")[0])


# ---------------------------------------------------------------- the consumers of streams


@functools.cache
def _table(kind: type[Demultiplexer]) -> dict[str, dict[str, Route]]:
    """Return by channel and stream the route that a consumer would have if it stood alone."""
    found: dict[str, dict[str, Route]] = {}
    for stream, consumer in kind.consumers.items():
        own: dict[str, Any] = {
            "__module__": consumer.__module__,
            "__qualname__": consumer.__qualname__,
        }
        if issubclass(consumer, Consumer):
            own["protocols"] = kind.protocols
        bound: type[BaseConsumer] = type(consumer.__name__, (consumer,), own)
        for route in bound.routes():
            for channel in route.channels:
                found.setdefault(channel, {})[stream] = route
    return found


def _routes(kind: type[Demultiplexer], method: str) -> list[Route]:
    """Return the routes of streams that a method of the demultiplexer leads to."""
    found: dict[Route, None] = {}
    for channel, streams in _table(kind).items():  # type: ignore[arg-type]  # typeshed: a class is hashable
        if method == f"raw_{channel.rpartition('.')[2]}":
            found.update(dict.fromkeys(streams.values()))
    return list(found)


def _check(kind: type[Demultiplexer]) -> None:
    """Refuse consumers that are none, and methods that nobody would call."""
    where = f"{name_of(kind)}.consumers"
    consumers = kind.consumers
    if not isinstance(consumers, Mapping) or not consumers:
        raise ImproperlyConfigured(
            f"{where} is {consumers!r}; write a dict of streams and classes: consumers = "
            "{'chat': Chat}"
        )
    for stream, consumer in consumers.items():
        if not isinstance(stream, str):
            raise ImproperlyConfigured(f"{where}: a stream is named by a str, not by {stream!r}")
        if isinstance(consumer, BaseConsumer):
            raise ImproperlyConfigured(
                f"{where}[{stream!r}] is an instance; write {type(consumer).__name__} without "
                "parentheses"
            )
        if not inspect.isclass(consumer) or not issubclass(consumer, BaseConsumer):
            raise ImproperlyConfigured(
                f"{where}[{stream!r}] is {consumer!r}; write a subclass of django_gateway.Consumer"
            )
        if issubclass(consumer, Demultiplexer):
            raise ImproperlyConfigured(
                f"{where}[{stream!r}] is a demultiplexer itself; name its consumers here: streams "
                "have no streams"
            )
    for protocol in protocols_of(kind):
        if "receive" not in kinds_of(name_of(kind), protocol):
            raise ImproperlyConfigured(
                f"{name_of(kind)}: {protocol!r} has no messages to be shared among streams; take "
                "them in a class of their own"
            )
    if hasattr(kind, "receive"):
        raise ImproperlyConfigured(
            f"{name_of(kind)}.receive is never called: messages go to the consumers of their "
            "streams. What is to stand around all of them is dispatch(self, message)"
        )
