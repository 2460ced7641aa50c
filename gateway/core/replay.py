"""What members missed, for those that come back: in the order of the layer's history.

A member that joins with ``since`` gets what was kept since, then is told the position that it has
reached; first, where it is so, that more was missed. A session that ``resumes`` hears all of it,
any other the messages alone. It is handed over as the client takes it, with what is newer behind
it: the outbox of the connection does that, outside its bounds, since the layer's are bounds, too.

Several joins that come together are one replay, by offset: whatever the last id is that a client
got, it has got everything before it. What many members missed is read and framed once, and held
once, however many of them have not taken it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from gateway.core import names
from gateway.core.conversation import Conversation
from gateway.core.errors import LocalProtocolError
from gateway.core.layers.log import Position, Resumed
from gateway.core.metrics import Drop
from gateway.core.outbox import MISSED, Waiting
from gateway.core.plugin import Message, Session
from gateway.core.reply import InvalidReply

if TYPE_CHECKING:
    from gateway.core.attached import Connection
    from gateway.core.context import PluginContext

READ_BYTES: Final = 16 * 1024 * 1024
"""Bytes of messages that were read for one member and are held for the next: after a loss of the
network all come at once, and have missed the same."""
READ_SECONDS: Final = 30.0
"""Seconds after which it is held no more: by then all have come that will come at once."""
READ_SIZE: Final = 1000
"""Bytes that a message which was read counts for beside its own: about what its parts take."""

Members = dict[Conversation, bytes | None]
"""The members of a group, with their meta."""
Read = tuple[Message | None, Any]
"""A message for some members, None where it is not valid or not for them; and its frame, if any."""


class Shared(dict[str, Any]):
    """A message for all that missed it, as long as one of them has it before it."""

    __slots__ = ("__weakref__", "frame")

    frame: Any
    """Its frame."""


class Cohort:
    """The members of a group that get the same frame: one plugin, one session class."""

    __slots__ = ("context", "framed", "members", "session_class")

    def __init__(
        self, context: PluginContext, session_class: type[Session], *, framed: bool
    ) -> None:
        self.context = context
        self.session_class = session_class
        self.framed = framed
        """Whether a frame can serve: a conversation with a key of its own needs its session."""
        self.members: Members = {}

    def read(self, group: str, payload: bytes, position: Position | None = None) -> Read:
        """Return a message of the group as its members get it; with its id where it is kept."""
        context = self.context
        try:
            reply = context.reader.read(payload)
            if reply is None:
                return None, None
            if "pin" in reply:
                raise InvalidReply("only a direct reply pins")
            if position is not None and self.session_class.resumes:
                reply["id"] = names.position(*position)
            return reply, self.frame(reply)
        except (InvalidReply, LocalProtocolError) as error:
            context.drop(Drop.INVALID)
            context.log.warning(
                "group %s: invalid reply dropped by %s: %s", group, context.name, error
            )
        except Exception:
            context.count("session_errors_total")
            context.drop(Drop.INVALID)
            context.log.exception("group %s: plugin %s raised", group, context.name)
        return None, None

    def frame(self, reply: Message) -> Any:
        """Return the frame of a reply, or None. Raises what the plugin does."""
        if not self.framed or "close" in reply or "accept" in reply:
            return None  # whatever a frame says, these are the session's to do
        return self.session_class.frame(reply)


class Replays:
    """What members of this process missed, on its way to them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.position: Position = (0, 0)
        """The last position that was heard of."""
        self.begun: dict[Connection, None] = {}
        """Those that have more to get since the layer was last listened to."""
        self._read: dict[tuple[Any, ...], tuple[Shared | None, Any]] = {}
        """What was read lately, up to `READ_BYTES` and for about `READ_SECONDS`."""
        self._read_bytes = 0
        self._shared: WeakValueDictionary[tuple[Any, ...], Shared] = WeakValueDictionary()
        """What was read before, and still waits for somebody."""

    def heard(self, position: Sequence[int]) -> None:
        """Take note of a position of the layer."""
        if position[0] != self.position[0]:
            self._read.clear()
            self._read_bytes = 0
            self._shared.clear()
        self.position = (position[0], position[1])

    def add(self, group: str, cohort: Cohort, conversation: Conversation, missed: Resumed) -> None:
        """Have a new member get what it missed."""
        backlog, position, more = missed
        self.heard(position)
        epoch = position[0]
        context = cohort.context
        found = []
        for offset, payload in backlog:
            reply, frame = self._reading(group, cohort, (epoch, offset), payload)
            if reply is not None:
                found.append(
                    Waiting(conversation, reply, None, frame, len(payload), 2 * offset, True)
                )
        context.fanned_out.value += len(found)
        context.replayed.value += len(found)
        if cohort.session_class.resumes:
            if more:
                context.missed.value += 1
            at = {"id": names.position(*position)}
            frame = framed(cohort, at)
            found.append(Waiting(conversation, at, None, frame, 0, 2 * position[1] + 1, True))
        if found or (more and cohort.session_class.resumes):
            connection = conversation.owner
            told = None
            if more and cohort.session_class.resumes:
                frame = framed(cohort, MISSED)
                told = Waiting(conversation, MISSED, None, frame, 0, replayed=True)
            connection.resume(found, epoch, told)
            self.begun[connection] = None

    def begin(self) -> None:
        """Hand over what their clients take: all that came together is there."""
        begun, self.begun = self.begun, {}
        for connection in begun:
            connection.catch_up()

    def _reading(self, group: str, cohort: Cohort, position: Position, payload: bytes) -> Read:
        key = (position[1], cohort.context, cohort.session_class, cohort.framed)
        read = self._read.get(key)
        if read is None:
            size = len(payload) + READ_SIZE
            self._read_bytes += size
            if self._read_bytes > READ_BYTES:
                self._let_go()
                self._read_bytes = size
            elif not self._read:
                self._loop.call_later(READ_SECONDS, self._let_go)
            shared = self._shared.get(key) if self._shared else None
            if shared is None:
                reply, frame = cohort.read(group, payload, position)
                read = (None if reply is None else Shared(reply), frame)
            else:
                read = (shared, shared.frame)
            self._read[key] = read
        return read

    def _let_go(self) -> None:
        """Hold no more what was read, but know it as long as it waits for somebody."""
        for key, (reply, frame) in self._read.items():
            if reply is not None:
                reply.frame = frame
                self._shared[key] = reply
        self._read.clear()
        self._read_bytes = 0


def framed(cohort: Cohort, reply: Message) -> Any:
    """Return the frame of what the core says by itself, or None."""
    try:
        return cohort.frame(reply)
    except Exception:  # noqa: BLE001 - `send` says the same, where it is answered
        return None
