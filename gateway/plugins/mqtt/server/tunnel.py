"""MQTT over WebSocket (section 6): by the subprotocol ``mqtt``, on the port of the http plugin.

A `Tunnel` is both: the protocol that reads frames of the connection, and the transport that a
device's `MqttWire` has. A control packet may stand in several frames, a frame may hold several.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.core import opening
from gateway.core.arrivals import Arrived
from gateway.core.errors import RemoteProtocolError
from gateway.core.opening import refusal
from gateway.core.pages import Pages
from gateway.core.plugin import Drop, Peer
from gateway.core.web import Claim, Exchange, Head
from gateway.core.websockets import frames, handshake
from gateway.core.websockets.engine import Engine
from gateway.core.websockets.frames import Closed, Event, Fault, Ping
from gateway.core.websockets.handshake import Accept
from gateway.plugins.mqtt.server.wire import MqttWire

if TYPE_CHECKING:
    from gateway.plugins.mqtt.server.service import Server

SUBPROTOCOL: Final = "mqtt"
"""Section 6-4: "the Server MUST indicate […] mqtt"; also of 3.1.1."""
BATCH: Final = 64
"""Frames that are read at once."""
UNSUPPORTED: Final = 1003
"""The close code for a text (section 6-1: "MQTT Control Packets MUST be sent in WebSocket binary
data frames")."""
MAX_FRAGMENTS: Final = 4096
"""Frames of one message: full packets in frames of 256 bytes."""


class Door:
    """The claim on handshakes for MQTT."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pages = Pages(server.context, server.config.origins, "MQTT over WebSocket")
        self.bounds = Bounds(server.config.max_packet)

    def claim(self) -> Claim:
        """Return it; before that of the websocket plugin."""
        return Claim(self._matches, self._open)

    def _matches(self, head: Head) -> bool:
        return (
            handshake.asks(head)
            and head.path.startswith(self._server.config.websocket_paths)
            and any(
                SUBPROTOCOL in [name.strip() for name in value.decode("latin-1").split(",")]
                for key, value in head.headers
                if key == b"sec-websocket-protocol"
            )
        )

    def _open(self, exchange: Exchange) -> None:
        """Check a handshake and take the connection over: its CONNECT is what is decided."""
        head = exchange.head
        server = self._server
        try:
            offer = handshake.check(head)
        except RemoteProtocolError as error:
            server.context.count("bad_handshakes_total")
            opening.answer(exchange, error.answer)
            return
        if not self._pages.admit(head):
            opening.answer(exchange, refusal(403, "not for pages of another site"))
            return
        place = None if server.context.draining else server.places.take()
        if place is not None and not place.of(head.client[0] if head.client else None):
            place.leave()
            place = None
        if place is None:
            server.drop(Drop.LIMITED)
            opening.answer(exchange, refusal(503, "too many devices are connected"))
            return
        peer = Peer(head.client, head.server, head.scheme == "https", head.identity)
        wire = MqttWire(server, Arrived(peer, place))
        answer = handshake.fields(offer.key, Accept(SUBPROTOCOL))
        transport, unread = exchange.upgrade(b"websocket", answer)
        Tunnel(self, exchange, transport, wire).begin(unread)


class Bounds:
    """What one frame, one message may be."""

    def __init__(self, max_packet: int) -> None:
        self.max_frame = self.max_message = max(max_packet, 65_536)
        self.max_fragments = MAX_FRAGMENTS


class Tunnel(asyncio.Protocol):
    """One connection: frames towards the peer, bytes towards its wire."""

    def __init__(
        self, door: Door, exchange: Exchange, transport: asyncio.Transport, wire: MqttWire
    ) -> None:
        self._door = door
        self._release = exchange.release
        self._transport = transport
        self._wire = wire
        self._engine: Engine | None = None
        self._held = b""
        self._reading = True
        self._closing = False

    def begin(self, unread: bytes) -> None:
        """Take over."""
        self._transport.set_protocol(self)
        self._wire.connection_made(self)  # type: ignore[arg-type] # it has what a wire uses
        self._held = unread
        asyncio.get_running_loop().call_soon(self._resumed)

    # ------------------------------------------------ what asyncio calls

    def data_received(self, data: bytes) -> None:
        """Read frames, hand over what they carry."""
        if self._held:
            data, self._held = self._held + data, b""
        pos, size = 0, len(data)
        while pos < size and not self._closing:
            if not self._reading:
                self._held = data[pos:]
                return
            events: list[Event] = []
            engine = self._engine
            if engine is None:
                pos = frames.split(data, pos, BATCH, 65_535, events)
                if pos < size and len(events) < BATCH:
                    engine = self._engine = Engine(self._door.bounds)
            if engine is not None:
                pos = engine.feed(data, pos, events)
                if engine.idle:
                    self._engine = None
            for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, bytes):
            self._wire.data_received(event)
        elif isinstance(event, Ping):
            self._transport.write(frames.control_frame(frames.PONG, event.payload))
        elif isinstance(event, str):
            self._end(frames.close_frame(UNSUPPORTED, "MQTT is sent in binary frames"))
        elif isinstance(event, Fault):
            self._end(frames.close_frame(event.code, event.reason))
        elif isinstance(event, Closed):
            self._end(frames.close_frame(event.code))

    def _end(self, last: bytes) -> None:
        """End it from this side of the device's packets."""
        if not self._closing:
            self._wire.flush()
            self._closing = True
            self._transport.write(last)
            self._transport.close()

    def eof_received(self) -> None:
        """Hear that the peer will send no more: as if it were gone."""
        self._wire.eof_received()

    def pause_writing(self) -> None:
        """Tell the wire that its device reads too slowly."""
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        """Tell the wire that it has caught up."""
        self._wire.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the wire."""
        self._closing = True
        self._release()
        self._wire.connection_lost(exc)

    # ------------------------------------------------ what the wire calls

    def write(self, data: bytes) -> None:
        """Send bytes in one binary frame."""
        if not self._closing and not self._transport.is_closing():
            self._transport.write(frames.binary_frame(data))

    def close(self) -> None:
        """End it, after what was written."""
        if not self._closing:
            self._closing = True
            if not self._transport.is_closing():
                self._transport.write(frames.close_frame(1000))
                self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether it is being closed."""
        return self._closing or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer has still to take."""
        return self._transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return False: a WebSocket does not end by halves."""
        return False

    def is_reading(self) -> bool:
        """Return whether the peer is read."""
        return self._reading

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._reading = False
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._reading = True
        asyncio.get_running_loop().call_soon(self._resumed)

    def _resumed(self) -> None:
        if self._reading and not self._closing and not self._transport.is_closing():
            if not self._transport.is_reading():
                self._transport.resume_reading()
            if self._held:
                self.data_received(b"")
