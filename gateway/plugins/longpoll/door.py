"""The door: which requests open connections, which are those of connections, who is let in."""

from __future__ import annotations

from functools import partial
from typing import Final

from gateway.core import opening, posting
from gateway.core.errors import RemoteProtocolError
from gateway.core.escape import escaped
from gateway.core.opening import Refuse, refusal
from gateway.core.pages import FRESH, Pages, asks_first, merged
from gateway.core.places import Places
from gateway.core.plugin import Context, Drop, Message, Peer
from gateway.core.relay import Answer, Unanswered
from gateway.core.web import Exchange, Head
from gateway.plugins.longpoll import requests
from gateway.plugins.longpoll.config import LongpollConfig
from gateway.plugins.longpoll.translate import LongpollSession
from gateway.plugins.longpoll.transport import LongpollWire

METHODS: Final = b"GET, POST, DELETE"
ALLOWED: Final = b"prefer, if-none-match, idempotency-key, content-type, last-event-id"
"""What a page has to ask for beforehand."""
EXPOSED: Final = b"location, etag, preference-applied, retry-after"
"""What a page of another origin may see of an answer."""
OPTIONS: Final = METHODS + b", OPTIONS"
SLACK: Final = 10.0
"""Seconds that an answer may take beside what a poll waits: far more than any that comes."""
LONGEST: Final = 150.0
"""Seconds that what was posted may take: beyond the 120 that an application is given elsewhere."""


class Door:
    """What the connections of one gateway process share."""

    def __init__(self, config: LongpollConfig, context: Context) -> None:
        self.config = config
        self.loop = context.loop
        self.deadlines = context.deadlines
        self.pending = 0
        """Connections that wait for a decision."""
        self.waiting = 0
        """Polls that wait."""
        self.drop = context.drop
        self.locate = context.locate
        self.recording = context.recording
        self._context = context
        self._places = Places(config.max_connections, config.max_connections_per_address)
        self._pages = Pages(context, config.origins, "long-polling")
        context.gauge("waiting_polls", lambda: self.waiting)

    # ------------------------------------------------ requests

    def matches(self, head: Head) -> bool:
        """Return whether a request opens a connection at one of ``paths``, or is one of its own.

        Where nobody routes ``longpoll.connect`` or ``longpoll.receive`` nothing is opened; while no
        worker lives nobody knows, and it waits for one.
        """
        if posting.KEY in head.query_string and posting.located(head, self._context.name):
            return True
        if head.method == "OPTIONS":
            wanted = asks_first(head)
            if wanted is None or wanted[0] != b"POST" or b"prefer" not in wanted[1]:
                return False
        elif not requests.opens(head):
            return False
        return head.path.startswith(self.config.paths) and (
            self._context.routed("connect") is not False
            or self._context.routed("receive") is not False
        )

    def open(self, exchange: Exchange) -> None:
        """Take a request, if a page may make it."""
        head = exchange.head
        if not self._pages.admit(head):
            self.refuse(exchange, refusal(403, "not for pages of another site"))
        elif head.method == "OPTIONS":
            self._preflight(exchange)
        elif (location := posting.located(head, self._context.name)) is None:
            self._connect(exchange)
        elif head.method == "GET":
            self._poll(exchange, location)
        elif head.method == "DELETE":
            self._ask(exchange, location, {"method": "DELETE"}, SLACK)
        elif head.method == "POST":
            self._context.spawn(self._post(exchange, location))
        else:
            refused = refusal(405, "a connection takes GET, POST, DELETE", [(b"allow", OPTIONS)])
            self.refuse(exchange, refused)

    def _preflight(self, exchange: Exchange) -> None:
        if asks_first(exchange.head) is None:
            self.refuse(exchange, Refuse(204, headers=[(b"allow", OPTIONS)]))
            return
        exchange.respond(204, self._pages.preflight(exchange.head, METHODS, ALLOWED))
        exchange.end()

    def _connect(self, exchange: Exchange) -> None:
        """Have a connection decided; refuse what is too many."""
        head = exchange.head
        place = self._places.take()
        if place is None or self.pending >= self.config.max_pending:
            self.drop(Drop.LIMITED)
            what = "too many connections" + ("" if place is None else " wait for a decision")
            if place is not None:
                place.leave()
            self.refuse(exchange, refusal(503, what))
            return
        if not place.of(None if head.client is None else head.client[0]):
            self.drop(Drop.LIMITED)
            place.leave()
            self.refuse(exchange, refusal(429, "too many connections from this address"))
            return
        context = self._context
        session = LongpollSession(self.config, head, self.drop, context.message_bytes)
        wire = LongpollWire(self, exchange, session, place)
        peer = Peer(head.client, head.server, head.scheme == "https", head.identity)
        wire.begin(context.attach(session, wire, peer, exchange))

    def _poll(self, exchange: Exchange, location: str) -> None:
        config = self.config
        try:
            wait, said = requests.wait_of(exchange.head, config.wait, config.max_wait)
            cursor = requests.cursor_of(exchange.head)
        except RemoteProtocolError as error:
            self.refuse(exchange, error.answer)
            return
        message = {"method": "GET", "cursor": cursor, "wait": wait}
        self._ask(exchange, location, message, wait + SLACK, wait if said else None)

    async def _post(self, exchange: Exchange, location: str) -> None:
        read = await posting.read(exchange, self.config.max_message, self.drop)
        if isinstance(read, Refuse):
            self.refuse(exchange, read)
        elif read is not None:
            self._ask(exchange, location, {"method": "POST", **read}, LONGEST)

    def _ask(
        self,
        exchange: Exchange,
        location: str,
        message: Message,
        seconds: float,
        wait: int | None = None,
    ) -> None:
        """Ask the connection, wherever it is, and answer by what it says."""
        heard = partial(self._heard, exchange, wait)
        waits = message["method"] == "GET"
        asked = self._context.ask(location, message, heard, seconds, waits=waits)
        if not asked.over:
            exchange.on_gone(asked.forget)

    def _heard(self, exchange: Exchange, wait: int | None, said: Answer) -> None:
        # Where this process is shutting down the next poll reaches another.
        answer = Refuse(204) if said is Unanswered.DRAINING else posting.unpacked(said)
        if wait is not None and answer.status < 300:
            # RFC 7240 section 3: which preference was heeded, and how.
            applied = (b"preference-applied", b"wait=%d" % wait)
            answer = Refuse(answer.status, answer.content, (*answer.headers, applied))
        self.refuse(exchange, answer)

    # ------------------------------------------------ answers

    def refuse(self, exchange: Exchange, answer: Refuse) -> None:
        """Answer a request, for this moment alone; 500 if the headers cannot be sent."""
        cors = self._pages.headers(exchange.head, EXPOSED)
        headers = merged(answer.headers, (FRESH, *cors))
        answer = Refuse(answer.status, answer.content, headers)
        if (error := opening.answer(exchange, answer)) is not None:
            self.drop(Drop.INVALID)
            self._context.log.warning("an answer at %s: %s", escaped(exchange.head.path), error)

    def count(self, result: str) -> None:
        """Count how a poll was answered."""
        self._context.count("polls_total", result=result)
