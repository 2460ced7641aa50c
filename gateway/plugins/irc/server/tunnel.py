"""IRC over WebSocket (https://ircv3.net/specs/extensions/websocket): a line is a message.

By the subprotocols ``text.ircv3.net`` and ``binary.ircv3.net``, on the port of the http plugin.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from gateway.plugins.irc.server.service import Server

TEXT: Final = "text.ircv3.net"
BINARY: Final = "binary.ircv3.net"
MAX_FRAGMENTS: Final = 64
"""Frames of one line: nobody cuts a line up."""
TEXT_FRAME: Final = 0x81
"""The first byte of a whole text frame (RFC 6455, section 5.2)."""


class Door:
    """The claim on handshakes for IRC."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pages = Pages(server.context, server.config.origins, "IRC over WebSocket")
        self._bounds = Bounds(0, MAX_FRAGMENTS)

    def claim(self) -> Claim:
        """Return it; before that of the websocket plugin."""
        return Claim(self._matches, self._open)

    def _matches(self, head: Head) -> bool:
        if head.path != self._server.config.websocket or not handshake.asks(head):
            return False
        offered = _offered(head)
        return not offered or TEXT in offered or BINARY in offered

    def _open(self, exchange: Exchange) -> None:
        """Check a handshake and take the connection over: its registration is what is decided."""
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
            opening.answer(exchange, refusal(503, "too many clients are connected"))
            return
        chosen = next((name for name in _offered(head) if name in {TEXT, BINARY}), None)
        peer = Peer(head.client, head.server, head.scheme == "https", head.identity)
        wire = server.serve(Arrived(peer, place))
        answer = handshake.fields(offer.key, Accept(chosen))
        transport, unread = exchange.upgrade(b"websocket", answer)
        tunnel = IrcTunnel(self._bounds, exchange, transport, wire)
        tunnel.binary = chosen == BINARY
        tunnel.begin(unread)


def _offered(head: Head) -> list[str]:
    """Return the subprotocols that a client would speak, the best first."""
    return [
        name.strip()
        for key, value in head.headers
        if key == b"sec-websocket-protocol"
        for name in value.decode("latin-1").split(",")
        if name.strip()
    ]


class IrcTunnel(Tunnel):
    """One client: a line is a message, without its ending."""

    binary = False

    def heard(self, message: bytes | str) -> None:
        """Hand a line to the client's wire."""
        data = message if isinstance(message, bytes) else message.encode()
        self.wire.data_received(data + b"\r\n")

    def framed(self, data: bytes) -> bytes:
        """Return a frame for each line: the server writes whole ones."""
        frame: Any = frames.binary_frame if self.binary else _text_frame
        return b"".join(frame(line) for line in data.split(b"\r\n")[:-1])

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection below."""
        transport: asyncio.Transport = self._transport
        return transport.get_extra_info(name, default)


def _text_frame(line: bytes) -> bytes:
    return frames.data_frame(TEXT_FRAME, line)
