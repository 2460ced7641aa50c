"""The state of a layer: channels, hands, processes, groups. No I/O, no threads, no clock.

The memory layer guards one with a lock; the hub drives one from its loop. Every verb is
a method whose first argument is the `Link` (one connection of one `Process`) that asks;
`verbs.OPS` lists them by number, so that the wire protocol of the hub and the memory
layer run the same code. It is built in layers of its own: `inboxes`, `queues`, `pins`,
`presence`, `log`, `groups`, `settlement`, `connections`, `holds`, and here processes with all that
stands under their leases.

Times are seconds of the clock given to `State`; `State.tick` must be called now and then
(the callers do so at every operation and about ten times a second).
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from gateway.core import names
from gateway.core.layers import codec
from gateway.core.layers.base import Statistics
from gateway.core.layers.edge import ANNOUNCED, FENCED, GROUP, MESSAGE
from gateway.core.layers.holds import Holds
from gateway.core.layers.inboxes import LOST
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Link, Process
from gateway.core.metrics import Drop

log = logging.getLogger("gateway.layer")

CLOSED: Final = codec.encode({"closed": True})
MANY_CHANNELS: Final = 10_000
"""From so many channels on, empty ones that nobody reads are forgotten."""
MANY_PROCESSES: Final = 10_000
"""So many ended processes are remembered by name, so that none rejoins as what it was."""


class State(Holds):
    """All of a layer. See the module's docstring."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self._epochs = itertools.count(1)
        self._ticked = clock()

    def join(self, name: str | None, *, leased: bool) -> Link:
        """Begin a link of the process ``name``, new or known; of a new one under a new name for
        None or a name whose lease has ended.
        """  # noqa: D205 - one sentence
        process = self.processes.get(name) if name is not None else None
        if process is None:
            fresh = name is None or name in self._ended
            process = Process(
                names.new_process() if fresh else name or "", next(self._epochs), leased=leased
            )
            self.processes[process.name] = process
            self.inherit_of(process)
        link = Link(process)
        process.links.add(link)
        process.still = 0.0
        return link

    def cut(self, link: Link) -> None:
        """End a link: what it holds fails (``lost``); its process ends with its last link."""
        process = link.process
        if link not in process.links:
            return
        process.links.discard(link)
        if process.edge is link:
            process.edge = process.notify = None
        for reader in list(link.readers):
            self.unread(reader)
        for entry in list(link.hand.values()):
            self._lose(entry)
        if not process.links:
            self.end_process(process)

    def end_process(self, process: Process) -> None:
        """End a lease, and reap all that stood under it."""
        if not process.alive:
            return
        process.alive = False
        self.processes.pop(process.name, None)
        self._ended[process.name] = None
        if len(self._ended) > MANY_PROCESSES:
            del self._ended[next(iter(self._ended))]
        for link in list(process.links):
            for reader in list(link.readers):
                self.unread(reader)
            for entry in list(link.hand.values()):
                self._lose(entry)
        lost = sum(1 for item in process.inbox if item[0] in (MESSAGE, GROUP))
        self._drop(None, Drop.GONE, lost)
        process.inbox.clear()
        if process.notify is not None:
            process.inbox.append((FENCED,))
            process.notify()
        self.lift(process)
        for member in list(process.groups):
            self._leave_all(process, member)
        self._end_connections(process)
        self._release_all(process)
        for channel in process.watchers:
            self._close_channel(channel)
        process.watchers.clear()
        if process.announced is not None:
            process.announced = None
            if process.leased:
                self.journal.gone(process.name)
            self._reannounce()

    def tick(self) -> None:
        """Expire what waited too long, offer what was delayed, end leases that stand still.

        The time that a process stood still is counted by ticks, at most a quarter of the
        lease each: if the layer itself stood still, that ends nobody's lease.
        """
        now = self.clock()
        if now - self._ticked >= 0.1:  # leases last seconds: ten looks a second are plenty
            passed = min(now - self._ticked, self.options.lease / 4)
            self._ticked = now
            for process in list(self.processes.values()):
                if process.leased:
                    process.still += passed
                    if process.still > self.options.lease:
                        log.warning("the lease of %s has ended: no sign of life", process.name)
                        self.end_process(process)
            if self.left is not None:
                self._wait_for_heirs(passed)
            self.tick_groups()
            self.tick_log()
            if len(self.channels) > MANY_CHANNELS:
                for channel in list(self.channels.values()):
                    self._forget(channel)
        self.tick_queues()

    # ---------------------------------------------------------------- announcements

    def announce(self, link: Link, channels: Iterable[str], version: str = "") -> None:
        """Take the channels that a worker's table names, and its version."""
        process = self._check(link)
        if process.announced is None and process.leased:
            self.journal.worker(process.name)
        process.announced = frozenset(channels)
        process.version = version
        self._reannounce()
        if self.left is not None:
            self.left.workers.discard(process.name)
            self._offer_left()

    def union(self, link: Link) -> frozenset[str] | None:
        """Return what living processes announced; None while none did."""
        self._check(link)
        return self.announced

    def versions(self) -> Counter[str]:
        """Return how many living workers there are of each version."""
        return Counter(p.version for p in self.processes.values() if p.announced is not None)

    def _reannounce(self) -> None:
        said = [p.announced for p in self.processes.values() if p.announced is not None]
        union = frozenset().union(*said) if said else None
        if union == self.announced:
            return
        self.announced = union
        for process in self.processes.values():
            if process.edge is not None:
                self._item(process, (ANNOUNCED, union), 0)
        if union is None:
            return
        for channel in list(self.channels.values()):
            if channel.queue and channel.name not in union:
                # by its own name: a pinned one waits on another channel
                for entry in [e for e in channel.queue if e.forever and e.name not in union]:
                    self._unqueue(channel, entry)
                    self._over(entry)
                    self._drop(channel, Drop.UNROUTED, 1)
                    if entry.membership is not None:
                        self._presence_settled(entry.membership)

    # ---------------------------------------------------------------- watched channels

    def watch(self, link: Link, channel: str, name: str) -> None:
        """Send ``{"closed": True}`` to ``channel`` when the process ``name`` ends, or now."""
        self._check(link)
        process = self.processes.get(name)
        if process is None:
            self._close_channel(channel)
        else:
            process.watchers.add(channel)

    def unwatch(self, link: Link, channel: str, name: str) -> None:
        """Undo `watch`; what still waits on the channel is dropped, counted."""
        self._check(link)
        process = self.processes.get(name)
        if process is not None:
            process.watchers.discard(channel)
        found = self.channels.get(channel)
        if found is not None:
            for entry in list(found.queue):
                self._unqueue(found, entry)
                self._fail(entry, Drop.GONE, LOST)
            self._tidy(found)

    def _close_channel(self, name: str) -> None:
        owner = names.process_of(name)
        if owner is None:
            self._offer(name, CLOSED, self.clock() + self.options.expiry, forever=False)
        elif (process := self.processes.get(owner)) is not None:
            self._item(process, (MESSAGE, name, CLOSED), len(CLOSED))

    # ---------------------------------------------------------------- numbers

    def statistics(self, link: Link, name: str | None) -> Statistics:
        """Return the numbers of one channel, or of the whole layer for None."""
        self._check(link)
        return self.total(name)

    def total(self, name: str | None = None) -> Statistics:
        """As `statistics`, for who keeps the state."""
        now = self.clock()
        if name is None:
            channels = list(self.channels.values())
            waiting = sum(
                1 for p in self.processes.values() for i in p.inbox if i[0] in (MESSAGE, GROUP)
            )
            held = sum(p.inbox_bytes for p in self.processes.values())
        else:
            owner = names.process_of(name)
            if owner is not None:
                process = self.processes.get(owner)
                inbox = [] if process is None else process.inbox
                waiting = sum(1 for item in inbox if item[0] in (MESSAGE, GROUP))
                held = 0 if process is None else process.inbox_bytes
                return Statistics(waiting, waiting, held, 0, 0.0, 0, {})
            found = self.channels.get(name[: name.find("!") + 1] or name)
            channels = [] if found is None else [found]
            waiting = held = 0
        oldest = min((c.queue[0].since for c in channels if c.queue), default=now)
        one = channels[0] if name is not None and channels else None
        return Statistics(
            messages=self.messages if name is None else (one.messages if one else 0),
            pending=waiting + sum(c.pending for c in channels),
            pending_bytes=held + sum(c.bytes for c in channels),
            in_hand=sum(c.in_hand for c in channels),
            max_age=now - oldest,
            full=self.full if name is None else (one.full if one else 0),
            drops=dict(self.drops if name is None else (one.drops if one else {})),
        )

    def flush(self, link: Link) -> None:
        """Forget every waiting message, every group and all that was kept."""
        self._check(link)
        for channel in list(self.channels.values()):
            for entry in list(channel.queue):
                self._unqueue(channel, entry)
                self._over(entry)
                if entry.sender is not None and entry.receipt is not None:
                    entry.sender.receipts.pop(entry.receipt, None)
            self._forget(channel)
        for _, _, entry in self._delayed:
            if not entry.withdrawn:
                entry.withdrawn = True
                self._wait_no_more(entry)
                self._over(entry)
        for process in self.processes.values():
            process.groups.clear()
            if process.edge is None:
                process.inbox.clear()
                process.inbox_bytes = 0
        self.groups.clear()
        self._expiries.clear()
        self._idle_expiries = 0
        self._histories.clear()
        self.flush_log()
