"""Event streams as messages: which requests ask for one, states, decisions. Pure.

::

    PENDING ──accept──► OPEN ──close, or the client leaves──► CLOSED
       └──refuse, or hand the request on────────────────────► │

``Write`` carries a `gateway.core.web.Piece`, or the `Open` that begins the response; ``Close``
carries the last bytes of a stream, or the `Refuse` of a request, or `DECLINE`. What the client
posts comes as a `Post`, whose answer is no part of the stream: it is given though that has ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.core.opening import (
    checked_headers,
    query,
)
from gateway.core.pages import merged
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    Accepted,
    Action,
    Close,
    Drop,
    Emit,
    Message,
    Outcome,
    Refusal,
    Timer,
    Write,
)
from gateway.core.posting import KEY, settled, unsettled
from gateway.core.posts import Post
from gateway.core.requested import CLOSED, CONNECT, OPEN, PENDING, POLICY, RequestedSession
from gateway.core.web import Head, Header, Piece
from gateway.plugins.sse import events
from gateway.plugins.sse.config import SseConfig

NEW: Final = b"new"
"""What stands in a query where a location will: the client wants one."""
TYPE: Final = b"text/event-stream"

_HEADERS: Final = (
    (b"content-type", TYPE),
    # A cache is to store nothing, RFC 9111 section 5.2.2.5: a stream is somebody's, and may begin
    # with its location. A proxy is to pass on each byte as it comes: compression collects.
    (b"cache-control", b"no-store, no-transform"),
    # What nginx understands by itself: it collects a response otherwise.
    (b"x-accel-buffering", b"no"),
)
_OURS: Final = frozenset((b"content-type",))
_WEIGHT_0: Final = re.compile(rb";[ \t]*q=0(?:\.0{0,3})?[ \t]*(?:;|\Z)", re.IGNORECASE)

KEEP_ALIVE: Final = Piece(events.COMMENT)
"""Goes out where nothing else has gone out since the last of them."""


class Open(msgspec.Struct, frozen=True):
    """The head of the response that begins a stream."""

    headers: Sequence[Header] = ()
    located: bool = False
    """Whether the client is told a location first, where it may post."""


# ---------------------------------------------------------------- the request


def asks(head: Head) -> bool:
    """Return whether a request asks for an event stream: it names the type, and wants it."""
    if head.method != "GET" or head.protocol:
        return False
    named = False
    for name, value in head.headers:
        if name == b"accept":
            named = named or (TYPE in value.lower() and _names(value))
        elif name in {b"content-length", b"transfer-encoding"} and value != b"0":
            return False  # a GET with a body is something of its own
    return named


def _names(accept: bytes) -> bool:
    """Return whether an Accept names the type with a weight over 0 (RFC 9110 section 12.5.1)."""
    for item in accept.split(b","):
        kind, mark, parameters = item.partition(b";")
        if kind.strip(b" \t").lower() == TYPE:
            return _WEIGHT_0.search(mark + parameters) is None
    return False


def stream_headers(own: Sequence[Header], cors: Iterable[Header]) -> list[Header]:
    """Return the headers of a stream: the application's, and ours that it has none of."""
    return merged(own, (*_HEADERS, *cors))


# ---------------------------------------------------------------- the stream


class SseSession(RequestedSession):
    """One stream, from its request to its end."""

    __slots__ = ("_located",)

    decision = "due"  # one timer: of the decision, then of what keeps it alive

    def __init__(self, config: SseConfig, head: Head, drop: Callable[[Drop], None]) -> None:
        super().__init__(config, head, drop)
        self._located = query(head, KEY) == NEW

    # ------------------------------------------------ the peer

    def received(self, data: Post) -> Iterable[Action]:
        """Take what the client has posted."""
        return (Emit("receive", {"path": self._path, **data.message}, data),)

    def ended(self) -> Message:
        """Return the disconnect."""
        return {"path": self._path}

    # ------------------------------------------------ the application

    @classmethod
    def frame(cls, reply: Message) -> Piece | None:
        """Return the event of a message that is nothing but one."""
        if not reply.keys() <= events.SAID:
            return None
        data = events.encoded(reply)
        return Piece(data) if data else None

    def _said(self, reply: Message) -> bytes:
        return events.encoded(reply)

    def _say(self, said: bytes, token: Any) -> Iterable[Action]:
        return (Write(Piece(said)),) if said else ()

    def _accept(self, reply: Message) -> list[Action]:
        answer = Open(checked_headers(reply.get("headers", ()), _OURS), self._located)
        self.state = OPEN
        keep_alive = Timer("due", self._config.keep_alive or None)
        return [Accepted(), keep_alive, Write(answer)]

    def _close(self, code: Any, default: int, reason: str) -> Close:
        """End the stream and tell the page why, so that it need not come back."""
        self.state = CLOSED
        return Close(events.closing(self._known(code, default), reason))

    # ------------------------------------------------ what became of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Answer what was posted; decide what is pending; end what was accepted too early."""
        if token is not CONNECT:
            token.answer(settled(outcome, self._drop))
            return ()
        if self.state is PENDING:
            return self._decided(outcome)
        if self.state is OPEN and outcome.kind != ACCEPTED:
            if outcome.kind == REJECTED:
                return (self._close(outcome.code, POLICY, outcome.reason),)
            self.state = CLOSED
            return (Close(),)
        return ()

    def refused(self, token: Any, refusal_: Refusal) -> Iterable[Action]:
        """Tell the client that the application could not be asked."""
        if token is not CONNECT:
            token.answer(unsettled(refusal_))
            return ()
        if self.state is PENDING:
            return self._unreached(refusal_)
        self.state = CLOSED
        return (Close(),)

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Refuse what nobody decided, keep alive what is silent."""
        if self.state is PENDING:
            return self._too_late()
        if self.state is OPEN:
            return (Write(KEEP_ALIVE), Timer("due", self._config.keep_alive))
        return ()

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending, end what is open; say to each when to come back."""
        if self.state is PENDING:
            return self._shut_out(retry_after)
        if self.state is OPEN:
            self.state = CLOSED
            return (Close(events.coming_back(retry_after)),)
        return ()
