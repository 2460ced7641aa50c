"""One HTTP/1 connection on asyncio: bytes, timers, whose turn it is. Decides nothing.

A connection is in one `Phase` at a time; the phase says what its one deadline means. One
request is answered at a time: what follows waits, unread, in ``_rest``.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from typing import Final, cast

from gateway.core.arrivals import Arrived
from gateway.core.deadlines import Deadline
from gateway.core.heard import unheard
from gateway.core.places import Place
from gateway.core.web import Header
from gateway.plugins.http.body import Body, ChunkedBody, LengthBody
from gateway.plugins.http.head import CHUNKED, HeadReader, RequestHead, glimpse
from gateway.plugins.http.pace import Pace
from gateway.plugins.http.phase import FOREVER, GLANCE, HALF_CLOSED, LINGER, Phase
from gateway.plugins.http.port import Port
from gateway.plugins.http.refusals import Refused
from gateway.plugins.http.response import switching
from gateway.plugins.http.service import Service

TURNED_AWAY: Final = 1000
"""Connections beyond ``max_connections`` that hear why they are closed: some hundred a second, as
each lingers. Beyond those a flood would take up the descriptors of the whole process."""

_LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class HttpProtocol(Service, asyncio.Protocol):
    """The connection; and the service of the one request that it has in hand."""

    __slots__ = (
        "_arrived",
        "_body",
        "_closing",
        "_deadline",
        "_ended",
        "_full",
        "_hold_body",
        "_hold_rest",
        "_hold_session",
        "_left",
        "_pace",
        "_paused",
        "_place",
        "_reader",
        "_requests",
        "_rest",
        "_transport",
        "_working",
    )

    _transport: asyncio.Transport
    _reader: HeadReader

    def __init__(self, port: Port, arrived: Arrived | None = None) -> None:
        super().__init__(port, port.site)
        self._arrived = arrived
        self._place: Place | None = None
        self._rest = b""
        self._body: Body | None = None
        self._closing = False
        """Whether the last words are said: what comes now is dropped."""
        self._ended = False
        """Whether the client has closed its sending side, and may wait for its answer."""
        self._deadline = Deadline(self._due)
        self._left = 0.0
        self._requests = 0
        """How many there were."""
        self._pace: Pace | None = None
        """The time that the body in hand has left, once it takes more than one read."""
        self._working = False
        self._full = False
        self._paused = False
        self._hold_session = False
        self._hold_body = False
        self._hold_rest = False

    # ------------------------------------------------ asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        port = self._port
        arrived = self._arrived or port.arrived(transport)
        self._peer, self._place = arrived.peer, arrived.place
        self._reader = HeadReader(port.config, self._peer)
        port.connections.add(self)
        if self._place is None:
            if len(port.connections) > port.config.max_connections + TURNED_AWAY:
                self.abort()
            else:
                self._give_up(503, "too many connections", None)
        elif arrived.alpn == "h2":
            self._speak_http2()
        else:
            self._enter(Phase.IDLE, port.config.idle_timeout)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._closing or self._phase is Phase.OVER:
            return  # over TLS a transport that was closed may still bring some
        self._rest = self._rest + data if self._rest else data
        self._work()

    def eof_received(self) -> bool:
        """Let the application answer what is complete; else the client has left: asyncio closes."""
        waits = self._session is not None and self._body is None and not self.begun
        if waits and not self._closing and self._transport.can_write_eof():
            self._ended = True
            self._enter(self._phase, self._left)
            return True
        self._gone()
        self._rest = b""
        if self._phase is not Phase.LINGER:
            self._enter(Phase.WRITE, self._port.config.write_timeout)
        return False

    def pause_writing(self) -> None:
        """Hear that the client takes no more now."""
        self._full = True
        if self._phase is not Phase.LINGER:
            self._enter(Phase.WRITE, self._port.config.write_timeout)
        self._tell_writable(False)

    def resume_writing(self) -> None:
        """Hear that the client takes more again."""
        self._full = False
        if self._phase is Phase.LINGER:
            self._enter(Phase.LINGER, LINGER)
        elif self._phase is Phase.WRITE:
            if self._busy:
                self._enter(Phase.STREAM)
            else:
                self._enter(Phase.IDLE, self._port.config.idle_timeout)
        self._tell_writable(True)
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._gone()
        self._leave()
        self.release()

    # ------------------------------------------------ reading

    def _work(self) -> None:
        """Read what can be read now."""
        if self._working:
            return
        self._working = True
        try:
            while self._rest and self._phase is not Phase.OVER:
                if self._body is not None:
                    self._read_body(self._body)
                elif self._session is not None or self._exchange is not None or self._full:
                    break
                else:
                    head = self._reader.read(self._rest)
                    if head is None:
                        if self._phase is not Phase.HEAD:
                            self._enter(Phase.HEAD, self._port.config.header_timeout)
                        break
                    self._rest = self._rest[self._reader.size :]
                    self._begin(head)
        except Refused as refused:
            if not self._requests and self._port.preface(self._rest):
                self._speak_http2()
                return
            self._refuse(refused)
        finally:
            self._working = False
        waiting = len(self._rest) > self._port.config.max_pipelined and (self._busy or self._full)
        if waiting is not self._hold_rest:
            self._hold_rest = waiting
            self._regulate()
        if self._ended:
            self._close_ended()

    def _begin(self, head: RequestHead) -> None:
        self._requests += 1
        if self._requests >= self._port.config.max_requests:
            head.keep_alive = False
        if head.length:
            self._pace = None
            self._body = (
                ChunkedBody(self._port.config.max_body)
                if head.length == CHUNKED
                else LengthBody(head.length)
            )
        self.serve(head)

    def _speak_http2(self) -> None:
        """Leave the connection to HTTP/2, which TLS negotiated or the client began with."""
        make, data = self._port.http2, self._rest
        if make is not None:
            http2 = make(self._port, self._transport, self._peer, self.release)
            self._leave()
            http2.begin(data)

    def _read_body(self, body: Body) -> None:
        size = len(self._rest)
        data = body.feed(self._rest)
        self._rest = body.rest
        if body.complete:
            self._body = None
        if self._phase is Phase.BODY:
            if body.complete:
                self._await_response()
            else:
                now = self._port.context.loop.time()
                if self._pace is None:
                    self._pace = Pace(self._port.config, now)
                self._enter(Phase.BODY, self._pace.read(size, now))
        if data:
            self._pass_on(data)
        if body.complete:
            self._pass_on(None)

    @property
    def _busy(self) -> bool:
        """Whether a request is in hand."""
        return self._session is not None or self._exchange is not None

    def _refuse(self, refused: Refused) -> None:
        """Answer what cannot be read."""
        self._port.context.count("refused_total", why=refused.id)
        head = self.request if self._busy else glimpse(self._rest, self._port.config)
        self._give_up(refused.status, str(refused), head)

    # ------------------------------------------------ writing

    def send(self, output: bytes) -> None:
        """Send bytes."""
        if not (self._closing or self._transport.is_closing()):
            self._transport.write(output)

    # ------------------------------------------------ the Wire of a session

    def pause(self) -> None:
        """Read no more for now."""
        self._hold_session = True
        self._regulate()

    def resume(self) -> None:
        """Read on."""
        self._hold_session = False
        self._regulate()

    # ------------------------------------------------ the ground of an Exchange

    def reusable(self) -> bool:
        """Return whether the connection can carry another request after this one."""
        return self.request.keep_alive and self._body is None and not self._port.draining

    def unheard(self) -> float:
        """Return the seconds for which nothing was heard of a client that owes it."""
        return unheard(self._transport.get_extra_info("socket"))

    def hold_body(self, yes: bool) -> None:
        """Stop reading the body, or go on."""
        if yes is not self._hold_body:
            self._hold_body = yes
            self._regulate()

    def finish(self, *, keep_alive: bool) -> None:
        """Have done with the request: take the next one, or close."""
        self._let_go()
        if self._phase is Phase.OVER or self._transport.is_closing():
            return
        if not keep_alive or self._body is not None or self._port.draining:
            self._say(b"", answered=True)
            return
        if not self._full:
            self._enter(Phase.IDLE, self._port.config.idle_timeout)
        if self._paused:
            self._hold_session = self._hold_body = False
            self._regulate()
        if self._rest:
            self._work()
        elif self._ended:
            self._close_ended()

    def _close_ended(self) -> None:
        """Close once all requests of a client that sends no more are answered."""
        if not (self._busy or self._closing or self._working):
            self._rest = b""
            self._say(b"")

    def switch(self, protocol: bytes, headers: Iterable[Header]) -> tuple[asyncio.Transport, bytes]:
        """Answer 101 and leave the connection to somebody else's protocol."""
        if self.request.length or self.request.http_version != "1.1":
            raise RuntimeError("only an HTTP/1.1 request without a body can be upgraded")
        self._transport.write(switching(protocol, headers, self._port.stamp()))
        rest, self._rest = self._rest, b""
        self._exchange = None
        self._hold_session = self._hold_body = self._hold_rest = False
        self._regulate()
        self._leave()
        if self._ended:  # nothing more will come, and nobody else would say so
            self._port.context.loop.call_soon(self._transport.close)
        return self._transport, rest

    @property
    def release(self) -> Callable[[], None]:
        """What gives back the place of this connection."""
        return super().release if self._place is None else self._place.leave

    # ------------------------------------------------ the end

    def drain(self) -> None:
        """Close once nothing is being served."""
        if self._session is not None:
            self._session.keep_alive = False
        elif self._exchange is None and self._phase is not Phase.LINGER:
            self._say(b"")

    def abort(self) -> None:
        """Close at once."""
        self._phase = Phase.OVER
        self._rest = b""
        self._transport.abort()

    def _say_last(self, output: bytes) -> None:
        """Send an answer of the gateway's own, and close."""
        self._say(output)

    def _say(self, data: bytes, *, answered: bool = False) -> None:
        """Send last words and close; let the client read them, or what it was just ``answered``,
        though it be still sending (RFC 9112 9.6).
        """  # noqa: D205 - one sentence
        transport = self._transport
        if transport.is_closing():
            return
        unread = bool(answered or data or self._rest or self._body is not None)
        self._closing = True
        self._rest = b""
        self._body = None
        if data:
            transport.write(data)
        plain = transport.can_write_eof()
        if plain and (self._ended or not unread):
            self._enter(Phase.WRITE, self._port.config.write_timeout)
            transport.close()
            return
        # A transport with TLS does not count all that waits in it.
        late = transport.get_write_buffer_size() if plain else self._phase is not Phase.IDLE
        self._hold_session = self._hold_body = self._hold_rest = False
        self._regulate()
        self._enter(Phase.LINGER, self._port.config.write_timeout if late else LINGER)
        if plain:
            transport.write_eof()
        else:
            # TLS closes by halves of its own accord: it says close_notify behind what is
            # written, and drops what comes until the client has said the same.
            transport.close()

    def _leave(self) -> None:
        """Let go of everything; what points back at us too, so that no cycle is left."""
        port = self._port
        self._phase = Phase.OVER
        port.context.deadlines.forget(self._deadline)
        del self._deadline
        self._reader.release()
        port.connections.discard(self)
        if not port.connections:
            port.emptied.set()

    def _regulate(self) -> None:
        """Read, or do not, as the holds say."""
        paused = self._hold_session or self._hold_body or self._hold_rest
        if paused is self._paused or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
            # A paused socket shows no end of file: look for it from time to time, and let
            # the client's time for its body stand still meanwhile.
            if self._phase is Phase.BODY:
                if self._pace is not None:
                    self._pace.stop(self._port.context.loop.time())
                self._await_response()
            else:
                self._enter(self._phase, self._left)
        else:
            self._transport.resume_reading()
            if self._body is not None and self._phase in {Phase.RESPONSE, Phase.STREAM}:
                now = self._port.context.loop.time()
                if self._pace is None:
                    self._pace = Pace(self._port.config, now)
                self._enter(Phase.BODY, self._pace.go(now))
            else:
                self._enter(self._phase, self._left)

    # ------------------------------------------------ time

    def _enter(self, phase: Phase, seconds: float = FOREVER) -> None:
        """Begin a phase that may last so long."""
        self._phase = phase
        self._left = seconds
        if self._paused:
            seconds = min(seconds, GLANCE)
        elif self._ended and phase in {Phase.RESPONSE, Phase.STREAM} and not self.begun:
            seconds = min(seconds, HALF_CLOSED)
        if seconds == FOREVER:
            self._port.context.deadlines.clear(self._deadline)
        else:
            self._port.context.deadlines.set(self._deadline, seconds)

    def _due(self) -> None:
        """Do what the phase's end, or a glance at a paused socket, calls for."""
        if self._phase is Phase.OVER:
            return
        if self._paused:
            if self._has_left():
                self.cut_off("client")
                return
            left = self._left - GLANCE
            if left > 0.0:
                self._enter(self._phase, left)
                return
        phase = self._phase
        if self._ended and phase in {Phase.RESPONSE, Phase.STREAM} and self._left > HALF_CLOSED:
            if self.begun:
                self._enter(phase, self._left - HALF_CLOSED)
            else:
                self._gone()
                self._close_ended()
        elif phase is Phase.RESPONSE:
            self._response_due()
        elif phase is Phase.LINGER:
            if self._transport.get_write_buffer_size():
                self._port.count_timeout(Phase.WRITE)
            self.abort()
        else:
            self._port.count_timeout(phase)
            if phase is Phase.WRITE:
                self.cut_off()
            elif phase is Phase.HEAD:
                self._refuse(Refused("header-timeout"))
            elif phase is Phase.IDLE:
                self._say(b"")
            elif phase is Phase.BODY:
                self._refuse(Refused("body-timeout"))

    def _has_left(self) -> bool:
        """Return whether the client's end of a paused socket is closed."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return False  # a transport without one, as tests have: nobody can tell
        poll = select.poll()
        poll.register(sock.fileno(), _LEFT)
        return bool(poll.poll(0))
