"""The log of a layer: what is kept by key, for those who come back.

One number counts on over all keys, so that one position, ``(epoch, offset)``, is a place in the
history of every key. The epoch is drawn at random when the state begins: a position of another
state, whose history is gone, is known by it.

Kept is bounded by key, in messages and seconds, and over all keys in bytes. Of what is not kept
any more the latest offset is remembered, by key as long as there is room: who asks for what came
after a position is told whether something of it is missing.
"""

from __future__ import annotations

import heapq
import secrets
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from gateway.core import names
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.presence import Presence
from gateway.core.layers.queues import IDLE_CHECKS
from gateway.core.layers.records import FOREVER, Link
from gateway.core.metrics import Drop

KEPT_SIZE: Final = 600
"""Bytes that a kept message counts for beside its own and its key's: about what it takes, where
it is the only one of its key."""
NAME_SIZE: Final = 60
"""Bytes that a channel which does not get it counts for beside its name."""
MANY_LOGS: Final = 100_000
"""Of so many logs that have become empty the latest offset is remembered: about 15 MB."""
EPOCH_BITS: Final = 48
"""Two states with the same epoch are less likely than a fault of the memory."""
GROUP_LOG: Final = "group:"
"""What the key of a group's log begins with, before its name."""

Position = tuple[int, int]
"""An epoch and an offset."""
Backlog = list[tuple[int, bytes]]
"""Kept messages with their offsets, the oldest first."""
Resumed = tuple[Backlog, Position, bool]
"""What somebody gets who comes back: what was kept since, the present position, and whether more
was missed than that."""


class Kept:
    """One message of a log."""

    __slots__ = ("exclude", "expires", "key", "offset", "payload", "size")

    def __init__(
        self, key: str, offset: int, payload: bytes, expires: float, exclude: Sequence[str]
    ) -> None:
        self.key = key
        self.offset = offset
        self.payload = payload
        self.expires = expires
        self.exclude = exclude
        """The channels that do not get it, whenever they ask."""
        self.size = len(payload) + len(key) + KEPT_SIZE
        for channel in exclude:
            self.size += len(channel) + NAME_SIZE


_offset = attrgetter("offset")


class Log:
    """What is kept of one key, in order, and the latest offset that is not any more."""

    __slots__ = ("_first", "_kept", "gone")

    def __init__(self, gone: int) -> None:
        self._kept: list[Any] = []
        self._first = 0
        """Where it begins: what goes, goes from the front, and not all others move up each time."""
        self.gone = gone

    def __len__(self) -> int:
        return len(self._kept) - self._first

    def append(self, kept: Kept) -> None:
        """Keep a message behind the others."""
        self._kept.append(kept)

    def first(self) -> Kept:
        """Return the oldest."""
        found: Kept = self._kept[self._first]
        return found

    def after(self, offset: int) -> list[Kept]:
        """Return what has a greater offset."""
        return self._kept[bisect_right(self._kept, offset, self._first, key=_offset) :]

    def remove(self, kept: Kept) -> None:
        """Keep a message no more."""
        self.gone = max(self.gone, kept.offset)
        if kept is not self._kept[self._first]:
            del self._kept[bisect_left(self._kept, kept.offset, self._first, key=_offset)]
            return
        self._kept[self._first] = None
        self._first += 1
        if self._first > len(self._kept) >> 1:
            del self._kept[: self._first]
            self._first = 0


