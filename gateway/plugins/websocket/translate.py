"""WebSocket connections as messages: states, decisions, close codes. Pure.

::

    PENDING ──accept──► OPEN ──we close──► CLOSING ──peer's close──► CLOSED
       │                  └──peer closes, or breaks the rules─────────► │
       └──refuse──────────────────────────────────────────────────────► │

``received`` takes the events of `frames`; ``Write`` carries ready frames, or the `Accept`
that opens the connection; ``Close`` carries our close frame, or the `Refuse` of a handshake.
The transport ends the closing handshake: it goes on handing over events while the state is
CLOSING, and writes what is to be written, though the core counts the connection as ended.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

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
from gateway.core.web import Head, Header
from gateway.core.websockets import frames
from gateway.core.websockets.frames import Closed, Event, Fault, Ping
from gateway.core.websockets.handshake import Accept
from gateway.plugins.websocket.config import WebsocketConfig
from gateway.plugins.websocket.deflate import ContextDeflater, Deflater

CONNECT: Final = "connect"
RECEIVE: Final = "receive"
"""The tokens of what is emitted."""

NORMAL: Final = 1000
PROTOCOL: Final = 1002
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
RESTART: Final = 1012
TRY_LATER: Final = 1013
"""Close codes (RFC 6455 section 7.4.1, and IANA's registry for 1012 and 1013)."""

_PING_FRAME: Final = frames.control_frame(frames.PING)

_CLOSES: Final = {
    Refusal.FULL: TRY_LATER,
    Refusal.DRAINING: RESTART,
    Refusal.UNAVAILABLE: RESTART,
    Refusal.TOO_BIG: TOO_BIG,
    Refusal.TOO_SLOW: TRY_LATER,
    Refusal.TIMEOUT: INTERNAL,
    Refusal.BROKEN: INTERNAL,
}
"""The close codes of what never reached a consumer."""


class State(enum.Enum):
    """Where a connection stands."""

    PENDING = "pending"
    """The handshake waits for a decision."""
    OPEN = "open"
    """Accepted; messages flow."""
    CLOSING = "closing"
    """We sent our close frame and wait for the peer's; nothing more is sent or emitted."""
    CLOSED = "closed"
    """Refused, or closed by both."""


PENDING, OPEN, CLOSING, CLOSED = State


class WebsocketSession(Session):
    """One connection, from its handshake to its end.

    ``drop(cause)`` counts what is dropped or replaced (`Context.drop`).
    """

    __slots__ = (
        "_awaiting",
        "_code",
        "_config",
        "_drop",
        "_head",
        "_heard",
        "_offered",
        "_path",
        "_reason",
        "paused",
        "state",
    )

    def __init__(
        self,
        config: WebsocketConfig,
        head: Head,
        subprotocols: list[str],
        drop: Callable[[Drop], None],
    ) -> None:
        self._config = config
        self._head: Head | None = head
        self._offered = subprotocols
        self._path = head.path
        self._drop = drop
        self._code = frames.ABNORMAL
        self._reason = ""
        self._heard = False
        self._awaiting = False
        self.paused = False
        """Whether the transport reads nothing now, so that silence says nothing."""
        self.state = PENDING

    # ------------------------------------------------ the peer

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Ask the application; the handshake waits meanwhile."""
        head = self._head
        if head is None:
            raise RuntimeError("a session is opened once")
        self._head = None
        message = {
            "scheme": "wss" if head.scheme == "https" else "ws",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query_string,
            "root_path": head.root_path,
            "headers": head.headers,
            "subprotocols": self._offered,
        }
        if (since := self._since(head)) is not None:
            message["last_event_id"] = since
        return (
            Timer("decision", self._config.decision_timeout),
            Emit("connect", message, CONNECT),
        )

    def _since(self, head: Head) -> str | None:
        return last_event_id(head)

    def received(self, data: list[Event]) -> Iterable[Action]:
        """Take events in order."""
        self._heard = True
        actions: list[Action] = []
        if self._awaiting:
            self._awaiting = False
            actions.append(Timer("pong", None))
            actions.append(Timer("ping", self._config.ping_interval))
        for event in data:
            kind = event.__class__
            if self.state is OPEN:
                if kind is str:
                    message = {"path": self._path, "text": event}
                    actions.append(Emit("receive", message, RECEIVE))
                elif kind is bytes:
                    message = {"path": self._path, "bytes": event}
                    actions.append(Emit("receive", message, RECEIVE))
                elif isinstance(event, Ping):
                    # RFC 6455 section 5.5.3: "identical "Application data""
                    actions.append(Write(frames.control_frame(frames.PONG, event.payload)))
                elif isinstance(event, Closed | Fault):
                    actions.append(self._peer_ends(event))
            elif isinstance(event, Closed):
                self.state = CLOSED
                self._code, self._reason = event.code, event.reason
            elif isinstance(event, Fault):
                self.state = CLOSED
            elif isinstance(event, Ping) and self.state is CLOSING:
                # RFC 6455 section 5.5.2: "unless it already received a Close frame"; after ours
                # only data frames are forbidden (section 5.5.1).
                actions.append(Write(frames.control_frame(frames.PONG, event.payload)))
            elif kind is str or kind is bytes:
                self._drop(Drop.CLOSED)
        return actions

    def _peer_ends(self, event: Closed | Fault) -> Action:
        self.state = CLOSED
        self._reason = event.reason
        if isinstance(event, Closed):
            self._code = event.code
            # RFC 6455 section 5.5.1: "the endpoint typically echos the status code it received"
            return Close(frames.close_frame(event.code))
        return Close(frames.close_frame(event.code, event.reason))

    def eof(self) -> Iterable[Action]:
        """End: the peer left without a close frame."""
        self.state = CLOSED
        self._reason = "left without closing"
        return (Close(frames.close_frame(PROTOCOL, "no close frame")),)

    def ended(self) -> Message:
        """Return the disconnect: RFC 6455 section 7.1.5 says which code."""
        return {"path": self._path, "code": self._code, "reason": self._reason}

    # ------------------------------------------------ the application

    heeds_accepted = False
    frames_replies = True
    text_frame: ClassVar[Callable[[str], bytes]] = staticmethod(frames.text_frame)
    binary_frame: ClassVar[Callable[[bytes], bytes]] = staticmethod(frames.binary_frame)

    @classmethod
    def frame(cls, reply: Message) -> bytes | None:
        """Return the frame of a group's message that is nothing but data."""
        if len(reply) != 1:
            return None
        if (text := reply.get("text")) is not None:
            return cls.text_frame(text)
        if (payload := reply.get("bytes")) is not None:
            return cls.binary_frame(payload)
        return None

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what a reply says. Raises `LocalProtocolError` where it makes no sense now."""
        if self.state is OPEN and (output := self.frame(reply)) is not None:
            return (Write(output),)
        talks = self._talks(reply)
        close = reply.get("close", False)
        actions: list[Action] = []
        if self.state is PENDING:
            if (
                reply.get("accept") is False
                or "status" in reply
                or (close is not False and not talks and not reply.get("accept"))
            ):
                return self._refused_by(reply, close, talks=talks)
            if talks or reply.get("accept"):
                actions += self._accept(reply)
            elif "subprotocol" in reply or "headers" in reply:
                raise LocalProtocolError("subprotocol and headers go with accept")
        elif reply.get("accept") is False or not reply.keys().isdisjoint(
            ("subprotocol", "headers", "status", "content")
        ):
            raise LocalProtocolError("the connection is accepted already")
        if talks:
            actions.append(Write(self._data(reply)))
        if close is not False:
            actions += self._close(self._code_of(close, NORMAL), reply.get("reason", ""))
        return actions

    def _talks(self, reply: Message) -> bool:
        """Return whether a reply has something to be sent."""
        return reply.get("text") is not None or reply.get("bytes") is not None

    def _data(self, reply: Message) -> bytes:
        """Return the frame of a reply's data, which is sure to be sent."""
        cls = type(self)
        text = reply.get("text")
        return cls.binary_frame(reply["bytes"]) if text is None else cls.text_frame(text)

    def _accept(self, reply: Message) -> list[Action]:
        subprotocol = reply.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._offered:
            # RFC 6455 section 4.2.2: "The value chosen MUST be derived from the client's handshake"
            raise LocalProtocolError("the client did not offer the subprotocol")
        if "content" in reply:
            raise LocalProtocolError("content goes with a refusal")
        answer = Accept(subprotocol, _checked(reply))
        self.state = OPEN
        self._offered = []
        actions: list[Action] = [Accepted(), Timer("decision", None), Write(answer)]
        if self._config.ping_interval:
            actions.append(Timer("ping", self._config.ping_interval))
        return actions

    def _refused_by(self, reply: Message, close: Any, *, talks: bool) -> list[Action]:
        if talks or reply.get("accept") or "subprotocol" in reply:
            raise LocalProtocolError("a reply accepts or refuses, not both")
        if close is not False and close is not True and not may_be_sent(close):
            self._drop(Drop.FOREIGN_CODE)
        status = reply.get("status", 403)
        headers = _checked(reply)
        if "content" in reply:
            return self._refuse(Refuse(status, reply["content"], headers))
        return self._refuse(refusal(status, reply.get("reason", ""), headers))

    def _refuse(self, answer: Refuse) -> list[Action]:
        self.state = CLOSED
        return [Timer("decision", None), Close(answer)]

    def _close(self, code: int, reason: str = "") -> list[Action]:
        """Begin the closing handshake (RFC 6455 section 7.1.2)."""
        self.state = CLOSING
        return [Close(frames.close_frame(code, reason))]

    def _code_of(self, close: Any, default: int) -> int:
        if close is True or close is None:
            return default
        if may_be_sent(close):
            return int(close)
        self._drop(Drop.FOREIGN_CODE)
        return default

    # ------------------------------------------------ what became of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Decide what is pending, and answer for what failed."""
        if self.state is OPEN:
            return () if outcome.kind == ACCEPTED else self._open_outcome(outcome)
        if self.state is PENDING and token == CONNECT:
            return self._pending_outcome(outcome)
        return ()

    def _pending_outcome(self, outcome: Outcome) -> Iterable[Action]:
        if (refuse := undecided(outcome, self._drop)) is not None:
            return self._refuse(refuse)
        # Where nobody routes connects there is nobody to accept explicitly.
        implicit = self._config.implicit_accept or outcome.cause == "unannounced"
        return self._accept({}) if implicit else ()

    def _open_outcome(self, outcome: Outcome) -> Iterable[Action]:
        kind = outcome.kind
        if kind == REJECTED:
            return self._close(self._code_of(outcome.code, POLICY), outcome.reason)
        if kind == RELEASED:
            return self._close(RESTART, "nobody was there to answer")
        if self._config.on_failure == "keep":
            return ()
        if outcome.cause in ("lost", "layer_lost"):
            return self._close(RESTART, "the application was restarted")
        return self._close(INTERNAL, "the application failed")

    def refused(self, token: Any, refusal_: Refusal) -> Iterable[Action]:
        """Tell the peer that its message never reached the application."""
        if self.state is OPEN:
            return self._close(_CLOSES[refusal_], UNREACHED[refusal_][1])
        if self.state is PENDING and token == CONNECT:
            return self._refuse(unreached(refusal_))
        return ()

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Refuse what nobody decided, ping who is silent, cut off who does not answer."""
        if self.state is PENDING:
            return self._refuse(refusal(503, "nobody decided in time"))
        if self.state is not OPEN:
            return ()
        if name == "ping":
            return self._ping()
        if self.paused:
            return (Timer("pong", self._config.ping_timeout),)
        self.state = CLOSED
        self._reason = "no sign of life after a ping"
        return (Close(abort=True),)

    def _ping(self) -> Iterable[Action]:
        if self._heard or self.paused:
            self._heard = False
            return (Timer("ping", self._config.ping_interval),)
        self._awaiting = True
        return (Write(_PING_FRAME), Timer("pong", self._config.ping_timeout))

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending, begin to close what is open; say to each when to come back.

        1012 asks clients to reconnect, "using a randomized delay" (IANA's registry): the reason
        has it.
        """
        if self.state is PENDING:
            words = "the gateway is shutting down"
            return self._refuse(refusal(503, words, retry_after=retry_after))
        if self.state is OPEN:
            reason = f"the gateway is shutting down; retry-after={retry_after:.1f}"
            return self._close(RESTART, reason)
        return ()


def _checked(reply: Message) -> list[Header]:
    return checked_headers(reply.get("headers", ()), prefix=b"sec-websocket-")


def deflating(kind: type[WebsocketSession], deflater: Deflater) -> type[WebsocketSession]:
    """Return the class of sessions of a kind that agreed on the same parameters of compression.

    A group's message is framed once for each class of its members: so it is compressed once for
    each set of parameters.
    """
    namespace = {
        "__slots__": (),
        "text_frame": deflater.text_frame,
        "binary_frame": deflater.binary_frame,
    }
    return type(f"Deflating{kind.__name__}", (kind,), namespace)


class ContextSession(WebsocketSession):
    """A connection whose messages refer to those before: no frame of it serves another."""

    __slots__ = ("_deflater",)

    frames_replies = False

    def __init__(
        self,
        config: WebsocketConfig,
        head: Head,
        subprotocols: list[str],
        drop: Callable[[Drop], None],
        deflater: ContextDeflater,
    ) -> None:
        super().__init__(config, head, subprotocols, drop)
        self._deflater = deflater

    @classmethod
    def frame(cls, reply: Message) -> bytes | None:
        """Return None: each session makes its own."""

    def _data(self, reply: Message) -> bytes:
        text = reply.get("text")
        if text is None:
            return self._deflater.binary_frame(reply["bytes"])
        return self._deflater.text_frame(text)
