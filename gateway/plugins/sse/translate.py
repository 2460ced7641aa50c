"""Event streams as messages: which requests ask for one, states, decisions. Pure.

::

    PENDING ──accept──► OPEN ──close, or the client leaves──► CLOSED
       └──refuse, or hand the request on────────────────────► │

``Write`` carries a `gateway.core.web.Piece`, or the `Open` that begins the response; ``Close``
carries the last bytes of a stream, or the `Refuse` of a request, or `DECLINE`. What the client
posts comes as a `Post`, whose answer is no part of the stream: it is given though that has ended.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from gateway.core.codes import may_be_sent
from gateway.core.errors import LocalProtocolError
from gateway.core.opening import (
    Refuse,
    checked_headers,
    last_event_id,
    query,
    refusal,
    undecided,
    unreached,
)
from gateway.core.pages import merged
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    UNROUTED,
    Accepted,
    Action,
    Close,
    Drop,
    Emit,
    Message,
    Outcome,
    Peer,
    Refusal,
    Session,
    Timer,
    Write,
)
from gateway.core.posting import KEY, settled, unsettled
from gateway.core.posts import Post
from gateway.core.web import Head, Header, Piece
from gateway.plugins.sse import events
from gateway.plugins.sse.config import SseConfig

CONNECT: Final = "connect"
"""The token of a connect; that of a receive is its `Post`."""
NEW: Final = b"new"
"""What stands in a query where a location will: the client wants one."""
TYPE: Final = b"text/event-stream"

NORMAL: Final = 1000
POLICY: Final = 1008
"""Codes of the event ``close``: a WebSocket's (RFC 6455 section 7.4.1)."""

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


class Decline(msgspec.Struct, frozen=True):
    """Nobody routes it: the request goes on, as one of HTTP."""


DECLINE: Final = Decline()


class State(enum.Enum):
    """Where a stream stands."""

    PENDING = "pending"
    """The request waits for a decision."""
    OPEN = "open"
    """Accepted; events flow."""
    CLOSED = "closed"
    """Refused, or over."""


PENDING, OPEN, CLOSED = State


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


class SseSession(Session):
    """One stream, from its request to its end.

    ``drop(cause)`` counts what is dropped or replaced (`Context.drop`).
    """

    __slots__ = ("_config", "_drop", "_head", "_located", "_path", "state")

    frames_replies = True
    resumes: ClassVar[bool] = True

    def __init__(self, config: SseConfig, head: Head, drop: Callable[[Drop], None]) -> None:
        self._config = config
        self._head: Head | None = head
        self._located = query(head, KEY) == NEW
        self._path = head.path
        self._drop = drop
        self.state = PENDING

    # ------------------------------------------------ the peer

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Ask the application; the request waits meanwhile."""
        head = self._head
        if head is None:
            raise RuntimeError("a session is opened once")
        self._head = None
        message = {
            "scheme": head.scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query_string,
            "root_path": head.root_path,
            "headers": head.headers,
            "last_event_id": last_event_id(head) or "",
        }
        return (
            Timer("due", self._config.decision_timeout),
            Emit("connect", message, CONNECT),
        )

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

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what a reply says. Raises `LocalProtocolError` where it makes no sense now."""
        said = events.encoded(reply)
        close = reply.get("close", False)
        actions: list[Action] = []
        if self.state is PENDING:
            if (
                reply.get("accept") is False
                or "status" in reply
                or (close is not False and not said and not reply.get("accept"))
            ):
                return self._refused_by(reply, close, talks=bool(said))
            if said or reply.get("accept"):
                actions += self._accept(reply)
            elif "headers" in reply:
                raise LocalProtocolError("headers go with accept")
        elif reply.get("accept") is False or not reply.keys().isdisjoint(
            ("headers", "status", "content")
        ):
            raise LocalProtocolError("the stream is accepted already")
        if said:
            actions.append(Write(Piece(said)))
        if close is not False:
            actions.append(self._close(close, NORMAL, reply.get("reason", "")))
        return actions

    def _accept(self, reply: Message) -> list[Action]:
        if "content" in reply:
            raise LocalProtocolError("content goes with a refusal")
        answer = Open(checked_headers(reply.get("headers", ()), _OURS), self._located)
        self.state = OPEN
        keep_alive = Timer("due", self._config.keep_alive or None)
        return [Accepted(), keep_alive, Write(answer)]

    def _refused_by(self, reply: Message, close: Any, *, talks: bool) -> list[Action]:
        if talks or reply.get("accept"):
            raise LocalProtocolError("a reply accepts or refuses, not both")
        if close is not False and close is not True:
            self._code(close, NORMAL)
        status = reply.get("status", 403)
        headers = checked_headers(reply.get("headers", ()))
        if "content" in reply:
            return self._refuse(Refuse(status, reply["content"], headers))
        return self._refuse(refusal(status, reply.get("reason", ""), headers))

    def _refuse(self, answer: Refuse | Decline) -> list[Action]:
        self.state = CLOSED
        return [Timer("due", None), Close(answer)]

    def _close(self, code: Any, default: int, reason: str) -> Close:
        """End the stream and tell the page why, so that it need not come back."""
        self.state = CLOSED
        return Close(events.closing(self._code(code, default), reason))

    def _code(self, code: Any, default: int) -> int:
        if code is True or code is None:
            return default
        if may_be_sent(code):
            return int(code)
        self._drop(Drop.FOREIGN_CODE)
        return default

    # ------------------------------------------------ what became of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Answer what was posted; decide what is pending; end what was accepted too early."""
        if token is not CONNECT:
            token.answer(settled(outcome, self._drop))
            return ()
        if self.state is PENDING:
            if outcome.kind == UNROUTED:
                return self._refuse(DECLINE)
            if (refuse := undecided(outcome, self._drop)) is not None:
                return self._refuse(refuse)
            # Where nobody routes connects there is nobody to accept explicitly.
            implicit = self._config.implicit_accept or outcome.cause == "unannounced"
            return self._accept({}) if implicit else ()
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
            return self._refuse(unreached(refusal_))
        self.state = CLOSED
        return (Close(),)

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Refuse what nobody decided, keep alive what is silent."""
        if self.state is PENDING:
            return self._refuse(refusal(503, "nobody decided in time"))
        if self.state is OPEN:
            return (Write(KEEP_ALIVE), Timer("due", self._config.keep_alive))
        return ()

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending, end what is open; say to each when to come back."""
        if self.state is PENDING:
            words = "the gateway is shutting down"
            return self._refuse(refusal(503, words, retry_after=retry_after))
        if self.state is OPEN:
            self.state = CLOSED
            return (Close(events.coming_back(retry_after)),)
        return ()
