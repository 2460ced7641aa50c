"""What waits for a client that does not take it now, bounded in messages and bytes. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from gateway.core.plugin import Message


class Waiting(NamedTuple):
    """One reply on its way out."""

    conversation: Any
    reply: Message
    token: Any
    """The token of its ``ack``, or None."""
    frame: Any
    """What to write instead of asking the session; None: the session is asked."""
    size: int


class Outbox:
    """A FIFO of replies of one connection."""

    __slots__ = ("_most_bytes", "_most_messages", "_size", "_waiting")

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._waiting: deque[Waiting] = deque()
        self._size = 0
        self._most_messages = most_messages
        self._most_bytes = most_bytes

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, size: int) -> bool:
        """Return whether one more of ``size`` bytes fits. The first always does."""
        return not self._waiting or (
            len(self._waiting) < self._most_messages and self._size + size <= self._most_bytes
        )

    def append(self, entry: Waiting) -> None:
        """Put an entry at the end, whether there is room or not."""
        self._waiting.append(entry)
        self._size += entry.size

    def popleft(self) -> Waiting:
        """Take the oldest."""
        entry = self._waiting.popleft()
        self._size -= entry.size
        return entry
