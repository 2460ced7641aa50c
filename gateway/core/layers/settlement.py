"""Settlement: what became of a delivery, and what a consumer sends with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    GROUP_ADD,
    GROUP_DISCARD,
    GROUP_SEND,
    MAX_TRIES,
    OK,
    RELEASED,
    SEND,
    Outcome,
    Send,
)
from gateway.core.layers.edge import MESSAGE
from gateway.core.layers.groups import Groups
from gateway.core.layers.inboxes import LOST
from gateway.core.layers.journal import Journal
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Entry, Link, Reader
from gateway.core.metrics import Drop

log = logging.getLogger("gateway.layer")

SKIPPED: Final = Outcome(FAILED, cause="skipped")
REFUSED: Final = Outcome(FAILED, cause="full")
LISTEN_CREDIT: Final = 1000
"""Any number does: what an edge listens to is settled as it comes."""


class Settlement(Groups):
    """What is in hand, until it is settled."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.journal = Journal()

    def settle(
        self, link: Link, tag: int, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> bool:
        """Settle the next messages of what ``link`` holds; return False if that came too late."""
        if len(outcomes) == 1 and outcomes[0] is OK:
            return self.accept(link, tag, 1, sends)
        entry = self._held(link, tag, len(outcomes))
        if entry is None:
            return False
        return self._settle(link, entry, outcomes, refused=self._send_all(link, entry, sends))

    def accept(self, link: Link, tag: int, number: int, sends: Sequence[Send]) -> bool:
        """As `settle`, of so many messages that are accepted: the short road of nearly all."""
        entry = link.hand.get(tag)
        if entry is None or not link.process.alive:
            entry = self._held(link, tag, number)
            if entry is None:
                return False
        if sends and self._send_all(link, entry, sends):
            return self._settle(link, entry, (OK,) * number, refused=True)
        sender = entry.sender
        first = entry.done
        left = len(entry.payloads) - first
        if number < left:
            entry.done = first + number
            entry.channel.in_hand -= number
            if sender is not None:
                self._handled(sender, entry.receipt or 0, first, number)
            return True
        self._drop(None, Drop.STALE, number - left)
        entry.done = first + left
        entry.channel.in_hand -= left
        del link.hand[tag]
        if sender is not None:
            sender.receipts.pop(entry.receipt or 0, None)
            if left == 1:
                self._tell(sender, entry.receipt or 0, first, OK)
            else:
                self._handled(sender, entry.receipt or 0, first, left)
        elif entry.lasting:
            self._over(entry)
        self._out_of_hand(entry)
        if sender is None and entry.membership is not None:
            self._presence_settled(entry.membership)
        return True

    def _held(self, link: Link, tag: int, number: int) -> Entry | None:
        """Return what ``link`` holds by a tag; None, counted, if it holds that no more."""
        process = link.process
        entry = link.hand.get(tag)
        if entry is None and process.reserved is not None:
            entry = process.reserved.pop(tag, None)
            if entry is not None:
                link.hand[tag] = entry
        if entry is None or not process.alive:
            self._drop(None, Drop.STALE, number)
            return None
        return entry

    def _send_all(self, link: Link, entry: Entry, sends: Sequence[Send]) -> bool:
        """Do the sends of a consumer; return whether one was refused."""
        refused = False
        for action in sends:
            try:
                self._do(link, action)
            except ChannelFull as error:
                refused = True
                self._drop(None, Drop.FULL, 1)
                log.warning("a send of a consumer of %s was refused: %s", entry.name, error)
        return refused

    def _settle(
        self, link: Link, entry: Entry, outcomes: Sequence[Outcome], *, refused: bool
    ) -> bool:
        sender, receipt = entry.sender, entry.receipt
        last = len(outcomes) - 1
        for place, outcome in enumerate(outcomes):
            if outcome.kind == ACCEPTED:
                if sender is not None:
                    told = REFUSED if refused and place == last else outcome
                    self._tell(sender, receipt or 0, entry.done, told)
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
        if entry.lasting:
            self._over(entry)
        self._out_of_hand(entry)
        if entry.membership is not None:
            self._presence_settled(entry.membership)

    def _over(self, entry: Entry) -> None:
        """Forget a disconnect: it is settled, or dropped."""
        if self.lasting.pop(entry.lasting, None) is not None:
            self.journal.settled(entry.lasting)

    def _release(self, link: Link, entry: Entry, delay: float) -> None:
        link.hand.pop(entry.tag, None)
        entry.tries += 1
        entry.not_to = link.process
        now = self.clock()
        spent = not entry.forever and (entry.tries >= MAX_TRIES or entry.deadline <= now)
        if spent:
            self._out_of_hand(entry)
            self._expire(entry)
        elif delay > 0:
            self._out_of_hand(entry)
            self._shrink(entry)
            entry.channel.pending += len(entry.payloads) - entry.done
            entry.channel.bytes += entry.size
            self._at(self._delayed, min(now + delay, entry.deadline), entry)
        else:
            reader, entry.reader = entry.reader, None
            channel = entry.channel
            channel.in_hand -= len(entry.payloads) - entry.done
            if channel.busy is not None:
                channel.busy.discard(entry.name)
            self._requeue(entry)
            if reader is not None and reader.standing and not entry.aside:
                reader.credit += 1
                self._feed(reader)

    def _lose(self, entry: Entry) -> None:
        """Its taker is lost."""
        reader = entry.reader
        if reader is not None:
            reader.link.hand.pop(entry.tag, None)
        self._out_of_hand(entry)
        if entry.forever:
            self._requeue(entry)
            return
        self._fail(entry, Drop.FAILED, LOST)

    def listen(self, link: Link, name: str) -> None:
        """Have a channel's messages put into the inbox of an edge, settled as they come."""

        def push(entry: Entry) -> None:
            process = link.process
            number = len(entry.payloads) - entry.done
            for payload in entry.payloads[entry.done :]:
                self._item(process, (MESSAGE, entry.name, payload), len(payload))
            self.accept(link, entry.tag, number, ())

        reader = link.listening[name] = Reader(link, LISTEN_CREDIT, push, standing=True)
        self.read(reader, [name])

    def unlisten(self, link: Link, name: str) -> None:
        """Have a channel's messages wait for another reader."""
        reader = link.listening.pop(name, None)
        if reader is not None:
            self.unread(reader)

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
            if not self._put(action[1], action[2]):
                self.send(link, action[1], (action[2],))
        elif code == GROUP_SEND:
            self.send_group(link, *action[1:])
        elif code == GROUP_ADD:
            self.group_add(link, *action[1:])
        elif code == GROUP_DISCARD:
            self.group_discard(link, action[1], action[2])
        else:
            raise ValueError(f"{code!r} is not the code of a send")
