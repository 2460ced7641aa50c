"""The connection of a device on asyncio: what the core and asyncio call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from gateway.core.arrivals import Arrived
from gateway.core.deadlines import Deadline
from gateway.core.places import Place
from gateway.core.plugin import Connection, Drop, Summary
from gateway.plugins.mqtt import reasons
from gateway.plugins.mqtt.codec import Decoder
from gateway.plugins.mqtt.packets import Fault
from gateway.plugins.mqtt.server.device import Line
from gateway.plugins.mqtt.server.house import Claim
from gateway.plugins.mqtt.server.session import NEW, OPEN, MqttSession

if TYPE_CHECKING:
    from gateway.plugins.mqtt.server.service import Server

BATCH: Final = 64
"""Packets handed over at once: as many messages as a connection's inbox has room for, so that it
overshoots by one read at most."""
EARLY: Final = 65_536
"""Bytes that are read of a device that is not let in yet, and then no more until it is."""
INBOX, UNDECIDED, CLOGGED = 1, 2, 4
"""Why nothing is read: consumers are behind, nobody has decided, the device does not read."""
LINGER: Final = 2.0
"""Seconds that a closing connection has to take what is left for it: a few round trips."""


class MqttWire(asyncio.Protocol):
    """One connection: the core's `Wire`, and asyncio's protocol."""

    __slots__ = (
        "_allowance",
        "_closing",
        "_deadline",
        "_decoder",
        "_early",
        "_halts",
        "_left",
        "_out",
        "_place",
        "_server",
        "_since",
        "connection",
        "peer",
        "session",
        "transport",
    )

    session: MqttSession

    def __init__(self, server: Server, arrived: Arrived) -> None:
        self._server = server
        self.peer = arrived.peer
        self._place: Place | None = arrived.place
        self._decoder = Decoder(server.config.max_packet)
        self._out: list[bytes] = []
        """What is written at the end of this turn, together."""
        self._closing = False
        self._early = 0
        self._halts = 0
        """Why nothing is read now."""
        self._left = 0
        """What was left to send when that was last looked at."""
        self._allowance = server.burst
        self._since = 0.0
        """How many packets may come before it is looked at the clock, and when that was last."""
        self._deadline: Deadline | None = None
        self.connection: Connection | None = None
        self.transport: asyncio.Transport

    # ------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a session; its CONNECT is waited for."""
        self.transport = cast("asyncio.Transport", transport)
        server = self._server
        if self._place is None:
            server.context.record(self.peer, Summary(end="refused"))
            self._closing = True
            transport.close()
            return
        self.session = MqttSession(server.config, server)
        self.session.excused = self._excused
        self._deadline = Deadline(self._silent)
        server.context.deadlines.set(self._deadline, server.config.connect_timeout)
        self.connection = server.context.attach(self.session, self, self.peer)

    def data_received(self, data: bytes) -> None:
        """Take bytes, hand over packets."""
        decoder = self._decoder
        if self.session.undecided:
            self._early += len(data)
            if self._early > EARLY:
                self._halt(UNDECIDED)
        while not self._closing:
            if self._halts:
                decoder.hold(data)
                return
            packets = decoder.feed(data, BATCH)
            data = b""
            connection = self.connection
            if not packets or connection is None:
                return
            self._allowance -= len(packets)
            if self._allowance < 0 and self._is_flood(len(packets)):
                self._server.drop(Drop.LIMITED)
                rate = self._server.config.message_rate
                packets = [Fault(reasons.RATE_TOO_HIGH, f"over {rate:g} packets a second")]
            connection.received(packets)
            if self._deadline is not None and self.session.state is not NEW:
                self._server.context.deadlines.forget(self._deadline)
                self._deadline = None

    def eof_received(self) -> None:
        """End the connection: it does not end by halves."""
        if not self._closing and self.connection is not None:
            self.connection.eof()

    def pause_writing(self) -> None:
        """Tell the core that the device reads too slowly, and answer nothing more until it does."""
        self._left = 0
        self._halt(CLOGGED)
        if self.connection is not None:
            self.connection.writable(False)

    def resume_writing(self) -> None:
        """Tell the core that it has caught up."""
        self._go_on(CLOGGED)
        if self.connection is not None:
            self.connection.writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the core, once."""
        self._closing = True
        self._out.clear()
        if self._deadline is not None:
            self._server.context.deadlines.forget(self._deadline)
            self._deadline = None
        place, self._place = self._place, None
        if place is not None:
            place.leave()
        self._lost()

    def _lost(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self.session.gone()
            self._server.left(self)
            connection.lost()

    def _silent(self) -> None:
        """End who connected and says nothing."""
        self._deadline = None
        self._server.drop(Drop.LIMITED)
        self.transport.abort()

    def _is_flood(self, count: int) -> bool:
        """Earn what the time since the last look is worth; return whether ``count`` are too many.

        Called only once a burst is used up, so that the hot path pays for a subtraction alone.
        """
        server = self._server
        now = server.context.loop.time()
        earned = (now - self._since) * server.config.message_rate
        self._since = now
        self._allowance = min(self._allowance + count + earned, server.burst) - count
        return self._allowance < 0

    # ------------------------------------------------ what the core calls

    def write(self, output: bytes | Claim) -> None:
        """Send bytes, with all else of this turn; or get the session of MQTT that is asked for."""
        if output.__class__ is bytes:
            if not self._closing:
                if not self._out:
                    self._server.soon(self)
                self._out.append(output)
        elif isinstance(output, Claim):
            self._server.claim(self, output)

    def flush(self) -> None:
        """Write what this turn has brought."""
        out = self._out
        transport = self.transport
        if out and not transport.is_closing():
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def close(self, data: bytes, *, abort: bool) -> None:
        """End it. Our side is closed first where it has halves, and what comes is not read:
        closing with input unread would take back what was sent just before.
        """  # noqa: D205 - one sentence
        transport = self.transport
        if abort:
            self._closing = True
            transport.abort()
            return
        if data:
            self._out.append(data)
        self.flush()
        self._closing = True
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
            if not transport.is_reading():
                transport.resume_reading()
        else:
            transport.close()
        if self._deadline is not None:
            self._server.context.deadlines.forget(self._deadline)
        self._deadline = Deadline(transport.abort)
        self._server.context.deadlines.set(self._deadline, LINGER)
        self._server.context.loop.call_soon(self._lost)

    def pause(self) -> None:
        """Read no more for now."""
        self._halt(INBOX)

    def resume(self) -> None:
        """Read on, beginning with what is here already."""
        self._go_on(INBOX)

    def _halt(self, why: int) -> None:
        self._halts |= why
        if not self._closing:
            self.transport.pause_reading()

    def _go_on(self, why: int) -> None:
        self._halts &= ~why
        if not self._halts and not self._closing:
            self._server.context.loop.call_soon(self._resume)

    def _excused(self) -> bool:
        """Return whether silence says nothing of the device, as it is not listened to: but one
        that does not read has to take some of what it was sent since this was last asked.
        """  # noqa: D205 - one sentence
        if self._halts != CLOGGED:
            return bool(self._halts)
        before, self._left = self._left, self.transport.get_write_buffer_size()
        return not before or self._left < before

    def _resume(self) -> None:
        if self._closing or self._halts:
            return
        if not self.transport.is_reading():
            self.transport.resume_reading()
        self.data_received(b"")

    # ------------------------------------------------ what the server calls

    def let_in(self) -> None:
        """Hear that the device has its session of MQTT: read on."""
        if self._halts & UNDECIDED:
            self._go_on(UNDECIDED)

    def line(self) -> Line:
        """Return how the device sends."""
        connection = self.connection
        if connection is None:
            raise RuntimeError("the connection is over")
        session = self.session
        return Line(
            session.protocol, self.write, connection.push, connection.run, *session.bounds()
        )

    @property
    def is_open(self) -> bool:
        """Whether its session is."""
        return self.connection is not None and self.session.state is OPEN
