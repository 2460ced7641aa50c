"""When a worker has done enough: how many messages it has run, how much memory it has.

Both are looked at now and then, not at each message: a worker goes on until its successor is
ready, so that a little more or less is no difference.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

from gateway.core.config import WorkerSettings

LOOK: Final = 0.5
"""Seconds between two looks: each costs some microseconds."""
SPREAD: Final = 0.2
"""The part of max_requests by which workers differ, so that they are not all used up at once."""
STATM: Final = Path("/proc/self/statm")
"""Where Linux says how much memory this process has: proc(5)."""


class Limits:
    """The limits of one worker; ``part`` (0 to 1) is its place in the spread."""

    def __init__(self, settings: WorkerSettings, part: float | None = None) -> None:
        part = random.random() if part is None else part  # noqa: S311 - no secret
        self.requests = max(1, round(settings.max_requests * (1 - SPREAD * part)))
        """How many messages it runs."""
        self._settings = settings

    @property
    def any(self) -> bool:
        """Whether there are limits at all."""
        return bool(self._settings.max_requests or self._settings.max_memory)

    def look_every(self) -> float | None:
        """Return the seconds between two looks; None where there are no limits."""
        return LOOK if self.any else None

    def reached(self, handled: int, memory: int | None = None) -> str | None:
        """Return which limit is reached, as a text, None while none is.

        ``handled`` counts messages, ``memory`` is in bytes (None: this process's).
        """
        settings = self._settings
        if settings.max_requests and handled >= self.requests:
            return f"it has run {handled} messages (workers.max_requests: {settings.max_requests})"
        if settings.max_memory:
            memory = resident() if memory is None else memory
            if memory >= settings.max_memory:
                return (
                    f"it has {memory} bytes of memory (workers.max_memory: {settings.max_memory})"
                )
        return None


def resident() -> int:
    """Return the bytes of memory that this process has; 0 where the system does not say."""
    try:
        pages = STATM.read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
