"""What waits for a client that does not take it now, and whose arrival somebody waits for.

Made for a connection when it first has either. Bounded in messages and bytes; beyond that
``slow_consumer`` says what happens. What a member missed (`gateway.core.replay`) waits here, too,
outside the bounds; and so that a client is not called slow for that alone, as much again of what
is newer may wait behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.core.deadlines import Deadline
from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import FAILED, OK, Outcome
from gateway.core.metrics import Drop
from gateway.core.plugin import Action, Message
from gateway.core.reply import is_ack_channel

if TYPE_CHECKING:
    from gateway.core.attached import Connection
    from gateway.core.conversation import Conversation

GONE: Final = Outcome(FAILED, reason="the connection is gone", cause="gone")
INVALID: Final = Outcome(FAILED, reason="the reply is not valid", cause="invalid")
SLOW: Final = Outcome(FAILED, reason="the client does not read", cause="slow")


GROUPED: Final = 0
"""In place of a token: the reply is a group's."""
MISSED: Final[Message] = {"missed": True}
"""What a session that resumes is told where a client does not get what was kept for it."""
ELSEWHERE: Final = -1
"""The place of what was kept in a history that is over."""
SLICE: Final = 500
"""Missed messages handed over in one turn of the loop: about 5 ms at the price of a ``write``."""


def unwritten(connection: Connection, error: Exception) -> None:
    """Log that a transport could not take the frame of a group's message."""
    connection.context.log.error(
        "%s: a group's message could not be written", connection.reply_channel, exc_info=error
    )


class Waiting(NamedTuple):
    """One reply on its way out."""

    conversation: Conversation
    reply: Message
    token: int | None
    """The token of its ``ack``."""
    frame: Any
    """What to write instead of asking the session; None: the session is asked."""
    size: int
    place: int = 0
    """Twice its offset in the history of the layer, where it is kept; one more where it only says
    that this is the position; 0 where it is not kept."""
    replayed: bool = False
    """Whether it was missed: then it is outside the bounds."""
    grouped: bool = False
    """Whether it is a group's, as what was missed is."""


