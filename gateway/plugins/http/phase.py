"""What a connection waits for, and how long."""

from __future__ import annotations

import enum
from typing import Final

LINGER: Final = 2.0
"""Seconds that a client gets to read our last words while we drop its own: closing with unread
input makes TCP reset the connection and the answer be lost (RFC 9112 9.6)."""
FOREVER: Final = float("inf")
HALF_CLOSED: Final = 1.0
"""Seconds that a client which has closed its sending side gets for the beginning of its answer.
Most such have left, and the application should hear of it soon; some wait, as TCP allows."""
GLANCE: Final = 1.0
"""Seconds between looks whether the client of a paused socket is still there."""


class Phase(enum.Enum):
    """What the connection waits for; named after the setting that says how long, if one does."""

    IDLE = "idle_timeout"
    """A request."""
    HEAD = "header_timeout"
    """The rest of a request's head."""
    BODY = "body_timeout"
    """More of a request's body."""
    RESPONSE = "timeout"
    """The beginning of the response."""
    STREAM = "stream"
    """The rest of the response; there is no deadline for it."""
    WRITE = "write_timeout"
    """The client's reading what it was sent, perhaps before closing."""
    LINGER = "linger"
    """The client's closing; its bytes are dropped."""
    OVER = "over"
    """Nothing: closed, or handed over."""
