"""Stand-ins for what surrounds a plugin: a clock moved by hand, a layer's edge, a wire.

::

    clock, edge, wire = ManualClock(), FakeEdge({"echo.receive"}), FakeWire()
    context = edge.engine(clock).context(EchoPlugin, EchoConfig())
    connection = context.attach(EchoSession(), wire, Peer())
    connection.received(b"hello")
    [post] = edge.take()
    edge.reply(post.messages[0]["reply_channel"], {"text": "hi"})
    edge.settle(post, OK)
    assert wire.written == [b"hi"]
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, OK, Outcome
from gateway.core.layers.edge import (
    ANNOUNCED,
    DOWN,
    FENCED,
    FULL,
    GROUP,
    HANDLED,
    JOIN,
    MESSAGE,
    OUTCOME,
    PART,
    UP,
    Edge,
    Item,
)
from gateway.core.layers.log import Position
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Metrics
from gateway.core.plugin import Message

LAYER_LOST: Final = Outcome(FAILED, cause="layer_lost")
"""The outcome of what was not settled when the layer went away."""


class ManualHandle:
    """A call that is due at a time, until it is cancelled."""

    def __init__(self, when: float, number: int, callback: Callable[[], Any]) -> None:
        self.when = when
        self.number = number
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Have it not called."""
        self.cancelled = True

    def __lt__(self, other: ManualHandle) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class ManualClock(asyncio.AbstractEventLoop):
    """An event loop whose time passes only by `advance`. Knows calls and timers, no I/O."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now
        self._number = 0
        self._calls: list[ManualHandle] = []

    def time(self) -> float:
        """Return the present, in seconds."""
        return self._now

    def call_later(  # type: ignore[override] # it returns a handle of its own
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> ManualHandle:
        """Have ``callback`` called when ``delay`` seconds were advanced."""
        self._number += 1
        handle = ManualHandle(self._now + delay, self._number, lambda: callback(*args))
        heapq.heappush(self._calls, handle)
        return handle

    def call_soon(  # type: ignore[override] # as above
        self, callback: Any, *args: Any, context: Any = None
    ) -> ManualHandle:
        """Have ``callback`` called at the next `advance`, even one of 0 seconds."""
        return self.call_later(0.0, callback, *args)

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and call what becomes due, in order."""
        end = self._now + seconds
        while self._calls and self._calls[0].when <= end:
            handle = heapq.heappop(self._calls)
            if not handle.cancelled:
                self._now = max(self._now, handle.when)
                handle.callback()
        self._now = end

    @property
    def idle(self) -> bool:
        """Whether nothing is due any more, however long one waited."""
        return all(handle.cancelled for handle in self._calls)


def apart(items: Iterable[Item]) -> Iterator[Item]:
    """Iterate over items with an ``OUTCOME`` for each message that is said to be ``HANDLED``."""
    for item in items:
        if item[0] == HANDLED:
            for index in range(item[2], item[2] + item[3]):
                yield (OUTCOME, item[1], index, OK)
        else:
            yield item


class Post(NamedTuple):
    """What was posted: one delivery."""

    channel: str
    messages: list[Message]
    receipt: int | None
    pin: str | None = None


