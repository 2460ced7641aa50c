"""`Outflow`: how the content of a connection's streams shares its windows and its transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.plugins.http.http2.guard import FRAME_BYTES, Guard
from gateway.plugins.http.http2.library import Library

if TYPE_CHECKING:
    from gateway.plugins.http.http2.stream import Http2Stream

TURN: Final = 8 * FRAME_BYTES
"""Bytes of content that one connection writes in one turn of the loop: what comes for another
stream, or to another connection, waits for no more than this."""


class Outflow:
    """The streams with content that waits, a frame of each in turn (RFC 9113 section 5.2)."""

    __slots__ = ("_guard", "_h2", "_queue", "full", "left", "opened", "total")

    def __init__(self, h2: Library, guard: Guard) -> None:
        self._h2 = h2
        self._guard = guard
        self._queue: list[Http2Stream] = []
        self.full = False
        """Whether the transport takes no more now."""
        self.opened = False
        """Whether something may be sent now that could not before."""
        self.left = TURN
        """Bytes that may still be written in this turn."""
        self.total = 0
        """Bytes of content that were written so far."""

    def push(self, stream: Http2Stream) -> None:
        """Send what a stream has to send now, and let it queue for the rest."""
        if stream.queued:
            return
        while stream.pending and self._send(stream):
            pass
        if stream.pending and not stream.queued:
            stream.queued = True
            self._queue.append(stream)
            self.opened = self.opened or self.left <= 0
            stream.stuck()

    def go(self) -> None:
        """Send what can be sent in this turn; if there is more, ``opened`` stays True."""
        if not self.opened:
            return
        self.opened = False
        queue = self._queue
        idle = 0
        while idle < len(queue):
            if self.full:
                return
            if self.left <= 0:
                self.opened = True
                return
            stream = queue.pop(0)
            # It may be closed within, and must not look for itself in the queue then.
            stream.queued = False
            idle = 0 if stream.pending and self._send(stream) else idle + 1
            if stream.pending and not stream.queued:
                stream.queued = True
                queue.append(stream)

    def forget(self, stream: Http2Stream) -> None:
        """Forget a stream that is over."""
        if stream.queued:
            stream.queued = False
            self._queue.remove(stream)

    def shut(self, stream: Http2Stream) -> bool:
        """Return whether the stream's own window is closed, not that which all share."""
        h2 = self._h2
        return h2.local_flow_control_window(stream.id) <= 0 < h2.outbound_flow_control_window

    def _send(self, stream: Http2Stream) -> bool:
        """Send a frame of a stream that has something to send; return whether it went."""
        if self.full or self.left <= 0:
            return False
        waiting = stream.waiting
        wanted = min(len(waiting), FRAME_BYTES)
        size = min(wanted, self._h2.local_flow_control_window(stream.id)) if wanted else 0
        if size <= 0 < wanted:
            return False
        done = stream.ended and size == len(waiting)
        if size == len(waiting):
            piece = bytes(waiting)
            waiting.clear()
        else:
            with memoryview(waiting) as view:
                piece = bytes(view[:size])
            del waiting[:size]
        self._h2.send_data(stream.id, piece, end_stream=done)
        self._guard.sent()
        self.left -= size
        self.total += size
        stream.moved(size, done=done)
        return True
