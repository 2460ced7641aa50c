"""MQTT over WebSocket (section 6): by the subprotocol ``mqtt``, on the port of the http plugin.

A control packet may stand in several frames, a frame may hold several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.core import opening
from gateway.core.arrivals import Arrived
from gateway.core.errors import RemoteProtocolError
from gateway.core.opening import refusal
from gateway.core.pages import Pages
from gateway.core.plugin import Drop, Peer
from gateway.core.web import Claim, Exchange, Head
from gateway.core.websockets import frames, handshake
from gateway.core.websockets.handshake import Accept
from gateway.core.websockets.tunnel import Bounds, Tunnel
from gateway.plugins.mqtt.server.wire import MqttWire

if TYPE_CHECKING:
    from gateway.plugins.mqtt.server.service import Server

SUBPROTOCOL: Final = "mqtt"
"""Section 6-4: "the Server MUST indicate […] mqtt"; also of 3.1.1."""
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
        self.bounds = Bounds(server.config.max_packet, MAX_FRAGMENTS)

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
        MqttTunnel(self.bounds, exchange, transport, wire).begin(unread)


class MqttTunnel(Tunnel):
    """One device: packets in binary frames."""

    def heard(self, message: bytes | str) -> None:
        """Hand bytes to the device's wire."""
        if isinstance(message, str):
            self.end(frames.close_frame(UNSUPPORTED, "MQTT is sent in binary frames"))
        else:
            self.wire.data_received(message)

    def framed(self, data: bytes) -> bytes:
        """Return one binary frame."""
        return frames.binary_frame(data)

    def end(self, last: bytes) -> None:
        """End it, after the packets that wait for the end of the turn."""
        if not self.is_closing():
            self.wire.flush()
        super().end(last)