class Outbox:
    """The replies of one connection that wait, and the acks that are not answered yet."""

    __slots__ = (
        "_acks",
        "_connection",
        "_epoch",
        "_missing",
        "_more",
        "_more_bytes",
        "_number",
        "_patience",
        "_size",
        "_unwritten",
        "waiting",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number = 0
        self._size = 0
        """Messages and bytes that count against the bounds."""
        self._more = 0
        self._more_bytes = 0
        """How much more than the bounds may wait, while somebody catches up."""
        self._epoch = 0
        """The epoch of the places."""
        self._missing = False
        """Whether among what waits is word that something is missing."""
        self._acks: dict[int, tuple[int, str, str]] = {}
        """By token: ack, ack_channel, reply_channel."""
        self._unwritten: list[int] = []
        """The tokens of those that wait only for the client to take the bytes."""
        self._patience: Deadline | None = None
        """Until when the client is to have read what stands before a close, or a farewell."""
        self.waiting: deque[Waiting] = deque()

    # ------------------------------------------------ waiting

    def put(self, entry: Waiting) -> None:
        """Let a reply wait for the client, within the bounds."""
        context = self._connection.context
        # A close is never dropped: a slow client must not be the one that cannot be ended.
        if not self._has_room(entry.size) and not entry.reply.get("close"):
            if context.slow_consumer == "close":
                self._drop(entry)
                self._connection.cut_off()
                return
            if context.slow_consumer == "drop_newest":
                self._drop(entry)
                return
            while not self._has_room(entry.size) and self._drop_oldest():
                pass
        if entry.place:
            self._in(context.engine.groups.replays.position[0])
        self.waiting.append(entry)
        self._number += 1
        self._size += entry.size
        seconds = context.close_timeout
        if seconds is not None and self._patience is None and entry.reply.get("close"):
            self._patience = Deadline(self._connection.cut_off)
            context.deadlines.set(self._patience, seconds)

    def expect(self, seconds: float, due: Callable[[], None]) -> None:
        """Call back unless all has gone out in so many seconds; again: from now on."""
        if self._patience is None:
            self._patience = Deadline(due)
        self._connection.context.deadlines.set(self._patience, seconds)

    def resume(self, missed: list[Waiting], epoch: int, more: Waiting | None) -> None:
        """Let what a member missed wait, before what is newer; ``more`` says there was more."""
        self._in(epoch)
        before = len(self.waiting)
        self.waiting = merged(self.waiting, missed)
        self._more += len(self.waiting) - before
        self._more_bytes += sum(entry.size for entry in missed)
        if more is not None and not self._missing:
            self._missing = True
            self.waiting.appendleft(more)

    def _in(self, epoch: int) -> None:
        """Have the places be those of an epoch; what waits of another is `ELSEWHERE`."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.waiting = deque(
                entry._replace(place=ELSEWHERE) if entry.place else entry for entry in self.waiting
            )

    def flush(self) -> None:
        """Send what waited, as far as the client takes it now."""
        connection = self._connection
        turn = SLICE
        while self.waiting and connection.takes:
            if not turn:
                connection.context.loop.call_soon(connection.catch_up)
                return
            entry = self._popleft()
            turn -= entry.replayed
            if entry.frame is None and (entry.grouped or entry.replayed):
                connection.send_now(entry.conversation, entry.reply, GROUPED)
            elif entry.frame is None:
                connection.send_now(entry.conversation, entry.reply, entry.token)
            else:
                try:
                    connection.wire.write(entry.frame)
                except Exception as error:  # noqa: BLE001 - what comes after it is next
                    unwritten(connection, error)
        if not self.waiting:
            self._more = self._more_bytes = 0
            self._wait_on()

    def lose(self) -> None:
        """Drop everything: the connection is gone."""
        self._connection.context.drop(Drop.GONE, sum(1 for one in self.waiting if one.size))
        self.waiting.clear()
        self._unwritten.clear()
        self._wait_on()
        for token in list(self._acks):
            self.answer(token, GONE)

    def _wait_on(self) -> None:
        """Lose no patience any more."""
        if self._patience is not None:
            self._connection.context.deadlines.forget(self._patience)
            self._patience = None

    def _has_room(self, size: int) -> bool:
        """Whether one more of ``size`` bytes fits; the first always does."""
        context = self._connection.context
        return not self._number or (
            self._number < context.outbox_messages + self._more
            and self._size + size <= context.outbox_bytes + self._more_bytes
        )

    def _popleft(self) -> Waiting:
        entry = self.waiting.popleft()
        if entry.reply is MISSED:
            self._missing = False
        if not entry.replayed:
            self._number -= 1
            self._size -= entry.size
        return entry

    def _drop_oldest(self) -> bool:
        """Drop the oldest reply that is no close; return False where there is none."""
        for place, entry in enumerate(self.waiting):
            if not entry.replayed and not entry.reply.get("close"):
                del self.waiting[place]
                self._number -= 1
                self._size -= entry.size
                self._drop(entry)
                return True
        return False

    def _drop(self, entry: Waiting) -> None:
        self._connection.context.drop(Drop.SLOW)
        if entry.place and not self._missing and self._connection.session.resumes:
            self._missing = True
            self.waiting.appendleft(
                Waiting(entry.conversation, MISSED, None, None, 0, replayed=True)
            )
        if entry.token is not None:
            self.answer(entry.token, SLOW)

    # ------------------------------------------------ acknowledgements

    def token(self, conversation: Conversation, reply: Message) -> int | None:
        """Return a token for the ``ack`` of a reply; None where it cannot be answered."""
        ack = reply.get("ack")
        channel = reply.get("ack_channel")
        if ack is None or channel is None or not is_ack_channel(channel):
            return None
        engine = self._connection.context.engine
        engine.acks = token = engine.acks + 1
        self._acks[token] = (ack, channel, conversation.reply_channel)
        return token

    def send(self, key: str | None, reply: Message, token: int) -> Iterable[Action]:
        """Stand in for ``Session.send`` where there is an ack: answer it in due course."""
        session = self._connection.session
        if token == GROUPED:
            yield from session.group_send(key, reply)
            return
        try:
            yield from session.send(key, reply, token)
        except LocalProtocolError:
            self.answer(token, INVALID)
            raise
        if not session.acknowledges:
            if self._connection.ready:
                self.answer(token, OK)
            else:
                self._unwritten.append(token)

    def written(self) -> None:
        """Answer the acks of what the client has taken by now."""
        unwritten, self._unwritten = self._unwritten, []
        for token in unwritten:
            self.answer(token, OK)

    def answer(self, token: Any, outcome: Outcome) -> None:
        """Answer the ack of a reply; once."""
        found = self._acks.pop(token, None)
        if found is not None:
            self._connection.context.engine.acknowledge(*found, outcome)


def merged(waiting: Sequence[Waiting], missed: Sequence[Waiting]) -> deque[Waiting]:
    """Return what waits with what was missed in between, by place in the history, none twice.

    What has no place stays behind what it stood behind.
    """
    found: deque[Waiting] = deque()
    here = {(entry.place, entry.conversation) for entry in waiting}
    new = [entry for entry in missed if (entry.place, entry.conversation) not in here]
    at = 0
    end = len(new)
    for entry in waiting:
        if entry.place > 0:
            while at < end and new[at].place < entry.place:
                found.append(new[at])
                at += 1
        found.append(entry)
    found.extend(new[at:])
    return found
