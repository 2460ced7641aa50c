"""The disconnects that a process has in hand, for a hub that does not know it.

Any other delivery is lost with its hub: its sender hears so. A disconnect is offered until it
is settled, by whatever hub: so that none runs twice, a process tells every hub that it joins
which it has in hand and which it has settled of late.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from gateway.core.layers import wire
from gateway.core.layers.base import RELEASED, Delivery, Outcome, Send
from gateway.core.layers.verbs import DO_CLAIM

MOST_SETTLED: Final = 1024
"""So many settlements may have been on their way when a hub was killed."""


class Held:
    """What one process has in hand and had of late, by tag. Thread-safe."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._settled: deque[int] = deque(maxlen=MOST_SETTLED)
        self._unsaid: list[Any] = []
        self._lock = threading.Lock()

    def begun(self, tag: int) -> None:
        """Take note that it was handed to a consumer."""
        self._held.add(tag)

    def put_back(self, tag: int) -> None:
        """Take note that it was given back."""
        self._held.discard(tag)

    def settled(self, tag: int, outcomes: Sequence[Outcome]) -> None:
        """Take note of a settlement that is said to the hub."""
        with self._lock:
            self._settle(tag, outcomes)

    def keep(self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]) -> None:
        """Keep a settlement while there is no hub."""
        tag = delivery.tag
        with self._lock:
            if tag in self._held:
                wire.add_settle(self._unsaid, tag, outcomes, sends)
                self._settle(tag, outcomes)

    def _settle(self, tag: int, outcomes: Sequence[Outcome]) -> None:
        self._held.discard(tag)
        if outcomes and outcomes[-1].kind != RELEASED:
            self._settled.append(tag)

    def claims(self) -> list[Any]:
        """Return the commands that tell a hub of it."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, []
            late = {command[2] for command in unsaid}
            held = sorted(self._held | late)
            settled = [tag for tag in self._settled if tag not in late]
        if not held and not settled:
            return []
        return [(DO_CLAIM, 0, held, settled), *unsaid]
