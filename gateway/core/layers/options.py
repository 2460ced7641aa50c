"""How a layer behaves: `LayerOptions`. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.core.layers import codec

LARGEST: Final = 64 * 1024 * 1024
"""Bytes that ``message_bytes`` may be at most: while one such message is copied, nothing else
is done."""
SPARE: Final = 1024
"""Bytes of room that a message of ``message_bytes`` is to have beside its own."""


class LayerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a layer behaves; the settings table ``[layer]`` names the same keys."""

    expiry: float = 60.0
    """Seconds that a message waits for a reader."""
    group_expiry: float = 86400.0
    """Seconds that a normal channel or address stays in a group without being added again."""
    capacity: int = 100
    """Messages that may wait on a channel."""
    capacities: dict[str, int] = msgspec.field(
        default_factory=lambda: {"http.request": 1000, "*.connect": 1000}
    )
    """Capacity by channel pattern (``*`` stands for any characters); the longest match wins."""
    message_bytes: int = codec.MAX_MESSAGE
    """Bytes of one encoded message, 1 MiB to 64 MiB. 1 MiB: large content travels in pieces, and
    what waits for one large message waits the longer. Raised, it wants ``channel_bytes``
    raised too."""
    channel_bytes: int = 8 * 1024 * 1024
    """Bytes that may wait on a channel."""
    process_capacity: int = 100_000
    """Messages that may wait in the inbox of one process."""
    process_bytes: int = 256 * 1024 * 1024
    """Bytes that may wait in the inbox of one process."""
    history_bytes: int = 64 * 1024 * 1024
    """Bytes of all messages together that are kept for those who come back (``history``); beyond
    it the oldest give way, counted. 64 MiB: the last hundred messages of a thousand groups."""
    lease: float = 10.0
    """Seconds that a process's sign of life may stand still before its lease ends."""

    def __post_init__(self) -> None:
        """Raise ValueError where messages were allowed for which there is never any room."""
        size = self.message_bytes
        if not codec.MAX_MESSAGE <= size <= LARGEST:
            raise ValueError(f"message_bytes is {codec.MAX_MESSAGE} to {LARGEST}, not {size}")
        if size == codec.MAX_MESSAGE:
            return  # whoever gives a channel less has a use for it
        for name in ("channel_bytes", "process_bytes"):
            room = getattr(self, name)
            if room < size + SPARE:
                raise ValueError(
                    f"{name} is {room}: a message of message_bytes, which is {size}, would "
                    f"never find room; set {name} to at least {size + SPARE}, better several "
                    "times that"
                )

    def capacity_of(self, channel: str) -> int:
        """Return how many messages may wait on ``channel``."""
        best = -1
        found = self.capacity
        for pattern, number in self.capacities.items():
            regex = ".*".join(re.escape(part) for part in pattern.split("*"))
            if len(pattern) > best and re.fullmatch(regex, channel):
                best, found = len(pattern), number
        return found
