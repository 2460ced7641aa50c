"""The door: which requests ask for a stream, how many may wait, who is let in to be decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.core import opening, posting
from gateway.core.escape import escaped
from gateway.core.opening import Refuse, refusal
from gateway.core.pages import FRESH, Pages, asks_first, merged
from gateway.core.plugin import Context, Drop, Peer
from gateway.core.relay import Answer, Ask, Location
from gateway.core.web import Exchange, Head, Header
from gateway.plugins.sse import translate
from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.translate import SseSession
from gateway.plugins.sse.transport import SseWire

FOR_STREAMS: Final = (b"GET", b"last-event-id, cache-control")
"""What a page may do that reads a stream by ``fetch``: methods, and headers of its request."""
FOR_POSTS: Final = (b"POST", b"content-type, idempotency-key")
"""What it may do that posts to one."""


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

        While no worker lives nobody knows: it waits for one. What is posted to a stream names its
        location, and is nobody else's.
        """
        if head.method in {"POST", "OPTIONS"}:
            wanted = asks_first(head)
            if head.method == "POST" or (wanted is not None and wanted[0] == b"POST"):
                return posting.located(head, self._context.name) is not None
            if wanted is None or wanted[0] != b"GET" or b"last-event-id" not in wanted[1]:
                return False
        elif not translate.asks(head):
            return False
        return head.path.startswith(self.config.paths) and self._routed()

    def _routed(self) -> bool:
        routed = self._context.routed
        return routed("connect") is not False or routed("receive") is not False

    def open(self, exchange: Exchange) -> None:
        """Have a stream decided, or hand on what is posted to one; refuse other sites' pages."""
        head = exchange.head
        if not self._pages.admit(head):
            self.refuse(exchange, refusal(403, "not for pages of another site"))
        elif head.method == "OPTIONS":
            location = posting.located(head, self._context.name)
            how = FOR_STREAMS if location is None else FOR_POSTS
            exchange.respond(204, self._pages.preflight(head, *how))
            exchange.end()
        elif head.method == "POST":
            self._context.spawn(self._post(exchange))
        else:
            self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        head = exchange.head
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

    async def _post(self, exchange: Exchange) -> None:
        """Hand what is posted to the process that has the stream, and its answer to the client."""
        read = await posting.read(exchange, self.config.max_message, self.drop)
        if isinstance(read, Refuse):
            self.refuse(exchange, read)
        if read is None or isinstance(read, Refuse):
            return

        def heard(answer: Answer) -> None:
            self.refuse(exchange, posting.unpacked(answer))

        location = posting.located(exchange.head, self._context.name) or ""
        asked = self._context.ask(location, read, heard, self.config.timeout)
        exchange.on_gone(asked.forget)

    def locate(self, deliver: Callable[[Ask], None]) -> Location:
        """Return a new location for a stream."""
        return self._context.locate(deliver)

    def headers(self, head: Head, own: Sequence[Header]) -> list[Header]:
        """Return the headers of a stream that was accepted with such of the application's."""
        return translate.stream_headers(own, self._pages.headers(head))

    def vanished(self) -> None:
        """Count a client that left without a word."""
        self._context.count("vanished_total")

    def refuse(self, exchange: Exchange, answer: Refuse) -> None:
        """Answer a request with an ordinary response; 500 if its headers cannot be sent."""
        headers = merged(answer.headers, (FRESH, *self._pages.headers(exchange.head)))
        answer = Refuse(answer.status, answer.content, headers)
        if (error := opening.answer(exchange, answer)) is not None:
            self.drop(Drop.INVALID)
            self._context.log.warning("a refusal of %s: %s", escaped(exchange.head.path), error)
