"""The pieces of one streamed response: their offsets, and how far the client has come. Pure.

::

    head {"status", "headers", "content", "more_content"}
    piece {"offset", "content", "more_content"} …     some with an ack, which says "taken"
    last {"offset", "content": b"", "more_content": False}

Not every piece asks for an ack: each costs two messages. One asks with every `ASK_BYTES` or
`ASK_PIECES`, and where it says so itself; a short response has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from gateway.core.layers.base import ACCEPTED, Send, send

PIECE: Final = 256 * 1024
"""Bytes of one piece: few round trips for large files, a quarter of what a message may hold."""
WINDOW: Final = 2 * PIECE
"""Bytes under way to a quick client: while it takes one piece the next is made."""
QUICK: Final = 0.02
"""Seconds in which a quick client makes room; any other has one piece under way, a quarter of what
the gateway holds for it."""
WINDOW_PIECES: Final = 64
"""Pieces under way, where they are small: far fewer than the gateway holds for one client."""
ASK_BYTES: Final = PIECE // 2
ASK_PIECES: Final = WINDOW_PIECES // 4


def cut(part: bytes) -> Iterator[bytes]:
    """Iterate over a part in pieces; an empty one has none."""
    if len(part) <= PIECE:
        if part:
            yield part
        return
    for start in range(0, len(part), PIECE):
        yield part[start : start + PIECE]


class Pieces:
    """Makes the sends of one response."""

    __slots__ = (
        "_asked",
        "_since",
        "_taken",
        "_window",
        "ack_channel",
        "channel",
        "offset",
        "posted",
    )

    def __init__(self, channel: str, ack_channel: str) -> None:
        self.channel = channel
        self.ack_channel = ack_channel
        self._window = PIECE
        self.offset = 0
        self.posted = 0
        self._asked: deque[tuple[int, int]] = deque()
        """Number of a piece with an ack, and the offset behind it."""
        self._since = (0, 0)
        """The same of the last one that asked."""
        self._taken = (0, 0)
        """The same of the last one that was answered."""

    def head(self, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> Send:
        """Return the send that begins the response."""
        return self._send({"status": status, "headers": headers}, content, ask=False)

    def piece(self, content: bytes, *, ask: bool = False) -> Send:
        """Return the send of the next piece; with ``ask``, an ack is wanted in any case."""
        return self._send({"offset": self.offset}, content, ask=ask)

    def last(self) -> dict[str, Any]:
        """Return the reply that completes the response."""
        return {"offset": self.offset, "content": b"", "more_content": False}

    def _send(self, message: dict[str, Any], content: bytes, *, ask: bool) -> Send:
        self.posted = number = self.posted + 1
        self.offset += len(content)
        message["content"] = content
        message["more_content"] = True
        pieces, offset = self._since
        if ask or number - pieces >= ASK_PIECES or self.offset - offset >= ASK_BYTES:
            self._since = (number, self.offset)
            self._asked.append(self._since)
            message["ack"] = number
            message["ack_channel"] = self.ack_channel
        return send(self.channel, message)

    @property
    def unanswered(self) -> bool:
        """Whether an ack is still to come."""
        return bool(self._asked)

    @property
    def full(self) -> bool:
        """Whether the client has to take something first."""
        pieces, offset = self._taken
        return bool(self._asked) and (
            self.offset - offset > self._window - PIECE or self.posted - pieces >= WINDOW_PIECES
        )

    def waited(self, seconds: float) -> None:
        """Take note how long the client made us wait for room (not at all: below zero)."""
        self._window = WINDOW if seconds < QUICK else PIECE

    def answered(self, ack: dict[str, Any]) -> bool:
        """Take an ack; return whether the client is there."""
        number = ack.get("ack")
        if number is None:  # nobody is there to send any
            self._asked.clear()
            return False
        while self._asked and self._asked[0][0] <= number:
            self._taken = self._asked.popleft()
        return bool(ack["outcome"] == ACCEPTED)
