"""`Http2Stream`: one request of an HTTP/2 connection, in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from gateway.core.deadlines import Deadline
from gateway.core.heard import unheard
from gateway.core.plugin import End
from gateway.core.web import Head, Header
from gateway.plugins.http.head import CHUNKED, RequestHead
from gateway.plugins.http.http2.head import check_trailers
from gateway.plugins.http.http2.response import CONTINUE, Part
from gateway.plugins.http.http2.tunnel import Tunnel
from gateway.plugins.http.pace import Pace
from gateway.plugins.http.phase import FOREVER, LINGER, Phase
from gateway.plugins.http.refusals import Refused
from gateway.plugins.http.service import Service

if TYPE_CHECKING:
    from gateway.plugins.http.http2.connection import Http2Protocol

HIGH: Final = 65536
"""Bytes that wait for the client's window before whoever answers is asked to pause; as much as
asyncio's transports hold."""
LOW: Final = HIGH // 4
"""Bytes at which it may go on."""
PROGRESS: Final = HIGH // 4
"""Bytes that a client has to take within ``write_timeout``: one that opens its window by a byte
now and then holds what waits for it as well as one that does nothing."""


class Http2Stream(Service):
    """One request: what of its content came, what of its response is still to go."""

    __slots__ = (
        "_begun",
        "_coming",
        "_complete",
        "_content",
        "_deadline",
        "_early",
        "_full",
        "_held",
        "_http2",
        "_left",
        "_malformed",
        "_mark",
        "_open",
        "_owed",
        "_pace",
        "_taken",
        "_unread",
        "ended",
        "id",
        "queued",
        "tunnel",
        "waiting",
    )

    def __init__(self, http2: Http2Protocol, number: int, *, ended: bool) -> None:
        super().__init__(http2.port, http2.port.site2)
        self._http2 = http2
        self._peer = http2.peer
        self.id = number
        self._open = True
        """Whether anything can still be sent on it."""
        self._begun = False
        """Whether the head of the response was sent; who made it may be done already."""
        self._complete = ended
        """Whether the client can send nothing more on it."""
        self._content = 0
        self._left: int | None = None
        self._early: bytearray | None = None
        """Content that came before it was decided what an extended CONNECT becomes."""
        self._held = 0
        """Bits: why the content is not read on. While there is one, the window is not opened."""
        self._unread = 0
        """Bytes of content that the window is not opened for yet."""
        self._owed = 0
        """Bytes of content worked on for which its window is not opened again."""
        self._pace: Pace | None = None
        """The time that the content has left, once it takes more than one frame."""
        self._coming = 0
        """Bytes of a frame of content that have come already."""
        self._malformed = False
        """Whether the request is at fault, so that its stream is reset behind the answer."""
        self._full = False
        self.waiting = bytearray()
        """Content that waits for the client's window, or for the transport."""
        self.ended = False
        """Whether the response ends behind what waits."""
        self.queued = False
        """Whether it waits for its turn to send."""
        self._taken = 0
        self._mark = 0
        """Bytes that the client took, of this stream and of all, when its time began to run."""
        self.tunnel: Tunnel | None = None
        self._deadline: Deadline | None = Deadline(self._due)

    @property
    def pending(self) -> bool:
        """Whether anything waits to be sent, if only the end."""
        return self._open and bool(self.waiting or self.ended)

    @property
    def _has_reader(self) -> bool:
        """Whether anybody reads what the client sends."""
        return not (self._session is None and self._exchange is None and self.tunnel is None)

    @property
    def begun(self) -> bool:
        """Whether a response has begun."""
        return self._begun or super().begun

    # ------------------------------------------------ the request

    def begin(self, head: RequestHead) -> None:
        """Take the request."""
        if head.protocol:
            self._early = bytearray()
        elif head.length == CHUNKED and head.header(b"content-length") is not None:
            self._left = 0  # it says so, and has not ended yet
        elif head.length and head.length != CHUNKED:
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
        self._complete = ended
        if self.tunnel is not None:
            self.tunnel.received(data, ended=ended)
            if ended:
                self.end_tunnel()
        elif self._early is not None:
            self._early += data
            return  # the window stays as it is until it is decided
        elif self._has_reader:
            self._read(data, ended=ended)
        else:  # it is answered: the rest is read past
            self._part()
        self._give_window()

    def _read(self, data: bytes, *, ended: bool) -> None:
        self._content += len(data)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (ended and self._left):
                self.refuse(Refused("body-length"), self.request)
                return
        elif self._content > self._port.config.max_body:
            self.refuse(Refused("body-size"), self.request)
            return
        if self._phase is Phase.BODY:
            if ended:
                self._await_response()
            else:
                self._enter(Phase.BODY, self._paced(max(0, len(data) - self._coming)))
                self._coming = 0
        if data:
            self._pass_on(data)
        if ended:
            self._pass_on(None)

    def take_trailers(self, fields: Iterable[Header]) -> None:
        """Take the fields behind the content, which are checked and not passed on."""
        self._complete = True
        try:
            check_trailers(fields)
        except Refused as refused:
            self.refuse(refused, self.request)
        else:
            self.received(b"", 0, ended=True)

    def coming(self, size: int) -> None:
        """Hear that ``size`` bytes have come of a frame of content whose rest has not."""
        if self._phase is Phase.BODY:
            self._enter(Phase.BODY, self._paced(size - self._coming))
            self._coming = size

    def _paced(self, size: int) -> float:
        """Return the seconds that the content has left after so many more bytes of it."""
        now = self._http2.loop.time()
        if self._pace is None:
            self._pace = Pace(self._port.config, now)
        return self._pace.read(size, now)

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
        was, self._held = self._held, self._held | bit if yes else self._held & ~bit
        if self._held and not was:
            if self._phase is Phase.BODY:
                if self._pace is not None:
                    self._pace.stop(self._http2.loop.time())
                self._await_response()
        elif was and not self._held:
            self._give_window()
            if not self._complete and self._phase in {Phase.RESPONSE, Phase.STREAM}:
                self._go_on()

    def _give_window(self) -> None:
        if self._unread and not self._held:
            size, self._unread = self._unread, 0
            self._http2.worked_on(size)
            wanted = self._phase is Phase.LINGER or (self._open and self._has_reader)
            if self._complete or not wanted:
                return
            self._owed += size
            if self._owed >= self._port.config.http2_window // 2:
                owed, self._owed = self._owed, 0
                self._http2.open_window(self.id, owed)

    # ------------------------------------------------ the response

    def send(self, output: Part) -> None:
        """Send header fields now, content as the client's window and the transport allow."""
        if not self._open:
            return
        if output.fields is not None:
            self._begun = output is not CONTINUE
            end = output.end and not output.content
            self._http2.send_fields(self.id, output.fields, end=end)
            if end:
                self._sent_all()
                return
        if output.content:
            self.waiting += output.content
        self.ended = output.end
        self._http2.push(self)
        if self.queued and output.end:
            self.stuck()
        self._regulate()

    def _regulate(self) -> None:
        """Tell whoever answers whether the client takes more."""
        size = len(self.waiting)
        full = size > (LOW if self._full else HIGH)
        if full is not self._full:
            self._full = full
            if self.tunnel is not None:
                self.tunnel.writable(not full)
            else:
                self._tell_writable(not full)

    def moved(self, size: int, *, done: bool) -> None:
        """Hear that the client took so much, and whether with it the response is complete."""
        if done:
            self._sent_all()
            return
        if self._phase is Phase.WRITE:
            self._taken += size
            if not self.waiting:
                self._go_on()
            elif self._taken >= PROGRESS:
                self.wait_for_client()
        if self._full:
            self._regulate()

    def stuck(self) -> None:
        """Hear that the client takes nothing now of what waits."""
        # How long an open tunnel may wait, its protocol decides.
        if self._phase is not Phase.WRITE and (self.tunnel is None or self.ended):
            self.wait_for_client()

    def wait_for_client(self) -> None:
        """Let the client's time to take what waits begin to run."""
        self._taken = 0
        self._mark = self._http2.outflow.total
        self._enter(Phase.WRITE, self._port.config.write_timeout)

    def _go_on(self) -> None:
        """Wait for what is to come next, now that nothing waits to be sent."""
        if not (self._complete or self._held or self.tunnel or self._early is not None):
            now = self._http2.loop.time()
            if self._pace is None:
                self._pace = Pace(self._port.config, now)
            self._enter(Phase.BODY, self._pace.go(now))
        else:
            self._enter(Phase.STREAM)

    def _sent_all(self) -> None:
        """Have done with sending."""
        self._open = False
        self._http2.guard.earn()
        if self.tunnel is not None:
            self.end_tunnel()
            return
        self._part()

    def _part(self) -> None:
        """Forget the stream once all is sent and nobody reads on.

        A client that still sends its content gets a moment to read the answer and to end of its
        own accord; what it sends is dropped. Only then is it asked to stop (RFC 9113 section 8.1):
        some take a reset for an error, and never show the answer.
        """
        if self._open or self._has_reader:
            return
        if self._complete:
            if self._phase is Phase.LINGER:
                self._http2.refund()
            self.forget()
        elif self._phase is not Phase.LINGER:
            self._enter(Phase.LINGER, LINGER)
            self._held = 0
            self._give_window()

    def finish(self, *, keep_alive: bool) -> None:
        """Have done with the request, whose response is complete or waits to be sent."""
        self._let_go()
        self._part()

    def unheard(self) -> float:
        """Return the seconds for which nothing was heard of a client that owes it."""
        return unheard(self._http2.transport.get_extra_info("socket"))

    def reusable(self) -> bool:
        """Return True: what becomes of the connection does not depend on one stream."""
        return True

    # ------------------------------------------------ tunnels

    def switch(self, protocol: bytes, headers: Iterable[Header]) -> tuple[asyncio.Transport, bytes]:
        """Answer 200 to an extended CONNECT (RFC 8441 section 5) and become a transport."""
        if self._early is None or self.request.protocol != protocol.decode("latin-1").lower():
            raise RuntimeError("only an extended CONNECT for the protocol can be answered so")
        early, self._early = bytes(self._early), None
        own = [(name.lower(), value) for name, value in headers]
        said = {name for name, _ in own}
        stamp = [field for field in self.site.stamp() if field[0] not in said]
        fields = [(b":status", b"200"), *own, *stamp]
        self._exchange = None
        self._held = 0
        self._begun = True
        self._enter(Phase.STREAM)
        self.tunnel = tunnel = Tunnel(self, self._http2, ended=self._complete)
        self._http2.send_fields(self.id, fields, end=False)
        self._give_window()
        return tunnel, early

    def end_tunnel(self) -> None:
        """End a stream whose transport is closed, or was by both halves, once all is sent.

        The client gets a moment to close its half too: a reset would be an error to some.
        """
        tunnel = self.tunnel
        if tunnel is None or self._open:
            return
        if self._complete:
            tunnel.over(None)
            self.forget()
        elif tunnel.is_closing() and self._phase is not Phase.LINGER:
            tunnel.over(None)
            self._held = 0
            self._give_window()
            self._enter(Phase.LINGER, LINGER)

    # ------------------------------------------------ the end

    def refuse(self, refused: Refused, head: Head | None) -> None:
        """Answer a request that is malformed or goes beyond a limit; ``head`` is what is known."""
        self._port.context.count("refused_total", why=refused.id)
        self._malformed = refused.status == 400
        self._give_up(refused.status, str(refused), head)

    def _say_last(self, output: Part) -> None:
        """Send an answer of the gateway's own."""
        self._early = None
        if self._malformed:
            # RFC 9113 section 8.1.1: a malformed request is a stream error; "a server MAY send
            # an HTTP response prior to closing or resetting the stream".
            self.send(Part(output.fields, output.content, end=False))
            self.abort()
            return
        self.send(output)
        self._part()

    def abort(self, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        """Reset the stream."""
        if self._malformed:
            code = ErrorCodes.PROTOCOL_ERROR
            self._http2.guard.pay_reset()
        if self._open or not self._complete:
            self._http2.reset(self.id, code)
        self.lost(end="cut")

    def lost(self, error: Exception | None = None, end: End = "client") -> None:
        """Hear that the stream is gone, the client's doing unless ``end`` says otherwise."""
        self._open = False
        self._complete = True
        self._gone(end)
        if self.tunnel is not None:
            self.tunnel.over(error)
        self.forget()

    def forget(self) -> None:
        """Let go of everything."""
        deadline, self._deadline = self._deadline, None
        if deadline is None:
            return
        self._port.context.deadlines.forget(deadline)
        self._phase = Phase.OVER
        self._open = False
        self.waiting.clear()
        self._early = self.tunnel = None
        self._held = 0
        self._give_window()
        self._http2.forget(self)

    # ------------------------------------------------ time

    def _enter(self, phase: Phase, seconds: float = FOREVER) -> None:
        deadline = self._deadline
        if deadline is None:
            return
        self._phase = phase
        if seconds == FOREVER:
            self._port.context.deadlines.clear(deadline)
        else:
            self._port.context.deadlines.set(deadline, seconds)

    def _due(self) -> None:
        phase = self._phase
        if phase is Phase.BODY:
            self._port.count_timeout(phase)
            self.refuse(Refused("body-timeout"), self.request)
        elif phase is Phase.RESPONSE:
            self._response_due()
        elif phase is Phase.LINGER:
            self.abort(ErrorCodes.NO_ERROR)
        elif phase is Phase.WRITE:
            outflow = self._http2.outflow
            if not outflow.shut(self) and outflow.total - self._mark >= PROGRESS:
                self.wait_for_client()  # it waits for its turn behind others, which move
                return
            self._port.count_timeout(phase)
            self.abort(ErrorCodes.CANCEL)
