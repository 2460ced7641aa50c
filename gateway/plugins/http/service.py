"""`Service`: one request in hand, and who answers it, a claim or the application."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.core.escape import escaped
from gateway.core.plugin import Connection, End, Peer, Summary
from gateway.core.web import Head, plain
from gateway.plugins.http.exchange import HttpExchange
from gateway.plugins.http.head import RequestHead
from gateway.plugins.http.phase import FOREVER, Phase
from gateway.plugins.http.port import Port
from gateway.plugins.http.translate import HttpSession, Site
from gateway.plugins.http.upload import Flow


class Service:
    """One request in hand: its session's `gateway.core.plugin.Wire`, its exchange's ground.

    An HTTP/1 connection is one, for each of its requests in turn; over HTTP/2 every stream is.
    A subclass knows how bytes come and go, and how long each `Phase` may last.
    """

    __slots__ = (
        "_connection",
        "_exchange",
        "_peer",
        "_phase",
        "_port",
        "_session",
        "request",
        "site",
    )

    traffic = None
    """Nothing is counted here: sessions and exchanges know what is content."""
    request: RequestHead
    """The head of the request that is being served."""
    _peer: Peer

    def __init__(self, port: Port, site: Site) -> None:
        self._port = port
        self.site = site
        """How this version of HTTP writes responses."""
        self._session: HttpSession | None = None
        self._connection: Connection | None = None
        self._exchange: HttpExchange | None = None
        self._phase = Phase.IDLE

    # ------------------------------------------------ what a version of HTTP does its own way

    @abstractmethod
    def _enter(self, phase: Phase, seconds: float = FOREVER) -> None:
        """Begin a phase that may last so long."""

    @abstractmethod
    def send(self, output: Any) -> None:
        """Send a response, or a part of one, as `site.framing` made it; not if the client left."""

    @abstractmethod
    def pause(self) -> None:
        """Read no more for now: what was read waits to be worked on."""

    @abstractmethod
    def resume(self) -> None:
        """Read on."""

    @abstractmethod
    def finish(self, *, keep_alive: bool) -> None:
        """Have done with the request, whose response is complete."""

    @abstractmethod
    def hold_body(self, yes: bool) -> None:
        """Read no more of the body, or go on."""

    @abstractmethod
    def reusable(self) -> bool:
        """Return whether the connection can carry another request after this one."""

    @abstractmethod
    def switch(self, protocol: bytes, headers: Any) -> tuple[asyncio.Transport, bytes]:
        """Answer that the client may speak ``protocol`` from now on; hand over what carries it.

        Raises RuntimeError where the request does not ask for that.
        """

    @abstractmethod
    def unheard(self) -> float:
        """Return the seconds for which nothing was heard of a client that owes it."""

    @property
    def release(self) -> Callable[[], None]:
        """What gives back the place of a connection that was handed over; nothing of a stream."""
        return _nothing

    @abstractmethod
    def abort(self) -> None:
        """End it at once; the client sees that the response is not complete."""

    @abstractmethod
    def _say_last(self, output: Any) -> None:
        """Send an answer of the gateway's own; nothing follows it."""

    # ------------------------------------------------ who answers

    def serve(self, head: RequestHead) -> None:
        """Take a request in hand: offer it to the claims, else hand it to the application."""
        self.request = head
        self._port.forwarding.apply(head)
        if head.length:
            self._enter(Phase.BODY, self._port.config.body_timeout)
        else:
            self._enter(Phase.RESPONSE, self._port.config.timeout)
        if self._port.claims:
            self._offer(0)
        else:
            self._ask()

    def _offer(self, first: int) -> None:
        """Give the request to the first claim that wants it, else to the application."""
        claims = self._port.claims
        for index in range(first, len(claims)):
            try:
                if not claims[index].match(self.request):
                    continue
                self._exchange = exchange = HttpExchange(self, self.request, index + 1)
                if self._phase is Phase.RESPONSE:
                    self._enter(Phase.STREAM)
                claims[index].open(exchange)
            except Exception:
                self._port.context.log.exception("a claim on %s raised", escaped(self.request.path))
                self._give_up(500, "the gateway failed", self.request)
            return
        self._ask()

    def _ask(self) -> None:
        """Hand the request to the application."""
        self._session = session = HttpSession(self.request, self.site)
        connection = self._port.context.attach(session, self, self._asker(self.request))
        if self._session is session:
            self._connection = connection
        else:  # answered already
            connection.lost()

    def _asker(self, head: RequestHead) -> Peer:
        """Return who asks: the peer, or whom a trusted proxy speaks for."""
        peer = self._peer
        if head.client is peer.client:
            return peer
        return msgspec.structs.replace(peer, client=head.client)

    def declined(self, exchange: HttpExchange, pieces: list[bytes], *, complete: bool) -> None:
        """Ask the claims after the one that declined, with the body as far as it was read."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self.hold_body(False)
        if self._phase is Phase.STREAM:
            self._enter(Phase.RESPONSE, self._port.config.timeout)
        self._offer(exchange.later)
        for piece in pieces:
            self._pass_on(piece)
        if complete and self.request.length:
            self._pass_on(None)

    def _pass_on(self, data: bytes | None) -> None:
        """Hand content of the body to who answers, None at its end."""
        reader = self._exchange or self._connection
        if reader is not None:
            reader.received(data)

    def _await_response(self) -> None:
        """Wait for the response from now on: the body is complete, or read no further for now."""
        if self._exchange is None:
            self._enter(Phase.RESPONSE, self._port.config.timeout)
        else:
            self._enter(Phase.STREAM)

    def _tell_writable(self, yes: bool) -> None:
        listener = self._exchange or self._connection
        if listener is not None:
            listener.writable(yes)

    # ------------------------------------------------ the Wire of a session

    def write(self, output: Any) -> None:
        """Send a part of a response; or stop and start reading the body (`Flow`)."""
        if output.__class__ is Flow:
            self.hold_body(output is Flow.PAUSE)
        elif output:
            self.send(output)

    def close(self, data: Any, *, abort: bool) -> None:
        """End the request, after sending ``data``; with ``abort``, the connection or stream."""
        session, connection = self._session, self._connection
        if session is None:
            return
        if abort:
            self._session = self._connection = None
            if connection is not None:
                connection.lost()
            self.abort()
            return
        if not data and not session.begun:  # the engine gave the session up
            data, sent = self._own(500, "the gateway failed", self.request)
            session.ended_by("gateway", 500, sent)
            session.keep_alive = False
        if data:
            self.send(data)
        self.finish(keep_alive=session.keep_alive)

    # ------------------------------------------------ the end

    @property
    def begun(self) -> bool:
        """Whether a response has begun."""
        return (self._session is not None and self._session.begun) or (
            self._exchange is not None and self._exchange.begun
        )

    def cut_off(self, end: End = "cut") -> None:
        """End it at once; the client sees that the response is not complete."""
        self._gone(end)
        self.abort()

    def _give_up(self, status: int, sentence: str, head: Head | None) -> None:
        """Answer in the gateway's own words; where a response has begun, cut it off.

        ``head`` is the request's, as far as it could be read.
        """
        if self.begun:
            self.cut_off()
            return
        output, sent = self._own(status, sentence, head)
        if self._session is None and self._exchange is None:
            self.record(Summary(status, sent=sent, end="gateway", head=head))
        else:
            self._gone("gateway", status, sent)
        self._say_last(output)

    def _own(self, status: int, sentence: str, head: Head | None) -> tuple[Any, int]:
        """Return an answer of the gateway's own, and how many bytes of content it has."""
        headers, content = plain(status, sentence)
        # RFC 9110 9.3.2: no content in answer to HEAD; by its line, if that is all that came.
        bare = head is not None and head.method == "HEAD" and bool(head.http_version)
        stamp = self.site.stamp()
        output = self.site.framing.refusal(status, headers, content, stamp, bare=bare)
        return output, 0 if bare else len(content)

    def time(self) -> float:
        """Return the loop's time."""
        return self._port.context.loop.time()

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back at the end of this turn of the loop."""
        self._port.context.loop.call_soon(callback)

    def record(self, summary: Summary, seconds: float = 0.0) -> None:
        """Tell the access log of a request that no session speaks for."""
        head = summary.head
        peer = self._asker(head) if isinstance(head, RequestHead) else self._peer
        self._port.context.record(peer, summary, seconds)

    def _response_due(self) -> None:
        """Give up waiting for the beginning of the application's response."""
        session = self._session
        if session is not None and self._connection is not None and not session.begun:
            self._port.count_timeout(Phase.RESPONSE)
            self._connection.run(session.timeout("response"))

    def _let_go(self) -> None:
        """Forget who answered: the response is complete."""
        connection = self._connection
        self._session = self._connection = self._exchange = None
        if connection is not None:
            connection.lost()

    def _gone(self, end: End = "client", status: int = 0, sent: int = 0) -> None:
        """Tell whom it concerns that the client left, or may as well have.

        Unless it was the client, ``end`` says so, and ``status`` what it is answered with.
        """
        session, connection, exchange = self._session, self._connection, self._exchange
        self._session = self._connection = self._exchange = None
        if connection is not None:
            if session is not None:
                if end != "client":
                    session.ended_by(end, status, sent)
                connection.run(session.gone())
            connection.lost()
        if exchange is not None:
            exchange.gone(end, status, sent)


def _nothing() -> None:
    """Give nothing back: the connection that carries a stream has the place."""
