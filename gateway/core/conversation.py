"""A connection, and the conversations within it: what runs one `Session`.

A connection is a conversation itself (the one whose key is None) and may have others by key.
Order and window count per conversation; inbox, outbox and life belong to the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core import plugin
from gateway.core.deadlines import Deadline
from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.core.layers import codec
from gateway.core.layers.base import ACCEPTED, FAILED, OK, Outcome
from gateway.core.metrics import Drop
from gateway.core.outbox import Outbox, Waiting
from gateway.core.plugin import (
    Accepted,
    Action,
    Close,
    Done,
    Emit,
    Message,
    Peer,
    Refusal,
    Session,
    Timer,
    Wire,
    Write,
)
from gateway.core.reply import InvalidReply, is_ack_channel

if TYPE_CHECKING:
    from gateway.core.context import PluginContext
    from gateway.core.flow import Entry, Kind

# The life of a connection.
OPEN: Final = 0
CLOSING: Final = 1
"""Its end was asked for; the transport still has to say that it is gone."""
LOST: Final = 2
"""The transport is gone; what is unsettled is waited for."""
OVER: Final = 3
"""Nothing is left of it."""

# Why the session was called: it decides what a Close means for what waits.
PEER: Final = 0
SEND: Final = 1
OUTCOME: Final = 2
TIMEOUT: Final = 3
GATEWAY: Final = 4

HARD: Final = 4
"""Times its bounds that an inbox may hold at most: one read may carry many messages."""

GONE: Final = Outcome(FAILED, reason="the connection is gone", cause="gone")
INVALID: Final = Outcome(FAILED, reason="the reply is not valid", cause="invalid")
SLOW: Final = Outcome(FAILED, reason="the client does not read", cause="slow")

_encode = msgspec.msgpack.Encoder().encode


class Conversation:
    """What is counted, ordered and answered together."""

    __slots__ = ("flight", "key", "order", "place", "queue", "receipt", "reply_channel", "since")

    def __init__(self, key: str | None, reply_channel: str) -> None:
        self.key = key
        self.reply_channel = reply_channel
        self.order = 0
        """The order of its next message."""
        self.flight: list[Entry] | None = None
        """Its one unsettled delivery."""
        self.receipt = 0
        """The receipt of that."""
        self.queue: deque[Entry] | None = None
        """What waits behind that."""
        self.place: object = None
        """Where it waits for room or for a worker; None: nowhere."""
        self.since = 0.0
        """Since when it has waited there."""

    @property
    def owner(self) -> Connection:
        """The connection that it belongs to."""
        raise NotImplementedError


class Branch(Conversation):
    """A conversation within a connection, by a key of the session's own."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Connection, key: str | None, reply_channel: str) -> None:
        super().__init__(key, reply_channel)
        self._owner = owner

    @property
    def owner(self) -> Connection:
        """The connection that it belongs to."""
        return self._owner


