"""What a process holds alone, under its lease: a network connection, a client id.

Held is a key, by one process, with an epoch that is higher for each next holder. It ends by
``release``, or with the lease. A hub that was killed has forgotten who held what: a process that
comes back claims with its epoch what it held, and for a while after a hub has begun nobody else
is given anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core.layers.connections import Connections
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Link, Process

CLAIMS: Final = 2.0
"""Seconds after the beginning of a hub in which only what was held is given: those that held it
come back within `threads.MAX_BACKOFF`."""


class Holds(Connections):
    """Who holds what alone."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self.held: dict[str, tuple[Process, int]] = {}
        """By key: who holds it, and since which epoch."""
        self.successor = False
        """Whether the hub before this one was killed, so that who held something may come back."""
        self._began = clock()
        self._last_epoch = 0

    def acquire(self, link: Link, key: str, epoch: int = 0) -> int | None:
        """Give ``key`` to a process that nobody else holds it from; return the epoch, or None.

        ``epoch``: that with which it held the key before the layer was lost.
        """
        process = self._check(link)
        found = self.held.get(key)
        if found is not None:
            return found[1] if found[0] is process else None
        if not epoch:
            # Who lives with a hub that is nobody's successor is the first that there is.
            waits = process.leased or self.successor
            if waits and self.clock() - self._began < CLAIMS:
                return None
            epoch = self._last_epoch + 1
        self._last_epoch = max(self._last_epoch, epoch)
        self.held[key] = (process, epoch)
        return epoch

    def release(self, link: Link, key: str) -> None:
        """Give a key back; nothing happens where the process does not hold it."""
        process = self._check(link)
        found = self.held.get(key)
        if found is not None and found[0] is process:
            del self.held[key]

    def _release_all(self, process: Process) -> None:
        """Release what a process held whose lease has ended."""
        for key in [key for key, (holder, _) in self.held.items() if holder is process]:
            del self.held[key]
