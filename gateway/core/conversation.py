"""Conversations: what is counted, ordered and answered together.

A connection (`gateway.core.attached.Connection`) is a conversation itself, the one whose key
is None, and may have others by keys of its session's own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.core.attached import Connection
    from gateway.core.kinds import Entry

# The life of a connection.
OPEN: Final = 0
CLOSING: Final = 1  # its end was asked for; the transport still has to say that it is gone
LOST: Final = 2  # the transport is gone; what is unsettled is waited for
OVER: Final = 3  # nothing is left of it


class Conversation:
    """What is counted, ordered and answered together."""

    __slots__ = ("flight", "key", "order", "place", "queue", "receipt", "reply_channel", "since")

    def __init__(self, key: str | None, reply_channel: str) -> None:
        self.key = key
        self.reply_channel = reply_channel
        self.order = 0
        """The order of its next message."""
        self.flight: list[Entry] | None = None
        """Its one unsettled delivery."""
        self.receipt = 0
        """The receipt of that."""
        self.queue: deque[Entry] | None = None
        """What waits behind that."""
        self.place: object = None
        """Where it waits for room or for a worker; None: nowhere."""
        self.since = 0.0
        """Since when it has waited there."""

    @property
    def owner(self) -> Connection:
        """The connection that it belongs to."""
        raise NotImplementedError


class Branch(Conversation):
    """A conversation within a connection, by a key of the session's own."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Connection, key: str | None, reply_channel: str) -> None:
        super().__init__(key, reply_channel)
        self._owner = owner

    @property
    def owner(self) -> Connection:
        """The connection that it belongs to."""
        return self._owner
