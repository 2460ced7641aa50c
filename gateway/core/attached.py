"""A connection: what runs one `Session` between its transport and the layer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core import farewell, pinning, plugin
from gateway.core.conversation import CLOSING, LOST, OPEN, OVER, Branch, Conversation
from gateway.core.emission import branch, break_off, emit, last_words, seldom
from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.core.layers.base import ACCEPTED, OK, Outcome
from gateway.core.metrics import Drop
from gateway.core.outbox import GONE, Outbox, Waiting
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
from gateway.core.reply import OURS, InvalidReply
from gateway.core.timers import Timers
from gateway.core.together import gather, let_go

if TYPE_CHECKING:
    from gateway.core.context import PluginContext
    from gateway.core.kinds import Kind

# Why the session is being called: it decides what a Close means for what waits.
PEER: Final = 0
SEND: Final = 1
OUTCOME: Final = 2
GATEWAY: Final = 3

_encode = msgspec.msgpack.Encoder().encode


class Connection(Conversation, plugin.Connection):
    """One attached session: runs its actions, and calls it never while it is being called."""

    __slots__ = (
        "_after",
        "_agreed",
        "_busy",
        "_due",
        "_later",
        "_paused",
        "_timers",
        "_waiting",
        "_waiting_bytes",
        "abandoned",
        "accepted",
        "branches",
        "cause",
        "context",
        "direct",
        "flights",
        "groups",
        "late",
        "leaving",
        "loose",
        "names",
        "outbox",
        "peer",
        "pin",
        "ready",
        "session",
        "state",
        "wire",
    )

    def __init__(
        self, context: PluginContext, reply_channel: str, session: Session, wire: Wire, peer: Peer
    ) -> None:
        # Written out, not by super(): this is on the hot path of every HTTP request.
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
        self.ready = True
        """Whether the transport takes more now."""
        self.direct = context.accepts_all
        """Whether a group's frame may be written at once: open, accepted, ready, nothing waits."""
        self.abandoned = False
        """Whether it was ended from this side: what waits in it is dropped."""
        self.flights = 0
        """Its conversations' unsettled deliveries."""
        self.pin: str | None = None
        """The channel of the process to which its messages go."""
        self.groups: set[tuple[str, Conversation]] | None = None
        self.loose: set[int] | None = None
        """The receipts of its messages outside every conversation."""
        self._busy = False
        self.cause = GATEWAY
        self._later: deque[tuple[int, Any, tuple[Any, ...]]] | None = None
        self._after = False
        self.outbox: Outbox | None = None
        """What waits for the client, once something did."""
        self._waiting = self._waiting_bytes = 0
        self._paused = False
        self.late = False
        """Whether the input in hand came although reading was paused."""
        self.leaving: float | None = None
        """While `farewell` waits for what is in hand: when the peer had better come back."""
        self._agreed = self._due = False
        self._timers: Timers | None = None
        self.branches: dict[str | None, Branch] | None = None
        self.names: Callable[[str | None], str | None] | None = None
        """What gives the addresses of its conversations, where they have any."""

    @property
    def owner(self) -> Connection:
        """Itself."""
        return self

    @property
    def takes(self) -> bool:
        """Whether what waits may go out now."""
        return self.ready and self.state == OPEN and self.accepted

    @property
    def clear(self) -> bool:
        """Whether no consumer has anything of it in hand, and nothing waits to go out."""
        return not self.flights and (self.outbox is None or not self.outbox.waiting)

    @property
    def unsettled(self) -> bool:
        """Whether anything that the session emitted has no outcome yet."""
        return bool(self.flights or self._waiting or self.loose)

    # ------------------------------------------------ what the transport says

    def received(self, data: Any) -> None:
        """Hand input to the session and run its actions."""
        if self.state == OPEN:
            self.late = self._paused
            self.enter(PEER, self.session.received, data)
            self.late = False

    def run(self, actions: Iterable[Action]) -> None:
        """Run actions that the transport got from the session by a method of its own."""
        if self.state < LOST:
            self.enter(GATEWAY, _as_they_are, actions)

    def writable(self, yes: bool) -> None:
        """Say whether the transport takes more now."""
        self.ready = yes
        if yes:
            self.catch_up()
        else:
            self.direct = False

    def eof(self) -> None:
        """Say that the peer will send no more."""
        if self.state == OPEN:
            self.enter(PEER, self.session.eof)

    def lost(self) -> None:
        """Say that the transport is gone. Idempotent."""
        if self.state >= LOST:
            return
        self.state = LOST
        self.direct = False
        context = self.context
        engine = context.engine
        del engine.by_channel[self.reply_channel]
        if context.pins and (self.flights or self._waiting):
            engine.parting[self.reply_channel] = self
        context.left()
        if self.branches is not None:
            break_off(self)
        if self._timers is not None:
            self._timers.forget()
            self._timers = None
        if self.outbox is not None:
            self.outbox.lose()
            self.outbox = None
        if self.loose:
            engine.flow.withdraw(self.loose)
        if self.leaving is not None:
            farewell.landed(self)
        if self._agreed and not self.abandoned:
            self._due = True
        if self._busy:
            self._after = True
        else:
            self.part()

    # ------------------------------------------------ running the session

    def enter(self, cause: int, method: Any, *args: Any) -> None:
        """Call a method of the session and run what it returns; later, if it is being called."""
        if self._busy:
            self._later = deque() if self._later is None else self._later
            self._later.append((cause, method, args))
            return
        self._busy = True
        self._perform(cause, method, args)
        if self._later is not None:
            while self._later and self.state < LOST:
                self._perform(*self._later.popleft())
            self._later = None
        self._busy = False
        if self._after:
            self._after = False
            if self.state == LOST:
                self.part()
            else:
                self.catch_up()

    def _perform(self, cause: int, method: Any, args: tuple[Any, ...]) -> None:
        self.cause = cause
        flow = None
        try:
            actions = method(*args)
            if cause == PEER and actions.__class__ is list and len(actions) > 1:
                # What one read brings leaves as one delivery, if it is of one conversation.
                flow = gather(self.context.engine.flow)
            for action in actions:
                if self.state >= LOST:
                    break
                kind = action.__class__
                if kind is Emit:
                    emit(self, action)
                elif kind is Write:
                    if self.state == OPEN:
                        self.wire.write(action.output)
                elif kind is Close:
                    self._close(action.data, abort=action.abort)
                elif kind is Timer:
                    self._timer(action)
                elif kind is Accepted:
                    self._accept(registered=action.registered)
                elif kind is Done:
                    if self.outbox is not None:
                        self.outbox.answer(action.token, action.outcome)
                else:
                    seldom(self, action)
        except LocalProtocolError as error:
            if cause == SEND:
                self.invalid(str(error))
                if error.actions:
                    self._perform(OUTCOME, _as_they_are, (error.actions,))
            else:
                self._broken(error)
        except RemoteProtocolError as error:
            self.context.count("peer_errors_total")
            self.context.log.debug("%s: the peer broke the rules: %s", self.reply_channel, error)
            if (blame := getattr(self.wire, "blame", None)) is not None:
                blame(str(error))
            self.end(b"" if error.answer is None else error.answer, cause)
        except Exception as error:  # noqa: BLE001 - a fault in a session costs that session only
            self._broken(error)
        if flow is not None:
            let_go(flow)

    def _broken(self, error: Exception) -> None:
        context = self.context
        context.count("session_errors_total")
        context.log.error(
            "%s: plugin %s raised; the connection is closed",
            self.reply_channel,
            context.name,
            exc_info=error,
        )
        self.end()

    def _close(self, data: Any, *, abort: bool) -> None:
        """End it. What waits is dropped, unless the peer's own input led to this."""
        if self.state == OPEN or (abort and self.state == CLOSING):
            self.state = CLOSING
            self.direct = False
            if self.cause != PEER:
                self.abandoned = True
                if self.cause == GATEWAY and self.flight is not None:
                    # Its peer hears that nothing came of it: nobody need run it any more.
                    self.context.engine.flow.edge.cancel(self.receipt)
            self.wire.close(data, abort=abort)

    def end(self, data: Any = b"", cause: int = GATEWAY, *, abort: bool = False) -> None:
        """End it from outside the session's actions; of a transport that fails to, tell the log."""
        self.cause = cause
        try:
            self._close(data, abort=abort)
        except Exception:
            self.context.count("close_errors_total")
            self.context.log.exception("%s: the transport failed to close", self.reply_channel)

    def cut_off(self) -> None:
        """End it at once: it does not read, or the grace is over."""
        self.end(abort=True)

    def silence(self) -> None:
        """End it at once and say nothing of it: somebody else speaks for it now."""
        self._due = self._agreed = False
        self.flights = 0
        self.flight = self.groups = None
        self.cut_off()

    def drain(self, retry_after: float) -> None:
        """Tell the session that the gateway is shutting down, and when to come back (seconds)."""
        if self.state == OPEN:
            self.enter(GATEWAY, self.session.draining, retry_after)

    # ------------------------------------------------ towards the application

    def settled(self, kind: Kind, token: Any, outcome: Outcome) -> None:
        """Hear what became of one of its messages."""
        if outcome.kind == ACCEPTED:
            if kind.name == "connect":
                self._agreed = True
                if self.state == LOST and not self.abandoned:
                    self._due = True
            elif not self.session.heeds_accepted:
                return
        self.tell(token, outcome)

    def handled(self, tokens: list[Any]) -> None:
        """Hear that several of its messages, none of which was a connect, were accepted."""
        if self.state < LOST or self.session.heeds_late:
            self.enter(OUTCOME, self.session.accepted_together, tokens)

    def tell(self, token: Any, outcome: Outcome) -> None:
        """Tell the session an outcome, if it wants to know."""
        if token is not None and (self.state < LOST or self.session.heeds_late):
            self.enter(OUTCOME, self.session.outcome, token, outcome)

    def refuse(self, token: Any, refusal: Refusal, drop: Drop | None = None) -> None:
        """Count one of its messages that never reached a consumer, and tell the session."""
        if drop is not None:
            self.context.drop(drop)
        if token is not None and (self.state < LOST or self.session.heeds_late):
            self.enter(OUTCOME, self.session.refused, token, refusal)

    def is_over(self, times: int) -> bool:
        """Whether more waits than so many times the bounds of its inbox."""
        context = self.context
        return (
            self._waiting > context.inbox_messages * times
            or self._waiting_bytes > context.inbox_bytes * times
        )

    def waits(self, count: int, size: int) -> None:
        """Count messages that wait; read no more while there are too many."""
        self._waiting += count
        self._waiting_bytes += size
        if not self._paused and self.state == OPEN and self.is_over(1):
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
        if reply is None:
            context.engine.answer(payload, conversation.reply_channel, OK)
            return
        if (
            self.session.frames_replies
            and self.direct
            and not self._busy
            and (len(reply) == 1 or reply.keys().isdisjoint(OURS))
        ):
            try:
                frame = self.session.frame(reply) if conversation is self else None
            except Exception:  # noqa: BLE001 - `send` says the same, where it is answered
                frame = None
            if frame is not None:
                self.wire.write(frame)
                return
        if context.pins and "pin" in reply:
            pinning.pin(self, reply.pop("pin"), registered=self._due)
            if not reply:
                return
        outbox = self.outbox
        token = None
        if "ack" in reply or "ack_channel" in reply:
            outbox = self.outbox = outbox or Outbox(self)
            token = outbox.token(conversation, reply)
            if token is None:
                self.invalid("'ack' needs an 'ack_channel', a name with '?', and the reverse")
                return
        if self.state != OPEN:
            context.drop(Drop.GONE)
            if outbox is not None:
                outbox.answer(token, GONE)
        elif self.accepted and not (self.ready and (outbox is None or not outbox.waiting)):
            self._wait(Waiting(conversation, reply, token, None, len(payload)))
        else:
            self.send_now(conversation, reply, token)

    def send_now(self, conversation: Conversation, reply: Message, token: int | None) -> None:
        """Hand a reply to the session."""
        if token is None or self.outbox is None:
            self.enter(SEND, self.session.send, conversation.key, reply, None)
        else:
            self.enter(SEND, self.outbox.send, conversation.key, reply, token)

    def group_reply(
        self, conversation: Conversation, reply: Message, frame: Any, size: int, place: int = 0
    ) -> None:
        """Take a group's message that could not be written at once."""
        if self.state != OPEN:
            self.context.drop(Drop.GONE)
        elif not self.takes or (self.outbox is not None and self.outbox.waiting):
            self._wait(Waiting(conversation, reply, None, frame, size, place, grouped=True))
        elif frame is None:
            self.enter(SEND, self.session.group_send, conversation.key, reply)
        else:
            self.wire.write(frame)

    def push(self, frame: Any, size: int) -> None:
        """Write what the plugin itself has for the peer, as a group's ready frame is written."""
        if self.direct:
            self.wire.write(frame)
        else:
            self.group_reply(self, {}, frame, size)

    def invalid(self, reason: str) -> None:
        """Count and log a reply that is not allowed; its values are not logged."""
        self.context.drop(Drop.INVALID)
        self.context.log.warning("%s: invalid reply dropped: %s", self.reply_channel, reason)

    def _wait(self, entry: Waiting) -> None:
        self.direct = False
        self.outbox = self.outbox or Outbox(self)
        self.outbox.put(entry)

    def resume(self, missed: list[Waiting], epoch: int, more: Waiting | None) -> None:
        """Have what a member missed wait, for the next `catch_up`, before what is newer."""
        if self.state != OPEN:
            self.context.drop(Drop.GONE, sum(1 for one in missed if one.size))
            return
        self.direct = False
        self.outbox = self.outbox or Outbox(self)
        self.outbox.resume(missed, epoch, more)

    def catch_up(self) -> None:
        """Send what waited for the client to read, or to be accepted; answer acks."""
        if self._busy:
            self._after = True
            return
        outbox = self.outbox
        if outbox is not None:
            if self in self.context.engine.groups.replays.begun:
                return  # it comes again when all that it has missed is there
            outbox.flush()
            if self.ready:
                outbox.written()
        self.direct = self.takes and (outbox is None or not outbox.waiting)
        if self.leaving is not None:
            farewell.landed(self)

    # ------------------------------------------------ accepting, timers, the end

    def _accept(self, *, registered: bool) -> None:
        if self.state == OPEN and not self._due:
            self.accepted = self._after = True
            if registered and "disconnect" in self.context.kinds:
                self._due = True
                self.register()
            self.context.engine.flow.accepted(self)

    def _timer(self, timer: Timer) -> None:
        self._timers = self._timers or Timers(self)
        self._timers.set(timer)

    def register(self) -> None:
        """Have the layer offer a disconnect if this process is lost."""
        context = self.context
        if self._due:
            message = last_words(self)
            message.update(context.server_lost)
            context.engine.edge.register(self.reply_channel, context.disconnect, _encode(message))
            if self.pin is not None:
                context.engine.edge.pin(self.reply_channel, self.pin)

    def timed_out(self, name: str) -> None:
        """Hear that a timer of the session is due."""
        self.enter(GATEWAY, self.session.timeout, name)

    def part(self) -> None:
        """End what is left of a lost connection, once nothing of it is unsettled."""
        if self._busy or self.state != LOST:
            return
        engine = self.context.engine
        if self.abandoned and self._waiting:
            engine.flow.discard(self)
            if self.branches is not None:
                for one in self.branches.values():
                    engine.flow.discard(one)
            return
        if self.flights or self._waiting:
            return
        self.state = OVER
        engine.parting.pop(self.reply_channel, None)
        disconnect = None
        if self._due:
            try:
                message = last_words(self)
                message["order"] = branch(self, None).order
                disconnect = _encode(message)
            except Exception as error:  # noqa: BLE001 - it costs that session's message only
                self._broken(error)
        engine.ended(self, disconnect)


def _as_they_are(actions: Iterable[Action]) -> Iterable[Action]:
    """Stand in for a session's method where the actions are there already."""
    return actions
