"""WebSocket connections on asyncio: one `WebsocketWire` from the claim to the last byte.

Until it is decided the request is an `Exchange` of the http port, which may be refused as any
request; accepted, its transport is taken over, and the wire is its protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.core.deadlines import Deadline
from gateway.core.opening import Refuse, refusal
from gateway.core.plugin import Connection, Drop, Traffic, Write
from gateway.core.web import Exchange
from gateway.core.websockets import frames, handshake
from gateway.core.websockets.engine import Engine
from gateway.core.websockets.frames import Event, Fault
from gateway.core.websockets.handshake import Accept
from gateway.plugins.websocket.deflate import Agreed, Inflater
from gateway.plugins.websocket.translate import CLOSED, CLOSING, WebsocketSession

if TYPE_CHECKING:
    from gateway.plugins.websocket.door import Door

BATCH: Final = 64
"""Events handed over at once: as many messages as a connection's inbox has room for, so that
it overshoots by one read at most."""


class WebsocketWire(asyncio.Protocol):
    """One connection's transport: the core's `Wire`, and asyncio's protocol once accepted."""

    __slots__ = (
        "_agreed",
        "_allowance",
        "_congested",
        "_connection",
        "_deadline",
        "_door",
        "_engine",
        "_exchange",
        "_failed",
        "_held",
        "_inflater",
        "_key",
        "_open",
        "_paused",
        "_pong",
        "_reading",
        "_release",
        "_session",
        "_since",
        "_transport",
        "traffic",
    )

    _release: Callable[[], None]
    """Gives back the place of the connection that was taken over."""

    def __init__(
        self, door: Door, exchange: Exchange, key: bytes, agreed: Agreed | None = None
    ) -> None:
        self._door = door
        self._exchange: Exchange | None = exchange
        self._key = key
        self._agreed = agreed
        door.pending += 1
        self._connection: Connection | None = None
        self._session: WebsocketSession | None = None
        self._transport: asyncio.Transport | None = None
        self._engine: Engine | None = None
        self._inflater: Inflater | None = None
        self._held = b""
        self.traffic = Traffic() if door.recording else None
        """Bytes of frames, for the access log."""
        self._deadline: Deadline | None = None
        self._pong = b""
        self._congested = False
        self._open = False
        self._reading = False
        self._paused = False
        self._failed = False
        self._allowance = door.burst
        self._since = 0.0
        """How many messages may come before it is looked at the clock, and when that was last."""

    def begin(self, connection: Connection, session: WebsocketSession) -> None:
        """Take the connection that this wire carries."""
        self._connection = connection
        self._session = session
        if self._exchange is not None:
            self._exchange.on_gone(self._gone)

    # ------------------------------------------------ what the core calls

    def write(self, output: bytes | Accept) -> None:
        """Send a ready frame; or accept: answer the handshake and take its transport over."""
        if self._open and not isinstance(output, Accept):
            transport = self._transport
            if transport is None or transport.is_closing():
                if output[0] < frames.CLOSE:  # a message, not a control frame
                    self._door.drop(Drop.GONE)
            elif self._congested and output[0] == frames.PONG:
                self._pong = output
            else:
                if self.traffic is not None:
                    self.traffic.sent += len(output)
                transport.write(output)
        elif isinstance(output, Accept) and (exchange := self._decided()) is not None:
            self._accept(exchange, output)

    def close(self, data: bytes | Refuse, *, abort: bool) -> None:
        """End: with our close frame, or with the response that refuses the handshake."""
        exchange = self._decided()
        if exchange is not None:
            if isinstance(data, Refuse):
                self._door.refuse(exchange, data)
            elif abort:
                exchange.abort()
            else:
                self._door.refuse(exchange, refusal(500, "the gateway failed"))
            self._door.loop.call_soon(self._lost)
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if abort:
            transport.abort()
        elif self._open:
            self._open = False
            last = data if isinstance(data, bytes) and data else frames.close_frame(1011)
            if self.traffic is not None:
                self.traffic.sent += len(last)
            transport.write(last)
            self._deadline = Deadline(transport.abort)
            self._door.deadlines.set(self._deadline, self._door.config.close_timeout)
            if self._session is None or self._session.state is not CLOSING:
                self._shut()
            elif self._paused:
                self.resume()

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if self._session is not None:
            self._session.paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, beginning with what was read and not yet handed over."""
        self._paused = False
        if self._session is not None:
            self._session.paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._door.loop.call_soon(self._resume)

    # ------------------------------------------------ what asyncio calls

    def data_received(self, data: bytes) -> None:
        """Read frames, hand over what they say."""
        if self.traffic is not None:
            self.traffic.received += len(data)
        if self._held:
            data, self._held = self._held + data, b""
        size = len(data)
        pos = 0
        while self._reading:
            if self._paused:
                self._held = data[pos:]
                return
            events: list[Event] = []
            engine = self._engine
            if engine is None:
                pos = frames.split(data, pos, BATCH, self._door.longest, events, self._inflater)
                if pos < size and len(events) < BATCH:
                    engine = self._engine = Engine(self._door.config, self._inflater)
            if engine is not None:
                pos = engine.feed(data, pos, events)
                self._allowance -= engine.continued
                engine.continued = 0
                if engine.idle:
                    self._engine = None
                elif engine.failed and not self._failed:
                    self._failed = True
                    self._door.fault()
            if self._connection is None or self._session is None:
                return
            if self._open:
                self._allowance -= len(events)
                if self._allowance < 0 and self._is_flood(len(events)):
                    self._door.drop(Drop.LIMITED, len(events))
                    rate = self._door.config.message_rate
                    events = [Fault(1008, f"over {rate:g} messages a second")]
                    self._failed = True
                if events:
                    self._connection.received(events)
            else:
                self._received_late(events)
            if pos >= size:
                return

    def eof_received(self) -> None:
        """End the connection: a WebSocket does not end by halves."""
        if self._held:
            self.data_received(b"")
        if self._open and self._connection is not None:
            self._connection.eof()

    def pause_writing(self) -> None:
        """Tell the core that the peer reads too slowly."""
        self._congested = True
        if self._connection is not None:
            self._connection.writable(False)

    def resume_writing(self) -> None:
        """Tell the core that the peer has caught up."""
        self._congested = False
        if self._pong:
            pong, self._pong = self._pong, b""
            self._answer(pong)
        if self._connection is not None:
            self._connection.writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the core, once."""
        if self._deadline is not None:
            self._door.deadlines.forget(self._deadline)
        self._open = self._reading = False
        self._engine = self._inflater = self._transport = self._deadline = None
        self._held = b""
        self._release()
        self._lost()

    # ------------------------------------------------ own

    def _accept(self, exchange: Exchange, answer: Accept) -> None:
        extensions = b""
        if (agreed := self._agreed) is not None:
            extensions = agreed.answer
            self._inflater = self._door.inflater(agreed)
            self._agreed = None
        fields = handshake.fields(self._key, answer, extensions)
        transport, unread = exchange.upgrade(b"websocket", fields)
        self._release = exchange.release
        self._transport = transport
        self._open = self._reading = True
        transport.set_protocol(self)
        self._since = self._door.loop.time()
        self._held = unread
        if self.traffic is not None:
            self.traffic.received += len(unread)
        # In a turn of its own: the core is in the middle of this session's actions.
        self._door.loop.call_soon(self._resume)

    def _resume(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._paused:
            return
        if not transport.is_reading():
            transport.resume_reading()
        if self._held:
            self.data_received(b"")

    def _is_flood(self, count: int) -> bool:
        """Earn what the time since the last look is worth; return whether ``count`` are too many.

        Called only once a burst is used up, so that the hot path pays for a subtraction alone. No
        more than two bursts can pass at once so.
        """
        door = self._door
        now = door.loop.time()
        earned = (now - self._since) * door.config.message_rate
        self._since = now
        self._allowance = min(self._allowance + count + earned, door.burst) - count
        return self._allowance < 0

    def _received_late(self, events: list[Event]) -> None:
        """Take what comes after our close frame: the peer's own, and pings until then."""
        session = self._session
        if session is None:
            return
        for action in session.received(events):
            if isinstance(action, Write):
                self._answer(action.output)
        if session.state is CLOSED:
            self._shut()

    def _answer(self, pong: bytes) -> None:
        """Send a pong, even after our close frame."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._congested:
            # RFC 6455 section 5.5.3: only the most recent ping need be answered. So a peer
            # that pings and never reads fills nothing.
            self._pong = pong
        else:
            if self.traffic is not None:
                self.traffic.sent += len(pong)
            transport.write(pong)

    def _shut(self) -> None:
        """Close so that the last frame arrives."""
        self._engine = None
        self._reading = False
        self._held = self._pong = b""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._failed:
            transport.close()
            return
        # RFC 6455 section 7.1.1: shut down the sending side, go on reading until the peer has
        # done the same. Nobody knows what a peer that broke the rules still sends, and a close
        # with unread input is a reset, which may overtake the last frame.
        if not transport.is_reading():
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()  # TLS reads on of its own accord until the peer has closed, too
        self._lost()

    def _decided(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._door.pending -= 1
        return exchange

    def _gone(self) -> None:
        if self._decided() is not None:
            self._lost()

    def _lost(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()
