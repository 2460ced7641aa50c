"""Event streams over the http port: one `SseWire` from the claim to the last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.opening import Refuse, refusal
from gateway.core.plugin import Connection, Drop, Traffic
from gateway.core.posting import link
from gateway.core.posts import Posts
from gateway.core.relay import Ask, Location
from gateway.core.requested import Decline
from gateway.core.web import Exchange, Piece
from gateway.plugins.sse import events
from gateway.plugins.sse.translate import KEEP_ALIVE, Open

if TYPE_CHECKING:
    from gateway.plugins.sse.door import Door


class SseWire:
    """One stream's transport: the core's `Wire` over an `Exchange` of any version of HTTP."""

    __slots__ = (
        "_connection",
        "_door",
        "_exchange",
        "_location",
        "_open",
        "_owes",
        "_paused",
        "_posts",
        "_spoke",
        "traffic",
    )

    def __init__(self, door: Door, exchange: Exchange) -> None:
        self._door = door
        self._exchange: Exchange | None = exchange
        self._connection: Connection | None = None
        self._location: Location | None = None
        """Where the client may post, if it asked for that."""
        self._posts: Posts | None = None
        self._open = False
        self._paused = False
        self._spoke = False
        self._owes: float | None = None
        """Since when the client owes an acknowledgement, as far as was seen; None: it owes none."""
        self.traffic = Traffic() if door.recording else None
        """Bytes of events, for the access log."""
        door.streams += 1
        door.pending += 1

    def begin(self, connection: Connection) -> None:
        """Take the connection that this wire carries."""
        self._connection = connection
        exchange = self._exchange
        if exchange is not None:
            exchange.on_gone(self._over)
            exchange.on_writable(connection.writable)

    # ------------------------------------------------ what the core calls

    def write(self, output: Piece | Open) -> None:
        """Send a piece of the stream; or accept: begin the response."""
        exchange = self._exchange
        if exchange is None:
            self._door.drop(Drop.GONE)
        elif isinstance(output, Open):
            self._accept(exchange, output)
        elif output is not KEEP_ALIVE:
            self._spoke = True
            self._share(exchange, output)
        elif self._has_vanished(exchange):
            self._door.vanished()
            self.close(b"", abort=True)
        elif self._spoke:
            self._spoke = False
        elif not exchange.paused:
            self._share(exchange, KEEP_ALIVE)

    def close(self, data: bytes | Refuse | Decline, *, abort: bool) -> None:
        """End: with the stream's last bytes, or with the response that refuses the request."""
        exchange = self._exchange
        if exchange is None:
            return
        if abort:
            exchange.abort()
        elif self._open:
            if isinstance(data, bytes) and data:
                self._share(exchange, Piece(data))
            exchange.end()
        elif isinstance(data, Decline):
            self._leave()
            exchange.decline()
        elif isinstance(data, Refuse):
            self._door.refuse(exchange, data)
        else:
            self._door.refuse(exchange, refusal(500, "the gateway failed"))
        self._leave()
        # In a turn of its own: the core is in the middle of this session's actions.
        self._door.loop.call_soon(self._over)

    def pause(self) -> None:
        """Take no more posts for now."""
        self._paused = True

    def resume(self) -> None:
        """Take posts again."""
        self._paused = False

    # ------------------------------------------------ own

    def _accept(self, exchange: Exchange, answer: Open) -> None:
        if self._open:
            return
        self._open = True
        self._door.pending -= 1
        exchange.respond(200, self._door.headers(exchange.head, answer.headers))
        # Everybody who wants to know has read them, and cookies are most of what an idle stream
        # would hold.
        exchange.head.headers.clear()
        self._share(exchange, KEEP_ALIVE)
        if answer.located:
            self._location = location = self._door.locate(self._posted)
            where = link(exchange.head, location.text)
            event = events.opening(where, self._door.config.keep_alive)
            self._share(exchange, Piece(event))

    def _has_vanished(self, exchange: Exchange) -> bool:
        """Return whether the client has owed an acknowledgement for too long."""
        unheard = exchange.unheard()
        now = self._door.loop.time()
        if not unheard:
            self._owes = None
        elif self._owes is None or unheard < now - self._owes:
            self._owes = now  # for what was sent just now, or after it was heard of
        return self._owes is not None and now - self._owes >= self._door.config.silence

    def _posted(self, ask: Ask) -> None:
        """Take what the client has posted to this stream, to whichever process."""
        if self._posts is None:
            self._posts = Posts(self._door.config.max_keys, self._door.drop)
        post = self._posts.take(ask, full=self._connection is None or self._paused)
        if post is not None and self._connection is not None:
            self._connection.received(post)

    def _share(self, exchange: Exchange, piece: Piece) -> None:
        if self.traffic is not None:
            self.traffic.sent += len(piece.content)
        exchange.share(piece)

    def _leave(self) -> None:
        """Let go of the request."""
        if self._exchange is not None:
            self._exchange = None
            self._door.streams -= 1
            if not self._open:
                self._door.pending -= 1

    def _over(self) -> None:
        """Tell the core, once, and who has posted and is not answered yet."""
        self._leave()
        if self._posts is not None:
            self._posts.end()
        if self._location is not None:
            self._location.close()
            self._location = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()
