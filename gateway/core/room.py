"""Who waits for room on a full channel."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.conversation import Conversation


class Queue:
    """The conversations that wait for room on one full channel, longest waiting first."""

    __slots__ = ("probes", "refused", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Conversation] = deque()
        self.refused = True
        """Whether the layer refused something since the last retry."""
        self.probes = 1

    def join(self, conversation: Conversation) -> None:
        """Wait, after those that have waited longer: a probe that failed goes back in front."""
        conversation.place = self
        waiting = self.waiting
        position = len(waiting)
        if position and waiting[-1].since > conversation.since:
            position = next(i for i, c in enumerate(waiting) if c.since > conversation.since)
        waiting.insert(position, conversation)