class Logs(Presence):
    """All logs of a layer."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.epoch = secrets.randbits(EPOCH_BITS)
        self.kept: OrderedDict[int, Kept] = OrderedDict()
        """All that is kept, by offset."""
        self.kept_bytes = 0
        self._offset = 0
        """The last one given."""
        self._logs: dict[str, Log] = {}
        """Those with something in them."""
        self._emptied: OrderedDict[str, int] = OrderedDict()
        """By key of a log with nothing in it: the latest offset that was."""
        self._forgotten = 0
        """The latest offset of all logs that are not remembered any more."""
        self._ends: list[tuple[float, int]] = []
        """When which offset expires: a heap. Some of them are not kept any more."""

    @property
    def position(self) -> Position:
        """The present position."""
        return (self.epoch, self._offset)

    def log_append(
        self, link: Link, key: str, payload: bytes, limit: int, seconds: float | None
    ) -> Position:
        """Keep a message among the last ``limit`` of its key; return its position."""
        self._check(link)
        return self._keep(key, payload, limit, seconds)

    def log_read(
        self, link: Link, key: str, since: Sequence[int] | None
    ) -> tuple[Backlog, Position, bool]:
        """Return what is kept after a position (None: all), the present one, what is missed."""
        self._check(link)
        self.tick_log()
        found, missed = (self._after(key, 0), False) if since is None else self._since(key, since)
        return [(kept.offset, kept.payload) for kept in found], self.position, missed

    def log_keys(self, link: Link, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix`` and of which something is kept."""
        self._check(link)
        self.tick_log()
        return [key for key in self._logs if key.startswith(prefix)]

    def resume(self, group: str, channel: str, since: str) -> Resumed:
        """Return what a member missed since the position that ``since`` says; empty: nothing."""
        self.tick_log()
        if not since:
            return [], self.position, False
        found, missed = self._since(GROUP_LOG + group, names.parse_position(since))
        backlog = [(kept.offset, kept.payload) for kept in found if channel not in kept.exclude]
        return backlog, self.position, missed

    def _keep(
        self,
        key: str,
        payload: bytes,
        limit: int,
        seconds: float | None,
        exclude: Sequence[str] = (),
    ) -> Position:
        self.tick_log()
        offset = self._offset = self._offset + 1
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = Log(self._emptied.pop(key, self._forgotten))
        expires = FOREVER if seconds is None else self.clock() + seconds
        kept = self.kept[offset] = Kept(key, offset, payload, expires, exclude)
        log.append(kept)
        self.kept_bytes += kept.size
        if expires != FOREVER:
            heapq.heappush(self._ends, (expires, offset))
        while len(log) > limit:
            self._unkeep(log.first())
        while self.kept_bytes > self.options.history_bytes:
            self._unkeep(next(iter(self.kept.values())))
            self._drop(None, Drop.EVICTED, 1)
        self._tidy_ends()
        return (self.epoch, offset)

    def _since(self, key: str, since: Sequence[int] | None) -> tuple[list[Kept], bool]:
        """Return what is kept after a position, and whether more was.

        A position of another state, of the future or of nothing at all is before everything.
        """
        if since is None or since[0] != self.epoch or since[1] > self._offset:
            return self._after(key, 0), True
        log = self._logs.get(key)
        gone = self._emptied.get(key, self._forgotten) if log is None else log.gone
        return self._after(key, since[1]), since[1] < gone

    def _after(self, key: str, offset: int) -> list[Kept]:
        log = self._logs.get(key)
        return [] if log is None else log.after(offset)

    def tick_log(self) -> None:
        """Keep no more what has been kept for its time."""
        now = self.clock()
        while self._ends and self._ends[0][0] <= now:
            kept = self.kept.get(heapq.heappop(self._ends)[1])
            if kept is not None:
                self._unkeep(kept)

    def _unkeep(self, kept: Kept) -> None:
        """Keep a message no more."""
        del self.kept[kept.offset]
        self.kept_bytes -= kept.size
        log = self._logs[kept.key]
        log.remove(kept)
        if not log:
            del self._logs[kept.key]
            self._emptied[kept.key] = log.gone
            if len(self._emptied) > MANY_LOGS:
                self._forgotten = max(self._forgotten, self._emptied.popitem(last=False)[1])

    def _tidy_ends(self) -> None:
        """Forget the ends of what is not kept any more, once they are most of them."""
        if len(self._ends) > IDLE_CHECKS + 2 * len(self.kept):
            self._ends = [end for end in self._ends if end[1] in self.kept]
            heapq.heapify(self._ends)

    def flush_log(self) -> None:
        """Keep nothing; whoever has a position from before has missed what came after it."""
        self.kept.clear()
        self.kept_bytes = 0
        self._logs.clear()
        self._emptied.clear()
        self._ends.clear()
        self._forgotten = self._offset
