"""The publishes that are on their way to a broker. Pure, but for the time it is told.

In order, bounded in messages and bytes, for as long as the broker is away or behind. What has
QoS 1 or 2 is in flight until the broker has acknowledged it, over any number of connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from gateway.plugins.mqtt.client.terms import Publish

OVERHEAD: Final = 200
"""Bytes that a publish costs beside its payload."""


class Entry(NamedTuple):
    """A publish that waits."""

    publish: Publish
    until: float | None
    """When nobody need get it any more."""

    def is_over(self, now: float) -> bool:
        """Whether nobody need get it any more."""
        return self.until is not None and self.until <= now

    def rest(self, now: float) -> Publish:
        """Return it with what is left of its expiry."""
        if self.until is None:
            return self.publish
        # At least 1: 0 would mean "at once or not at all" (section 3.3.2.3.3).
        return msgspec.structs.replace(self.publish, expiry=max(1, round(self.until - now)))


class Outgoing:
    """What waits, and what is in flight: at most ``inflight`` with QoS 1 and 2."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[Entry] = deque()
        self._bytes = 0
        self._flying: dict[int, Any] = {}
        """By packet identifier: the token, None where nobody asked."""
        self.inflight = 20

    def __len__(self) -> int:
        """Return how many are not done."""
        return len(self._waiting) + len(self._flying)

    def put(self, publish: Publish, now: float) -> bool:
        """Take a publish; False where there is no room for it."""
        size = len(publish.payload) + OVERHEAD
        if self._waiting and (
            len(self._waiting) >= self._most or self._bytes + size > self._most_bytes
        ):
            return False
        until = None if publish.expiry is None else now + publish.expiry
        self._waiting.append(Entry(publish, until))
        self._bytes += size
        return True

    def expired(self, now: float) -> Iterator[Publish]:
        """Take out what nobody need get any more, and yield it."""
        if any(entry.is_over(now) for entry in self._waiting):
            entries, self._waiting = self._waiting, deque()
            for entry in entries:
                if entry.is_over(now):
                    self._bytes -= len(entry.publish.payload) + OVERHEAD
                    yield entry.publish
                else:
                    self._waiting.append(entry)

    def next(self) -> Entry | None:
        """Take out the next one to be sent; None: none may be now."""
        if not self._waiting or (
            self._waiting[0].publish.qos and len(self._flying) >= self.inflight
        ):
            return None
        entry = self._waiting.popleft()
        self._bytes -= len(entry.publish.payload) + OVERHEAD
        return entry

    def back(self, entry: Entry) -> None:
        """Take back what could not be sent after all: it is the next one again."""
        self._waiting.appendleft(entry)
        self._bytes += len(entry.publish.payload) + OVERHEAD

    def sent(self, packet_id: int, publish: Publish) -> None:
        """Note that one of QoS 1 or 2 was sent."""
        self._flying[packet_id] = publish.token

    def done(self, packet_id: int) -> Any:
        """Note that the broker has it; return its token."""
        return self._flying.pop(packet_id, None)

    def lost(self) -> Iterator[Any]:
        """Give everything up; yield the tokens of what is lost, None for those without."""
        for publish, _ in self._waiting:
            yield publish.token
        yield from self._flying.values()
        self._waiting.clear()
        self._flying.clear()
        self._bytes = 0
