"""The connection of a device on asyncio: what the core and asyncio call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.core.arrivals import Arrived
from gateway.core.deadlines import Deadline
from gateway.core.places import Place
from gateway.core.plugin import Connection, Done, Drop, Outcome, Summary
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
LINGER: Final = 2.0
"""Seconds that a closing connection has to take what is left for it: a few round trips."""


class MqttWire(asyncio.Protocol):
    """One connection: the core's `Wire`, and asyncio's protocol."""

    __slots__ = (
        "_allowance",
        "_arrived",
        "_closing",
        "_deadline",
        "_decoder",
        "_out",
        "_paused",
        "_place",
        "_server",
        "_since",
        "connection",
        "session",
        "transport",
    )

    session: MqttSession

    def __init__(self, server: Server, arrived: Arrived) -> None:
        self._server = server
        self._arrived: Arrived | None = arrived
        self._place: Place | None = arrived.place
        self._decoder = Decoder(server.config.max_packet)
        self._out: list[bytes] = []
        """What is written at the end of this turn, together."""
        self._closing = False
        self._paused = False
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
        arrived, self._arrived = self._arrived, None
        if arrived is None or self._place is None:
            if arrived is not None:
                server.context.record(arrived.peer, Summary(end="refused"))
            self._closing = True
            transport.close()
            return
        self.session = MqttSession(server.config, server)
        self._deadline = Deadline(self._silent)
        server.context.deadlines.set(self._deadline, server.config.connect_timeout)
        self.connection = server.context.attach(self.session, self, arrived.peer)

    def data_received(self, data: bytes) -> None:
        """Take bytes, hand over packets."""
        decoder = self._decoder
        while not self._closing:
            if self._paused:
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
        """Tell the core that the device reads too slowly."""
        if self.connection is not None:
            self.connection.writable(False)

    def resume_writing(self) -> None:
        """Tell the core that it has caught up."""
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
        self._paused = self.session.paused = True
        if not self._closing:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on, beginning with what is here already."""
        self._paused = self.session.paused = False
        if not self._closing:
            self._server.context.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._closing or self._paused:
            return
        if not self.transport.is_reading():
            self.transport.resume_reading()
        self.data_received(b"")

    # ------------------------------------------------ what the server calls

    def line(self) -> Line:
        """Return how the device sends."""
        connection = self.connection
        if connection is None:
            raise RuntimeError("the connection is over")
        bounds = self.session.bounds()

        def done(token: Any, outcome: Outcome) -> None:
            connection.run((Done(token, outcome),))

        return Line(self.session.protocol, self.write, connection.push, done, *bounds)

    @property
    def is_open(self) -> bool:
        """Whether its session is."""
        return self.connection is not None and self.session.state is OPEN
