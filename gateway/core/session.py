"""A session and its vocabulary: what a protocol does, as values. Pure.

Authors import these from `gateway.core.plugin`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from gateway.core.layers.base import OK, RELEASED, Outcome
from gateway.core.web import Head

Message = dict[str, Any]

# ---------------------------------------------------------------- actions


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Send ``message`` to the application, on the channel ``PLUGIN.kind``.

    ``kind`` is a key of the plugin's ``messages.KINDS``. The core adds ``reply_channel``,
    ``order``, ``client`` and ``server``. ``token`` is the author's own (a sequence number, a
    packet id): it comes back in ``outcome`` or ``refused``; without one nothing comes back.
    ``conversation`` is a str key within the connection (order and window count per
    conversation); None is the connection's own.

    ``connect`` is special: the first Emit of a connection whose plugin has that kind. Until
    it is decided (``Session.outcome``, or a reply with ``accept``) group messages wait.
    """

    kind: str
    message: Mapping[str, Any]
    """A dict of the kind's TypedDict; the core completes it, so a new one each time."""
    token: Any = None
    conversation: str | None = None
    channel: str | None = None
    """A single-reader channel to send on instead: the message goes as it is, without common
    keys, outside order and window; what is unsettled when the connection ends is withdrawn."""
    reply_channel: str | None = None
    """Where this message is answered, where that is not its conversation's: an address of the
    plugin's own (`Context.listen`), which may say more than to whom."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """Send ``output`` to the peer: bytes in stream plugins, the plugin's own terms elsewhere."""

    output: Any


class Done(msgspec.Struct, frozen=True, gc=False):
    """The reply that came with ``token`` is done (a PUBACK came, it was spooled): answer its
    ``ack`` with this outcome. Replies that the session never says this of are answered
    once the transport took the bytes.
    """  # noqa: D205 - one sentence

    token: Any
    outcome: Outcome = OK


class Close(msgspec.Struct, frozen=True, gc=False):
    """End the connection, after sending ``data``; with ``abort``, at once and without it."""

    data: Any = b""
    abort: bool = False


class Again(msgspec.Struct, frozen=True, gc=False):
    """Hand the message of ``token`` in once more, in ``seconds``: what it emitted has failed.

    To be said in ``outcome`` or ``refused``, which come again for that. ``message`` is the dict
    that was emitted, where the session may have changed something; its ``order`` stays. Nothing
    newer of its conversation is handed in before it.
    """

    kind: str
    message: Mapping[str, Any]
    token: Any
    conversation: str | None = None
    seconds: float = 0.0


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Forget a conversation of which nothing is unsettled, so that others have room.

    If it goes on later its ``order`` begins anew. One that is a member of groups is kept.
    """

    conversation: str


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The connection is accepted: register it, so that it gets its one disconnect message,
    and let group messages through. Before the ``Write`` that tells the peer. With ``registered``
    False it has no disconnect message: a client's, which outlives what carries it.
    """  # noqa: D205 - one paragraph

    registered: bool = True


class Timer(msgspec.Struct, frozen=True, gc=False):
    """Have ``Session.timeout(name)`` called in ``seconds`` (None: not any more).

    Precise to about a tenth of a second. Setting it again replaces it.
    """

    name: str
    seconds: float | None


Action = Emit | Again | Forget | Write | Done | Close | Accepted | Timer


class Refusal(enum.Enum):
    """Why an Emit never reached a consumer."""

    FULL = "full"
    """The channel had no room for as long as the setting allows."""
    DRAINING = "draining"
    """The gateway is shutting down."""
    UNAVAILABLE = "unavailable"
    """The layer cannot be reached."""
    TOO_BIG = "too_big"
    """Larger, encoded, than the layer lets through (``layer.message_bytes``)."""
    TOO_SLOW = "too_slow"
    """The connection's inbox is over its bounds although reading was paused."""
    TIMEOUT = "timeout"
    """No outcome came within the conversation's time."""
    BROKEN = "broken"
    """The message does not fit its schema: a fault of the plugin."""


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end. Addresses are (host, port), None where there is none."""

    client: tuple[str, int] | None = None
    server: tuple[str, int] | None = None
    tls: bool = False
    identity: str | None = None
    """Who a certificate or the transport says it is."""


End = Literal["client", "application", "gateway", "refused", "cut"]
"""Who ended a request or connection: the client, by closing or by leaving before its answer was
complete; the application, by its answer or by closing; the gateway, which answered for itself or
closed at a limit, a timeout or a shutdown. Or what became of it: refused, it was never accepted;
cut, the client got less than it was promised."""


class Summary(msgspec.Struct, frozen=True, gc=False):
    """What a session says of itself for the access log; the core knows or counts the rest."""

    code: int | str = ""
    """How it ended, in the protocol's own code; text where it has no numbers."""
    method: str = ""
    """What was asked, in the protocol's word."""
    path: str = ""
    """Of what. Nothing secret: no query, no password."""
    received: int | None = None
    """Bytes from the client. None: what the transport read."""
    sent: int | None = None
    """Bytes to the client. None: what the transport was given to write."""
    end: End | None = None
    """Who ended it. None: what the core saw."""
    head: Head | None = None
    """The request, where it is one of HTTP: method, path and more are taken from it."""


