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
from typing import Any, ClassVar, Final

import msgspec

from gateway.core import posting
from gateway.core.codes import may_be_sent
from gateway.core.errors import LocalProtocolError
from gateway.core.opening import (
    UNREACHED,
    Refuse,
    checked_headers,
    last_event_id,
    refusal,
    undecided,
    unreached,
)
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    RELEASED,
    UNROUTED,
    Accepted,
    Action,
    Close,
    Done,
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
from gateway.core.posts import Post
from gateway.core.web import Head, Header
from gateway.plugins.longpoll.batches import Marked
from gateway.plugins.longpoll.config import ENVELOPE, LongpollConfig

CONNECT: Final = "connect"
"""The token of the connect; that of a receive is its `Post`."""

NORMAL: Final = 1000
ABNORMAL: Final = 1006
POLICY: Final = 1008
INTERNAL: Final = 1011
RESTART: Final = 1012
"""Codes of a WebSocket (RFC 6455 section 7.4.1, and IANA's registry for 1012)."""

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


class Decline(msgspec.Struct, frozen=True):
    """Nobody routes it: the request goes on, as one of HTTP."""


class Event(enum.Enum):
    """What else happens to a connection."""

    LEAVES = "leaves"
    """The client said that it leaves."""
    EXPIRED = "expired"
    """No poll came in time."""


LEAVES, EXPIRED = Event
DECLINE: Final = Decline()


class State(enum.Enum):
    """Where a connection stands."""

    PENDING = "pending"
    """The request waits for a decision."""
    OPEN = "open"
    """Accepted; messages flow."""
    CLOSED = "closed"
    """Refused, or over."""


PENDING, OPEN, CLOSED = State


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


class LongpollSession(Session):
    """One connection, from the request that asks for it to its end.

    ``drop(cause)`` counts what is dropped or replaced (`Context.drop`), ``most`` are the bytes that
    the layer lets through.
    """

    __slots__ = (
        "_code",
        "_config",
        "_drop",
        "_farewell",
        "_head",
        "_longest",
        "_path",
        "_reason",
        "_unsettled",
        "state",
    )

    acknowledges = True
    frames_replies = True
    resumes: ClassVar[bool] = True

    def __init__(
        self, config: LongpollConfig, head: Head, drop: Callable[[Drop], None], most: int
    ) -> None:
        self._config = config
        self._head: Head | None = head
        self._path = head.path
        self._drop = drop
        self._longest = most - ENVELOPE
        self._code = ABNORMAL
        self._reason = ""
        self._unsettled = 0
        self._farewell = ""
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
            Timer("decision", self._config.decision_timeout),
            Emit("connect", message, CONNECT),
        )

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

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what a reply says. Raises `LocalProtocolError` where it makes no sense now."""
        said = element(reply)
        if len(said) > self._longest:
            raise LocalProtocolError(f"an element of {len(said)} bytes is too big for one answer")
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
            raise LocalProtocolError("the connection is accepted already")
        if said:
            actions.append(Write(said if token is None else Marked(said, token)))
        elif token is not None:
            actions.append(Done(token))
        if close is not False:
            actions.append(self._close(close, NORMAL, reply.get("reason", "")))
        return actions

    def _accept(self, reply: Message) -> list[Action]:
        if "content" in reply:
            raise LocalProtocolError("content goes with a refusal")
        answer = Open(checked_headers(reply.get("headers", ()), _OURS))
        self.state = OPEN
        return [Accepted(), Timer("decision", None), Write(answer)]

    def _refused_by(self, reply: Message, close: Any, *, talks: bool) -> list[Action]:
        if talks or reply.get("accept"):
            raise LocalProtocolError("a reply accepts or refuses, not both")
        if close is not False and close is not True:
            self._known(close, NORMAL)
        status = reply.get("status", 403)
        headers = checked_headers(reply.get("headers", ()))
        if "content" in reply:
            return self._refuse(Refuse(status, reply["content"], headers))
        return self._refuse(refusal(status, reply.get("reason", ""), headers))

    def _refuse(self, answer: Refuse | Decline) -> list[Action]:
        self.state = CLOSED
        return [Timer("decision", None), Close(answer)]

    def _close(self, code: Any, default: int, reason: str) -> Close:
        """End the connection, and tell the client why in the last element of all."""
        self.state = CLOSED
        self._code, self._reason = self._known(code, default), reason
        return Close(closing(self._code, reason))

    def _known(self, code: Any, default: int) -> int:
        if code is True or code is None:
            return default
        if may_be_sent(code):
            return int(code)
        self._drop(Drop.FOREIGN_CODE)
        return default

    # ------------------------------------------------ what became of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Decide what is pending, answer what was posted."""
        if token is not CONNECT:
            self._unsettled -= 1
            return self._settled(token, posting.settled(outcome, self._drop))
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
            return self._refuse(unreached(refusal_))
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
            return self._refuse(refusal(503, "nobody decided in time"))
        return ()

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending; end what is open, once all that was posted is answered.

        Each is told when to come back: 1012 asks clients to reconnect, "using a randomized delay"
        (IANA's registry), and the reason has it, as a WebSocket's.
        """
        words = "the gateway is shutting down"
        if self.state is PENDING:
            return self._refuse(refusal(503, words, retry_after=retry_after))
        if self.state is not OPEN:
            return ()
        self._farewell = f"{words}; retry-after={retry_after:.1f}"
        return () if self._unsettled else (self._close(RESTART, RESTART, self._farewell),)