class FakeEdge(Edge):
    """An edge that keeps what it is told, and says what a test tells it to.

    ``announced`` are the channels that workers route, None while there is no worker.
    ``calls`` lists every verb but ``post`` as (name, arguments…), payloads decoded.
    """

    def __init__(
        self, announced: Iterable[str] | None = None, process: str = "p_fake00000000"
    ) -> None:
        self.process = process
        self.options = LayerOptions()
        self.available = True
        self.announced = None if announced is None else frozenset(announced)
        self.posts: list[Post] = []
        self._unsettled: dict[int, Post] = {}
        self._settled: dict[int, int] = {}
        """How many messages of a post are, where that is not all."""
        self._routed = self.announced
        self.calls: list[tuple[Any, ...]] = []
        self.deliver: Callable[[list[Item]], None] = _nobody

    def engine(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: GatewaySettings | None = None,
        metrics: Metrics | None = None,
        *,
        unavailable_timeout: float = 30.0,
        access: AccessLog | None = None,
        protocols: Iterable[str] = (),
    ) -> Engine:
        """Return an engine on this edge."""
        engine = Engine(
            self,
            settings or GatewaySettings(),
            metrics or Metrics(),
            loop,
            unavailable_timeout=unavailable_timeout,
            access=access,
            protocols=protocols,
        )
        self.deliver = engine.deliver
        return engine

    # ------------------------------------------------ what a test looks at

    def take(self) -> list[Post]:
        """Return what was posted since the last look."""
        posts, self.posts = self.posts, []
        return posts

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of every call of a verb, in order."""
        return [call[1:] for call in self.calls if call[0] == name]

    # ------------------------------------------------ what a test says

    def settle(self, post: Post, *outcomes: Outcome) -> None:
        """Tell the outcomes of a post's next messages, from the first on."""
        receipt = post.receipt or 0
        done = self._settled.pop(receipt, 0)
        if done + len(outcomes) < len(post.messages):
            self._settled[receipt] = done + len(outcomes)
        else:
            self._unsettled.pop(receipt, None)
        if len(outcomes) > 1 and all(outcome is OK for outcome in outcomes):
            self.deliver([(HANDLED, receipt, done, len(outcomes))])
            return
        self.deliver([(OUTCOME, receipt, i, outcome) for i, outcome in enumerate(outcomes, done)])

    def refuse(self, post: Post) -> None:
        """Say that a post found its channel full."""
        self._unsettled.pop(post.receipt or 0, None)
        self.deliver([(FULL, post.receipt, post.pin or post.channel)])

    def reply(self, channel: str, message: Message) -> None:
        """Deliver a message for a name of this process."""
        self.deliver([(MESSAGE, channel, codec.encode(message))])

    def group_message(
        self,
        group: str,
        message: Message,
        exclude: Sequence[str] = (),
        position: Position | None = None,
    ) -> None:
        """Deliver a group's message for the members that this process holds.

        ``position``: it is kept there.
        """
        kept = () if position is None else (position,)
        self.deliver([(GROUP, group, codec.encode(message), list(exclude), *kept)])

    def join(
        self,
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        resumed: tuple[list[tuple[int, Message]], Position, bool] | None = None,
    ) -> None:
        """Say that somebody added a connection to a group; ``resumed``: what it missed, by offset,
        the present position, and whether more was missed.
        """  # noqa: D205 - one sentence
        self.deliver([self.joining(group, channel, meta, announce=announce, resumed=resumed)])

    @staticmethod
    def joining(
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        resumed: tuple[list[tuple[int, Message]], Position, bool] | None = None,
    ) -> Item:
        """Return the item of `join`, to be delivered with others."""
        packed = None if meta is None else codec.encode(meta)
        item = (JOIN, group, channel, packed, announce)
        if resumed is None:
            return item
        backlog, position, missed = resumed
        kept = [(offset, codec.encode(message)) for offset, message in backlog]
        return (*item, (kept, position, missed))

    def part(self, group: str, channel: str) -> None:
        """Say that somebody removed a connection from a group."""
        self.deliver([(PART, group, channel)])

    def announce(self, channels: Iterable[str] | None) -> None:
        """Say what living workers route."""
        self.announced = self._routed = None if channels is None else frozenset(channels)
        self.deliver([(ANNOUNCED, self.announced)])

    def go_down(self) -> None:
        """Lose the layer, and with it all that is not settled."""
        self.available = False
        self.announced = None
        unsettled, self._unsettled = self._unsettled, {}
        for post in unsettled.values():
            done = self._settled.get(post.receipt or 0, 0)
            self.settle(post, *[LAYER_LOST] * (len(post.messages) - done))
        self.deliver([(DOWN,)])

    def come_up(self, *, rejoined: bool = False) -> None:
        """Find the layer again, and hear from it what workers route."""
        self.available = True
        self.deliver([(UP, rejoined)])
        self.announce(self._routed)

    def fence(self) -> None:
        """End the lease of this process; it goes by another name from now on."""
        self.process += "x"
        self.deliver([(FENCED,)])

    # ------------------------------------------------ the verbs

    def post(
        self,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        """Keep a post."""
        messages = [codec.decode(payload) for payload in payloads]
        post = Post(channel, messages, receipt, pin)
        self.posts.append(post)
        if receipt is not None:
            self._unsettled[receipt] = post

    def cancel(self, receipt: int) -> None:
        """Keep the call."""
        self.calls.append(("cancel", receipt))

    def register(self, connection: str, channel: str, disconnect: bytes) -> None:
        """Keep the call."""
        self.calls.append(("register", connection, channel, codec.decode(disconnect)))

    def pin(self, connection: str, pin: str) -> None:
        """Keep the call."""
        self.calls.append(("pin", connection, pin))

    def end(self, connection: str, channel: str = "", disconnect: bytes | None = None) -> None:
        """Keep the call."""
        message = None if disconnect is None else codec.decode(disconnect)
        self.calls.append(("end", connection, channel, message))

    def group_add(
        self,
        group: str,
        channel: str,
        meta: bytes | None = None,
        *,
        announce: bool = False,
        again: bool = False,
        since: str | None = None,
    ) -> None:
        """Keep the call, with ``announce``, ``again`` and ``since`` where they are said."""
        decoded = None if meta is None else codec.decode(meta)
        flags = [name for name, on in (("announce", announce), ("again", again)) if on]
        if since is not None:
            flags.append(since)
        self.calls.append(("group_add", group, channel, decoded, *flags))

    def group_discard(self, group: str, channel: str) -> None:
        """Keep the call."""
        self.calls.append(("group_discard", group, channel))

    def group_send(
        self,
        group: str,
        payload: bytes,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        """Keep the call, with ``history`` and ``history_seconds`` where it is to be kept."""
        kept = codec.checked_history(history, history_seconds)
        self.calls.append(("group_send", group, codec.decode(payload), list(exclude), *kept))

    def send(self, channel: str, payload: bytes) -> None:
        """Keep the call."""
        self.calls.append(("send", channel, codec.decode(payload)))

    def listen(self, channel: str) -> None:
        """Keep the call."""
        self.calls.append(("listen", channel))

    def unlisten(self, channel: str) -> None:
        """Keep the call."""
        self.calls.append(("unlisten", channel))

    def watch(self, channel: str, process: str) -> None:
        """Keep the call."""
        self.calls.append(("watch", channel, process))

    def leave(self) -> None:
        """Keep the call."""
        self.calls.append(("leave",))


class FakeWire:
    """A wire that keeps what is written. ``closed`` is None, or (data, abort)."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.closed: tuple[Any, bool] | None = None
        self.paused = False

    def write(self, output: Any) -> None:
        """Keep it."""
        self.written.append(output)

    def close(self, data: Any, *, abort: bool) -> None:
        """Keep it."""
        self.closed = (data, abort)

    def pause(self) -> None:
        """Be paused."""
        self.paused = True

    def resume(self) -> None:
        """Be paused no more."""
        self.paused = False


def _nobody(items: list[Item]) -> None:
    raise RuntimeError(f"no engine is on this edge yet to hear {items!r}")
