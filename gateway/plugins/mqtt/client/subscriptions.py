"""What is subscribed to at a broker: what the settings say, and what workers want. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.topics import SHARE, filter_fault

GRACE: Final = 60.0
"""Seconds until what no worker wants any more is unsubscribed: a worker that is restarted has
come back by then, and what came meanwhile has waited for it."""


class Subscriptions:
    """The subscriptions at one broker. ``now`` is any clock's."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._said = frozenset(broker.subscribe)
        self._unwanted: dict[str, float] = {}
        """Since when no worker wants what is subscribed."""
        self._asked: dict[int, list[str]] = {}
        """By packet identifier: what was asked for."""
        self._confirmed: set[str] = set()
        self.filters: frozenset[str] = self._said
        """What is to be subscribed to."""
        self.refused: dict[str, int] = {}
        """What the broker refused, and by which reason code."""
        self.looping: frozenset[str] = frozenset()
        """What workers want and may not have, as the broker would send our publishes back."""

    def want(self, wanted: frozenset[str] | None, now: float) -> frozenset[str]:
        """Take what living workers want (None: there is none); return what is to be given up."""
        if wanted is None:
            return frozenset()  # what comes now waits for them
        good = {one for one in wanted if filter_fault(one) is None}
        if self._broker.hears_itself and not self._broker.allow_loop:
            self.looping = frozenset(
                one for one in good if any(overlap(one, p) for p in self._broker.publish)
            )
            good -= self.looping
        kept = self._said | good
        over = set()
        for found in self.filters - kept:
            if now - self._unwanted.setdefault(found, now) >= GRACE:
                over.add(found)
        self._unwanted = {k: v for k, v in self._unwanted.items() if k not in kept | over}
        self.filters = (self.filters | kept) - over
        self._confirmed -= over
        for found in over:
            self.refused.pop(found, None)
        return frozenset(over)

    def joined(self, *, resumed: bool) -> None:
        """Hear that there is a connection; without our old session nothing is subscribed."""
        self._asked.clear()
        self.refused.clear()
        if not resumed:
            self._confirmed.clear()

    def missing(self) -> list[str]:
        """Return what is to be asked for now."""
        asked = {found for group in self._asked.values() for found in group}
        return sorted(self.filters - self._confirmed - asked - self.refused.keys())

    def asked(self, packet_id: int, filters: list[str]) -> None:
        """Note that filters were asked for."""
        self._asked[packet_id] = filters

    def answered(self, packet_id: int, codes: Iterable[int]) -> list[str]:
        """Take the broker's answer; return what it refused."""
        refused = []
        for found, code in zip(self._asked.pop(packet_id, []), codes, strict=False):
            if code >= 0x80:
                self.refused[found] = code
                refused.append(found)
            else:
                self._confirmed.add(found)
        return refused

    def written(self, found: str) -> str:
        """Return a filter as the broker is asked for it."""
        return f"{SHARE}{self._broker.group}/{found}" if self._broker.mode == "shared" else found


def overlap(one: str, other: str) -> bool:
    """Return whether two topic filters can match the same topic.

    >>> overlap("sensors/+/temp", "sensors/7/#"), overlap("a/+", "b/+")
    (True, False)
    """
    left, right = one.split("/"), other.split("/")
    if (one[:1] == "$") != (other[:1] == "$"):
        return False  # wildcards at the beginning do not match it (section 4.7.2)
    for index in range(max(len(left), len(right))):
        a = left[index] if index < len(left) else None
        b = right[index] if index < len(right) else None
        if a == "#" or b == "#":
            return True
        if a is None or b is None:
            return False
        if a != b and "+" not in (a, b):
            return False
    return True
