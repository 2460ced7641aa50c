"""The inboxes of processes: one FIFO each, of messages, group messages, outcomes and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.errors import ChannelFull, Fenced
from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, OK, Outcome
from gateway.core.layers.edge import ANNOUNCED, GROUP, HANDLED, JOIN, MESSAGE, OUTCOME, Item
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Channel, Entry, Link, Process, Reader
from gateway.core.metrics import Drop

LOST: Final = Outcome(FAILED, cause="lost")
ITEM_SIZE: Final = 64
"""Bytes that an inbox item without payload counts for: about what its tuple takes."""


class Inboxes:
    """Processes and what waits for them."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.processes: dict[str, Process] = {}
        self.announced: frozenset[str] | None = None
        self.messages = 0
        self.full = 0
        self.drops: dict[str, int] = {}

    def _check(self, link: Link) -> Process:
        process = link.process
        if not process.alive:
            raise Fenced(f"the lease of {process.name} has ended")
        return process

    def _drop(self, channel: Channel | None, cause: Drop, n: int) -> None:
        if n <= 0:
            return
        self.drops[cause.value] = self.drops.get(cause.value, 0) + n
        if channel is not None:
            channel.drops[cause.value] = channel.drops.get(cause.value, 0) + n

    def open_edge(self, link: Link, notify: Callable[[], None]) -> None:
        """Have every item of the process drained by ``link``; ``notify`` says there are some."""
        process = link.process
        process.edge = link
        process.notify = notify
        process.inbox.append((ANNOUNCED, self.announced))
        notify()

    def drain(self, process: Process, most: int | None = None) -> list[Item]:
        """Return the items of the inbox, and forget them: all, or about ``most`` bytes.

        Only what members missed makes an inbox larger than its bounds. What is for one
        connection and follows each other, joins and replies, stays together.
        """
        items = process.inbox
        end = len(items) if most is None or not process.resumes else _first(items, most)
        if end == len(items):
            process.inbox = []
            process.inbox_bytes = 0
            process.resumes = False
        else:
            process.inbox = items[end:]
            del items[end:]
            process.inbox_bytes -= sum(map(_weight, items))
        process.skipped.clear()
        return items

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
                self._tell(sender, receipt, index, OK)

    def _put(self, channel: str, payload: bytes) -> bool:
        """Put one message into the inbox of an edge; False where that is not all there is to it.

        The short road of every reply.
        """
        mark = channel.find("!")
        if mark < 0:
            return False
        process = self.processes.get(channel[channel.rfind(".", 0, mark) + 1 : mark])
        if process is None or process.notify is None:
            return False
        inbox = process.inbox
        size = len(payload) + ITEM_SIZE
        if (
            len(inbox) >= self.options.process_capacity
            or process.inbox_bytes + size > self.options.process_bytes
        ):
            return False
        self.messages += 1
        process.inbox_bytes += size
        inbox.append((MESSAGE, channel, payload))
        if len(inbox) == 1:
            process.notify()
        return True

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

    def _handled(self, process: Process, receipt: int, index: int, number: int) -> None:
        """Tell that so many messages, from ``index`` on, were accepted."""
        if number == 1 or process.notify is None:
            for place in range(index, index + number):
                self._tell(process, receipt, place, OK)
        elif process.alive:
            inbox = process.inbox
            inbox.append((HANDLED, receipt, index, number))
            if len(inbox) == 1:
                process.notify()

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

    def _serve_inbox(self, process: Process) -> None:
        while process.waiters and process.inbox:
            entry = self.pull_inbox(process.waiters[0].link)
            if entry is not None:
                reader = process.waiters.pop(0)
                reader.credit = 0
                reader.push(entry)


def _weight(item: Item) -> int:
    """Return what an item counts for in its inbox."""
    code = item[0]
    if code in {MESSAGE, GROUP}:
        return ITEM_SIZE + len(item[2])
    if code in {OUTCOME, HANDLED}:
        return 0
    if code != JOIN:
        return ITEM_SIZE
    resumed = item[5][0] if len(item) > 5 else ()
    return len(item[3] or b"") + ITEM_SIZE * (1 + len(resumed))


def _first(items: list[Item], most: int) -> int:
    """Return how many of the first items travel together: ``most`` bytes, and what ends them."""
    size = 0
    last = None
    for place, item in enumerate(items):
        code = item[0]
        of = item[2] if code == JOIN else item[1] if code == MESSAGE else None
        if size >= most and (of is None or of != last):
            return place
        last = of
        if code in {MESSAGE, GROUP}:
            size += len(item[2])
        elif code == JOIN and len(item) > 5:
            size += sum(len(payload) for _, payload in item[5][0])
    return len(items)


_NOWHERE: Final = Channel("inbox", 0)
"""The channel of messages that were read from an inbox: nothing of theirs is counted there."""
