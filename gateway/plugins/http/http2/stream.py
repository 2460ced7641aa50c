"""`Http2Stream`: one request of an HTTP/2 connection, in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from gateway.core.deadlines import Deadline
from gateway.core.plugin import End
from gateway.core.web import Head, Header
from gateway.plugins.http.head import CHUNKED, RequestHead
from gateway.plugins.http.http2.response import Part
from gateway.plugins.http.http2.tunnel import Tunnel
from gateway.plugins.http.pace import Pace
from gateway.plugins.http.phase import FOREVER, Phase
from gateway.plugins.http.refusals import Refused
from gateway.plugins.http.service import Service

if TYPE_CHECKING:
    from gateway.plugins.http.http2.connection import Http2Protocol

HIGH: Final = 65536
"""Bytes that wait for the client's window before whoever answers is asked to pause; as much as
asyncio's transports hold."""
LOW: Final = HIGH // 4
"""Bytes at which it may go on."""


class Http2Stream(Service):
    """One request: what of its content came, what of its response is still to go."""

    __slots__ = (
        "_complete",
        "_content",
        "_deadline",
        "_full",
        "_held",
        "_http2",
        "_left",
        "_moved",
        "_open",
        "_pace",
        "_unread",
        "ended",
        "id",
        "owed",
        "tunnel",
        "waiting",
    )

    def __init__(self, http2: Http2Protocol, number: int) -> None:
        super().__init__(http2.port, http2.port.site2)
        self._http2 = http2
        self._peer = http2.peer
        self.id = number
        self._open = True
        """Whether anything can still be sent on it."""
        self._complete = False
        """Whether all of the request came."""
        self._content = 0
        self._left: int | None = None
        self._held = 0
        """Bits: why the content is not read on. While there is one, the window is not opened."""
        self._unread = 0
        """Bytes of content that the window is not opened for yet."""
        self.owed = 0
        """Bytes of content worked on for which its window is not opened again."""
        self._pace: Pace | None = None
        """The time that the content has left, once it takes more than one frame."""
        self._full = False
        self._moved = 0
        """Bytes sent since the time for sending what waits was set."""
        self.waiting = bytearray()
        """Content that waits for the client's window, or for the transport."""
        self.ended = False
        """Whether the response ends behind what waits."""
        self.tunnel: Tunnel | None = None
        self._deadline = Deadline(self._due)

    # ------------------------------------------------ the request

    def begin(self, head: RequestHead, *, ended: bool) -> None:
        """Take the request, ``ended`` if it has no content."""
        self._complete = ended
        if head.length and head.length != CHUNKED:
            self._left = head.length
        self.serve(head)

    def _ask(self) -> None:
        if self.request.protocol:
            # RFC 8441 section 4: nobody here speaks what the extended CONNECT asks for.
            self.refuse(Refused("protocol"), self.request)
        else:
            super()._ask()

    def received(self, data: bytes, size: int, *, ended: bool) -> None:
        """Take content that counted ``size`` against the window."""
        self._unread += size
        if self.tunnel is not None:
            self._complete = ended
            self.tunnel.received(data, ended=ended)
            self._give_window()
            return
        if not self._open or self._phase is Phase.OVER:
            # Answered already; the rest is read past until the client hears of it.
            self._give_window()
            return
        self._content += len(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (ended and self._left):
                self.refuse(Refused("body-length"), self.request)
                return
        elif self._content > self._port.config.max_body:
            self.refuse(Refused("body-size"), self.request)
            return
        self._complete = ended
        if self._phase is Phase.BODY:
            if ended:
                self._await_response()
            else:
                now = self._http2.loop.time()
                if self._pace is None:
                    self._pace = Pace(self._port.config, now)
                self._enter(Phase.BODY, self._pace.read(len(data), now))
        if data:
            self._pass_on(data)
        if ended:
            self._pass_on(None)
        self._give_window()

    def hold_body(self, yes: bool) -> None:
        """Open the window for more content no further, or do."""
        self._hold(1, yes)

    def pause(self) -> None:
        """Read no more for now: the core's inbox is full."""
        self._hold(2, True)

    def resume(self) -> None:
        """Read on."""
        self._hold(2, False)

    def _hold(self, bit: int, yes: bool) -> None:
        held = self._held | bit if yes else self._held & ~bit
        if held == self._held:
            return
        was, self._held = self._held, held
        if held and not was:
            if self._phase is Phase.BODY:
                if self._pace is not None:
                    self._pace.stop(self._http2.loop.time())
                self._await_response()
        elif not held:
            self._give_window()
            if not self._complete and self._phase in {Phase.RESPONSE, Phase.STREAM}:
                now = self._http2.loop.time()
                if self._pace is None:
                    self._pace = Pace(self._port.config, now)
                self._enter(Phase.BODY, self._pace.go(now))

    def _give_window(self) -> None:
        if self._unread and not self._held:
            size, self._unread = self._unread, 0
            self._http2.give_window(self, size, open_stream=self._open and not self._complete)

    # ------------------------------------------------ the response

    def send(self, output: Part) -> None:
        """Send header fields now, content as the client's window and the transport allow."""
        if not self._open:
            return
        if output.fields is not None:
            end = output.end and not output.content
            self._http2.send_fields(self.id, output.fields, end=end)
            if end:
                self._sent_all()
                return
        if output.content:
            self.waiting += output.content
        self.ended = output.end
        self._http2.pump(self)
        self.regulate()

    def regulate(self) -> None:
        """Tell whoever answers whether the client takes more, and bound how long it takes none."""
        size = len(self.waiting)
        full = size > (LOW if self._full else HIGH)
        if full is not self._full:
            self._full = full
            if self.tunnel is not None:
                self.tunnel.writable(not full)
            else:
                self._tell_writable(not full)

    def moved(self, size: int, *, done: bool) -> None:
        """Hear that ``size`` bytes of what waited were sent, ``done`` if with them all was."""
        if done:
            self._sent_all()
            return
        if self._phase is Phase.WRITE:
            self._moved += size
            if self.waiting:
                # As a transport does: a client that takes a byte at a time makes no room.
                if self._moved >= HIGH - LOW:
                    self._wait_for_room()
            elif self._session is not None or self._exchange is not None:
                self._enter(Phase.STREAM)
        self.regulate()

    def stuck(self) -> None:
        """Hear that the client takes nothing now of what waits."""
        if self.tunnel is None and self._phase is not Phase.WRITE:
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        self._moved = 0
        self._enter(Phase.WRITE, self._port.config.write_timeout)

    def _sent_all(self) -> None:
        """Have done with sending; end the request's content too, if it is not complete."""
        self._open = False
        self._http2.guard.earn()
        if self.tunnel is not None:
            self.end_tunnel()
            return
        if not self._complete:
            # RFC 9113 section 8.1: the client may stop to send a body that nobody reads.
            self._http2.reset(self.id, ErrorCodes.NO_ERROR)
        if self._session is None and self._exchange is None:
            self.forget()

    def end_tunnel(self) -> None:
        """End a stream whose transport is closed, or closed by both halves, once all is sent."""
        tunnel = self.tunnel
        if tunnel is None or self._open or not (self._complete or tunnel.is_closing()):
            return
        if not self._complete:
            self._http2.reset(self.id, ErrorCodes.NO_ERROR)
        tunnel.over(None)
        self.forget()

    def finish(self, *, keep_alive: bool) -> None:
        """Have done with the request, whose response is complete or waits to be sent."""
        self._let_go()
        if self._open:
            if self._phase is not Phase.WRITE:
                self._wait_for_room()
        else:
            self.forget()

    def reusable(self) -> bool:
        """Return True: what becomes of the connection does not depend on one stream."""
        return True

    def switch(self, protocol: bytes, headers: Iterable[Header]) -> tuple[asyncio.Transport, bytes]:
        """Answer 200 to an extended CONNECT (RFC 8441 section 5) and become a transport."""
        if self.request.protocol != protocol.decode("latin-1").lower():
            raise RuntimeError("only an extended CONNECT for the protocol can be answered so")
        own = [(name.lower(), value) for name, value in headers]
        said = {name for name, _ in own}
        stamp = [field for field in self.site.stamp() if field[0] not in said]
        fields = [(b":status", b"200"), *own, *stamp]
        self._exchange = None
        self._held = 0
        self._enter(Phase.OVER)
        self.tunnel = tunnel = Tunnel(self, self._http2)
        self._http2.send_fields(self.id, fields, end=False)
        return tunnel, b""

    # ------------------------------------------------ the end

    def refuse(self, refused: Refused, head: Head | None) -> None:
        """Answer a request that is malformed or goes beyond a limit; ``head`` is what is known."""
        self._port.context.count("refused_total", why=refused.id)
        self._give_up(refused.status, str(refused), head)

    def _say_last(self, output: Part) -> None:
        """Send an answer of the gateway's own."""
        self.send(output)
        if self._open:
            self._wait_for_room()
        else:
            self.forget()

    def abort(self, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        """Reset the stream."""
        if self._open or not self._complete:
            self._http2.reset(self.id, code)
        self._open = False
        if self.tunnel is not None:
            self.tunnel.over(None)
        self.forget()

    def lost(self, error: Exception | None = None, end: End = "client") -> None:
        """Hear that the client reset it, or that the connection is gone."""
        self._open = False
        self._complete = True
        self._gone(end)
        if self.tunnel is not None:
            self.tunnel.over(error)
        self.forget()

    def forget(self) -> None:
        """Let go of everything."""
        self._phase = Phase.OVER
        self._open = False
        self.waiting.clear()
        self._held = 0
        self._give_window()
        self._port.context.deadlines.forget(self._deadline)
        self._http2.forget(self)

    # ------------------------------------------------ time

    def _enter(self, phase: Phase, seconds: float = FOREVER) -> None:
        self._phase = phase
        if seconds == FOREVER:
            self._port.context.deadlines.clear(self._deadline)
        else:
            self._port.context.deadlines.set(self._deadline, seconds)

    def _due(self) -> None:
        if self._phase is Phase.BODY:
            self._port.count_timeout(Phase.BODY)
            self.refuse(Refused("body-timeout"), self.request)
        elif self._phase is Phase.RESPONSE:
            self._response_due()
        elif self._phase is Phase.WRITE:
            self._port.count_timeout(Phase.WRITE)
            self._gone("cut")
            self.abort(ErrorCodes.CANCEL)
