"""Whose turn it is in a shared subscription (section 4.8.2) of several gateway processes. Pure.

Each process tells all how many members of a shared subscription it has; each publish has a number;
so that all come to the same member without asking each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

TELL_EVERY: Final = 5.0
"""Seconds between two times that a process says what it has."""
TELL_BYTES: Final = 65_536
"""Characters of filters from which on what it has goes into several messages."""
BELIEVED: Final = 16.0
"""Seconds for which that is believed: three times, and a little, for one that died."""


class Shares:
    """What all processes have of the members of shared subscriptions, by filter and process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._members: dict[str, dict[str, tuple[int, int, float]]] = {}
        """(those that are there, all of them, until when that is believed)."""
        self.own: set[str] = set()
        """Those of which this process has members."""

    def told(self, found: str, process: str, there: int, members: int) -> None:
        """Hear how many members of a shared subscription a process has."""
        held = self._members.setdefault(found, {})
        if members:
            held[process] = (there, members, self._clock() + BELIEVED)
        else:
            held.pop(process, None)
        if not held:
            del self._members[found]

    def forget(self, process: str) -> None:
        """Hear that a process has ended."""
        for found in list(self._members):
            self.told(found, process, 0, 0)

    def choose(self, found: str, number: int) -> tuple[str, int] | None:
        """Return which process serves a publish, and which of its members; None where none has any.

        Members that are there go before those that are away.
        """
        now = self._clock()
        held = self._members.get(found, {})
        living = sorted((name, one) for name, one in held.items() if one[2] > now)
        for column in (0, 1):
            counts = [(name, int(one[column])) for name, one in living]
            total = sum(count for _, count in counts)
            turn = number % total if total else 0
            for name, count in counts:
                if turn < count:
                    return name, turn
                turn -= count
        return None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the shared subscriptions of this process."""
        return iter(list(self.own))
