"""`Queue`: which mail is tried when, and how many at once. Pure, but for the time it is told.

A mail has a part for each destination. A lane is what goes to one destination: its parts, its
connections, and since when nothing comes through::

    lane example.org   parts that wait, by when they are due        ●  ●      ●
                       not before `blocked`, if the last connection failed    │ time ->
                       at most `connections_per_destination` at once
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Final

from gateway.plugins.email.client.config import Delivery
from gateway.plugins.email.client.destinations import Destination

PROBES: Final = 1
"""Connections at once to where the last one failed."""


class Part:
    """What of one mail goes to one destination."""

    __slots__ = ("created", "destination", "due", "in_hand", "live", "name", "place")

    def __init__(self, name: str, destination: Destination, due: float, created: float) -> None:
        self.name = name
        """The id of the mail."""
        self.destination = destination
        self.due = due
        self.created = created
        self.in_hand = False
        self.live = True
        self.place = -1
        """The number of its one place in a lane that counts; -1: it has none."""


class Lane:
    """What goes to one destination. Made by `Queue`."""

    __slots__ = ("active", "blocked", "destination", "failures", "heap", "reason")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.heap: list[tuple[float, int, Part]] = []
        self.active = 0
        """Its connections."""
        self.failures = 0
        """How often a connection failed since one was there."""
        self.blocked = 0.0
        """Before this it is not tried again."""
        self.reason = ""
        """Why the last connection failed."""

    def first(self) -> float | None:
        """Return when something of it can be tried; None: it is empty."""
        heap = self.heap
        while heap and heap[0][2].place != heap[0][1]:
            heapq.heappop(heap)  # it was moved, or taken
        return max(heap[0][0], self.blocked) if heap else None


class Queue:
    """All that is to be delivered. ``now`` is in seconds since the epoch."""

    def __init__(self, config: Delivery) -> None:
        self._config = config
        self._lanes: dict[Destination, Lane] = {}
        self._parts: dict[str, dict[Destination, Part]] = {}
        self._alarms: list[tuple[float, int, Lane]] = []
        self._hungry: dict[Lane, None] = {}
        """Lanes with something due, which have no connection for it yet."""
        self._numbers = itertools.count()
        self.active = 0
        """Connections at once, all lanes together."""

    def __len__(self) -> int:
        """Return how many mails are there."""
        return len(self._parts)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def names(self) -> list[str]:
        """Return the ids of the mails that are there."""
        return list(self._parts)

    def lanes(self) -> Iterator[Lane]:
        """Return the lanes that there are."""
        return iter(self._lanes.values())

    def wait(self, tries: int) -> float:
        """Return the seconds after the try of that number."""
        config = self._config
        longest = config.retry_longest
        seconds = min(config.retry_first * 2.0 ** min(tries - 1, 30), longest)
        # Anywhere in the last third: not all that failed together come back together.
        return seconds * random.uniform(2 / 3, 1.0)  # noqa: S311 - it spreads, it hides nothing

    # ------------------------------------------------ mails

    def put(self, name: str, parts: dict[Destination, float], created: float) -> None:
        """Have a mail, or what is left of it, tried: by destination, when that is due."""
        known = self._parts.get(name, {})
        for destination, part in known.items():
            if destination not in parts and not part.in_hand:
                self._leave(part)
        found: dict[Destination, Part] = {d: p for d, p in known.items() if p.in_hand}
        for destination, due in parts.items():
            part = known.get(destination) or Part(name, destination, due, created)
            found[destination] = part
            if not part.in_hand:
                part.due = due
                self._enter(part)
        if found:
            self._parts[name] = found
        else:
            self._parts.pop(name, None)

    def _enter(self, part: Part) -> None:
        lane = self._lanes.get(part.destination)
        if lane is None:
            lane = self._lanes[part.destination] = Lane(part.destination)
        part.place = next(self._numbers)
        heapq.heappush(lane.heap, (part.due, part.place, part))
        self._alarm(lane)

    @staticmethod
    def _leave(part: Part) -> None:
        """Have a part no more."""
        part.live = False
        part.place = -1

    def drop(self, name: str) -> None:
        """Have a mail no more."""
        for part in self._parts.pop(name, {}).values():
            self._leave(part)

    # ------------------------------------------------ connections

    def _alarm(self, lane: Lane) -> None:
        first = lane.first()
        if first is not None:
            heapq.heappush(self._alarms, (first, next(self._numbers), lane))

    def next_alarm(self) -> float | None:
        """Return when `begin` has something to say next, if nothing happens before."""
        alarms = self._alarms
        while alarms and (alarms[0][2].first() is None or alarms[0][2] in self._hungry):
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else None

    def begin(self, now: float) -> Iterator[Lane]:
        """Yield the lanes for which a connection is to be begun, once for each; count it."""
        alarms = self._alarms
        while alarms and alarms[0][0] <= now:
            self._hungry[heapq.heappop(alarms)[2]] = None
        for lane in list(self._hungry):
            if self.active >= self._config.connections:
                return
            del self._hungry[lane]
            first = lane.first()
            if first is None or first > now:
                self._alarm(lane)
                continue
            most = PROBES if lane.failures else self._config.connections_per_destination
            if lane.active >= most:
                continue  # those that there are take it
            lane.active += 1
            self.active += 1
            yield lane
            if lane.active < most and self._due(lane, now) > lane.active:
                self._hungry[lane] = None  # behind the others

    @staticmethod
    def _due(lane: Lane, now: float) -> int:
        """Return how many parts are due, as far as it matters."""
        return sum(due <= now and part.place == place for due, place, part in lane.heap[:64])

    def next(self, lane: Lane, now: float) -> Part | None:
        """Take the next part for a connection of a lane; None: none is due."""
        first = lane.first()
        if first is None or first > now:
            return None
        return self._taken(heapq.heappop(lane.heap)[2])

    @staticmethod
    def _taken(part: Part) -> Part:
        part.in_hand = True
        part.place = -1
        return part

    def done(self, part: Part) -> None:
        """Have a part no more: all is done that is to be done with it."""
        self._leave(part)
        part.in_hand = False
        parts = self._parts.get(part.name)
        if parts is not None and parts.get(part.destination) is part:
            del parts[part.destination]
            if not parts:
                del self._parts[part.name]

    def again(self, part: Part, due: float) -> None:
        """Have a part tried again."""
        part.in_hand = False
        if part.live:
            part.due = due
            self._enter(part)

    def came_through(self, lane: Lane) -> None:
        """Note that there was a connection."""
        lane.failures = 0
        lane.blocked = 0.0
        lane.reason = ""

    def failed(self, lane: Lane, now: float, reason: str) -> float:
        """Note that no connection came to be; return when it is tried again."""
        lane.failures += 1
        lane.blocked = now + self.wait(lane.failures)
        lane.reason = reason
        return lane.blocked

    def __getitem__(self, destination: Destination) -> Lane | None:
        """Return what goes to a destination; None: nothing does."""
        return self._lanes.get(destination)

    def ended(self, lane: Lane) -> None:
        """Note that a connection, or the attempt at one, is over."""
        lane.active -= 1
        self.active -= 1
        if lane.first() is not None:
            self._alarm(lane)
        elif not lane.active:
            self._lanes.pop(lane.destination, None)

    def hurry(self, name: str) -> None:
        """Try a mail now, whatever failed before."""
        for part in self._parts.get(name, {}).values():
            lane = self._lanes.get(part.destination)
            if lane is not None:
                lane.blocked = 0.0
                self._alarm(lane)

    def overdue(self, lane: Lane, before: float) -> Iterator[Part]:
        """Take, one by one, the parts of a lane that are of a mail from ``before`` then."""
        for _, place, part in list(lane.heap):
            if part.place == place and part.created < before:
                yield self._taken(part)
