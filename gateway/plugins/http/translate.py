"""HTTP to messages and back: one `HttpSession` for each request. Pure.

::

    head ──────────► http.request ───────────► reply {"status", …}      ──► response
    body > 64 KiB ─► pieces on body_channel    reply {"offset", …} …    ──► more of it
    client leaves ─► http.disconnect           outcome, refusal, timeout ─► 403 404 500 503 504
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    REJECTED,
    UNROUTED,
    Action,
    Close,
    Drop,
    Emit,
    End,
    Message,
    Outcome,
    Peer,
    Refusal,
    Session,
    Summary,
    Write,
)
from gateway.core.web import plain
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.framing import Framing, Stream
from gateway.plugins.http.head import RequestHead
from gateway.plugins.http.response import OCTETS, SILENT, TEXT
from gateway.plugins.http.upload import PIECE, Upload

REQUEST: Final = "request"
"""Token of the request's Emit."""

_REFUSALS: Final = {
    Refusal.FULL: 503,
    Refusal.DRAINING: 503,
    Refusal.UNAVAILABLE: 503,
    Refusal.TOO_SLOW: 503,
    Refusal.TOO_BIG: 431,  # the body's start is bounded: only the head can be so large
    Refusal.TIMEOUT: 504,
    Refusal.BROKEN: 500,
}
_BEGINS: Final = frozenset(("status", "headers", "content", "more_content", "offset"))


class Site(NamedTuple):
    """What all sessions of one http plugin and one version of HTTP share."""

    config: HttpConfig
    framing: Framing
    stamp: Callable[[], Any]
    """Returns our Date and Server as they are now, as ``framing`` wants them."""
    drop: Callable[[Drop], None]
    """Counts a drop."""


