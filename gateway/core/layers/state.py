"""The state of a layer: channels, hands, processes, groups. No I/O, no threads, no clock.

The memory layer guards one with a lock; the hub drives one from its loop. Every verb is
a method whose first argument is the `Link` (one connection of one `Process`) that asks;
`OPS` lists them by number, so that the wire protocol of the hub and the memory layer run
the same code.

::

    Process ──► Link ──► Reader ──► Channel ──► queue of Entry
       │          └─ hand: Entries taken and not settled
       └─ inbox: items for this process, in one order

Times are seconds of the clock given to `State`; `State.tick` must be called now and then
(the callers do so at every operation and about ten times a second).
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from gateway.core import names
from gateway.core.errors import ChannelFull, Fenced
from gateway.core.layers import codec
from gateway.core.layers.base import (
    ACCEPTED,
    ANNOUNCED,
    FAILED,
    FENCED,
    FULL,
    GROUP,
    GROUP_ADD,
    GROUP_DISCARD,
    GROUP_SEND,
    JOIN,
    MAX_TRIES,
    MESSAGE,
    OK,
    OUTCOME,
    PART,
    RELEASED,
    SEND,
    Item,
    LayerOptions,
    Outcome,
    Send,
    Statistics,
)
from gateway.core.metrics import Drop, Metrics

log = logging.getLogger("gateway.layer")

FOREVER: Final = float("inf")
CLOSED: Final = codec.encode({"closed": True})
LOST: Final = Outcome(FAILED, cause="lost")
SKIPPED: Final = Outcome(FAILED, cause="skipped")
REFUSED: Final = Outcome(FAILED, cause="full")
SPENT: Final = Outcome(RELEASED, cause="expired")
WITHDRAWN: Final = Outcome(RELEASED, cause="cancelled")
ITEM_SIZE: Final = 64
"""Bytes that an inbox item without payload counts for: about what its tuple takes."""
LISTEN_CREDIT: Final = 1000
"""Any number does: what an edge listens to is settled as it comes."""
MANY_CHANNELS: Final = 10_000
"""From so many channels on, empty ones that nobody reads are forgotten."""
MANY_PROCESSES: Final = 10_000
"""So many ended processes are remembered by name, so that none rejoins as what it was."""


class Entry:
    """One delivery on its way: queued, delayed or in hand."""

    __slots__ = (
        "channel",
        "deadline",
        "done",
        "exempt",
        "forever",
        "name",
        "not_to",
        "payloads",
        "reader",
        "receipt",
        "sender",
        "seq",
        "since",
        "size",
        "tag",
        "tries",
        "withdrawn",
    )

    def __init__(
        self,
        channel: Channel,
        name: str,
        payloads: Sequence[bytes],
        size: int,
        sender: Process | None,
        receipt: int | None,
        since: float,
        deadline: float,
        seq: int,
    ) -> None:
        self.channel = channel
        self.name = name
        self.payloads = payloads
        self.size = size
        self.sender = sender
        self.receipt = receipt
        self.since = since
        self.deadline = deadline
        self.seq = seq
        self.done = 0
        self.tries = 0
        self.tag = 0
        self.exempt = False
        self.forever = False
        self.withdrawn = False
        self.not_to: Process | None = None
        self.reader: Reader | None = None


class Channel:
    """One channel: its queue, its readers, its numbers. For a prefix ``x!``, all its addresses."""

    __slots__ = (
        "busy",
        "bytes",
        "capacity",
        "check_at",
        "drops",
        "full",
        "in_hand",
        "messages",
        "name",
        "pending",
        "queue",
        "readers",
    )

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.queue: deque[Entry] = deque()
        self.readers: list[Reader] = []
        self.busy: set[str] | None = set() if name.endswith("!") else None
        """Addresses with a message in hand; None for other channels."""
        self.pending = 0
        self.bytes = 0
        self.in_hand = 0
        self.messages = 0
        self.full = 0
        self.drops: dict[str, int] = {}
        self.check_at = FOREVER


class Reader:
    """A wish for deliveries from some channels: ``credit`` more of them.

    ``push(entry)`` hands one over. A standing reader gets its credit back as deliveries are
    finished; any other is used up by one.
    """

    __slots__ = ("channels", "credit", "link", "push", "ring", "standing")

    def __init__(
        self, link: Link, credit: int, push: Callable[[Entry], None], *, standing: bool
    ) -> None:
        self.link = link
        self.credit = credit
        self.push = push
        self.standing = standing
        self.channels: tuple[Channel, ...] = ()
        self.ring: dict[Channel, None] = {}
        """Channels with something waiting, next to serve first."""


class Link:
    """One connection of a process to the layer; what it holds fails when it ends."""

    __slots__ = ("hand", "process", "readers")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.hand: dict[int, Entry] = {}
        self.readers: set[Reader] = set()


class Process:
    """One process and all that stands under its lease."""

    __slots__ = (
        "alive",
        "announced",
        "edge",
        "epoch",
        "groups",
        "inbox",
        "inbox_bytes",
        "leased",
        "links",
        "name",
        "notify",
        "receipts",
        "registered",
        "still",
        "waiters",
        "watchers",
    )

    def __init__(self, name: str, epoch: int, *, leased: bool) -> None:
        self.name = name
        self.epoch = epoch
        self.leased = leased
        self.alive = True
        self.still = 0.0
        """Seconds without a sign of life."""
        self.links: set[Link] = set()
        self.edge: Link | None = None
        """The link that hears every item; None: the inbox is read by ``receive``."""
        self.notify: Callable[[], None] | None = None
        self.inbox: list[Item] = []
        self.inbox_bytes = 0
        self.waiters: list[Reader] = []
        self.receipts: dict[int, Entry] = {}
        self.registered: dict[str, tuple[str, bytes]] = {}
        self.groups: dict[str, set[str]] = {}
        """Groups by the name of our member."""
        self.announced: frozenset[str] | None = None
        self.watchers: set[str] = set()


class Group:
    """The members of a group, by process; and those that belong to none."""

    __slots__ = ("count", "expires", "here", "others")

    def __init__(self) -> None:
        self.here: dict[Process, dict[str, bytes | None]] = {}
        self.others: dict[str, tuple[float, bytes | None]] = {}
        self.count = 0
        self.expires = FOREVER
        """Before this no member expires."""


class State:
    """All of a layer. See the module's docstring."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.channels: dict[str, Channel] = {}
        self.processes: dict[str, Process] = {}
        self.groups: dict[str, Group] = {}
        self.announced: frozenset[str] | None = None
        self.metrics = Metrics()
        self.messages = 0
        self.full = 0
        self.drops: dict[str, int] = {}
        self.on_due: Callable[[], None] | None = None
        """Called when something becomes due earlier than `next_due` said before."""
        self._epochs = itertools.count(1)
        self._seqs = itertools.count(1)
        self._tags = itertools.count(1)
        self._turns = itertools.count()
        self._ended: dict[str, None] = {}
        self._checks: list[tuple[float, int, Channel]] = []
        self._delayed: list[tuple[float, int, Entry]] = []
        self._ticked = clock()

    # ---------------------------------------------------------------- processes

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
        for member in list(process.groups):
            self._leave_all(process, member)
        for channel, payload in process.registered.values():
            self._offer_disconnect(channel, payload)
        process.registered.clear()
        for channel in process.watchers:
            self._close_channel(channel)
        process.watchers.clear()
        if process.announced is not None:
            process.announced = None
            self._reannounce()

    def open_edge(self, link: Link, notify: Callable[[], None]) -> None:
        """Have every item of the process drained by ``link``; ``notify`` says there are some."""
        process = link.process
        process.edge = link
        process.notify = notify
        process.inbox.append((ANNOUNCED, self.announced))
        notify()

    def drain(self, process: Process) -> list[Item]:
        """Return all items of the inbox, and forget them."""
        items, process.inbox = process.inbox, []
        process.inbox_bytes = 0
        return items

    def sign(self, process: Process) -> None:
        """Take a sign of life."""
        process.still = 0.0

    def _check(self, link: Link) -> Process:
        process = link.process
        if not process.alive:
            raise Fenced(f"the lease of {process.name} has ended")
        return process

    # ---------------------------------------------------------------- time

    def next_due(self) -> float:
        """Return when something is due, in the clock's seconds."""
        due = self._checks[0][0] if self._checks else FOREVER
        if self._delayed and self._delayed[0][0] < due:
            due = self._delayed[0][0]
        return due

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
            if len(self.channels) > MANY_CHANNELS:
                for channel in list(self.channels.values()):
                    self._forget(channel)
        while self._delayed and self._delayed[0][0] <= now:
            entry = heapq.heappop(self._delayed)[2]
            if entry.withdrawn:
                continue
            self._wait_no_more(entry)
            if entry.deadline <= now:
                self._expire(entry)
            else:
                self._requeue(entry)
        while self._checks and self._checks[0][0] <= now:
            channel = heapq.heappop(self._checks)[2]
            channel.check_at = FOREVER
            for entry in [e for e in channel.queue if e.deadline <= now]:
                self._unqueue(channel, entry)
                self._expire(entry)
            if channel.queue:
                self._schedule(channel, min(e.deadline for e in channel.queue))
            else:
                self._tidy(channel)

    @staticmethod
    def _wait_no_more(entry: Entry) -> None:
        """Give the room of a delayed entry back."""
        entry.channel.pending -= len(entry.payloads) - entry.done
        entry.channel.bytes -= entry.size

    def _schedule(self, channel: Channel, when: float) -> None:
        if when < channel.check_at:
            channel.check_at = when
            self._at(self._checks, when, channel)

    def _at(self, heap: list[Any], when: float, what: Any) -> None:
        earlier = when < self.next_due()
        heapq.heappush(heap, (when, next(self._seqs), what))
        if earlier and self.on_due is not None:
            self.on_due()

    # ---------------------------------------------------------------- sending

    def send(
        self,
        link: Link,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        """Send payloads as one delivery. Raises `ChannelFull`, Fenced."""
        process = self._check(link)
        mark = channel.find("!")
        if mark >= 0:
            owner = names.process_of(channel)
            if owner is not None:
                self._to_inbox(process, owner, channel, payloads, receipt)
                return
            found = self._channel(channel[: mark + 1])
        else:
            found = self.channels.get(channel) or self._channel(channel)
        number = len(payloads)
        size = len(payloads[0]) if number == 1 else sum(map(len, payloads))
        now = self.clock()
        entry = Entry(
            found,
            channel,
            payloads,
            size,
            process if receipt is not None else None,
            receipt,
            now,
            now + (self.options.expiry if expiry is None else expiry),
            next(self._seqs),
        )
        reader = None
        if not found.queue and found.readers:
            reader = self._pick(found, entry)
        if reader is None and (
            found.pending + number > found.capacity
            or found.bytes + size > self.options.channel_bytes
        ):
            found.full += number
            self.full += number
            raise ChannelFull(channel)
        found.messages += number
        self.messages += number
        if receipt is not None:
            process.receipts[receipt] = entry
        if reader is not None:
            self._give(reader, entry)
        else:
            self._enqueue(found, entry)

    def post(
        self,
        link: Link,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        """As `send`; a refusal is told in the inbox (``FULL``), or counted without a receipt."""
        try:
            self.send(link, channel, payloads, receipt, expiry)
        except ChannelFull:
            process = link.process
            if receipt is not None:
                self._item(process, (FULL, receipt, channel), 0)
            else:
                self._drop(None, Drop.FULL, len(payloads))

    def _to_inbox(
        self,
        sender: Process,
        owner: str,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None,
    ) -> None:
        process = self.processes.get(owner)
        number = len(payloads)
        if process is None:
            self.messages += number
            self._drop(None, Drop.GONE, number)
            if receipt is not None:
                for index in range(number):
                    self._tell(sender, receipt, index, LOST)
            return
        size = sum(map(len, payloads)) + ITEM_SIZE * number
        if (
            len(process.inbox) + number > self.options.process_capacity
            or process.inbox_bytes + size > self.options.process_bytes
        ):
            self.full += number
            raise ChannelFull(channel)
        self.messages += number
        process.inbox_bytes += size
        inbox = process.inbox
        empty = not inbox
        for payload in payloads:
            inbox.append((MESSAGE, channel, payload))
        if process.notify is not None:
            if empty:
                process.notify()
        elif process.waiters:
            self._serve_inbox(process)
        if receipt is not None:
            for index in range(number):
                self._tell(sender, receipt, index, Outcome(ACCEPTED))

    def _item(self, process: Process, item: Item, size: int) -> None:
        """Put an item that needs no capacity into an inbox."""
        process.inbox.append(item)
        process.inbox_bytes += size + ITEM_SIZE
        if process.notify is not None:
            if len(process.inbox) == 1:
                process.notify()
        elif process.waiters:
            self._serve_inbox(process)

    def _tell(self, process: Process, receipt: int, index: int, outcome: Outcome) -> None:
        if not process.alive:
            return
        if process.notify is not None:
            inbox = process.inbox
            inbox.append((OUTCOME, receipt, index, outcome))
            if len(inbox) == 1:
                process.notify()
            return
        told = {
            "receipt": receipt,
            "index": index,
            "kind": outcome.kind,
            "code": outcome.code,
            "reason": outcome.reason,
            "cause": outcome.cause,
        }
        payload = codec.encode(told)
        self._item(process, (MESSAGE, f"outcome.{process.name}!", payload), len(payload))

    # ---------------------------------------------------------------- queues and readers

    def _channel(self, name: str) -> Channel:
        found = self.channels.get(name)
        if found is None:
            found = self.channels[name] = Channel(name, self.options.capacity_of(name))
        return found

    def _enqueue(self, channel: Channel, entry: Entry) -> None:
        if not channel.queue:
            for reader in channel.readers:
                reader.ring[channel] = None
        channel.queue.append(entry)
        channel.pending += len(entry.payloads) - entry.done
        channel.bytes += entry.size
        if entry.deadline < channel.check_at:
            self._schedule(channel, entry.deadline)
        if len(channel.queue) > 1 and channel.readers:
            self._pump(channel)

    def _requeue(self, entry: Entry) -> None:
        """Put a released entry ahead of all that is newer, and offer it."""
        channel = entry.channel
        place = 0
        for waiting in channel.queue:
            if waiting.seq > entry.seq:
                break
            place += 1
        for reader in channel.readers:
            reader.ring[channel] = None
        channel.queue.insert(place, entry)
        channel.pending += len(entry.payloads) - entry.done
        channel.bytes += entry.size
        if entry.deadline < channel.check_at:
            self._schedule(channel, entry.deadline)
        self._pump(channel)

    def _unqueue(self, channel: Channel, entry: Entry) -> None:
        if channel.queue[0] is entry:
            channel.queue.popleft()
        else:
            channel.queue.remove(entry)
        channel.pending -= len(entry.payloads) - entry.done
        channel.bytes -= entry.size

    def _pump(self, channel: Channel) -> None:
        """Offer what waits to readers that have credit."""
        while channel.queue:
            for entry in channel.queue:
                if channel.busy is not None and entry.name in channel.busy:
                    continue
                reader = self._pick(channel, entry)
                if reader is not None:
                    self._unqueue(channel, entry)
                    self._give(reader, entry)
                    break
                if entry.not_to is None:
                    return
            else:
                return

    def _pick(self, channel: Channel, entry: Entry) -> Reader | None:
        """Return the reader with the most credit, or None; the last one served comes last."""
        if channel.busy is not None and entry.name in channel.busy:
            return None
        readers = channel.readers
        if len(readers) == 1 and entry.not_to is None:
            return readers[0] if readers[0].credit > 0 else None
        avoid = entry.not_to
        if avoid is not None and all(reader.link.process is avoid for reader in readers):
            avoid = None
        best: Reader | None = None
        for reader in readers:
            if (
                reader.credit > 0
                and reader.link.process is not avoid
                and (best is None or reader.credit > best.credit)
            ):
                best = reader
        if best is not None:
            readers.remove(best)
            readers.append(best)
        return best

    def _give(self, reader: Reader, entry: Entry) -> None:
        entry.tag = tag = next(self._tags)
        entry.reader = reader
        reader.credit -= 1
        reader.link.hand[tag] = entry
        channel = entry.channel
        channel.in_hand += len(entry.payloads) - entry.done
        if channel.busy is not None:
            channel.busy.add(entry.name)
        reader.push(entry)

    def _feed(self, reader: Reader) -> None:
        """Give a reader what it has credit for, each of its channels in turn."""
        ring = reader.ring
        while ring and reader.credit > 0:
            channel = next(iter(ring))
            del ring[channel]
            entry = self._next(channel, reader)
            if entry is None:
                continue
            self._unqueue(channel, entry)
            if channel.queue:
                ring[channel] = None
            self._give(reader, entry)

    def _next(self, channel: Channel, reader: Reader) -> Entry | None:
        """Return the first entry of the queue that ``reader`` may have."""
        for entry in channel.queue:
            if channel.busy is not None and entry.name in channel.busy:
                continue
            if entry.not_to is not reader.link.process or all(
                other.link.process is entry.not_to for other in channel.readers
            ):
                return entry
        return None

    def read(self, reader: Reader, channels: Iterable[str]) -> None:
        """Register a wish. What waits already is pushed before this returns."""
        self._check(reader.link)
        reader.link.readers.add(reader)
        found = tuple(self._channel(name) for name in channels)
        start = next(self._turns) % len(found) if found else 0
        reader.channels = found[start:] + found[:start]
        for channel in reader.channels:
            channel.readers.append(reader)
            if channel.queue:
                reader.ring[channel] = None
        self._feed(reader)

    def unread(self, reader: Reader) -> None:
        """Withdraw a wish."""
        reader.link.readers.discard(reader)
        process = reader.link.process
        if reader in process.waiters:
            process.waiters.remove(reader)
        reader.credit = 0
        reader.standing = False
        reader.ring.clear()
        channels, reader.channels = reader.channels, ()
        for channel in channels:
            channel.readers.remove(reader)
        for channel in channels:
            if channel.queue and channel.readers:
                self._pump(channel)
            else:
                self._tidy(channel)

    def credit(self, reader: Reader, more: int) -> None:
        """Change the credit of a standing reader by ``more``, which may be negative."""
        reader.credit += more
        if more > 0:
            self._feed(reader)

    def pull(self, link: Link, channels: Sequence[str]) -> Entry | None:
        """Take what waits on one of the channels now, or return None."""
        self._check(link)
        number = len(channels)
        start = next(self._turns) % number if number > 1 else 0
        for step in range(number):
            channel = self.channels.get(channels[(start + step) % number])
            if channel is None or not channel.queue:
                continue
            reader = Reader(link, 1, _no_push, standing=False)
            entry = self._next(channel, reader)
            if entry is not None:
                self._unqueue(channel, entry)
                self._give(reader, entry)
                return entry
        return None

    def pull_any(self, link: Link, channels: Sequence[str], *, inbox: bool) -> Entry | None:
        """As `pull`; with ``inbox``, from the inbox of the process too, in turn."""
        if not inbox:
            return self.pull(link, channels)
        if next(self._turns) % 2:
            return self.pull_inbox(link) or self.pull(link, channels)
        return self.pull(link, channels) or self.pull_inbox(link)

    def give_back(self, link: Link, tag: int) -> None:
        """Put back what was handed over and not begun: no try is counted."""
        entry = link.hand.pop(tag, None)
        if entry is None:
            return
        self._out_of_hand(entry)
        if entry.deadline <= self.clock():
            self._expire(entry)
        else:
            self._requeue(entry)

    def _forget(self, channel: Channel) -> None:
        if not (channel.queue or channel.readers or channel.in_hand or channel.pending):
            self.channels.pop(channel.name, None)

    def _tidy(self, channel: Channel) -> None:
        """Forget an empty single-reader channel: each is used once."""
        if "?" in channel.name:
            self._forget(channel)

    # ---------------------------------------------------------------- the inbox, read by name

    def read_inbox(self, reader: Reader) -> None:
        """Wait for the next message of the inbox of the reader's own process."""
        process = self._check(reader.link)
        reader.link.readers.add(reader)
        process.waiters.append(reader)
        self._serve_inbox(process)

    def pull_inbox(self, link: Link) -> Entry | None:
        """Take the next message of the inbox, settled as it is taken; or return None."""
        process = self._check(link)
        while process.inbox:
            item = process.inbox.pop(0)
            process.inbox_bytes -= ITEM_SIZE
            if item[0] == MESSAGE:
                process.inbox_bytes -= len(item[2])
                return Entry(_NOWHERE, item[1], (item[2],), 0, None, None, 0.0, 0.0, 0)
        return None

    def put_back(self, process: Process, name: str, payload: bytes) -> None:
        """Put back what was taken from the inbox and not read."""
        process.inbox.insert(0, (MESSAGE, name, payload))
        process.inbox_bytes += ITEM_SIZE + len(payload)

    def listen(self, link: Link, name: str) -> None:
        """Have a channel's messages put into the inbox of an edge, settled as they come."""

        def push(entry: Entry) -> None:
            process = link.process
            number = len(entry.payloads) - entry.done
            for payload in entry.payloads[entry.done :]:
                self._item(process, (MESSAGE, entry.name, payload), len(payload))
            self.settle(link, entry.tag, (OK,) * number, ())

        self.read(Reader(link, LISTEN_CREDIT, push, standing=True), [name])

    def _serve_inbox(self, process: Process) -> None:
        while process.waiters and process.inbox:
            entry = self.pull_inbox(process.waiters[0].link)
            if entry is not None:
                reader = process.waiters.pop(0)
                reader.credit = 0
                reader.push(entry)

    # ---------------------------------------------------------------- settlement

    def settle(
        self, link: Link, tag: int, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> bool:
        """Settle the next messages of what ``link`` holds; return False if that came too late."""
        process = link.process
        entry = link.hand.get(tag)
        if entry is None or not process.alive:
            self._drop(None, Drop.STALE, 0)
            self.drops[Drop.STALE] = self.drops.get(Drop.STALE, 0) + len(outcomes)
            return False
        refused = False
        for action in sends:
            try:
                self._do(link, action)
            except ChannelFull as error:
                refused = True
                self._drop(None, Drop.FULL, 1)
                log.warning("a send of a consumer of %s was refused: %s", entry.name, error)
        sender, receipt = entry.sender, entry.receipt
        last = len(outcomes) - 1
        for place, outcome in enumerate(outcomes):
            if place == last and refused:
                outcome = REFUSED  # noqa: PLW2901 - the refusal stands for it
            if outcome.kind == ACCEPTED:
                if sender is not None:
                    self._tell(sender, receipt or 0, entry.done, outcome)
                entry.done += 1
                entry.channel.in_hand -= 1
                if entry.done == len(entry.payloads):
                    self._finish(link, entry)
                    return True
                continue
            if outcome.kind == RELEASED:
                self._release(link, entry, outcome.delay)
                return True
            if sender is not None:
                self._tell(sender, receipt or 0, entry.done, outcome)
            entry.done += 1
            entry.channel.in_hand -= 1
            if sender is not None:
                for index in range(entry.done, len(entry.payloads)):
                    self._tell(sender, receipt or 0, index, SKIPPED)
            else:
                self._drop(entry.channel, Drop.FAILED, len(entry.payloads) - entry.done)
            self._finish(link, entry)
            return True
        return True

    def _finish(self, link: Link, entry: Entry) -> None:
        link.hand.pop(entry.tag, None)
        if entry.sender is not None and entry.receipt is not None:
            entry.sender.receipts.pop(entry.receipt, None)
        self._out_of_hand(entry)

    def _out_of_hand(self, entry: Entry) -> None:
        """Return the credit, free the address."""
        if entry.done:
            entry.size = sum(map(len, entry.payloads[entry.done :]))
        reader = entry.reader
        entry.reader = None
        channel = entry.channel
        channel.in_hand -= len(entry.payloads) - entry.done
        if channel.busy is not None:
            channel.busy.discard(entry.name)
            if channel.queue:
                self._pump(channel)
        if reader is not None and reader.standing:
            reader.credit += 1
            if reader.ring:
                self._feed(reader)
        if not channel.queue:
            self._tidy(channel)

    def _release(self, link: Link, entry: Entry, delay: float) -> None:
        link.hand.pop(entry.tag, None)
        entry.tries += 1
        entry.exempt = True
        entry.not_to = link.process
        now = self.clock()
        spent = not entry.forever and (entry.tries >= MAX_TRIES or entry.deadline <= now)
        if spent:
            self._out_of_hand(entry)
            self._expire(entry)
        elif delay > 0:
            self._out_of_hand(entry)
            entry.channel.pending += len(entry.payloads) - entry.done
            entry.channel.bytes += entry.size
            self._at(self._delayed, min(now + delay, entry.deadline), entry)
        else:
            reader, entry.reader = entry.reader, None
            if entry.done:
                entry.size = sum(map(len, entry.payloads[entry.done :]))
            channel = entry.channel
            channel.in_hand -= len(entry.payloads) - entry.done
            if channel.busy is not None:
                channel.busy.discard(entry.name)
            self._requeue(entry)
            if reader is not None and reader.standing:
                reader.credit += 1
                self._feed(reader)

    def _expire(self, entry: Entry) -> None:
        """Its lifetime or its tries are spent: say so to the sender."""
        sender = entry.sender
        self._drop(entry.channel, Drop.EXPIRED, len(entry.payloads) - entry.done)
        if sender is not None and entry.receipt is not None:
            sender.receipts.pop(entry.receipt, None)
            for index in range(entry.done, len(entry.payloads)):
                self._tell(sender, entry.receipt, index, SPENT)

    def _lose(self, entry: Entry) -> None:
        """Its taker is lost."""
        reader = entry.reader
        if reader is not None:
            reader.link.hand.pop(entry.tag, None)
        self._out_of_hand(entry)
        if entry.forever:
            self._requeue(entry)
            return
        self._drop(entry.channel, Drop.FAILED, len(entry.payloads) - entry.done)
        sender = entry.sender
        if sender is not None and entry.receipt is not None:
            sender.receipts.pop(entry.receipt, None)
            for index in range(entry.done, len(entry.payloads)):
                self._tell(sender, entry.receipt, index, LOST)

    def cancel(self, link: Link, receipt: int) -> bool:
        """Withdraw what this process sent with ``receipt``, if nobody has it in hand."""
        process = self._check(link)
        entry = process.receipts.get(receipt)
        if entry is None or entry.reader is not None:
            return False
        del process.receipts[receipt]
        self._drop(entry.channel, Drop.CANCELLED, len(entry.payloads) - entry.done)
        if entry in entry.channel.queue:
            self._unqueue(entry.channel, entry)
        else:
            entry.withdrawn = True
            self._wait_no_more(entry)
        return True

    def withdraw(self, link: Link, receipt: int) -> None:
        """As `cancel`, and tell it in the inbox, one outcome a message."""
        process = self._check(link)
        entry = process.receipts.get(receipt)
        if entry is not None and self.cancel(link, receipt):
            for index in range(entry.done, len(entry.payloads)):
                self._tell(process, receipt, index, WITHDRAWN)

    # ---------------------------------------------------------------- a consumer's sends

    def apply(self, link: Link, sends: Sequence[Send]) -> None:
        """Do several sends; raise the first `ChannelFull` after trying all."""
        self._check(link)
        first: ChannelFull | None = None
        for action in sends:
            try:
                self._do(link, action)
            except ChannelFull as error:
                first = first or error
        if first is not None:
            raise first

    def _do(self, link: Link, action: Send) -> None:
        code = action[0]
        if code == SEND:
            self.send(link, action[1], (action[2],))
        elif code == GROUP_SEND:
            self.send_group(link, action[1], action[2], action[3])
        elif code == GROUP_ADD:
            self.group_add(link, action[1], action[2], action[3])
        elif code == GROUP_DISCARD:
            self.group_discard(link, action[1], action[2])
        else:
            raise ValueError(f"{code!r} is not the code of a send")

    # ---------------------------------------------------------------- groups

    def group_add(self, link: Link, group: str, channel: str, meta: bytes | None = None) -> None:
        """Add a member; a connection's own process hears ``JOIN`` if somebody else did it."""
        adder = self._check(link)
        owner = names.process_of(channel)
        if owner is None:
            found = self._group(group)
            found.count += channel not in found.others
            until = self.clock() + self.options.group_expiry
            found.others[channel] = (until, meta)
            found.expires = min(found.expires, until)
            return
        process = self.processes.get(owner)
        if process is None:
            self._drop(None, Drop.GONE, 1)
            return
        found = self._group(group)
        members = found.here.setdefault(process, {})
        found.count += channel not in members
        members[channel] = meta
        process.groups.setdefault(channel, set()).add(group)
        if process.edge is not None and not (adder is process and link is process.edge):
            self._item(process, (JOIN, group, channel, meta), len(meta or b""))

    def group_discard(self, link: Link, group: str, channel: str) -> None:
        """End a membership; a connection's own process hears ``PART`` if somebody else did it."""
        asker = self._check(link)
        found = self.groups.get(group)
        if found is None:
            return
        owner = names.process_of(channel)
        process = None if owner is None else self.processes.get(owner)
        if process is None:
            found.count -= found.others.pop(channel, None) is not None
            self._tidy_group(group, found)
        elif channel in found.here.get(process, ()):
            self._leave(process, group, channel)
            groups = process.groups[channel]
            groups.discard(group)
            if not groups:
                del process.groups[channel]
            if process.edge is not None and not (asker is process and link is process.edge):
                self._item(process, (PART, group, channel), 0)

    def send_group(
        self, link: Link, group: str, payload: bytes, exclude: Sequence[str] = ()
    ) -> None:
        """Send to all members: one item per process, one message per other member."""
        self._check(link)
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
            else:
                self.messages += 1
                self._item(process, (GROUP, group, payload, list(exclude)), len(payload))
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
                del found.others[member]
                found.count -= 1
        found.expires = min((until for until, _ in found.others.values()), default=FOREVER)
        self._tidy_group(group, found)

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
        del members[channel]
        found.count -= 1
        if not members:
            del found.here[process]
        self._tidy_group(group, found)

    def _leave_all(self, process: Process, channel: str) -> None:
        for group in process.groups.pop(channel, ()):
            self._leave(process, group, channel)

    def _tidy_group(self, name: str, found: Group) -> None:
        if not found.here and not found.others:
            self.groups.pop(name, None)

    # ---------------------------------------------------------------- connections

    def register(self, link: Link, connection: str, channel: str, payload: bytes) -> None:
        """Remember the disconnect message of an accepted connection."""
        self._check(link).registered[connection] = (channel, payload)

    def end(self, link: Link, connection: str, channel: str, payload: bytes | None) -> None:
        """End a connection: memberships, registration; and offer its disconnect message."""
        process = self._check(link)
        process.registered.pop(connection, None)
        self._leave_all(process, connection)
        if payload is not None:
            self._offer_disconnect(channel, payload)

    def _offer_disconnect(self, name: str, payload: bytes) -> None:
        self.messages += 1
        if self.announced is not None and name not in self.announced:
            self._drop(None, Drop.UNROUTED, 1)
            return
        channel = self._channel(name)
        channel.messages += 1
        entry = Entry(
            channel,
            name,
            (payload,),
            len(payload),
            None,
            None,
            self.clock(),
            FOREVER,
            next(self._seqs),
        )
        entry.exempt = entry.forever = True
        reader = self._pick(channel, entry) if not channel.queue and channel.readers else None
        if reader is not None:
            self._give(reader, entry)
        else:
            self._enqueue(channel, entry)

    def announce(self, link: Link, channels: Iterable[str]) -> None:
        """Take the channels that a worker's table names."""
        process = self._check(link)
        process.announced = frozenset(channels)
        self._reannounce()

    def union(self, link: Link) -> frozenset[str] | None:
        """Return what living processes announced; None while none did."""
        self._check(link)
        return self.announced

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
        for channel in self.channels.values():
            if channel.queue and channel.name not in union:
                for entry in [e for e in channel.queue if e.forever]:
                    self._unqueue(channel, entry)
                    self._drop(channel, Drop.UNROUTED, 1)

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
                self._lose_unread(entry)
            self._tidy(found)

    def _lose_unread(self, entry: Entry) -> None:
        self._drop(entry.channel, Drop.GONE, len(entry.payloads) - entry.done)
        if entry.sender is not None and entry.receipt is not None:
            entry.sender.receipts.pop(entry.receipt, None)
            for index in range(entry.done, len(entry.payloads)):
                self._tell(entry.sender, entry.receipt, index, LOST)

    def _close_channel(self, name: str) -> None:
        """Offer ``{"closed": True}``, whatever the capacity."""
        self.messages += 1
        channel = self._channel(name)
        channel.messages += 1
        now = self.clock()
        entry = Entry(
            channel,
            name,
            (CLOSED,),
            len(CLOSED),
            None,
            None,
            now,
            now + self.options.expiry,
            next(self._seqs),
        )
        reader = self._pick(channel, entry) if not channel.queue and channel.readers else None
        if reader is not None:
            self._give(reader, entry)
        else:
            self._enqueue(channel, entry)

    # ---------------------------------------------------------------- numbers

    def _drop(self, channel: Channel | None, cause: Drop, n: int) -> None:
        if n <= 0:
            return
        self.drops[cause.value] = self.drops.get(cause.value, 0) + n
        if channel is not None:
            channel.drops[cause.value] = channel.drops.get(cause.value, 0) + n

    def statistics(self, link: Link, name: str | None) -> Statistics:
        """Return the numbers of one channel, or of the whole layer for None."""
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
        """Forget every waiting message and every group."""
        self._check(link)
        for channel in list(self.channels.values()):
            for entry in list(channel.queue):
                self._unqueue(channel, entry)
                if entry.sender is not None and entry.receipt is not None:
                    entry.sender.receipts.pop(entry.receipt, None)
            self._forget(channel)
        for _, _, entry in self._delayed:
            if not entry.withdrawn:
                entry.withdrawn = True
                self._wait_no_more(entry)
        for process in self.processes.values():
            process.groups.clear()
            if process.edge is None:
                process.inbox.clear()
                process.inbox_bytes = 0
        self.groups.clear()


def _no_push(entry: Entry) -> None:
    """Take what `State.pull` returns by itself."""


_NOWHERE: Final = Channel("inbox", 0)
"""The channel of messages that were read from an inbox: nothing of theirs is counted there."""
