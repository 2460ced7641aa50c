"""Registered connections: one disconnect message for each, even if the hub itself was killed.

What a hub that was killed left (`journal.Left`) is not offered before it is safe: what its
owner may still speak for, once that has not rejoined for a lease; what a worker may have in
hand, once all the workers that there were are back and have said so, or after a lease; and
nothing before a worker has announced its channel, or after a lease.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway.core import names
from gateway.core.layers import codec, journal
from gateway.core.layers.journal import LASTING, MOST_PARTED, Journal, Left
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import FOREVER, Link, Process
from gateway.core.layers.settlement import Settlement
from gateway.core.metrics import Drop

log = logging.getLogger("gateway.layer")


class Connections(Settlement):
    """Who is connected, and what is to be said when they are not."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.left: Left | None = None
        """What a predecessor left and nobody has taken over."""
        self.parted: deque[str] = deque(maxlen=MOST_PARTED)
        """Connections whose disconnect was heard of late."""
        self._lasting = itertools.count(LASTING)
        self._ended: dict[str, None] = {}

    def register(self, link: Link, connection: str, channel: str, payload: bytes) -> None:
        """Remember the disconnect message of an accepted connection."""
        process = self._check(link)
        process.registered[connection] = (channel, payload)
        self.journal.registered(_owner(process), connection, channel, payload)

    def pin(self, link: Link, connection: str, pin: str) -> None:
        """Remember where the disconnect of a connection is pinned to."""
        process = self._check(link)
        process.pinned[connection] = pin
        known = process.registered.get(connection)
        if known is not None:
            # A successor knows no pins: what it offers goes to anybody.
            channel, payload = known
            unpinned = codec.unpinned(payload)
            self.journal.registered(_owner(process), connection, channel, unpinned)

    def end(self, link: Link, connection: str, channel: str, payload: bytes | None) -> None:
        """End a connection: memberships, registration; and offer its disconnect message."""
        process = self._check(link)
        known = process.registered.pop(connection, None)
        self._leave_all(process, connection)
        pin = process.pinned.pop(connection, None) if process.pinned else None
        if payload is not None:
            self._offer_disconnect(connection, channel, payload, known, pin)
        elif known is not None:
            self.journal.ended(connection)

    def end_again(self, link: Link, connection: str, channel: str, payload: bytes) -> None:
        """As `end`, for one that may have been heard before the hub, or the link, was lost."""
        if connection not in self.parted:
            self.end(link, connection, channel, payload)

    def _end_connections(self, process: Process) -> None:
        """Offer what a process that has ended left: its disconnects, and those in its hands."""
        registered, process.registered = process.registered, {}
        pinned, process.pinned = process.pinned, {}
        for connection, known in registered.items():
            self._offer_disconnect(connection, *known, known, pinned.get(connection))
        reserved, process.reserved = process.reserved, None
        for entry in (reserved or {}).values():
            self._lose(entry)

    def _offer_disconnect(
        self,
        connection: str,
        name: str,
        payload: bytes,
        known: tuple[str, bytes] | None,
        pin: str | None,
    ) -> None:
        """Offer a disconnect; ``known``: channel and message as they were registered."""
        self.parted.append(connection)
        if not self.routed(name):
            self.messages += 1
            self._drop(None, Drop.UNROUTED, 1)
            if known is not None:
                self.journal.ended(connection)
            return
        tag = next(self._lasting)
        if known == (name, payload):
            self.journal.offered(tag, connection, None, None)
        elif pin is None:
            self.journal.offered(tag, connection, name, payload)
        else:
            self.journal.offered(tag, connection, name, codec.unpinned(payload))
        self._offer(name, payload, FOREVER, forever=True, lasting=tag, pin=pin)

    # ---------------------------------------------------------------- a predecessor's

    def inherit(self, left: Left, first: int, journal: Journal) -> None:
        """Take over what a predecessor left, and keep a journal from now on.

        ``first`` is over every tag that any hub here has ever given.
        """
        self.journal = journal
        self.parted = left.parted
        self._lasting = itertools.count(max(first, left.last + 1))
        if left:
            self.left = left

    def inherit_of(self, process: Process) -> None:
        """Let a process that rejoins speak for its connections again."""
        if self.left is not None:
            process.registered.update(self.left.owned.pop(process.name, ()))

    def claim(self, link: Link, held: Sequence[int], settled: Sequence[int]) -> None:
        """Hear which disconnects a process has in hand, and which it has settled of late."""
        process = self._check(link)
        for tag in settled:
            if self.left is not None and self.left.offered.pop(tag, None) is not None:
                self.journal.settled(tag)
                continue
            entry = self.lasting.get(tag)
            if entry is not None and entry in entry.channel.queue:
                self._unqueue(entry.channel, entry)
                self._over(entry)
        for tag in held:
            found = None if self.left is None else self.left.offered.pop(tag, None)
            entry = self.lasting.get(tag)
            if found is not None:
                entry = self._own(self._channel(found[0]), found[0], (found[1],), FOREVER)
                entry.forever = True
                entry.lasting = tag
                self.lasting[tag] = entry
            elif entry is not None and entry in entry.channel.queue:
                self._unqueue(entry.channel, entry)
            else:
                continue
            if process.reserved is None:
                process.reserved = {}
            process.reserved[tag] = entry
            entry.tag = tag
            entry.channel.in_hand += 1
            if entry.channel.busy is not None:
                entry.channel.busy.add(entry.name)

    def _wait_for_heirs(self, passed: float) -> None:
        """Count the time, as `State.tick` does; after a lease nobody else will speak."""
        left = self.left
        if left is None:
            return
        left.still += passed
        if left.still > self.options.lease:
            for name, mine in left.owned.items():
                left.orphans.update(mine)
                self._ended[name] = None
            left.owned = {}
            left.workers.clear()
            self._offer_left()

    def _offer_left(self) -> None:
        """Offer what nobody else can speak for any more."""
        left = self.left
        if left is None:
            return
        late = left.still > self.options.lease
        known = self.announced or ()
        if late or not left.workers:
            for tag, (name, payload) in list(left.offered.items()):
                if name in known or (late and self.announced is None):
                    del left.offered[tag]
                    self._offer(name, payload, FOREVER, forever=True, lasting=tag)
                elif late:
                    del left.offered[tag]
                    self.journal.settled(tag)
                    self._drop(None, Drop.UNROUTED, 1)
        for connection, (name, payload) in list(left.orphans.items()):
            if late or name in known:
                del left.orphans[connection]
                self._offer_disconnect(connection, name, payload, (name, payload), None)
        if late or not (left or left.owned):
            self.left = None

    # ---------------------------------------------------------------- for a successor

    def to_journal(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the records that say what a successor must know now."""
        yield (journal.HEAD, journal.VERSION)
        left = self.left or Left()
        for process in self.processes.values():
            if process.announced is not None and process.leased:
                yield (journal.WORKER, process.name)
            for connection, (channel, payload) in process.registered.items():
                if connection in process.pinned:
                    payload = codec.unpinned(payload)  # noqa: PLW2901 - the same message
                yield (journal.REGISTER, _owner(process), connection, channel, payload)
        for worker in left.workers:
            yield (journal.WORKER, worker)
        for owner, mine in (*left.owned.items(), ("", left.orphans)):
            for connection, (channel, payload) in mine.items():
                yield (journal.REGISTER, owner, connection, channel, payload)
        for tag, entry in self.lasting.items():
            payload = entry.payloads[0]
            if entry.channel.name.startswith(names.PIN):
                payload = codec.unpinned(payload)
            yield (journal.OFFER, tag, "", entry.name, payload)
        for tag, (channel, payload) in left.offered.items():
            yield (journal.OFFER, tag, "", channel, payload)
        for connection in self.parted:
            yield (journal.PARTED, connection)

    @property
    def owes(self) -> int:
        """How many disconnects a successor would have to deliver."""
        found = len(self.lasting) + sum(len(p.registered) for p in self.processes.values())
        if self.left is not None:
            found += len(self.left.orphans) + len(self.left.offered)
            found += sum(map(len, self.left.owned.values()))
        return found


def _owner(process: Process) -> str:
    """Return the name under which a process can rejoin; "" for one that lives with the hub."""
    return process.name if process.leased else ""
