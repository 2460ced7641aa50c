"""A connection that begins as a request and is no WebSocket: what its sessions share. Pure.

::

    PENDING ──accept──► OPEN ──close, or the client is gone──► CLOSED
       └──refuse, or hand the request on────────────────────► │

An event stream and a long-poll connection are decided alike. They differ in what a message is,
in how it ends, and in what became of one that was posted.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

import msgspec

from gateway.core.codes import may_be_sent
from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import UNROUTED, Outcome
from gateway.core.metrics import Drop
from gateway.core.opening import (
    Refuse,
    checked_headers,
    last_event_id,
    refusal,
    undecided,
    unreached,
)
from gateway.core.session import Action, Close, Emit, Message, Peer, Refusal, Session, Timer
from gateway.core.web import Head

CONNECT: Final = "connect"
"""The token of the connect; that of a receive is its `gateway.core.posts.Post`."""

NORMAL: Final = 1000
ABNORMAL: Final = 1006
POLICY: Final = 1008
INTERNAL: Final = 1011
RESTART: Final = 1012
"""Codes of a close: a WebSocket's (RFC 6455 section 7.4.1, and IANA's registry for 1012)."""


class Decline(msgspec.Struct, frozen=True):
    """Nobody routes it: the request goes on, as one of HTTP."""


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


class RequestedSession(Session):
    """One connection, from the request that asks for it to its end.

    ``config`` has ``decision_timeout`` (seconds) and ``implicit_accept``; ``drop(cause)`` counts
    what is dropped or replaced (`Context.drop`).
    """

    __slots__ = ("_config", "_drop", "_head", "_path", "state")

    frames_replies = True
    resumes: ClassVar[bool] = True
    decision: ClassVar[str] = "decision"
    """The name of the timer of the decision."""

    def __init__(self, config: Any, head: Head, drop: Callable[[Drop], None]) -> None:
        self._config = config
        self._head: Head | None = head
        self._path = head.path
        self._drop = drop
        self.state = PENDING

    # ------------------------------------------------ what differs

    @abstractmethod
    def _said(self, reply: Message) -> bytes:
        """Return what a reply says, nothing where it says nothing. Raises `LocalProtocolError`."""

    @abstractmethod
    def _say(self, said: bytes, token: Any) -> Iterable[Action]:
        """Send what a reply says, or nothing, whose ``ack`` has ``token``."""

    @abstractmethod
    def _accept(self, reply: Message) -> list[Action]:
        """Accept, as a reply says."""

    @abstractmethod
    def _close(self, code: Any, default: int, reason: str) -> Close:
        """End it, and tell the client why."""

    # ------------------------------------------------ the request

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
            Timer(self.decision, self._config.decision_timeout),
            Emit("connect", message, CONNECT),
        )

    # ------------------------------------------------ the application

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what a reply says. Raises `LocalProtocolError` where it makes no sense now."""
        said = self._said(reply)
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
                if "content" in reply:
                    raise LocalProtocolError("content goes with a refusal")
                actions += self._accept(reply)
            elif "headers" in reply:
                raise LocalProtocolError("headers go with accept")
        elif reply.get("accept") is False or not reply.keys().isdisjoint(
            ("headers", "status", "content")
        ):
            raise LocalProtocolError("the connection is accepted already")
        actions += self._say(said, token)
        if close is not False:
            actions.append(self._close(close, NORMAL, reply.get("reason", "")))
        return actions

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
        return [Timer(self.decision, None), Close(answer)]

    def _known(self, code: Any, default: int) -> int:
        """Return a close code, the default for none and, counted, for a foreign one."""
        if code is True or code is None:
            return default
        if may_be_sent(code):
            return int(code)
        self._drop(Drop.FOREIGN_CODE)
        return default

    # ------------------------------------------------ while it is pending

    def _decided(self, outcome: Outcome) -> list[Action]:
        """Decide by the outcome of the connect."""
        if outcome.kind == UNROUTED:
            return self._refuse(DECLINE)
        if (refuse := undecided(outcome, self._drop)) is not None:
            return self._refuse(refuse)
        # Where nobody routes connects there is nobody to accept explicitly.
        implicit = self._config.implicit_accept or outcome.cause == "unannounced"
        return self._accept({}) if implicit else []

    def _unreached(self, why: Refusal) -> list[Action]:
        """Refuse: the application could not be asked."""
        return self._refuse(unreached(why))

    def _too_late(self) -> list[Action]:
        """Refuse: nobody decided."""
        return self._refuse(refusal(503, "nobody decided in time"))

    def _shut_out(self, retry_after: float) -> list[Action]:
        """Refuse: the gateway ends, and says when to come back (seconds)."""
        return self._refuse(refusal(503, "the gateway is shutting down", retry_after=retry_after))
