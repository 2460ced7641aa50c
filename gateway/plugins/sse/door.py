"""The door: which requests ask for a stream, how many may wait, who is let in to be decided."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core import opening
from gateway.core.escape import escaped
from gateway.core.opening import Refuse, refusal
from gateway.core.pages import Pages, asks_first
from gateway.core.plugin import Context, Drop, Peer
from gateway.core.web import Exchange, Head, Header
from gateway.plugins.sse import translate
from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.translate import SseSession
from gateway.plugins.sse.transport import SseWire

METHODS = b"GET"
ALLOWED = b"last-event-id, cache-control"
"""What a page that reads a stream by ``fetch`` has to ask for beforehand."""


class Door:
    """What the streams of one gateway process share."""

    def __init__(self, config: SseConfig, context: Context) -> None:
        self.config = config
        self.loop = context.loop
        self.streams = 0
        """All of them."""
        self.pending = 0
        """Those of them that wait for a decision."""
        self.drop = context.drop
        self.recording = context.recording
        self._context = context
        self._pages = Pages(context, config.origins, "an event stream")
        context.gauge("streams", lambda: self.streams)

    def matches(self, head: Head) -> bool:
        """Return whether a request asks for a stream at one of ``paths``, and somebody routes it.

        While no worker lives nobody knows: it waits for one.
        """
        if head.method == "OPTIONS":
            wanted = asks_first(head)
            if wanted is None or wanted[0] != b"GET" or b"last-event-id" not in wanted[1]:
                return False
        elif not translate.asks(head):
            return False
        return head.path.startswith(self.config.paths) and self._context.routed("connect") != False  # noqa: E712

    def open(self, exchange: Exchange) -> None:
        """Have a stream decided; refuse whom no page of ours sent, or what is too many."""
        head = exchange.head
        if not self._pages.admit(head):
            self.refuse(exchange, refusal(403, "not for pages of another site"))
            return
        if head.method == "OPTIONS":
            exchange.respond(204, self._pages.preflight(head, METHODS, ALLOWED))
            exchange.end()
            return
        if self.pending >= self.config.max_pending or self.streams >= self.config.max_streams:
            self.drop(Drop.LIMITED)
            what = "too many event streams"
            if self.streams < self.config.max_streams:
                what += " wait for a decision"
            self.refuse(exchange, refusal(503, what))
            return
        wire = SseWire(self, exchange)
        session = SseSession(self.config, head, self.drop)
        peer = Peer(head.client, head.server, head.scheme == "https", head.identity)
        wire.begin(self._context.attach(session, wire, peer, exchange))

    def headers(self, head: Head, own: Sequence[Header]) -> list[Header]:
        """Return the headers of a stream that was accepted with such of the application's."""
        return translate.stream_headers(own, self._pages.headers(head))

    def refuse(self, exchange: Exchange, answer: Refuse) -> None:
        """Answer a request with an ordinary response; 500 if its headers cannot be sent."""
        own = {name for name, _ in answer.headers}
        cors = [field for field in self._pages.headers(exchange.head) if field[0] not in own]
        answer = Refuse(answer.status, answer.content, (*answer.headers, *cors))
        if (error := opening.answer(exchange, answer)) is not None:
            self.drop(Drop.INVALID)
            self._context.log.warning("a refusal of %s: %s", escaped(exchange.head.path), error)
