"""The door: which requests are handshakes, how many may wait, who is let in to be decided."""

from __future__ import annotations

import math

from gateway.core import opening
from gateway.core.errors import RemoteProtocolError
from gateway.core.escape import escaped
from gateway.core.opening import Refuse, refusal
from gateway.core.pages import Pages
from gateway.core.plugin import Context, Drop, Peer
from gateway.core.web import Exchange, Head
from gateway.core.websockets import handshake
from gateway.core.websockets.handshake import Offer
from gateway.plugins.websocket import deflate, envelope
from gateway.plugins.websocket.config import WebsocketConfig
from gateway.plugins.websocket.deflate import Agreed, ContextDeflater, Deflater, Inflater
from gateway.plugins.websocket.envelope import ObjectContextSession, ObjectSession
from gateway.plugins.websocket.translate import ContextSession, WebsocketSession, deflating
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
        self.burst = config.message_burst if config.message_rate else math.inf
        """Messages that may come at once."""
        self._context = context
        self._pages = Pages(context, config.origins, "a WebSocket")
        self._classes: dict[tuple[int, bool], type[WebsocketSession]] = {}
        """The classes of sessions that share compressed frames: by their window, and whether they
        speak message objects."""

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
        if not self._pages.admit(head):
            # RFC 6455 section 4.2.2: "an appropriate HTTP error code (e.g., 403 Forbidden)"
            self.refuse(exchange, refusal(403, "not for pages of another site"))
            return
        if self.pending >= self.config.max_pending:
            self.drop(Drop.LIMITED)
            busy = refusal(503, "too many handshakes wait for a decision")
            self.refuse(exchange, busy)
            return
        agreed = self._agree(offer)
        wire = WebsocketWire(self, exchange, offer.key, agreed)
        session = self._session(head, offer, agreed)
        peer = Peer(head.client, head.server, head.scheme == "https", head.identity)
        wire.begin(self._context.attach(session, wire, peer, exchange), session)

    def _agree(self, offer: Offer) -> Agreed | None:
        config = self.config
        if config.compression == "off" or not offer.extensions:
            return None
        return deflate.agree(
            offer.extensions, config.compression_window, context=config.compression_context
        )

    def _session(self, head: Head, offer: Offer, agreed: Agreed | None) -> WebsocketSession:
        config = self.config
        objects = envelope.NAME in offer.subprotocols
        kind = ObjectSession if objects else WebsocketSession
        if agreed is None:
            return kind(config, head, offer.subprotocols, self.drop)
        how = agreed.window, config.compression_level, config.compression_min
        if agreed.context:
            with_context = ObjectContextSession if objects else ContextSession
            deflater = ContextDeflater(*how)
            return with_context(config, head, offer.subprotocols, self.drop, deflater)
        key = agreed.window, objects
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = deflating(kind, Deflater(*how))
        return found(config, head, offer.subprotocols, self.drop)

    def inflater(self, agreed: Agreed) -> Inflater:
        """Return what inflates the messages of one connection."""
        most = self.config.max_message
        return Inflater(agreed.their_window, most, context=agreed.their_context)

    def fault(self) -> None:
        """Count a peer that broke the rules."""
        self._context.count("peer_errors_total")

    def refuse(self, exchange: Exchange, answer: Refuse) -> None:
        """Answer a handshake with an ordinary response; 500 if its headers cannot be sent."""
        if (error := opening.answer(exchange, answer)) is not None:
            self.drop(Drop.INVALID)
            self._context.log.warning("a refusal of %s: %s", escaped(exchange.head.path), error)
