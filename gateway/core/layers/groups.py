"""Groups: members by process, so that a send costs one item a process."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core import names
from gateway.core.errors import ChannelFull
from gateway.core.layers.edge import GAP, GROUP, JOIN, PART
from gateway.core.layers.inboxes import ITEM_SIZE
from gateway.core.layers.log import GROUP_LOG, Logs, Resumed
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.presence import JOINED, LEFT
from gateway.core.layers.queues import IDLE_CHECKS
from gateway.core.layers.records import FOREVER, Group, Link, Membership, Process
from gateway.core.metrics import Drop


class Groups(Logs):
    """Who is in which group, and sends to all of them."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.groups: dict[str, Group] = {}
        self._expiries: list[tuple[float, int, str, Group]] = []
        """The groups with members that expire, by when: a heap."""
        self._idle_expiries = 0
        """How many of them are gone whose time is still to come."""

    def group_add(
        self,
        link: Link,
        group: str,
        channel: str,
        meta: bytes | None = None,
        announce: bool = False,
        since: str | None = None,
    ) -> None:
        """Add a member; the process of a connection hears ``JOIN``."""
        process = self._add(link, group, channel, meta, announce)
        if since is not None:
            self._replay(link, process, (group, channel, meta, announce), since)
        elif process is not None and process.edge is not None:
            self._item(process, (JOIN, group, channel, meta, announce), len(meta or b""))

    def edge_add(
        self,
        link: Link,
        group: str,
        channel: str,
        meta: bytes | None = None,
        announce: bool = False,
        again: bool = False,
        since: str | None = None,
    ) -> None:
        """As `group_add`, for an edge: of its own connections it hears what they missed, if
        that is asked for.
        """  # noqa: D205 - one sentence
        process = self._add(link, group, channel, meta, announce, again=again)
        if since is not None:
            self._replay(link, process, (group, channel, meta, announce), since)
        elif process is not None and process.edge is not None and process is not link.process:
            self._item(process, (JOIN, group, channel, meta, announce), len(meta or b""))

    def _replay(
        self,
        link: Link,
        process: Process | None,
        joined: tuple[str, str, bytes | None, bool],
        since: str,
    ) -> None:
        """Hand a new member what was kept since, before anything newer."""
        group, channel, meta, _ = joined
        if process is None and names.process_of(channel) is not None:
            return  # that is gone
        resumed: Resumed = self.resume(group, channel, since)
        if process is not None and process.edge is not None:
            # what is kept is counted there: here it takes no more than being named
            size = len(meta or b"") + ITEM_SIZE * len(resumed[0])
            process.resumes = True
            self._item(process, (JOIN, *joined, resumed), size)
        else:
            for _, payload in resumed[0]:
                self._quietly(link, channel, payload)

    def _add(
        self,
        link: Link,
        group: str,
        channel: str,
        meta: bytes | None,
        announce: bool,
        *,
        again: bool = False,
    ) -> Process | None:
        """Add a member; return the process that it belongs to, if it does to one."""
        self._check(link)
        owner = names.process_of(channel)
        if owner is None:
            found = self._group(group)
            if channel in found.others and found.expires <= self.clock():
                self._expire_members(group, found)  # a member whose time is over joins anew
                found = self._group(group)
            found.count += channel not in found.others
            until = self.clock() + self.options.group_expiry
            found.others[channel] = (until, meta)
            found.expires = min(found.expires, until)
            if announce:
                self._announce_member(found, (group, channel), meta, again=again)
            self._watch_expiry(group, found)
            return None
        process = self.processes.get(owner)
        if process is None:
            self._drop(None, Drop.GONE, 1)
            return None
        found = self._group(group)
        members = found.here.setdefault(process, {})
        found.count += channel not in members
        members[channel] = meta
        process.skipped.discard(group)
        process.groups.setdefault(channel, set()).add(group)
        if announce:
            self._announce_member(found, (group, channel), meta, again=again)
        return process

    def _announce_member(
        self, found: Group, membership: Membership, meta: bytes | None, *, again: bool
    ) -> None:
        """Tell a join, unless it was told before; the leave will be."""
        if found.announced is None:
            found.announced = set()
        if membership[1] not in found.announced:
            found.announced.add(membership[1])
            if not again:
                self._tell_presence(JOINED, membership, meta)

    def _left(self, found: Group, membership: Membership, meta: bytes | None) -> None:
        """Tell the leave of a membership that has ended, if it was announced."""
        if found.announced is not None and membership[1] in found.announced:
            found.announced.discard(membership[1])
            self._tell_presence(LEFT, membership, meta)

    def _watch_expiry(self, group: str, found: Group) -> None:
        """Have members looked for whose time is over, though nobody looks at the group."""
        if not found.watched:
            found.watched = True
            heapq.heappush(self._expiries, (found.expires, next(self._seqs), group, found))

    def tick_groups(self) -> None:
        """End the memberships whose time is over."""
        now = self.clock()
        while self._expiries and self._expiries[0][0] <= now:
            _, _, group, found = heapq.heappop(self._expiries)
            found.watched = False
            if self.groups.get(group) is found:
                self._expire_members(group, found)
                if found.others:
                    self._watch_expiry(group, found)
            else:
                self._idle_expiries -= 1

    def group_discard(self, link: Link, group: str, channel: str) -> None:
        """End a membership; the process of a connection hears ``PART``."""
        process = self._part(link, group, channel)
        if process is not None and process.edge is not None:
            self._item(process, (PART, group, channel), 0)

    def edge_discard(self, link: Link, group: str, channel: str) -> None:
        """As `group_discard`, for an edge: of its own connections it hears nothing."""
        process = self._part(link, group, channel)
        if process is not None and process.edge is not None and process is not link.process:
            self._item(process, (PART, group, channel), 0)

    def _part(self, link: Link, group: str, channel: str) -> Process | None:
        """End a membership; return the process whose connection it was."""
        self._check(link)
        found = self.groups.get(group)
        if found is None:
            return None
        owner = names.process_of(channel)
        process = None if owner is None else self.processes.get(owner)
        if process is None:
            self._drop_member(group, found, channel)
            self._tidy_group(group, found)
        elif channel in found.here.get(process, ()):
            self._leave(process, group, channel)
            groups = process.groups[channel]
            groups.discard(group)
            if not groups:
                del process.groups[channel]
            return process
        return None

    def send_group(
        self,
        link: Link,
        group: str,
        payload: bytes,
        exclude: Sequence[str] = (),
        history: int = 0,
        seconds: float | None = None,
    ) -> None:
        """Send to all members: one item per process, one message per other member.

        With ``history`` it is kept, so many for so many seconds, for those who come back.
        """
        self._check(link)
        kept: tuple[Any, ...] = ()
        if history:
            kept = (self._keep(GROUP_LOG + group, payload, history, seconds, tuple(exclude)),)
        found = self.groups.get(group)
        if found is None:
            return
        size = len(payload) + ITEM_SIZE
        for process, members in list(found.here.items()):
            if process.edge is None:
                for member in members:
                    if member not in exclude:
                        self._quietly(link, member, payload)
            elif (
                len(process.inbox) >= self.options.process_capacity
                or process.inbox_bytes + size > self.options.process_bytes
            ):
                self.full += 1
                self._drop(None, Drop.FULL, 1)
                if kept and group not in process.skipped:
                    process.skipped.add(group)
                    self._item(process, (GAP, group), 0)
            else:
                self.messages += 1
                self._item(process, (GROUP, group, payload, list(exclude), *kept), len(payload))
        if found.others:
            self._expire_members(group, found)
            for member in list(found.others):
                if member not in exclude:
                    self._quietly(link, member, payload)

    def group_members(self, link: Link, group: str) -> dict[str, bytes | None]:
        """Return the members and their meta."""
        self._check(link)
        found = self.groups.get(group)
        if found is None:
            return {}
        self._expire_members(group, found)
        members = {name: meta for name, (_, meta) in found.others.items()}
        for mine in found.here.values():
            members.update(mine)
        return members

    def group_count(self, link: Link, group: str) -> int:
        """Return how many members there are."""
        self._check(link)
        found = self.groups.get(group)
        if found is None:
            return 0
        if found.others and self.clock() >= found.expires:
            self._expire_members(group, found)
        return found.count

    def _expire_members(self, group: str, found: Group) -> None:
        now = self.clock()
        for member, (until, _) in list(found.others.items()):
            if until <= now:
                self._drop_member(group, found, member)
        found.expires = min((until for until, _ in found.others.values()), default=FOREVER)
        self._tidy_group(group, found)

    def _drop_member(self, group: str, found: Group, member: str) -> None:
        """End a membership of a normal channel or address, if there is one."""
        was = found.others.pop(member, None)
        if was is not None:
            found.count -= 1
            self._left(found, (group, member), was[1])

    def _quietly(self, link: Link, channel: str, payload: bytes) -> None:
        """Send for a group: who has no room is left out, counted."""
        try:
            self.send(link, channel, (payload,))
        except ChannelFull:
            self._drop(None, Drop.FULL, 1)

    def _group(self, name: str) -> Group:
        found = self.groups.get(name)
        if found is None:
            found = self.groups[name] = Group()
        return found

    def _leave(self, process: Process, group: str, channel: str) -> None:
        found = self.groups[group]
        members = found.here[process]
        meta = members.pop(channel)
        found.count -= 1
        if not members:
            del found.here[process]
        self._left(found, (group, channel), meta)
        self._tidy_group(group, found)

    def _leave_all(self, process: Process, channel: str) -> None:
        for group in process.groups.pop(channel, ()):
            self._leave(process, group, channel)

    def _tidy_group(self, name: str, found: Group) -> None:
        if found.here or found.others or self.groups.pop(name, None) is None or not found.watched:
            return
        self._idle_expiries += 1
        if self._idle_expiries > max(IDLE_CHECKS, len(self._expiries) >> 1):
            known = self.groups.get
            self._expiries = [one for one in self._expiries if known(one[2]) is one[3]]
            heapq.heapify(self._expiries)
            self._idle_expiries = 0
