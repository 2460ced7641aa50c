"""The queues of channels, their readers, and time: expiry and delay."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from gateway.core import names
from gateway.core.errors import ChannelFull
from gateway.core.layers import codec
from gateway.core.layers.base import RELEASED, Outcome
from gateway.core.layers.edge import FULL
from gateway.core.layers.inboxes import Inboxes
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import FOREVER, Channel, Entry, Link, Membership, Reader
from gateway.core.metrics import Drop

SPENT: Final = Outcome(RELEASED, cause="expired")
WITHDRAWN: Final = Outcome(RELEASED, cause="cancelled")
IDLE_CHECKS: Final = 256
"""From so many checks of forgotten channels on, they are cleared away once they are the most: a
stream uses its single-reader channel anew with each piece, and a check waits a minute."""


class Queues(Inboxes):
    """Channels: who waits with what, and who gets it."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.channels: dict[str, Channel] = {}
        self.on_due: Callable[[], None] | None = None
        """Called when something becomes due earlier than `next_due` said before."""
        self.lasting: dict[int, Entry] = {}
        """The disconnects that were offered and are not settled, by tag."""
        self._seqs = itertools.count(1)
        self._tags = itertools.count(1)
        self._turns = itertools.count()
        self._checks: list[tuple[float, int, Channel]] = []
        self._idle_checks = 0
        """How many channels were forgotten whose check still stood in ``_checks``."""
        self._delayed: list[tuple[float, int, Entry]] = []

    # ---------------------------------------------------------------- sending

    def send(
        self,
        link: Link,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
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
            if pin is not None:
                found, payloads = self._lane(pin, found, payloads)
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
            raise ChannelFull(channel if pin is None else found.name)
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
        pin: str | None = None,
    ) -> None:
        """As `send`; a refusal is told in the inbox (``FULL``), or counted without a receipt."""
        try:
            self.send(link, channel, payloads, receipt, expiry, pin)
        except ChannelFull as error:
            process = link.process
            if receipt is not None:
                self._item(process, (FULL, receipt, error.channel), 0)
            else:
                self._drop(None, Drop.FULL, len(payloads))

    def _offer(
        self,
        name: str,
        payload: bytes,
        deadline: float,
        *,
        forever: bool,
        lasting: int = 0,
        membership: Membership | None = None,
        pin: str | None = None,
    ) -> None:
        """Send of the layer's own accord, whatever the capacity.

        ``lasting`` is the tag of a disconnect, which `lasting` then holds until it is settled.
        """
        channel = self._channel(name)
        payloads: Sequence[bytes] = (payload,)
        if pin is not None:
            channel, payloads = self._lane(pin, channel, payloads)
        self.messages += 1
        channel.messages += 1
        entry = self._own(channel, name, payloads, deadline)
        entry.forever = forever
        entry.membership = membership
        if lasting:
            entry.lasting = lasting
            self.lasting[lasting] = entry
        reader = self._pick(channel, entry) if not channel.queue and channel.readers else None
        if reader is not None:
            self._give(reader, entry)
        else:
            self._enqueue(channel, entry)

    def _own(
        self, channel: Channel, name: str, payloads: Sequence[bytes], deadline: float
    ) -> Entry:
        """Return an entry of the layer's own."""
        size = len(payloads[0])
        now = self.clock()
        return Entry(channel, name, payloads, size, None, None, now, deadline, next(self._seqs))

    # ---------------------------------------------------------------- pins

    def _lane(
        self, pin: str, own: Channel, payloads: Sequence[bytes]
    ) -> tuple[Channel, Sequence[bytes]]:
        """Return the channel that stands for ``own`` under a pin, and what is to wait there."""
        process = self.processes.get(pin.removeprefix(names.PIN))
        if process is None or process.lifted:
            return own, [codec.unpinned(payload) for payload in payloads]
        return self._channel(pin), payloads

    # ---------------------------------------------------------------- the queue

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
        self._shrink(entry)
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

    @staticmethod
    def _shrink(entry: Entry) -> None:
        """Count only what is left of an entry that waits again."""
        if entry.done:
            entry.size = sum(map(len, entry.payloads[entry.done :]))

    def _unqueue(self, channel: Channel, entry: Entry) -> None:
        if channel.queue[0] is entry:
            channel.queue.popleft()
        else:
            channel.queue.remove(entry)
        channel.pending -= len(entry.payloads) - entry.done
        channel.bytes -= entry.size

    def _forget(self, channel: Channel) -> None:
        if channel.queue or channel.readers or channel.in_hand or channel.pending:
            return
        if self.channels.get(channel.name) is not channel:
            return  # forgotten before; the name may be another's by now
        del self.channels[channel.name]
        if channel.check_at != FOREVER:
            self._idle_checks += 1
            if self._idle_checks > max(IDLE_CHECKS, len(self._checks) >> 1):
                known = self.channels.get
                self._checks = [one for one in self._checks if known(one[2].name) is one[2]]
                heapq.heapify(self._checks)
                self._idle_checks = 0

    def _tidy(self, channel: Channel) -> None:
        """Forget an empty single-reader channel: each is used once."""
        if "?" in channel.name:
            self._forget(channel)

    # ---------------------------------------------------------------- readers

    def read(self, reader: Reader, channels: Iterable[str]) -> None:
        """Register a wish. What waits already is pushed before this returns."""
        self._check(reader.link)
        reader.link.readers.add(reader)
        pin = names.PIN + reader.link.process.name
        found = tuple(self._channel(pin if name == names.PIN else name) for name in channels)
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

    def set_aside(self, link: Link, tag: int) -> None:
        """Return the credit of what is in hand now, not when it is settled."""
        entry = link.hand.get(tag)
        if entry is not None and entry.reader is not None and not entry.aside:
            entry.aside = True
            if entry.reader.standing:
                self.credit(entry.reader, 1)

    def _give(self, reader: Reader, entry: Entry) -> None:
        entry.tag = tag = entry.lasting or next(self._tags)
        entry.reader = reader
        entry.aside = False
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
            queue = channel.queue
            if channel.busy is None and queue and queue[0].not_to is None:  # the short road
                head = queue.popleft()
                channel.pending -= len(head.payloads) - head.done
                channel.bytes -= head.size
                if len(ring) > 1 or not queue:
                    del ring[channel]
                    if queue:
                        ring[channel] = None
                self._give(reader, head)
                continue
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

    def _out_of_hand(self, entry: Entry) -> None:
        """Return the credit, free the address."""
        reader = entry.reader
        entry.reader = None
        channel = entry.channel
        channel.in_hand -= len(entry.payloads) - entry.done
        if channel.busy is not None:
            channel.busy.discard(entry.name)
            if channel.queue:
                self._pump(channel)
        if reader is not None and reader.standing and not entry.aside:
            reader.credit += 1
            if reader.ring:
                self._feed(reader)
        if not channel.queue:
            self._tidy(channel)

    # ---------------------------------------------------------------- time

    def delayed(self) -> list[tuple[float, int, Entry]]:
        """Return what was released and waits for its time: (when, number, entry)."""
        return list(self._delayed)

    def next_due(self) -> float:
        """Return when something is due, in the clock's seconds."""
        due = self._checks[0][0] if self._checks else FOREVER
        if self._delayed and self._delayed[0][0] < due:
            due = self._delayed[0][0]
        return due

    def tick_queues(self) -> None:
        """Offer what was delayed, expire what waited too long."""
        now = self.clock()
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

    def _fail(self, entry: Entry, cause: Drop, outcome: Outcome) -> None:
        """Give up what is left of an entry: count it, and say so to its sender."""
        sender = entry.sender
        self._drop(entry.channel, cause, len(entry.payloads) - entry.done)
        if sender is not None and entry.receipt is not None:
            sender.receipts.pop(entry.receipt, None)
            for index in range(entry.done, len(entry.payloads)):
                self._tell(sender, entry.receipt, index, outcome)

    def _expire(self, entry: Entry) -> None:
        """Give up an entry whose lifetime or tries are spent."""
        self._fail(entry, Drop.EXPIRED, SPENT)

    # ---------------------------------------------------------------- second thoughts

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


def _no_push(entry: Entry) -> None:
    """Take what `State.pull` returns by itself."""
