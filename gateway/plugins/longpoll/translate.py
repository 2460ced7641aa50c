"""Long-poll connections as messages: states, decisions, elements of arrays. Pure.

::

    PENDING ──accept──► OPEN ──close, the client leaves or polls no more──► CLOSED
       └──refuse, or hand the request on──────────────────────────────────► │

``received`` takes each `Post`, `LEAVES` and `EXPIRED`. ``Write`` carries elements of an array and
the `Open` that accepts; ``Close`` carries the last element, or the `Refuse` of a request, or
`DECLINE`. The answer of a post is no part of the arrays: it is given though the connection has
ended.
"""

from __future__ import annotations

import enum
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.core import posting
from gateway.core.errors import LocalProtocolError
from gateway.core.opening import (
    UNREACHED,
    Refuse,
    checked_headers,
)
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    RELEASED,
    Accepted,
    Action,
    Close,
    Done,
    Drop,
    Emit,
    Message,
    Outcome,
    Refusal,
    Timer,
    Write,
)
from gateway.core.posts import Post
from gateway.core.requested import (
    ABNORMAL,
    CLOSED,
    CONNECT,
    INTERNAL,
    NORMAL,
    OPEN,
    PENDING,
    POLICY,
    RESTART,
    RequestedSession,
)
from gateway.core.web import Head, Header
from gateway.plugins.longpoll.batches import Marked
from gateway.plugins.longpoll.config import ENVELOPE, LongpollConfig

SHORT: Final = 65_536
"""Bytes of an element that fits any answer: a group's is framed without the settings."""

_SAYS: Final = frozenset(("text", "bytes", "id", "missed"))
_OURS: Final = frozenset(
    (b"content-type", b"location", b"preference-applied", b"cache-control", b"etag")
)
_encode: Final = msgspec.json.Encoder().encode


class Open(msgspec.Struct, frozen=True):
    """The connection is accepted, with such headers of the application's."""

    headers: Sequence[Header] = ()


class Event(enum.Enum):
    """What else happens to a connection."""

    LEAVES = "leaves"
    """The client said that it leaves."""
    EXPIRED = "expired"
    """No poll came in time."""


LEAVES, EXPIRED = Event


def element(reply: Message) -> bytes:
    """Return what a reply says as an element of an array; nothing where it says nothing.

    ``{"text": …, "id": …}``, ``{"bytes": base64, "id": …}``, ``{"id": …}``, ``{"missed": true}``.
    """
    found: dict[str, Any] = {}
    if (text := reply.get("text")) is not None:
        found["text"] = text
    elif (data := reply.get("bytes")) is not None:
        found["bytes"] = b64encode(data).decode()
    if "id" in reply:
        found["id"] = reply["id"]
    if reply.get("missed"):
        found["missed"] = True
    return _encode(found) if found else b""


def closing(code: int, reason: str = "") -> bytes:
    """Return the last element of all."""
    return _encode({"close": code, "reason": reason})


class LongpollSession(RequestedSession):
    """One connection; ``most`` are the bytes that the layer lets through."""

    __slots__ = ("_code", "_farewell", "_longest", "_reason", "_unsettled")

    acknowledges = True

    def __init__(
        self, config: LongpollConfig, head: Head, drop: Callable[[Drop], None], most: int
    ) -> None:
        super().__init__(config, head, drop)
        self._longest = most - ENVELOPE
        self._code = ABNORMAL
        self._reason = ""
        self._unsettled = 0
        self._farewell = ""

    # ------------------------------------------------ the peer

    def received(self, data: Post | Event) -> Iterable[Action]:
        """Take what the client posted, or that it leaves, or does not come any more."""
        if self.state is not OPEN:
            return ()
        if isinstance(data, Post):
            if self._farewell:
                return self._settled(data, posting.unsettled(Refusal.DRAINING))
            self._unsettled += 1
            return (Emit("receive", {"path": self._path, **data.message}, data),)
        self.state = CLOSED
        if data is LEAVES:
            self._code = NORMAL
        else:
            self._reason = f"no poll for {self._config.expires:g} s"
        return (Close(),)

    def ended(self) -> Message:
        """Return the disconnect."""
        return {"path": self._path, "code": self._code, "reason": self._reason}

    # ------------------------------------------------ the application

    @classmethod
    def frame(cls, reply: Message) -> bytes | None:
        """Return the element of a message that is nothing but one, and fits any answer."""
        if not reply.keys() <= _SAYS:
            return None
        found = element(reply)
        return found if 0 < len(found) <= SHORT else None

    def _said(self, reply: Message) -> bytes:
        said = element(reply)
        if len(said) > self._longest:
            raise LocalProtocolError(f"an element of {len(said)} bytes is too big for one answer")
        return said

    def _say(self, said: bytes, token: Any) -> Iterable[Action]:
        if said:
            return (Write(said if token is None else Marked(said, token)),)
        return () if token is None else (Done(token),)

    def _accept(self, reply: Message) -> list[Action]:
        answer = Open(checked_headers(reply.get("headers", ()), _OURS))
        self.state = OPEN
        return [Accepted(), Timer("decision", None), Write(answer)]

    def _close(self, code: Any, default: int, reason: str) -> Close:
        """End the connection, and tell the client why in the last element of all."""
        self.state = CLOSED
        self._code, self._reason = self._known(code, default), reason
        return Close(closing(self._code, reason))

    # ------------------------------------------------ what became of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Decide what is pending, answer what was posted."""
        if token is not CONNECT:
            self._unsettled -= 1
            return self._settled(token, posting.settled(outcome, self._drop))
        if self.state is PENDING:
            return self._decided(outcome)
        if self.state is OPEN and outcome.kind != ACCEPTED:
            if outcome.kind == REJECTED:
                return (self._close(outcome.code, POLICY, outcome.reason),)
            if outcome.kind == RELEASED:
                return (self._close(RESTART, RESTART, "nobody was there to answer"),)
            return (self._close(INTERNAL, INTERNAL, "the application failed"),)
        return ()

    def refused(self, token: Any, refusal_: Refusal) -> Iterable[Action]:
        """Tell the client that the application could not be asked."""
        if token is not CONNECT:
            self._unsettled -= 1
            return self._settled(token, posting.unsettled(refusal_))
        if self.state is PENDING:
            return self._unreached(refusal_)
        if self.state is OPEN:
            return (self._close(RESTART, RESTART, UNREACHED[refusal_][1]),)
        return ()

    def _settled(self, post: Post, answer: Refuse) -> Iterable[Action]:
        post.answer(answer)
        if self.state is OPEN and self._farewell and not self._unsettled:
            return (self._close(RESTART, RESTART, self._farewell),)
        return ()

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Refuse what nobody decided."""
        if self.state is PENDING:
            return self._too_late()
        return ()

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending; end what is open, once all that was posted is answered.

        Each is told when to come back: 1012 asks clients to reconnect, "using a randomized delay"
        (IANA's registry), and the reason has it, as a WebSocket's.
        """
        words = "the gateway is shutting down"
        if self.state is PENDING:
            return self._shut_out(retry_after)
        if self.state is not OPEN:
            return ()
        self._farewell = f"{words}; retry-after={retry_after:.1f}"
        return () if self._unsettled else (self._close(RESTART, RESTART, self._farewell),)
