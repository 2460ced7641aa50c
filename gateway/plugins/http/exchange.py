"""`HttpExchange`: one request in the hands of a claim."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import End, Summary
from gateway.core.web import Exchange, Head, Header, Piece
from gateway.plugins.http.framing import Stream
from gateway.plugins.http.head import RequestHead
from gateway.plugins.http.response import SILENT

if TYPE_CHECKING:
    from gateway.plugins.http.service import Service

MOST_UNREAD: Final = 65536
"""Bytes of body that wait for the claim before the socket is read no further."""


class HttpExchange(Exchange):
    """The seam of `gateway.core.web` over one request of any version of HTTP.

    The head of the response waits for the end of the loop's turn, so that it leaves in one
    write with what the claim says at once; a response that is complete by then has a
    ``Content-Length``.
    """

    __slots__ = (
        "_began",
        "_complete",
        "_cut",
        "_held",
        "_iterated",
        "_on_gone",
        "_on_writable",
        "_over",
        "_received",
        "_sent",
        "_service",
        "_status",
        "_stream",
        "_unread",
        "_unread_bytes",
        "_waiter",
        "head",
        "later",
        "paused",
    )

    def __init__(self, service: Service, head: RequestHead, later: int) -> None:
        self.head: Head = head
        self.later = later
        """Index of the first claim to ask if this one declines."""
        self.paused = False
        self.answer = None
        self._service = service
        self._began = service.time()
        self._status = 0
        self._received = 0
        self._sent = 0
        self._unread: deque[bytes] | None = None
        self._unread_bytes = 0
        self._complete = not head.length
        self._cut = False
        self._iterated = False
        self._waiter: asyncio.Future[None] | None = None
        self._stream: Stream | None = None
        self._held: tuple[int, list[Header], list[bytes]] | None = None
        self._over = False
        self._on_gone: list[Callable[[], None]] = []
        self._on_writable: list[Callable[[bool], None]] = []

    # ------------------------------------------------ the claim's side

    async def body(self) -> AsyncIterator[bytes]:
        """Iterate over the request body as it comes; raises ConnectionError if it is cut off."""
        if not self._iterated:
            self._iterated = True
            if self._service.request.expects_continue and not (self._complete or self._cut):
                self._service.send(self._service.site.framing.CONTINUE)
        while True:
            while self._unread:
                piece = self._unread.popleft()
                self._unread_bytes -= len(piece)
                if self._unread_bytes <= MOST_UNREAD:
                    self._service.hold_body(False)
                yield piece
            if self._cut:
                raise ConnectionError("the client left before it sent the whole body")
            if self._complete:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def respond(self, status: int, headers: Iterable[Header] = ()) -> None:
        """Send the head of the response. Once.

        Raises RuntimeError the second time, `LocalProtocolError` for a status or headers
        that cannot be sent.
        """
        if self._stream is not None:
            raise RuntimeError("the response has begun")
        if not 200 <= status <= 599:
            raise LocalProtocolError(f"{status} is no final status code")
        if self._over:
            return
        fields = list(headers)
        site = self._service.site
        self._stream = site.framing.stream(
            self._service.request,
            status,
            fields,
            keep_alive=self._service.reusable(),
            stamp=site.stamp(),
        )
        self._held = (status, fields, [])
        self._answered(status)
        self._service.soon(self._flush)

    def write(self, data: bytes) -> None:
        """Send a piece of the response body. Ignored once the client is gone."""
        self._sent += len(data)
        if self._held is not None:
            self._held[2].append(data)
        elif not self._over:
            self._send(self._begun().piece(data, more=True))

    def share(self, piece: Piece) -> None:
        """Send a piece of the response body that others get, too: the road of a broadcast."""
        if self._stream is None or self._held is not None or self._over:
            self.write(piece.content)
            return
        self._sent += len(piece.content)
        if output := self._stream.shared(piece):
            self._service.send(output)

    def end(self) -> None:
        """Complete the response."""
        if self._over:
            return
        stream = self._begun()
        service = self._service
        if self._held is None:
            data, keep_alive = stream.piece(b"", more=False), stream.keep_alive
        else:
            status, fields, pieces = self._held
            data, keep_alive = service.site.framing.complete(
                service.request,
                status,
                fields,
                b"".join(pieces),
                keep_alive=service.reusable(),
                stamp=service.site.stamp(),
            )
        self._finish()
        self._record("gateway")
        self._send(data)
        service.finish(keep_alive=keep_alive)

    def abort(self) -> None:
        """Cut the response off: the client sees that it is not complete."""
        if not self._over:
            self._finish()
            self._record("cut")
            self._service.cut_off()

    def unheard(self) -> float:
        """Return the seconds for which nothing was heard of a client that owes it."""
        return self._service.unheard()

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once if the client leaves before the response is complete."""
        if self._cut:
            callback()
        else:
            self._on_gone.append(callback)

    def on_writable(self, callback: Callable[[bool], None]) -> None:
        """Call back with False and True as the client stops and goes on taking data."""
        self._on_writable.append(callback)

    def decline(self) -> None:
        """Hand it on: to the next claim that matches, else as an ``http.request``.

        Raises RuntimeError once the response has begun or the body was read.
        """
        self._untouched("decline")
        if self._over:
            return
        self._finish()
        if self.answer is not None:
            self.answer.declined = True
        self._service.declined(self, [*(self._unread or ())], complete=self._complete)

    def upgrade(
        self, protocol: bytes, headers: Iterable[Header] = ()
    ) -> tuple[asyncio.Transport, bytes]:
        """Change the protocol: what carries the request from now on, and unread bytes.

        Raises RuntimeError where the request cannot be answered so, or is already;
        ConnectionError if the client is gone.
        """
        self._untouched("upgrade")
        if self._cut:
            raise ConnectionError("the client left")
        switched = self._service.switch(protocol, headers)
        self._answered(101 if self.head.http_version == "1.1" else 200)
        self._finish()
        self._record("gateway")
        return switched

    @property
    def release(self) -> Callable[[], None]:
        """What gives back the place of the connection that was taken over."""
        return self._service.release

    def _untouched(self, verb: str) -> None:
        if self._stream is not None or self._iterated:
            raise RuntimeError(f"too late to {verb}: the response has begun or the body was read")

    def _begun(self) -> Stream:
        if self._stream is None:
            raise RuntimeError("respond() comes first")
        return self._stream

    def _flush(self) -> None:
        if self._held is None or self._stream is None:
            return
        pieces = self._held[2]
        self._held = None
        content = b"".join(pieces)
        self._send(self._stream.start(content))

    def _send(self, output: Any) -> None:
        if output:
            self._service.send(output)

    def _answered(self, status: int) -> None:
        self._status = status
        if self.answer is not None:
            self.answer.status = status

    def _record(self, end: End) -> None:
        """Tell the access log, unless a session speaks for the request."""
        if self.answer is None:
            head = self.head
            silent = head.method == "HEAD" or self._status in SILENT
            summary = Summary(
                self._status or "",
                received=self._received,
                sent=0 if silent else self._sent,
                end=end,
                head=head,
            )
            self._service.record(summary, self._service.time() - self._began)

    def _finish(self) -> None:
        self._over = True
        self._held = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------ the transport's side

    @property
    def begun(self) -> bool:
        """Whether the claim has begun to answer."""
        return self._stream is not None

    def received(self, data: bytes | None) -> None:
        """Take content of the body, None at its end."""
        if data is None:
            self._complete = True
        else:
            self._received += len(data)
            if self._unread is None:
                self._unread = deque()
            self._unread.append(data)
            self._unread_bytes += len(data)
            if self._unread_bytes > MOST_UNREAD:
                self._service.hold_body(True)
        self._wake()

    def writable(self, yes: bool) -> None:
        """Hear whether the client takes more now."""
        self.paused = not yes
        for callback in self._on_writable:
            callback(yes)

    def gone(self, end: End = "client", status: int = 0, sent: int = 0) -> None:
        """Hear that the client left, or how else it ended; `Service` has answered for the claim."""
        if self._over:
            return
        self._cut = True
        self._finish()
        if status:
            self._answered(status)
            self._sent = sent
        if self.answer is not None and end in {"gateway", "cut"}:
            self.answer.end = end
        self._record(end)
        callbacks, self._on_gone = self._on_gone, []
        for callback in callbacks:
            callback()
