"""Long-poll connections: one `LongpollWire` from the claim to its last answer.

It is asked by its client's requests (`gateway.core.relay.Ask`), whichever process they reached::

    {"method": "GET", "cursor": 7 or None, "wait": seconds}
    {"method": "POST", "key": "…", "message": {"text": …} or {"bytes": …}}
    {"method": "DELETE"}

and answers each by ``{"status", "headers", "content"}``, those of `gateway.core.posting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.core import posting
from gateway.core.deadlines import Deadline
from gateway.core.opening import Refuse, refusal
from gateway.core.plugin import Connection, Done, Drop, Message, Traffic
from gateway.core.posts import Posts
from gateway.core.relay import Ask, Location
from gateway.core.requested import INTERNAL, Decline
from gateway.core.web import Exchange
from gateway.plugins.longpoll.batches import Batches, Marked, Stray
from gateway.plugins.longpoll.translate import (
    EXPIRED,
    LEAVES,
    LongpollSession,
    Open,
    closing,
)

if TYPE_CHECKING:
    from gateway.core.places import Place
    from gateway.plugins.longpoll.door import Door

JSON: Final = (b"content-type", b"application/json")


class LongpollWire:
    """One connection's transport: the core's `Wire` over the requests of its client.

    The core may write while a poll waits and its batch has room. What it writes in one turn of the
    loop leaves together. When the connection has ended, the wire lasts until its client has heard
    of it.
    """

    __slots__ = (
        "_batches",
        "_closed",
        "_connection",
        "_deadline",
        "_door",
        "_due",
        "_exchange",
        "_full",
        "_leaving",
        "_location",
        "_place",
        "_poll",
        "_posts",
        "_session",
        "traffic",
    )

    def __init__(
        self, door: Door, exchange: Exchange, session: LongpollSession, place: Place
    ) -> None:
        self._door = door
        self._exchange: Exchange | None = exchange
        self._session = session
        self._place = place
        self._connection: Connection | None = None
        self._location: Location | None = None
        self._batches = Batches(door.config.max_answer)
        self._posts: Posts | None = None
        self._poll: Ask | None = None
        self._deadline = Deadline(self._is_due)
        """Until when the poll waits, or one has to come."""
        self._due = False
        """Whether the poll is answered at the end of this turn."""
        self._full = False
        self._leaving = False
        self._closed = False
        """Whether the last element of all waits, or was given."""
        self.traffic = Traffic() if door.recording else None
        """Bytes of messages, for the access log."""
        door.pending += 1

    def begin(self, connection: Connection) -> None:
        """Take the connection that this wire carries."""
        self._connection = connection
        if not self._batches.ready:
            connection.writable(False)
        if self._exchange is not None:
            self._exchange.on_gone(self._over)

    # ------------------------------------------------ what the core calls

    def write(self, output: bytes | Marked | Open) -> None:
        """Send a message, with the others of this turn; or accept."""
        if isinstance(output, Open):
            self._accept(output)
        else:
            self._put(output)

    def close(self, data: bytes | Refuse | Decline, *, abort: bool) -> None:
        """End: with the last element of all, or with the response that refuses the request."""
        exchange = self._decided()
        if exchange is not None:
            if isinstance(data, Decline):
                exchange.decline()
            elif abort:
                exchange.abort()
            elif isinstance(data, Refuse):
                self._door.refuse(exchange, data)
            else:
                self._door.refuse(exchange, refusal(500, "the gateway failed"))
        elif abort or self._leaving:
            if self._due:
                self._answer()
            self._end()
        elif isinstance(data, bytes):
            self._put(data or closing(INTERNAL, "the gateway failed"))
            self._closed = True
        # In a turn of its own: the core is in the middle of this session's actions.
        self._door.loop.call_soon(self._over)

    def pause(self) -> None:
        """Take no more of what is posted: what there is waits to be worked on."""
        self._full = True

    def resume(self) -> None:
        """Take it again."""
        self._full = False

    # ------------------------------------------------ what its client asks

    def asked(self, ask: Ask) -> None:
        """Take a request of the client, whichever process it reached."""
        said = ask.message
        method = said["method"]
        if method == "GET":
            self._polled(ask, said["cursor"], said["wait"])
        elif method == "POST":
            self._posted(ask)
        else:
            self._leave(ask)

    def _polled(self, ask: Ask, cursor: int | None, wait: float) -> None:
        door = self._door
        batches = self._batches
        try:
            again = batches.ask(cursor)
        except Stray as error:
            door.count("stray")
            ask.answer(posting.packed(error.answer))
            return
        self._answer_empty("replaced")
        connection = self._connection
        if again is not None:
            door.count("repeated")
            ask.answer(self._batch(again))
            self._await()
            return
        if connection is not None and (tokens := batches.had()):
            connection.run([Done(token) for token in tokens])
        self._poll = ask
        ask.on_gone(self._poll_is_gone)
        if connection is not None:
            connection.writable(True)
        elif not batches.ready:
            self._end()
            return
        door.waiting += 1
        door.deadlines.set(self._deadline, wait)
        if batches.ready or not wait:
            self._answer_soon()

    def _posted(self, ask: Ask) -> None:
        connection = self._connection
        if connection is None:
            ask.answer(posting.packed(posting.NO_CONNECTION))
            return
        if self._posts is None:
            self._posts = Posts(self._door.config.max_keys, self._door.drop)
        post = self._posts.take(ask, full=self._full)
        if post is not None:
            if self.traffic is not None:
                self.traffic.received += post.size
            connection.received(post)

    def _leave(self, ask: Ask) -> None:
        ask.answer(posting.packed(Refuse(204)))
        self._leaving = True
        if self._connection is None:
            self._end()
        else:
            self._connection.received(LEAVES)

    # ------------------------------------------------ answers

    def _accept(self, answer: Open) -> None:
        exchange = self._decided()
        if exchange is None:
            return
        door = self._door
        self._location = door.locate(self.asked)
        location = posting.link(exchange.head, self._location.text)
        config = door.config
        said = {
            "location": location,
            "wait": min(config.wait, config.max_wait),
            "expires": config.expires,
        }
        headers = (
            JSON,
            (b"location", location.encode("latin-1")),
            (b"preference-applied", b"respond-async"),
            *answer.headers,
        )
        door.refuse(exchange, Refuse(201, msgspec.json.encode(said), headers))
        self._await()

    def _put(self, message: bytes | Marked) -> None:
        batches = self._batches
        if self.traffic is not None:
            self.traffic.sent += len(message.element if isinstance(message, Marked) else message)
        batches.put(message)
        if self._poll is None or not batches.takes:
            self._stop_writing()
        if self._poll is not None:
            self._answer_soon()

    def _stop_writing(self) -> None:
        if self._connection is not None:
            self._connection.writable(False)

    def _answer_soon(self) -> None:
        if not self._due:
            self._due = True
            self._door.loop.call_soon(self._answer)

    def _answer(self) -> None:
        """Answer the poll, if it still waits, by all that there is."""
        self._due = False
        if self._poll is None:
            return
        if not self._batches.ready:
            self._answer_empty("empty")
            self._await()
            return
        self._door.count("messages")
        self._reply(self._batch(self._batches.give()))
        self._await()

    def _answer_empty(self, why: str) -> None:
        if self._poll is not None:
            self._door.count(why)
            tag = (b"etag", b'"%d"' % self._batches.number)
            self._reply(posting.packed(Refuse(204, headers=(tag,))))

    def _reply(self, answer: Message) -> None:
        poll, self._poll = self._poll, None
        self._stop_writing()
        if poll is not None:
            self._door.waiting -= 1
            poll.answer(answer)

    def _batch(self, content: bytes) -> Message:
        tag = (b"etag", b'"%d"' % self._batches.number)
        return posting.packed(Refuse(200, content, (JSON, tag)))

    # ------------------------------------------------ time, and the end

    def _await(self) -> None:
        """Wait for the next poll."""
        if self._location is not None:
            self._door.deadlines.set(self._deadline, self._door.config.expires)

    def _is_due(self) -> None:
        if self._poll is not None:
            self._answer()
        elif self._connection is not None:
            self._leaving = True
            self._connection.run(self._session.received(EXPIRED))
        else:
            self._end()

    def _poll_is_gone(self) -> None:
        """Hear that who polled has left: what comes waits for the next."""
        if self._poll is not None and self._poll.over:
            self._poll = None
            self._door.waiting -= 1
            self._stop_writing()
            self._await()

    def _decided(self) -> Exchange | None:
        """Let go of the request that asked for the connection."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._door.pending -= 1
        return exchange

    def _over(self) -> None:
        """Tell the core, once; what was posted is answered, or gone with the connection."""
        if self._location is None:
            self._decided()
            self._place.leave()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.lost()
        if self._posts is not None:
            self._posts.end()
            self._posts = None

    def _end(self) -> None:
        """Be asked no more."""
        location, self._location = self._location, None
        if location is None:
            return
        self._door.deadlines.forget(self._deadline)
        if self._poll is not None:
            self._poll = None
            self._door.waiting -= 1
        self._place.leave()
        # What no poll was given: none of them is the last element of all, which says nothing.
        self._door.drop(Drop.GONE, max(0, self._batches.left - self._closed))
        location.close()