class Connection(Conversation, plugin.Connection):
    """One attached session: runs its actions, and calls it never while it is being called."""

    __slots__ = (
        "_acks",
        "_after",
        "_agreed",
        "_branches",
        "_busy",
        "_cause",
        "_due",
        "_late",
        "_later",
        "_loose",
        "_outbox",
        "_paused",
        "_ready",
        "_timers",
        "_unacked",
        "_waiting",
        "_waiting_bytes",
        "abandoned",
        "accepted",
        "context",
        "direct",
        "flights",
        "groups",
        "peer",
        "session",
        "state",
        "wire",
    )

    def __init__(
        self, context: PluginContext, reply_channel: str, session: Session, wire: Wire, peer: Peer
    ) -> None:
        # Written out, not by super(): this is the hot path of every HTTP request.
        self.key = None
        self.reply_channel = reply_channel
        self.order = 0
        self.flight = None
        self.receipt = 0
        self.queue = None
        self.place = None
        self.since = 0.0
        self.context = context
        self.session = session
        self.wire = wire
        self.peer = peer
        self.state = OPEN
        self.accepted = context.accepts_all
        """Whether group messages may go out."""
        self.direct = context.accepts_all
        """Whether a group's frame may be written at once: open, accepted, ready, nothing waits."""
        self.abandoned = False
        """Whether it was ended from this side: what waits in it is dropped."""
        self.flights = 0
        """Its conversations' unsettled deliveries."""
        self.groups: set[tuple[str, Conversation]] | None = None
        self._busy = False
        self._cause = GATEWAY
        self._later: deque[tuple[int, Any, tuple[Any, ...]]] | None = None
        self._after = False
        self._ready = True
        self._outbox: Outbox | None = None
        self._waiting = 0
        self._waiting_bytes = 0
        self._paused = False
        self._late = False
        self._agreed = False
        self._due = False
        self._acks: dict[int, tuple[int, str, str]] | None = None
        self._unacked: list[int] | None = None
        self._timers: dict[str, Deadline] | None = None
        self._branches: dict[str, Branch] | None = None
        self._loose: dict[int, Any] | None = None

    @property
    def owner(self) -> Connection:
        """Itself."""
        return self

    @property
    def is_lost(self) -> bool:
        """Whether the transport is gone."""
        return self.state >= LOST

    # ------------------------------------------------ what the transport says

    def received(self, data: Any) -> None:
        """Hand input to the session and run its actions."""
        if self.state == OPEN:
            self._late = self._paused
            self._enter(PEER, self.session.received, data)

    def run(self, actions: Iterable[Action]) -> None:
        """Run actions that the transport got from the session by a method of its own."""
        if self.state < LOST:
            self._enter(GATEWAY, _as_they_are, actions)

    def writable(self, yes: bool) -> None:
        """Say whether the transport takes more now."""
        self._ready = yes
        if yes:
            self._catch_up()
        else:
            self.direct = False

    def eof(self) -> None:
        """Say that the peer will send no more."""
        if self.state == OPEN:
            self._enter(PEER, self.session.eof)

    def lost(self) -> None:
        """Say that the transport is gone. Idempotent."""
        if self.state >= LOST:
            return
        self.state = LOST
        self.direct = False
        context = self.context
        by_channel = context.engine.by_channel
        del by_channel[self.reply_channel]
        context.open -= 1
        if self._branches is not None:
            for branch in self._branches.values():
                del by_channel[branch.reply_channel]
        if self._timers is not None:
            for deadline in self._timers.values():
                context.deadlines.forget(deadline)
            self._timers = None
        if self._outbox is not None:
            context.drop(Drop.GONE, len(self._outbox))
            self._outbox = None
        if self._acks is not None:
            for token in list(self._acks):
                self._answer_ack(token, GONE)
            self._acks = self._unacked = None
        if self._loose is not None:
            flow = context.engine.flow
            for receipt in self._loose:
                del flow.loose[receipt]
                flow.edge.cancel(receipt)
            self._loose = None
        if self._agreed and not self.abandoned:
            self._due = True
        if self._busy:
            self._after = True
        else:
            self.part()

    # ------------------------------------------------ running the session

    def _enter(self, cause: int, method: Any, *args: Any) -> None:
        """Call a method of the session and run what it returns; later, if it is being called."""
        if self._busy:
            if self._later is None:
                self._later = deque()
            self._later.append((cause, method, args))
            return
        self._busy = True
        self._perform(cause, method, args)
        later = self._later
        if later is not None:
            while later and self.state < LOST:
                self._perform(*later.popleft())
            self._later = None
        self._busy = False
        if self._after:
            self._after = False
            if self.state == LOST:
                self.part()
            else:
                self._catch_up()

    def _perform(self, cause: int, method: Any, args: tuple[Any, ...]) -> None:
        self._cause = cause
        try:
            for action in method(*args):
                if self.state >= LOST:
                    break
                kind = action.__class__
                if kind is Emit:
                    self.emit(action)
                elif kind is Write:
                    if self.state == OPEN:
                        self.wire.write(action.output)
                elif kind is Timer:
                    self._set_timer(action)
                elif kind is Accepted:
                    self._accept()
                elif kind is Close:
                    self.close(action.data, abort=action.abort)
                elif kind is Done:
                    self._answer_ack(action.token, action.outcome)
                else:
                    raise TypeError(f"not an action: {action!r}")
        except LocalProtocolError as error:
            if cause == SEND:
                self.invalid(str(error))
                if error.actions:
                    self._perform(GATEWAY, _as_they_are, (error.actions,))
            else:
                self._broken(error)
        except RemoteProtocolError as error:
            self.context.count("peer_errors_total")
            self.context.log.debug("%s: the peer broke the rules: %s", self.reply_channel, error)
            self._close_quietly(b"" if error.answer is None else error.answer)
        except Exception as error:  # noqa: BLE001 - a fault in a session costs that session only
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        self.context.count("session_errors_total")
        self.context.log.error(
            "%s: plugin %s raised; the connection is closed",
            self.reply_channel,
            self.context.name,
            exc_info=error,
        )
        self._cause = GATEWAY
        self._close_quietly(b"")

    def _close_quietly(self, data: Any) -> None:
        try:
            self.close(data)
        except Exception as error:
            self.context.log.error("%s: closing failed", self.reply_channel, exc_info=error)

    def close(self, data: Any = b"", *, abort: bool = False) -> None:
        """End it. What waits is dropped, unless the peer's own input led to this."""
        if self.state == OPEN or (abort and self.state == CLOSING):
            self.state = CLOSING
            self.direct = False
            if self._cause != PEER:
                self.abandoned = True
                if self._cause == TIMEOUT and self.flight is not None:
                    # Its peer is told that nothing came: nobody need run it any more.
                    self.context.engine.flow.edge.cancel(self.receipt)
            self.wire.close(data, abort=abort)

    def end_unavailable(self) -> None:
        """End it, since nobody knows what became of what it had in hand."""
        self._cause = GATEWAY
        self._close_quietly(b"")

    def drain(self) -> None:
        """Tell the session that the gateway is shutting down."""
        if self.state == OPEN:
            self._enter(GATEWAY, self.session.draining)

    def abort(self, *, mute: bool = False) -> None:
        """End it at once; with ``mute`` without any message."""
        self._cause = GATEWAY
        if mute:
            self._due = self._agreed = False
            self.accepted = False
            self.flights = 0
            self.groups = None
        if self.state < LOST:
            try:
                self.close(abort=True)
            except Exception as error:
                self.context.log.error("%s: closing failed", self.reply_channel, exc_info=error)

    # ------------------------------------------------ towards the application

    def emit(self, emit: Emit) -> None:
        """Send a message of the session to the application."""
        context = self.context
        message = emit.message
        token = emit.token
        if emit.channel is not None:
            self._emit_loose(emit.channel, message, token)
            return
        kind = context.kinds.get(emit.kind)
        if kind is None:
            context.log.error("%s: unknown kind %r", self.reply_channel, emit.kind)
            self.refuse(token, Refusal.BROKEN, Drop.INVALID)
            return
        conversation: Conversation = self
        if emit.conversation is not None:
            conversation = self._branch(emit.conversation)
        order = conversation.order
        peer = self.peer
        message["reply_channel"] = conversation.reply_channel
        message["order"] = order
        message["client"] = peer.client
        message["server"] = peer.server
        if peer.identity is not None:
            message["identity"] = peer.identity
        payload = self._encoded(message, token)
        if payload is None:
            return
        if self.abandoned:
            context.drop(Drop.CLOSED)
            return
        if order == 0 and context.draining:
            self.refuse(token, Refusal.DRAINING, Drop.DRAINED)
            return
        if self._late and self._cause == PEER and self._is_over(HARD):
            self.refuse(token, Refusal.TOO_SLOW, Drop.SLOW)
            return
        conversation.order = order + 1
        if context.window:
            context.engine.flow.push(conversation, (kind, payload, token))
        else:
            single = Branch(self, conversation.key, conversation.reply_channel)
            context.engine.flow.push(single, (kind, payload, token))

    def _encoded(self, message: Message, token: Any) -> bytes | None:
        try:
            payload = _encode(message)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            self.context.log.error("%s: cannot be sent: %s", self.reply_channel, error)
            self.refuse(token, Refusal.BROKEN, Drop.INVALID)
            return None
        if len(payload) > codec.MAX_MESSAGE:
            self.refuse(token, Refusal.TOO_BIG, Drop.TOO_BIG)
            return None
        return payload

    def _branch(self, key: str) -> Branch:
        if self._branches is None:
            self._branches = {}
        branch = self._branches.get(key)
        if branch is None:
            channel = f"{self.reply_channel}.{len(self._branches)}"
            branch = self._branches[key] = Branch(self, key, channel)
            self.context.engine.by_channel[channel] = branch
        return branch

    def _emit_loose(self, channel: str, message: Message, token: Any) -> None:
        payload = self._encoded(message, token)
        if payload is None:
            return
        flow = self.context.engine.flow
        if token is None:
            flow.edge.send(channel, payload)
            return
        if self._loose is None:
            self._loose = {}
        self._loose[flow.post_loose(self, channel, payload)] = token

    def loose_outcome(self, receipt: int, outcome: Outcome) -> None:
        """Hear what became of a message outside every conversation."""
        if self._loose is not None:
            self._enter(OUTCOME, self.session.outcome, self._loose.pop(receipt), outcome)

    def loose_refused(
        self, receipt: int, refusal: Refusal = Refusal.FULL, drop: Drop = Drop.FULL
    ) -> None:
        """Hear that a message outside every conversation was refused."""
        if self._loose is not None:
            self.refuse(self._loose.pop(receipt), refusal, drop)

    def settled(self, kind: Kind, token: Any, outcome: Outcome) -> None:
        """Hear what became of one of its messages."""
        if kind.name == "connect" and outcome.kind == ACCEPTED:
            self._agreed = True
            if self.state >= LOST and not self.abandoned:
                self._due = True
        if token is not None and self.state < LOST:
            self._enter(OUTCOME, self.session.outcome, token, outcome)

    def refuse(self, token: Any, refusal: Refusal, drop: Drop) -> None:
        """Count one of its messages that never reached a consumer, and tell the session."""
        self.context.drop(drop)
        if token is not None and self.state < LOST:
            self._enter(OUTCOME, self.session.refused, token, refusal)

    def _is_over(self, times: int) -> bool:
        context = self.context
        return (
            self._waiting > context.inbox_messages * times
            or self._waiting_bytes > context.inbox_bytes * times
        )

    def waits(self, count: int, size: int) -> None:
        """Count messages that wait; read no more while there are too many."""
        self._waiting += count
        self._waiting_bytes += size
        if not self._paused and self.state == OPEN and self._is_over(1):
            self._paused = True
            self.wire.pause()

    def moved_on(self, count: int, size: int) -> None:
        """Count messages that wait no more; read on below half of the bounds."""
        self._waiting -= count
        self._waiting_bytes -= size
        if self.state == LOST:
            self.part()
        elif self._paused:
            context = self.context
            if (
                self._waiting <= context.inbox_messages >> 1
                and self._waiting_bytes <= context.inbox_bytes >> 1
            ):
                self._paused = False
                if self.state == OPEN:
                    self.wire.resume()

    # ------------------------------------------------ from the application

    def reply(self, conversation: Conversation, payload: bytes) -> None:
        """Take a reply to one of its conversations: check it, then hand it to the session."""
        context = self.context
        context.replies.value += 1
        try:
            reply = context.reader.read(payload)
        except InvalidReply as error:
            self.invalid(str(error))
            return
        token = None
        if "ack" in reply or "ack_channel" in reply:
            token = self._token(conversation, reply)
            if token is None:
                return
        if self.state != OPEN:
            context.drop(Drop.GONE)
            if token is not None:
                self._answer_ack(token, GONE)
        elif self.accepted and (self._outbox or not self._ready):
            self._wait(Waiting(conversation, reply, token, None, len(payload)))
        elif token is None:
            self._enter(SEND, self.session.send, conversation.key, reply, None)
        else:
            self._enter(SEND, self._send_acked, conversation.key, reply, token)

    def group_reply(
        self, conversation: Conversation, reply: Message, frame: Any, size: int
    ) -> None:
        """Take a group's message that could not be written at once."""
        if self.state != OPEN:
            self.context.drop(Drop.GONE)
        elif not self.accepted or self._outbox or not self._ready:
            self._wait(Waiting(conversation, reply, None, frame, size))
        elif frame is None:
            self._enter(SEND, self.session.send, conversation.key, reply, None)
        else:
            self.wire.write(frame)

    def invalid(self, reason: str) -> None:
        """Count and log a reply that is not allowed; its values are not logged."""
        self.context.drop(Drop.INVALID)
        self.context.log.warning("%s: invalid reply dropped: %s", self.reply_channel, reason)

    def _wait(self, entry: Waiting) -> None:
        context = self.context
        if self._outbox is None:
            self._outbox = Outbox(context.outbox_messages, context.outbox_bytes)
        outbox = self._outbox
        self.direct = False
        # A close is never dropped: a slow client must not be the one that cannot be ended.
        if not outbox.has_room(entry.size) and not entry.reply.get("close"):
            if context.slow_consumer == "close":
                context.drop(Drop.SLOW)
                self._fail_ack(entry, SLOW)
                self._cause = GATEWAY
                self.close(abort=True)
                return
            if context.slow_consumer == "drop_newest":
                context.drop(Drop.SLOW)
                self._fail_ack(entry, SLOW)
                return
            while not outbox.has_room(entry.size):
                context.drop(Drop.SLOW)
                self._fail_ack(outbox.popleft(), SLOW)
        outbox.append(entry)

    def _catch_up(self) -> None:
        """Send what waited for the client to read, or to be accepted; answer acks."""
        if self._busy:
            self._after = True
            return
        if self.state == OPEN and self.accepted:
            outbox = self._outbox
            while outbox and self._ready and self.state == OPEN:
                entry = outbox.popleft()
                if entry.frame is not None:
                    self.wire.write(entry.frame)
                elif entry.token is None:
                    self._enter(SEND, self.session.send, entry.conversation.key, entry.reply, None)
                else:
                    self._enter(
                        SEND, self._send_acked, entry.conversation.key, entry.reply, entry.token
                    )
            if not outbox and self._ready and self.state == OPEN:
                self._outbox = None
                self.direct = True
        if self._unacked and self._ready:
            unacked, self._unacked = self._unacked, None
            for token in unacked:
                self._answer_ack(token, OK)

    # ------------------------------------------------ acknowledgements

    def _token(self, conversation: Conversation, reply: Message) -> int | None:
        ack = reply.get("ack")
        channel = reply.get("ack_channel")
        if ack is None or not is_ack_channel(channel):
            self.invalid("'ack' needs an 'ack_channel', a name with '?'")
            return None
        if self._acks is None:
            self._acks = {}
        engine = self.context.engine
        engine.acks = token = engine.acks + 1
        self._acks[token] = (ack, str(channel), conversation.reply_channel)
        return token

    def _send_acked(self, key: str | None, reply: Message, token: int) -> Iterable[Action]:
        try:
            yield from self.session.send(key, reply, token)
        except LocalProtocolError:
            self._answer_ack(token, INVALID)
            raise
        if not self.session.acknowledges:
            if self._ready:
                self._answer_ack(token, OK)
            elif self._unacked is None:
                self._unacked = [token]
            else:
                self._unacked.append(token)

    def _fail_ack(self, entry: Waiting, outcome: Outcome) -> None:
        if entry.token is not None:
            self._answer_ack(entry.token, outcome)

    def _answer_ack(self, token: Any, outcome: Outcome) -> None:
        """Answer the ``ack`` of a reply; once."""
        found = None if self._acks is None else self._acks.pop(token, None)
        if found is not None:
            self.context.engine.acknowledge(*found, outcome)

    # ------------------------------------------------ accepting, timers, the end

    def _accept(self) -> None:
        if self.state == OPEN and not self._due:
            if "disconnect" in self.context.kinds:
                self._due = True
                self.register()
            self.accepted = True
            self._after = True

    def register(self) -> None:
        """Have the layer offer a disconnect if this process is lost."""
        context = self.context
        if self._due:
            message = self._last_words()
            message.update(context.server_lost)
            flow = context.engine.flow
            flow.edge.register(self.reply_channel, context.disconnect, _encode(message))

    def _last_words(self) -> Message:
        message = dict(self.session.ended())
        message["reply_channel"] = self.reply_channel
        message["client"] = self.peer.client
        message["server"] = self.peer.server
        if self.peer.identity is not None:
            message["identity"] = self.peer.identity
        return message

    def _set_timer(self, timer: Timer) -> None:
        if self._timers is None:
            self._timers = {}
        deadline = self._timers.get(timer.name)
        deadlines = self.context.deadlines
        if timer.seconds is None:
            if deadline is not None:
                deadlines.clear(deadline)
            return
        if deadline is None:
            deadline = self._timers[timer.name] = Deadline(partial(self._timed_out, timer.name))
        deadlines.set(deadline, timer.seconds)

    def _timed_out(self, name: str) -> None:
        if self.state < LOST:
            self._enter(TIMEOUT, self.session.timeout, name)

    def part(self) -> None:
        """End what is left of a lost connection, once nothing of it is unsettled."""
        if self._busy or self.state != LOST:
            return
        if self.abandoned and self._waiting:
            flow = self.context.engine.flow
            flow.discard(self)
            if self._branches is not None:
                for branch in self._branches.values():
                    flow.discard(branch)
            return
        if self.flights or self._waiting:
            return
        self.state = OVER
        payload = None
        if self._due:
            try:
                message = self._last_words()
                message["order"] = self.order
                payload = _encode(message)
            except Exception as error:  # noqa: BLE001 - a fault in a session costs that session only
                self._broken(error)
        self.context.engine.ended(self, payload)


def _as_they_are(actions: Iterable[Action]) -> Iterable[Action]:
    """Stand in for a session's method where the actions are there already."""
    return actions
