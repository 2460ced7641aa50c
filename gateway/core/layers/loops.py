"""The asyncio client of a hub: one running loop of a process, over one connection.

What is said in one turn of the loop leaves in one write. While the hub is away questions
fail with `LayerUnavailable`, takes wait, an edge's posts are answered ``failed``; a task
reconnects with a doubling delay.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core.errors import LayerUnavailable
from gateway.core.layers import wire
from gateway.core.layers.base import FAILED, Delivery, Outcome, Send
from gateway.core.layers.codec import checked, checked_group, checked_history
from gateway.core.layers.edge import (
    ANNOUNCED,
    DOWN,
    FENCED,
    FULL,
    HANDLED,
    OUTCOME,
    UP,
    Edge,
    Item,
)
from gateway.core.layers.journal import LASTING
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.threads import ANSWER, MAX_BACKOFF, Hand
from gateway.core.layers.verbs import (
    DO_ANNOUNCE,
    DO_EDGE_ADD,
    DO_EDGE_DISCARD,
    DO_END,
    DO_END_AGAIN,
    DO_PIN,
    DO_POST,
    DO_REGISTER,
    DO_SEND_GROUP,
    DO_WATCH,
    DO_WITHDRAW,
    receivable,
)
from gateway.core.metrics import Drop

if TYPE_CHECKING:
    from gateway.core.layers.loopintake import LoopIntake
    from gateway.core.layers.unix import UnixLayer

log = logging.getLogger("gateway.layer")

LAYER_LOST: Final = Outcome(FAILED, cause="layer_lost")


class LoopClient(asyncio.Protocol):
    """One connection to the hub, for one loop."""

    def __init__(self, layer: UnixLayer, loop: asyncio.AbstractEventLoop) -> None:
        self.layer = layer
        self.loop = loop
        self.edge: LoopEdge | None = None
        self.intakes: dict[int, LoopIntake] = {}
        self.connected = False
        self.hand = Hand(self)
        self._transport: asyncio.Transport | None = None
        self._frames = wire.Frames()
        self._out: list[Any] = []
        self._scheduled = False
        self._rids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._hello = 0
        self._closed = False
        self._connecting: asyncio.Task[None] | None = None
        self._refusal: OSError | None = None
        self._beat: asyncio.TimerHandle | None = None

    def is_closed(self) -> bool:
        """Return whether the loop is gone."""
        return self.loop.is_closed()

    # ---------------------------------------------------------------- the connection

    async def _ready(self) -> None:
        """Connect if that was never tried. Raises `LayerUnavailable` while the hub is away."""
        if self.connected:
            return
        if self._closed:
            raise LayerUnavailable("this layer was closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = self.loop.create_task(self._connect(once=True))
        with suppress(LayerUnavailable):
            await asyncio.wait({self._connecting}, timeout=ANSWER)
        if not self.connected:
            self.keep_connected()
            raise self.layer.away(self._refusal)

    def keep_connected(self) -> None:
        """Connect in the background, until it works."""
        if self.connected or self._closed:
            return
        if self._connecting is None or self._connecting.done():
            self._connecting = self.loop.create_task(self._connect(once=False))

    async def _connect(self, *, once: bool) -> None:
        backoff = 0.05
        while not self._closed:
            try:
                await self.loop.create_unix_connection(lambda: self, self.layer.path)
                return
            except OSError as error:
                self._refusal = error
                if once:
                    return
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.connected = True
        self.hand = Hand(self)
        self._frames = wire.Frames()
        self._hello = next(self._rids)
        self._out = [(wire.HELLO, self._hello, wire.VERSION, self.layer.process)]
        self._out.extend(self.layer.held.claims())
        if self.layer.said is not None:
            self._out.append((DO_ANNOUNCE, 0, *self.layer.said))
        if self.edge is not None:
            self._out.append((wire.EDGE, 0))
            self._out.extend((wire.LISTEN, 0, channel) for channel in self.edge.listening)
        for number, intake in self.intakes.items():
            self._out.append((wire.SUBSCRIBE, 0, number, intake.channels, intake.credit))
        self.flush()
        self._next_beat()

    def _next_beat(self) -> None:
        self._beat = self.loop.call_later(self.layer.options.lease / 4, self._beaten)

    def _beaten(self) -> None:
        self.say((wire.BEAT, 0))
        self._next_beat()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self.connected = False
        self._transport = None
        self._out = []
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(LayerUnavailable("the connection to the hub was lost"))
        for intake in self.intakes.values():
            intake.ready.clear()
        if self._closed:
            return
        log.warning("the connection to the hub was lost (%s); reconnecting", exc or "closed")
        if self.edge is not None:
            self.edge.down()
        self._connecting = None
        self.keep_connected()

    def close(self) -> None:
        """Say good-bye; the lease ends."""
        if self._closed:
            return
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._beat is not None:
            self._beat.cancel()
        if self._transport is not None:
            self.say((wire.BYE, 0))
            self.flush()
            self._transport.close()
        for intake in list(self.intakes.values()):
            intake.close()

    def let_go(self) -> None:
        """Close this process's end, in the child of a fork, without a word to the hub.

        The number stays taken, by nothing: the parent's transport, of which this process has a
        copy, would close whatever had it next.
        """
        if self._transport is not None:
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            sock = self._transport.get_extra_info("socket")
            os.dup2(nothing, sock.fileno(), inheritable=False)
            os.close(nothing)

    async def aclose(self) -> None:
        """Say good-bye, and let the loop close the transport."""
        self.close()
        if self._connecting is not None:
            await asyncio.wait({self._connecting})
        await asyncio.sleep(0)

    # ---------------------------------------------------------------- outwards

    def say(self, command: Any) -> None:
        """Have a command written at the end of this turn of the loop."""
        self._out.append(command)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self.flush)

    def number(self) -> int:
        """Return a number for a command that wants an answer."""
        return next(self._rids)

    def flush(self) -> None:
        """Write what is to be said."""
        self._scheduled = False
        if self._out and self._transport is not None and not self._transport.is_closing():
            out, self._out = self._out, []
            self._transport.write(wire.pack(out))

    async def ask(self, op: int, *args: Any) -> Any:
        """Run one operation and return its result. Raises what it raised."""
        await self._ready()
        rid = next(self._rids)
        call = self._calls[rid] = self.loop.create_future()
        self.say((op, rid, *args))
        try:
            async with asyncio.timeout(ANSWER):
                return await call
        except TimeoutError:
            raise LayerUnavailable(f"the hub did not answer within {ANSWER:.0f} s") from None
        finally:
            self._calls.pop(rid, None)

    async def pull(self, channels: Sequence[str], block: float, *, inbox: bool) -> Delivery | None:
        """Take one delivery within ``block`` seconds; while the hub is away, wait as long."""
        end = self.loop.time() + block
        while True:
            try:
                await self._ready()
                return await self._pull(channels, end, inbox=inbox, wait=block > 0)
            except LayerUnavailable:
                if self.loop.time() >= end:
                    if block > 0:
                        return None
                    raise
                await asyncio.sleep(min(0.05, max(0.0, end - self.loop.time())))

    async def _pull(
        self, channels: Sequence[str], end: float, *, inbox: bool, wait: bool
    ) -> Delivery | None:
        rid = next(self._rids)
        call = self._calls[rid] = self.loop.create_future()
        self.say((wire.PULL, rid, channels, inbox, wait))
        try:
            await asyncio.wait({call}, timeout=end - self.loop.time() if wait else ANSWER)
            if not call.done():
                self.say((wire.UNPULL, 0, rid))
                await asyncio.wait({call}, timeout=ANSWER)
        except asyncio.CancelledError:
            if call.done():
                self._unwanted(call)
            else:
                call.add_done_callback(self._unwanted)
                self.say((wire.UNPULL, 0, rid))
            raise
        if not call.done():
            self._calls.pop(rid, None)
            raise LayerUnavailable(f"the hub did not answer within {ANSWER:.0f} s")
        handed = call.result()
        if handed is None:
            return None
        if handed[0] >= LASTING:
            self.layer.held.begun(handed[0])
        return self.delivery(handed)

    def _unwanted(self, call: asyncio.Future[Any]) -> None:
        """Put back what came for a pull that was cancelled."""
        if call.cancelled() or call.exception() is not None or call.result() is None:
            return
        tag, name, payloads, _ = call.result()
        self.say((wire.PUT_BACK, 0, tag, name, payloads[0]))

    def delivery(self, handed: Sequence[Any]) -> Delivery:
        """Return the delivery that the hub handed over: tag, name, payloads, attempt."""
        return Delivery(handed[1], handed[2], handed[0], handed[3], self.hand)

    def settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> None:
        """Settle at the end of this turn of the loop."""
        if not delivery.tag:
            if sends:
                raise ValueError("what was taken from an inbox is settled already: use aapply()")
            return
        if delivery.tag >= LASTING:
            if not self.connected:
                self.layer.held.keep(delivery, outcomes, sends)
                return
            self.layer.held.settled(delivery.tag, outcomes)
        elif not self.connected or delivery.source is not self.hand:
            self.layer.late(delivery, len(outcomes))
            return
        wire.add_settle(self._out, delivery.tag, outcomes, sends)
        self._flush_soon()

    def set_aside(self, delivery: Delivery) -> None:
        """Take the credit of a delivery back before it is settled."""
        if self.connected and delivery.source is self.hand:
            self.say((wire.ASIDE, 0, delivery.tag))

    def put_back(self, delivery: Delivery) -> None:
        """Give back what is left of a delivery that was not begun."""
        self.layer.held.put_back(delivery.tag)
        if self.connected and delivery.source is self.hand:
            self.say((wire.PUT_BACK, 0, delivery.tag))

    # ---------------------------------------------------------------- inwards

    def data_received(self, data: bytes) -> None:
        try:
            events = self._frames.feed(data)
        except (ValueError, msgspec.DecodeError) as error:
            log.error("what came from the hub was no frame: %s", error)  # noqa: TRY400
            if self._transport is not None:
                self._transport.abort()
            return
        for event in events:
            code = event[0]
            if code == wire.ITEMS:
                if self.edge is not None:
                    self.edge.heard(wire.unpack_items(event[1]))
            elif code == wire.DELIVER:
                intake = self.intakes.get(event[1])
                if intake is not None:
                    intake.push(self.delivery(event[2:]))
                else:  # closed meanwhile
                    self.say((wire.PUT_BACK, 0, event[2]))
            elif code == wire.ENDED:
                self._ended()
            elif code == wire.TELL:
                self.say((wire.TOLD, 0, event[1], self.layer.numbers()))
            else:
                self._answer(event)

    def _answer(self, event: list[Any]) -> None:
        rid = event[1]
        if rid == self._hello:
            self._hello = 0
            if event[0] == wire.REPLY:
                name, known, options = event[2]
                self.layer.welcomed(name, options)
                if self.edge is not None:
                    self.edge.up(name, known=known)
            else:
                log.error("the hub refused us: %s", event[3])
                self._ended()
            return
        call = self._calls.pop(rid, None)
        if call is None:
            if self.edge is not None:
                self.edge.answered(rid)
            return
        if call.done():
            return
        if event[0] == wire.ERROR:
            call.set_exception(wire.unpack_error(event[2], event[3]))
        else:
            call.set_result(event[2])

    def _ended(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            log.error("%s is not known to the hub any more; rejoining", self.layer.process)
            self._transport.abort()


class LoopEdge(Edge):
    """The face of a protocol server, over the loop's connection."""

    def __init__(self, client: LoopClient, deliver: Callable[[list[Item]], None]) -> None:
        self._client = client
        self._deliver = deliver
        self.process = client.layer.process
        self.available = False
        self.announced: frozenset[str] | None = None
        self.listening: list[str] = []
        self._open: dict[int, tuple[int, int]] = {}
        """Of each post that is not settled: how many messages are, of how many."""
        self._ends: dict[int, tuple[str, str, bytes]] = {}
        """Ends that the hub has not answered, by the number of their command."""
        self._begun = False
        if client.connected:
            client.say((wire.EDGE, 0))
            self.available = self._begun = True
        else:
            client.keep_connected()

    @property
    def options(self) -> LayerOptions:  # type: ignore[override]
        """The hub's options, once there was contact with it."""
        return self._client.layer.options

    # ---------------------------------------------------------------- what happens to it

    def heard(self, items: list[Item]) -> None:
        """Pass items on."""
        for item in items:
            code = item[0]
            if code == OUTCOME:
                left = self._open.pop(item[1], None)
                if left is not None and left[1] > item[2] + 1:
                    self._open[item[1]] = (item[2] + 1, left[1])
            elif code == HANDLED:
                left = self._open.pop(item[1], None)
                if left is not None and left[1] > item[2] + item[3]:
                    self._open[item[1]] = (item[2] + item[3], left[1])
            elif code == FULL:
                self._open.pop(item[1], None)
            elif code == ANNOUNCED:
                self.announced = item[1]
        self._deliver(items)

    def up(self, name: str, *, known: bool) -> None:
        """Take note that the hub is there; ``known``: it had not forgotten us."""
        self.available = True
        first, self._begun = not self._begun, True
        fenced = name != self.process
        self.process = name
        if fenced:
            self._ends.clear()
            self._deliver([(FENCED,)])
        ends, self._ends = self._ends, {}
        for end in ends.values():
            self._end(DO_END_AGAIN, *end)
        if not first:
            self._deliver([(UP, not known)])

    def down(self) -> None:
        """Take note that the hub is away; what was not settled is lost."""
        self.available = False
        self.announced = None
        items: list[Item] = []
        for receipt, (done, number) in self._open.items():
            items += [(OUTCOME, receipt, index, LAYER_LOST) for index in range(done, number)]
        self._client.layer.metrics.drop(Drop.LAYER_LOST, len(items), where="edge")
        self._open.clear()
        self._deliver([*items, (DOWN,)])

    # ---------------------------------------------------------------- verbs

    def post(
        self,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        number = len(payloads)
        if not self.available:
            self._client.layer.metrics.drop(Drop.LAYER_LOST, number, where="edge")
            if receipt is not None:
                items = [(OUTCOME, receipt, index, LAYER_LOST) for index in range(number)]
                self._client.loop.call_soon(self._deliver, items)
            return
        if receipt is not None:
            self._open[receipt] = (0, number)
        self._client.say((DO_POST, 0, channel, payloads, receipt, expiry, pin))

    def cancel(self, receipt: int) -> None:
        self._say(DO_WITHDRAW, receipt)

    def register(self, connection: str, channel: str, disconnect: bytes) -> None:
        self._say(DO_REGISTER, connection, channel, disconnect)
        # The accept may leave in this very turn: if this process is killed, the hub must know.
        self._client.flush()

    def pin(self, connection: str, pin: str) -> None:
        self._say(DO_PIN, connection, pin)

    def end(self, connection: str, channel: str = "", disconnect: bytes | None = None) -> None:
        if disconnect is None:
            self._say(DO_END, connection, channel, None)
        elif self.available:
            self._end(DO_END, connection, channel, disconnect)

    def _end(self, op: int, connection: str, channel: str, disconnect: bytes) -> None:
        """Say an end, and again to the next hub if this one is killed before it has answered."""
        rid = self._client.number()
        self._ends[rid] = (connection, channel, disconnect)
        self._client.say((op, rid, connection, channel, disconnect))

    def answered(self, rid: int) -> None:
        """Hear that the hub has taken note of an end."""
        self._ends.pop(rid, None)

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
        names = (checked_group(group), checked(channel))
        self._say(DO_EDGE_ADD, *names, meta, announce, again, since)

    def group_discard(self, group: str, channel: str) -> None:
        self._say(DO_EDGE_DISCARD, checked_group(group), checked(channel))

    def group_send(
        self,
        group: str,
        payload: bytes,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        kept = checked_history(history, history_seconds)
        self._say(DO_SEND_GROUP, checked_group(group), payload, list(exclude), *kept)

    def send(self, channel: str, payload: bytes) -> None:
        self.post(checked(channel), (payload,))

    def listen(self, channel: str) -> None:
        self.listening.append(receivable(channel))
        self._say(wire.LISTEN, channel)

    def unlisten(self, channel: str) -> None:
        if channel in self.listening:
            self.listening.remove(channel)
            self._say(wire.UNLISTEN, channel)

    def _say(self, code: int, *fields: Any) -> None:
        if self.available:
            self._client.say((code, 0, *fields))

    def watch(self, channel: str, process: str) -> None:
        self._say(DO_WATCH, checked(channel), process)

    def leave(self) -> None:
        self._client.layer.closed = True
        self._client.close()