class Session(ABC):
    """One connection's (or one HTTP request's) protocol state. Pure.

    Every method returns an iterable of actions, which the core runs in order before it
    calls the next method. An exception costs this session only: it is logged, counted,
    and the connection closes; `RemoteProtocolError` closes it with the error's ``answer``,
    `LocalProtocolError` from ``send`` makes the reply invalid and closes nothing.
    """

    __slots__ = ()

    acknowledges: ClassVar[bool] = False
    """Whether it says `Done` of every token that ``send`` gives it. False: an ``ack`` is
    answered once the transport took what ``send`` wrote."""

    heeds_accepted: ClassVar[bool] = True
    """Whether ``outcome`` does anything for ``accepted``, but for a ``connect``. False saves a
    call a message."""

    heeds_late: ClassVar[bool] = False
    """Whether ``outcome`` and ``refused`` hear of what was emitted by a connection that is lost
    since. What they return then is not run."""

    drains_itself: ClassVar[bool] = False
    """Whether ``draining`` is called at once, and the session finishes by itself what it has in
    hand. False: it is called once nothing that it emitted is in a consumer's hands and its
    replies have gone out, and what it emits meanwhile is kept back."""

    frames_replies: ClassVar[bool] = False
    """Whether what ``frame`` returns is just what ``send`` would write, so that a reply to one
    connection may take the short road of a group's message."""

    resumes: ClassVar[bool] = False
    """Whether its peer can come back and say what it got last. True: replies of messages that are
    kept (``history``) have their ``id``; and a member that joins with ``since`` gets
    ``{"missed": True}`` where more was missed than is kept, what was, and ``{"id": …}``, the
    position reached, all as a group's messages are. So ``id`` and ``missed`` stand in the plugin's
    ``REPLY``. False: what was missed comes without any of that."""

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Begin. Called once, before anything else."""
        return ()

    @abstractmethod
    def received(self, data: Any) -> Iterable[Action]:
        """Take input: any cutting of the bytes must give the same messages."""

    def ended(self) -> Mapping[str, Any]:
        """Return the content of the disconnect message, as things stand. Changes nothing.

        Called when it is due; and at acceptance, for the disconnect that the layer offers if
        this process is lost: the core writes ``server-lost`` into that one's ``code`` (into
        its ``reason`` where the schema's code is a number).
        """
        return {}

    def summary(self) -> Summary:
        """Return what the access log says of it, once it has ended.

        The default gives the ``path`` and ``code`` of the disconnect, where it has them.
        """
        ended = self.ended()
        return Summary(ended.get("code", ""), path=ended.get("path", ""))

    @abstractmethod
    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Answer a reply of the application, which fits the plugin's reply schema.

        ``token`` is not None where the reply wants an ``ack`` and is to be given to ``Done``
        by sessions that can tell when it is done. Raises `LocalProtocolError` where the
        protocol cannot do it.
        """

    def group_send(self, conversation: str | None, reply: Message) -> Iterable[Action]:
        """Answer a group's message, of which one of its conversations is a member.

        The default does what ``send`` does. Other than that does where an answer in a conversation
        is heard by more than this peer.
        """
        return self.send(conversation, reply, None)

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Hear what became of the Emit with ``token``.

        Exactly one of this or ``refused``; neither once the connection is lost, but for a session
        that ``heeds_late``, which hears them then, too: also of what waited and was dropped.
        """
        return ()

    def accepted_together(self, tokens: Sequence[Any]) -> Iterable[Action]:
        """Hear that several Emits of one kind, in this order, were accepted.

        The default hears of each as an ``outcome``, but for those without a token. A session that
        answers them may do so together.
        """
        for token in tokens:
            if token is not None:
                yield from self.outcome(token, OK)

    def refused(self, token: Any, refusal: Refusal) -> Iterable[Action]:
        """Hear that the Emit with ``token`` never reached a consumer.

        The default hears it as an ``outcome`` that is `RELEASED`: later it may be another.
        """
        return self.outcome(token, Outcome(RELEASED, cause=refusal.value))

    def timeout(self, name: str) -> Iterable[Action]:
        """Hear that a `Timer` is due."""
        return ()

    def eof(self) -> Iterable[Action]:
        """Hear that the peer will send no more. The default closes."""
        return (Close(),)

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Hear that the gateway is shutting down: say so in the protocol's words.

        ``retry_after`` is when this peer had better come back, in seconds: drawn at random, so
        that not all come at once (``gateway.reconnect_spread``). The default closes. What a
        consumer has in hand was answered before (`drains_itself`), if that did not take the
        whole grace time; who is not accepted yet hears it at once. The core cuts off at the end
        of the grace whom the session did not close.
        """
        return (Close(),)

    @classmethod
    def frame(cls, reply: Message) -> Any:  # noqa: ARG003 - subclasses use it
        """Return what to write for a group's ``reply``, the same for every member, or None.

        Called once per group message and plugin, not once per member; members that are
        accepted and not congested get it by one write. None: each member's ``send`` is asked,
        as it is where the reply says ``close`` or ``accept``.
        With ``frames_replies`` it is asked for replies to one connection, too.
        """
        return None
