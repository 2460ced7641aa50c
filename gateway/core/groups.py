"""Group messages to the connections of this process: encoded once, fanned out here.

A group's message is checked once per plugin and framed once per session class; then every
member that can take it at once costs one ``write``. Larger groups are served in slices, so
that a broadcast to many thousands does not stop the loop. Whatever else is on its way to a
member that its slice has not reached yet first brings that member up to date, so that nothing
overtakes. An ``ack`` in a group's message is not answered: it would be answered once a member.
Members that come back get what they missed (`gateway.core.replay`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.core.attached import Connection
from gateway.core.conversation import Conversation
from gateway.core.gathering import Gathered
from gateway.core.layers.log import Position, Resumed
from gateway.core.names import position as said
from gateway.core.outbox import ELSEWHERE, MISSED, unwritten
from gateway.core.plugin import Message
from gateway.core.replay import Cohort, Replays, framed

if TYPE_CHECKING:
    from gateway.core.connection import Engine
    from gateway.core.context import PluginContext

SLICE: Final = 500
"""Members served in one turn of the loop: about 5 ms at the price of a ``write``."""

Announced = tuple[str, str, bytes | None]
"""A membership whose leave is to be told: group, channel, meta."""


class Fan:
    """One group message on its way to the members that it has not reached yet."""

    __slots__ = ("context", "frame", "left", "place", "reply", "size")

    def __init__(
        self,
        context: PluginContext,
        reply: Message,
        frame: Any,
        size: int,
        members: list[Conversation],
        place: int,
    ) -> None:
        self.context = context
        self.reply = reply
        self.frame = frame
        self.size = size
        self.left = dict.fromkeys(members)
        self.place = place
        """Twice its offset in the history of the layer, where it is kept; else 0."""

    def serve(self, conversation: Conversation) -> None:
        """Hand the message to one member."""
        connection = conversation.owner
        try:
            connection.group_reply(conversation, self.reply, self.frame, self.size, self.place)
        except Exception as error:  # noqa: BLE001 - one member must not cost its neighbours
            unwritten(connection, error)


class Groups:
    """The group memberships of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cohorts: dict[str, dict[tuple[Any, ...], Cohort]] = {}
        self._announced: set[tuple[str, Conversation]] = set()
        """Those whose joins and leaves are told."""
        self._resuming: set[tuple[str, Conversation]] = set()
        """Those that joined for what they missed, too."""
        self._awaited: set[tuple[str, Conversation]] = set()
        """Those of them of which a new layer has not said yet what they missed."""
        self.replays = Replays(engine.loop)
        self._fans: deque[Fan] = deque()
        self.busy = False
        """Whether some message has not reached all its members yet."""

    def __len__(self) -> int:
        """How many groups have members here."""
        return len(self._cohorts)

    # ------------------------------------------------ membership

    def join(
        self,
        group: str,
        channel: str,
        meta: bytes | None,
        *,
        announce: bool,
        resumed: Resumed | None = None,
    ) -> None:
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
        if self._engine.gathered and (gathered := self._gathered(group)) is not None:
            gathered.joined(group, conversation, meta)
        if announce:
            self._announced.add((group, conversation))
        if connection.groups is None:
            connection.groups = set()
        connection.groups.add((group, conversation))
        if resumed is not None:
            self._resuming.add((group, conversation))
            self._awaited.discard((group, conversation))
            if self.busy:
                self.catch_up(conversation)
            self.replays.add(group, cohort, conversation, resumed)

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
        """Tell a layer that has forgotten us who is a member of what.

        What was kept before is lost, and what was on its way. Who came for what it missed is told
        so, and what was kept since.
        """
        edge = self._engine.edge
        self._awaited = set(self._resuming)
        was = said(*self.replays.position)
        for group, cohorts in self._cohorts.items():
            for cohort in cohorts.values():
                for conversation, meta in cohort.members.items():
                    announce = (group, conversation) in self._announced
                    name = conversation.reply_channel
                    since = was if (group, conversation) in self._resuming else None
                    edge.group_add(
                        group, name, meta, announce=announce, again=announce, since=since
                    )

    def clear(self) -> None:
        """Forget all: the lease of this process has ended."""
        if self._engine.gathered:
            for group, cohorts in self._cohorts.items():
                if (gathered := self._gathered(group)) is not None:
                    for cohort in cohorts.values():
                        for conversation in cohort.members:
                            gathered.left(group, conversation)
        self._cohorts.clear()
        self._announced.clear()
        self._resuming.clear()
        self._awaited.clear()
        self._fans.clear()
        self.busy = False

    def _gathered(self, group: str) -> Gathered | None:
        """Return who serves a group itself, if anybody does."""
        return next((one for one in self._engine.gathered if group.startswith(one.prefix)), None)

    def _meta(self, group: str, conversation: Conversation) -> bytes | None:
        cohorts = self._cohorts.get(group, {}).values()
        return next((c.members[conversation] for c in cohorts if conversation in c.members), None)

    def _remove(self, group: str, conversation: Conversation) -> None:
        self._announced.discard((group, conversation))
        self._resuming.discard((group, conversation))
        self._awaited.discard((group, conversation))
        cohorts = self._cohorts.get(group)
        if cohorts is None:
            return
        for key, cohort in list(cohorts.items()):
            if conversation in cohort.members:
                del cohort.members[conversation]
                if self._engine.gathered and (gathered := self._gathered(group)) is not None:
                    gathered.left(group, conversation)
                if not cohort.members:
                    del cohorts[key]
        if not cohorts:
            del self._cohorts[group]

    # ------------------------------------------------ messages

    def send(
        self, group: str, payload: bytes, exclude: Sequence[str], position: Position | None = None
    ) -> None:
        """Hand a group's message to every member whose name is not in ``exclude``."""
        place = 0
        if position is not None:
            self.replays.heard(position)
            place = 2 * position[1]
        gathered = self._gathered(group) if self._engine.gathered else None
        if gathered is not None:
            gathered.said(group, payload, exclude, position)
        cohorts = self._cohorts.get(group)
        if cohorts is None:
            return
        for cohort in list(cohorts.values()):
            context = cohort.context
            if gathered is not None and issubclass(cohort.session_class, gathered.own):
                continue  # they have it from their plugin
            reply, frame = cohort.read(group, payload, position)
            if reply is None:
                continue
            members: list[Conversation] = list(cohort.members)
            if exclude:
                left_out = frozenset(exclude)
                members = [m for m in members if m.reply_channel not in left_out]
            if self._awaited:
                members = [m for m in members if (group, m) not in self._awaited]
            context.fanned_out.value += len(members)
            self._hand(Fan(context, reply, frame, len(payload), members, place), members)

    def gap(self, group: str) -> None:
        """Tell members that resume: kept messages of the group had no room on their way here."""
        for cohort in self._cohorts.get(group, {}).values():
            if cohort.session_class.resumes:
                members = list(cohort.members)
                cohort.context.missed.value += len(members)
                frame = framed(cohort, MISSED)
                self._hand(Fan(cohort.context, MISSED, frame, 0, members, ELSEWHERE), members)

    def _hand(self, fan: Fan, members: list[Conversation]) -> None:
        if self.busy or len(members) > SLICE:
            self._fans.append(fan)
            if not self.busy:
                self.busy = True
                self._slice()
        elif fan.frame is not None:
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
                unwritten(connection, error)
        else:
            fan.serve(connection)
