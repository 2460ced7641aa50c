"""The part of a request body that follows the request, on a channel of its own. Pure."""

from __future__ import annotations

import enum
from typing import Final

from gateway.core.plugin import ACCEPTED, Action, Emit, Outcome, Write
from gateway.plugins.http.messages import new_body_channel

BLOCK: Final = 65536
"""Bytes of one piece: large enough that its message's cost does not matter."""
UNSETTLED: Final = 4
"""Pieces on their way at once: the next ones travel while the consumer reads one."""
PIECE: Final = "piece"
"""Token of a piece's Emit."""


class Flow(enum.Enum):
    """What a session tells its transport beside bytes."""

    PAUSE = "pause"
    """Read no more of the body for now."""
    RESUME = "resume"
    """Read on."""


class Upload:
    """Collects a body: its start for the request itself, the rest in pieces of `BLOCK` bytes."""

    __slots__ = (
        "_broken",
        "_buffer",
        "_finished",
        "_inline",
        "_offset",
        "_paused",
        "_unsettled",
        "channel",
        "complete",
    )

    def __init__(self, inline: int) -> None:
        self._inline = inline
        self._buffer = bytearray()
        self._offset = 0
        self._unsettled = 0
        self._paused = False
        self._finished = False
        self._broken = False
        self.channel: str | None = None
        """Where the pieces go; None while the body fits the request, or is not known to."""
        self.complete = False
        """Whether the client has sent all of it."""

    @property
    def size(self) -> int:
        """How many bytes of it came."""
        return self._offset + len(self._buffer)

    def feed(self, data: bytes | None) -> bytes | None:
        """Take content, None at its end; return the start of the body once that is known."""
        if data is None:
            self.complete = True
        else:
            self._buffer += data
        if self.channel is not None:
            return None
        buffer = self._buffer
        if len(buffer) > self._inline:
            self.channel = new_body_channel()
            start = bytes(buffer[: self._inline])
            del buffer[: self._inline]
            self._offset = len(start)
            return start
        return bytes(buffer) if self.complete else None

    def flow(self) -> list[Action]:
        """Send what may be sent now, and stop or start reading."""
        actions: list[Action] = []
        buffer = self._buffer
        if self.channel is None or self._broken:
            return actions
        while self._unsettled < UNSETTLED and not self._finished:
            last = self.complete and len(buffer) <= BLOCK
            if len(buffer) <= BLOCK and not last:
                break
            content = bytes(buffer[:BLOCK])
            del buffer[:BLOCK]
            message = {"offset": self._offset, "content": content, "more_content": not last}
            actions.append(Emit("request", message, PIECE, channel=self.channel))
            self._offset += len(content)
            self._unsettled += 1
            self._finished = last
        crowded = len(buffer) > BLOCK
        if crowded is not self._paused:
            self._paused = crowded
            actions.append(Write(Flow.PAUSE if crowded else Flow.RESUME))
        return actions

    def settled(self, outcome: Outcome) -> list[Action]:
        """Hear what became of a piece: go on, unless nobody reads them."""
        self._unsettled -= 1
        if outcome.kind != ACCEPTED:
            self._broken = True
        return self.flow()

    def cut(self) -> list[Action]:
        """Tell the reader of the pieces that the rest will not come."""
        if self.channel is None or self._finished or self._broken:
            return []
        self._finished = True
        return [Emit("request", {"closed": True}, channel=self.channel)]
