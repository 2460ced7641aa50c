"""The timers of one session, on the process's wheel of deadlines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.core.deadlines import Deadline
from gateway.core.plugin import Timer

if TYPE_CHECKING:
    from gateway.core.attached import Connection


class Timers:
    """What a session wants to be called for, by name. Made when it first asks."""

    __slots__ = ("_by_name", "_connection")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._by_name: dict[str, Deadline] = {}

    def set(self, timer: Timer) -> None:
        """Do what the action says: set it, move it, or clear it."""
        deadlines = self._connection.context.deadlines
        deadline = self._by_name.get(timer.name)
        if timer.seconds is None:
            if deadline is not None:
                deadlines.clear(deadline)
            return
        if deadline is None:
            due = partial(self._connection.timed_out, timer.name)
            deadline = self._by_name[timer.name] = Deadline(due)
        deadlines.set(deadline, timer.seconds)

    def forget(self) -> None:
        """Let go of all of them."""
        for deadline in self._by_name.values():
            self._connection.context.deadlines.forget(deadline)
        self._by_name.clear()
