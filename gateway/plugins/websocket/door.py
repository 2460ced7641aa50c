"""The door: which requests are handshakes, how many may wait, who is let in to be decided."""

from __future__ import annotations

from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.core.escape import escaped
from gateway.core.plugin import Context, Drop, Peer
from gateway.core.web import Exchange, Head
from gateway.plugins.websocket import handshake
from gateway.plugins.websocket.config import WebsocketConfig
from gateway.plugins.websocket.handshake import Refuse
from gateway.plugins.websocket.translate import WebsocketSession
from gateway.plugins.websocket.transport import WebsocketWire


class Door:
    """What the connections of one gateway process share."""

    def __init__(self, config: WebsocketConfig, context: Context) -> None:
        self.config = config
        self.loop = context.loop
        self.deadlines = context.deadlines
        self.pending = 0
        """Handshakes that wait for a decision."""
        self.drop = context.drop
        self.longest = min(config.max_frame, config.max_message, 65535)
        """Bytes of a frame that need no look at the limits."""
        self.recording = context.recording
        self._context = context

    def matches(self, head: Head) -> bool:
        """Return whether a request is a handshake for one of ``paths``."""
        return handshake.asks(head) and head.path.startswith(self.config.paths)

    def open(self, exchange: Exchange) -> None:
        """Check a handshake and have it decided; refuse what is wrong or too many."""
        head = exchange.head
        try:
            offer = handshake.check(head)
        except RemoteProtocolError as error:
            self._context.count("bad_handshakes_total")
            self.refuse(exchange, error.answer)
            return
        if self.pending >= self.config.max_pending:
            self.drop(Drop.LIMITED)
            busy = handshake.refusal(503, "too many handshakes wait for a decision")
            self.refuse(exchange, busy)
            return
        wire = WebsocketWire(self, exchange, offer.key)
        session = WebsocketSession(self.config, head, offer.subprotocols, self.drop)
        peer = Peer(head.client, head.server, head.scheme == "https")
        wire.begin(self._context.attach(session, wire, peer, exchange), session)

    def fault(self) -> None:
        """Count a peer that broke the rules."""
        self._context.count("peer_errors_total")

    def refuse(self, exchange: Exchange, answer: Refuse) -> None:
        """Answer a handshake with an ordinary response; 500 if its headers cannot be sent."""
        try:
            self._respond(exchange, answer)
        except LocalProtocolError as error:
            self.drop(Drop.INVALID)
            self._context.log.warning("a refusal of %s: %s", escaped(exchange.head.path), error)
            self._respond(exchange, handshake.refusal(500, "the refusal cannot be sent"))

    @staticmethod
    def _respond(exchange: Exchange, answer: Refuse) -> None:
        exchange.respond(answer.status, answer.headers)
        exchange.write(answer.content)
        exchange.end()
