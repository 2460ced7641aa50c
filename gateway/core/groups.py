"""Group messages to the connections of this process: encoded once, fanned out here.

A group's message is checked once per plugin and framed once per session class; then every
member that can take it at once costs one ``write``. Larger groups are served in slices, so
that a broadcast to many thousands does not stop the loop. Whatever else is on its way to a
member that its slice has not reached yet first brings that member up to date, so that nothing
overtakes. An ``ack`` in a group's message is not answered: it would be answered once a member.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.core.attached import Connection
from gateway.core.conversation import Conversation
from gateway.core.errors import LocalProtocolError
from gateway.core.metrics import Drop
from gateway.core.plugin import Message, Session
from gateway.core.reply import InvalidReply

if TYPE_CHECKING:
    from gateway.core.connection import Engine
    from gateway.core.context import PluginContext

SLICE: Final = 500
"""Members served in one turn of the loop: about 5 ms at the price of a ``write``."""

Members = dict[Conversation, bytes | None]
"""The members of a group, with their meta."""
Announced = tuple[str, str, bytes | None]
"""A membership whose leave is to be told: group, channel, meta."""


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


class Fan:
    """One group message on its way to the members that it has not reached yet."""

    __slots__ = ("context", "frame", "left", "reply", "size")

    def __init__(
        self,
        context: PluginContext,
        reply: Message,
        frame: Any,
        size: int,
        members: list[Conversation],
    ) -> None:
        self.context = context
        self.reply = reply
        self.frame = frame
        self.size = size
        self.left = dict.fromkeys(members)

    def serve(self, conversation: Conversation) -> None:
        """Hand the message to one member."""
        connection = conversation.owner
        try:
            connection.group_reply(conversation, self.reply, self.frame, self.size)
        except Exception as error:  # noqa: BLE001 - one member must not cost its neighbours
            _log_failure(connection, error)


class Groups:
    """The group memberships of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cohorts: dict[str, dict[tuple[Any, ...], Cohort]] = {}
        self._announced: set[tuple[str, Conversation]] = set()
        """Those whose joins and leaves are told."""
        self._fans: deque[Fan] = deque()
        self.busy = False
        """Whether some message has not reached all its members yet."""

    def __len__(self) -> int:
        """How many groups have members here."""
        return len(self._cohorts)

    # ------------------------------------------------ membership

    def join(self, group: str, channel: str, meta: bytes | None, *, announce: bool) -> None:
        """Somebody added a connection of this process."""
        conversation = self._engine.by_channel.get(channel)
        if conversation is None:
            self._engine.edge.group_discard(group, channel)
            return
        connection = conversation.owner
        key = (connection.context, connection.session.__class__, conversation is connection)
        cohorts = self._cohorts.setdefault(group, {})
        cohort = cohorts.get(key)
        if cohort is None:
            cohort = cohorts[key] = Cohort(key[0], key[1], framed=key[2])
        cohort.members[conversation] = meta
        if announce:
            self._announced.add((group, conversation))
        if connection.groups is None:
            connection.groups = set()
        connection.groups.add((group, conversation))

    def part(self, group: str, channel: str) -> None:
        """Somebody removed a connection of this process."""
        conversation = self._engine.by_channel.get(channel)
        if conversation is not None and conversation.owner.groups is not None:
            conversation.owner.groups.discard((group, conversation))
            self._remove(group, conversation)

    def leave(self, connection: Connection) -> list[Announced]:
        """Forget a connection that is over; return those of its memberships that are told."""
        told: list[Announced] = []
        if connection.groups is not None:
            for group, conversation in connection.groups:
                if (group, conversation) in self._announced:
                    meta = self._meta(group, conversation)
                    told.append((group, conversation.reply_channel, meta))
                self._remove(group, conversation)
            connection.groups = None
        return told

    def rejoin(self) -> None:
        """Tell a layer that has forgotten us who is a member of what."""
        edge = self._engine.edge
        for group, cohorts in self._cohorts.items():
            for cohort in cohorts.values():
                for conversation, meta in cohort.members.items():
                    announce = (group, conversation) in self._announced
                    name = conversation.reply_channel
                    edge.group_add(group, name, meta, announce=announce, again=announce)

    def clear(self) -> None:
        """Forget all: the lease of this process has ended."""
        self._cohorts.clear()
        self._announced.clear()
        self._fans.clear()
        self.busy = False

    def _meta(self, group: str, conversation: Conversation) -> bytes | None:
        cohorts = self._cohorts.get(group, {}).values()
        return next((c.members[conversation] for c in cohorts if conversation in c.members), None)

    def _remove(self, group: str, conversation: Conversation) -> None:
        self._announced.discard((group, conversation))
        cohorts = self._cohorts.get(group)
        if cohorts is None:
            return
        for key, cohort in list(cohorts.items()):
            if conversation in cohort.members:
                del cohort.members[conversation]
                if not cohort.members:
                    del cohorts[key]
        if not cohorts:
            del self._cohorts[group]

    # ------------------------------------------------ messages

    def send(self, group: str, payload: bytes, exclude: Sequence[str]) -> None:
        """Hand a group's message to every member whose name is not in ``exclude``."""
        cohorts = self._cohorts.get(group)
        if cohorts is None:
            return
        for cohort in list(cohorts.values()):
            context = cohort.context
            reply, frame = self._framed(group, cohort, payload)
            if reply is None:
                continue
            members: list[Conversation] = list(cohort.members)
            if exclude:
                left_out = frozenset(exclude)
                members = [m for m in members if m.reply_channel not in left_out]
            context.fanned_out.value += len(members)
            fan = Fan(context, reply, frame, len(payload), members)
            if self.busy or len(members) > SLICE:
                self._fans.append(fan)
                if not self.busy:
                    self.busy = True
                    self._slice()
            elif frame is not None and cohort.framed:
                _write(fan, members)
            else:
                for conversation in members:
                    fan.serve(conversation)

    def catch_up(self, conversation: Conversation) -> None:
        """Hand one member what is on its way to it, before something newer."""
        for fan in self._fans:
            if conversation in fan.left:
                del fan.left[conversation]
                fan.serve(conversation)

    def _framed(self, group: str, cohort: Cohort, payload: bytes) -> tuple[Message | None, Any]:
        context = cohort.context
        try:
            reply = context.reader.read(payload)
            if "pin" in reply:
                raise InvalidReply("only a direct reply pins")
            if not cohort.framed or "close" in reply or "accept" in reply:
                return reply, None  # whatever a frame says, these are the session's to do
            return reply, cohort.session_class.frame(reply)
        except (InvalidReply, LocalProtocolError) as error:
            context.drop(Drop.INVALID)
            context.log.warning("group %s: invalid reply dropped: %s", group, error)
        except Exception:
            context.count("session_errors_total")
            context.drop(Drop.INVALID)
            context.log.exception("group %s: plugin %s raised", group, context.name)
        return None, None

    def _slice(self) -> None:
        """Serve some more members; come again in the next turn while there are any left."""
        served = 0
        while self._fans and served < SLICE:
            fan = self._fans[0]
            members = []
            while fan.left and served < SLICE:
                members.append(fan.left.popitem()[0])
                served += 1
            if fan.frame is None:
                for conversation in members:
                    fan.serve(conversation)
            else:
                _write(fan, members)
            if not fan.left:
                self._fans.popleft()
        if self._fans:
            self._engine.loop.call_soon(self._slice)
        else:
            self.busy = False


def _write(fan: Fan, members: Sequence[Any]) -> None:
    """Write a frame to connections; this loop is what a broadcast costs."""
    frame = fan.frame
    for connection in members:
        if connection.direct:
            try:
                connection.wire.write(frame)
            except Exception as error:  # noqa: BLE001 - one member must not cost its neighbours
                _log_failure(connection, error)
        else:
            fan.serve(connection)


def _log_failure(connection: Connection, error: Exception) -> None:
    connection.context.log.error(
        "%s: a group's message could not be written", connection.reply_channel, exc_info=error
    )