class HttpSession(Session):
    """One request and its response. Input: the body's content in bytes, None at its end.

    Output: what `Site.framing` makes of responses (bytes in HTTP/1), and
    `gateway.plugins.http.upload.Flow`. `Close` ends the exchange, not the connection:
    ``keep_alive`` says what becomes of that.
    """

    heeds_accepted = False
    drains_itself = True

    __slots__ = (
        "_asked",
        "_end",
        "_head",
        "_sent",
        "_site",
        "_status",
        "_stream",
        "_upload",
        "keep_alive",
    )

    def __init__(self, head: RequestHead, site: Site) -> None:
        self._head = head
        self._site = site
        self._upload = Upload(site.config.body_inline) if head.length else None
        self._asked = not head.length
        self._stream: Stream | None = None
        self._sent = 0
        self._status = 0
        self._end: End | None = None
        self.keep_alive = head.keep_alive

    @property
    def begun(self) -> bool:
        """Whether the head of the response was sent."""
        return self._stream is not None

    def opened(self, peer: Peer) -> tuple[Action, ...]:
        """Emit the request, unless its body is to be read first."""
        if self._upload is None:
            return (Emit("request", self._request(b"", None), REQUEST),)
        return (Write(self._site.framing.CONTINUE),) if self._head.expects_continue else ()

    def received(self, data: bytes | None) -> list[Action]:
        """Take content of the body, None at its end."""
        upload = self._upload
        if upload is None:
            return []
        start = upload.feed(data)
        if start is None:
            return upload.flow()
        self._asked = True
        emit = Emit("request", self._request(start, upload.channel), REQUEST)
        return [emit, *upload.flow()]

    def _request(self, body: bytes, body_channel: str | None) -> Message:
        head = self._head
        return {
            "http_version": head.http_version,
            "method": head.method,
            "scheme": head.scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query_string,
            "root_path": head.root_path,
            "headers": head.headers,
            "body": body,
            "body_channel": body_channel,
        }

    def gone(self) -> list[Action]:
        """Hear that the client left; tell the application, if it knows of the request."""
        actions = self._cut()
        if self._asked:
            actions.append(Emit("disconnect", {"path": self._head.path}))
        return actions

    def _cut(self) -> list[Action]:
        """Tell who reads the body that the rest will not come."""
        return [] if self._upload is None else self._upload.cut()

    def ended_by(self, end: End, status: int, sent: int) -> None:
        """Hear how the transport ended it: with an answer of ``sent`` bytes, or (0) without."""
        self._end = end
        if status:
            self._status, self._sent = status, sent

    def summary(self) -> Summary:
        """Return what was asked and answered; the bytes are those of content."""
        silent = self._head.method == "HEAD" or self._status in SILENT
        return Summary(
            self._status or "",
            received=0 if self._upload is None else self._upload.size,
            sent=0 if silent else self._sent,
            end=self._end,
            head=self._head,
        )

    def draining(self, retry_after: float) -> tuple[Action, ...]:
        """Finish, and use the connection no more."""
        self.keep_alive = False
        return ()

    # ------------------------------------------------ the application's replies

    def send(self, conversation: str | None, reply: Message, token: object) -> tuple[Action, ...]:
        """Answer with a response, a piece of one, or the uniform reply.

        Raises `LocalProtocolError` for what cannot be sent, with 500 as its action while
        nothing was.
        """
        try:
            if self._stream is not None:
                return self._piece(self._stream, reply)
            if reply.get("offset"):
                raise LocalProtocolError("a piece of a response whose beginning is missing")
            status = reply.get("status")
            if status is not None:
                if "text" in reply or "bytes" in reply or "accept" in reply or "close" in reply:
                    raise LocalProtocolError("a response together with keys of the uniform reply")
                content = reply.get("content", b"")
                if reply.get("more_content"):
                    return self._begin(status, reply.get("headers", ()), content)
                return self._respond(status, reply.get("headers", ()), content)
            return self._uniform(reply)
        except LocalProtocolError as error:
            if self._stream is None and not error.actions:
                error.actions = self._answer(500)
            raise

    def _respond(self, status: int, headers: object, content: bytes) -> tuple[Action, ...]:
        data, self.keep_alive = self._site.framing.complete(
            self._head,
            status,
            headers,  # type: ignore[arg-type]  # the reply's schema says so
            content,
            keep_alive=self._reusable(),
            stamp=self._site.stamp(),
        )
        self._status = status
        self._sent = len(content)
        return (Close(data),)

    def _begin(self, status: int, headers: object, content: bytes) -> tuple[Action, ...]:
        stream = self._site.framing.stream(
            self._head,
            status,
            headers,  # type: ignore[arg-type]  # the reply's schema says so
            keep_alive=self._reusable(),
            stamp=self._site.stamp(),
        )
        data = stream.start(content)
        self._stream = stream
        self._status = status
        self._sent = len(content)
        return (Write(data),)

    def _piece(self, stream: Stream, reply: Message) -> tuple[Action, ...]:
        if reply.get("close", False) is not False and "offset" not in reply:
            reply = {"offset": self._sent}
        if "offset" not in reply or "status" in reply or "headers" in reply:
            raise LocalProtocolError("the response has begun: only pieces of it may follow")
        if reply["offset"] != self._sent:
            raise LocalProtocolError(
                f"a piece at {reply['offset']} where {self._sent} should follow",
                (Close(abort=True),),
            )
        content = reply.get("content", b"")
        more = reply.get("more_content", False)
        try:
            data = stream.piece(content, more=more)
        except LocalProtocolError as error:
            error.actions = (Close(abort=True),)
            raise
        self._sent += len(content)
        if more:
            return (Write(data),)
        self.keep_alive = stream.keep_alive and self._reusable()
        return (Close(data),)

    def _uniform(self, reply: Message) -> tuple[Action, ...]:
        if not _BEGINS.isdisjoint(reply):
            raise LocalProtocolError("a response needs a status")
        text = reply.get("text")
        data = reply.get("bytes")
        headers = TEXT if data is None else OCTETS
        content = text.encode() if text is not None else data or b""
        close = reply.get("close", False)
        if close is not False:
            self.keep_alive = False
        if reply.get("accept") is False:
            return self._respond(403, headers, content)
        if text is not None or data is not None:
            return self._respond(self._close_status(close, 200), headers, content)
        if close is not False:
            return self._respond(self._close_status(close, 204), (), b"")
        return ()

    def _close_status(self, close: bool | int, default: int) -> int:
        if close is True or close is False:
            return default
        if 200 <= close <= 599:
            return close
        self._site.drop(Drop.FOREIGN_CODE)
        return default

    # ------------------------------------------------ what became of the request

    def outcome(self, token: object, outcome: Outcome) -> tuple[Action, ...] | list[Action]:
        """Answer for the application where it did not answer itself."""
        if token == PIECE:
            return [] if self._upload is None else self._upload.settled(outcome)
        kind = outcome.kind
        if kind == ACCEPTED:
            return ()
        if kind == REJECTED:
            code = outcome.code
            if code is not None and not 300 <= code <= 599:
                self._site.drop(Drop.FOREIGN_CODE)
                code = None
            return self._answer(code or 403, outcome.reason)
        if kind == FAILED:
            return self._answer(500)
        if kind == UNROUTED:
            return self._answer(404)
        return self._answer(503)

    def refused(self, token: object, refusal: Refusal) -> tuple[Action, ...]:
        """Say that the application could not be asked."""
        return self._answer(_REFUSALS[refusal])

    def timeout(self, name: str) -> tuple[Action, ...]:
        """Hear that the response did not begin in time."""
        return (*self._cut(), *self._answer(504))

    def _answer(self, status: int, text: str = "") -> tuple[Action, ...]:
        """Answer in the gateway's own words; where a response has begun, cut it off."""
        if self._stream is not None:
            return (*self._cut(), Close(abort=True))
        return self._respond(status, *plain(status, text))

    def _reusable(self) -> bool:
        """Return whether the connection can carry another request after this response."""
        return self.keep_alive and (self._upload is None or self._upload.complete)
