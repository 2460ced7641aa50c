"""Many coarse deadlines at the cost of few timers: one wheel for a whole process.

A deadline that is set again, as most are before they come due, only stores two numbers: it
stays in its slot of the wheel, and moves on when that slot's time comes. Setting is O(1),
nothing runs while no deadline is set, and the loop sleeps until the earliest slot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

RESOLUTION: Final = 0.1
"""Seconds of one slot: far below every timeout of a protocol, far above what a turn costs."""


class Clock(Protocol):
    """What the wheel needs of an event loop; tests bring one that is moved by hand."""

    def time(self) -> float:
        """Return monotonic seconds."""

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        """Call back after ``delay`` seconds; return a handle with ``cancel()``."""


class Deadline:
    """One callback that is due at a time that may be moved. Made once, set often.

    ``due`` is called with no arguments, at most one slot late, never early.
    """

    __slots__ = ("due", "slot", "tick")

    def __init__(self, due: Callable[[], None]) -> None:
        self.due = due
        self.tick = 0
        """The slot at whose time it is due; 0 while it is not set."""
        self.slot = 0
        """The slot that holds it; 0 while none does."""


class Deadlines:
    """The wheel. ``clock`` is the event loop."""

    def __init__(self, clock: Clock, resolution: float = RESOLUTION) -> None:
        self._clock = clock
        self._resolution = resolution
        self._slots: dict[int, dict[Deadline, None]] = {}
        self._next = 0
        self._timer: Any = None

    def set(self, deadline: Deadline, seconds: float) -> None:
        """Have ``deadline`` due in ``seconds`` from now, whatever it was set to before."""
        # One slot is added, since the present one has begun already: never early.
        tick = int((self._clock.time() + seconds) / self._resolution) + 1
        deadline.tick = tick
        if deadline.slot:
            if deadline.slot <= tick:
                return
            self._slots[deadline.slot].pop(deadline)
        self._place(deadline, tick)
        if self._timer is None or tick < self._next:
            self._sleep(tick)

    @staticmethod
    def clear(deadline: Deadline) -> None:
        """Have it not due for now; it keeps its slot, since most are set again soon."""
        deadline.tick = 0

    def forget(self, deadline: Deadline) -> None:
        """Have it not due any more, and hold it no longer."""
        deadline.tick = 0
        if deadline.slot:
            self._slots[deadline.slot].pop(deadline)
            deadline.slot = 0

    def __len__(self) -> int:
        """How many deadlines the wheel holds, those that were cleared lately included."""
        return sum(len(slot) for slot in self._slots.values())

    def armed(self) -> int:
        """Return how many are due at some time."""
        return sum(1 for slot in self._slots.values() for deadline in slot if deadline.tick)

    def _place(self, deadline: Deadline, tick: int) -> None:
        deadline.slot = tick
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = {deadline: None}
        else:
            slot[deadline] = None

    def _sleep(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        delay = tick * self._resolution - self._clock.time()
        self._timer = self._clock.call_later(max(0.0, delay), self._turn)

    def _turn(self) -> None:
        self._timer = None
        # A hundredth of a slot of grace: the loop's timers may ring that much early.
        now = int(self._clock.time() / self._resolution + 0.01)
        for tick in sorted(tick for tick in self._slots if tick <= now):
            slot = self._slots[tick]
            while slot:
                deadline, _ = slot.popitem()
                deadline.slot = 0
                if deadline.tick > now:
                    self._place(deadline, deadline.tick)
                elif deadline.tick:
                    deadline.tick = 0
                    try:
                        deadline.due()
                    except Exception:
                        log.exception("what a deadline called raised")
            del self._slots[tick]
        if self._slots and self._timer is None:
            self._sleep(min(self._slots))
