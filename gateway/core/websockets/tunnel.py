"""A protocol of its own within WebSocket messages: what plugins tunnel on the http port.

A `Tunnel` is both: the protocol that reads frames of the connection, and the transport that the
protocol within has. What a message carries, and what is made one, its subclass says.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any, Final

from gateway.core.web import Exchange
from gateway.core.websockets import frames
from gateway.core.websockets.engine import Engine
from gateway.core.websockets.frames import Closed, Event, Fault, Ping

BATCH: Final = 64
"""Frames that are read at once."""
SHORT: Final = 65_535
"""Bytes of a frame that is read without an engine."""


class Bounds:
    """What one frame, one message may be."""

    def __init__(self, most: int, max_fragments: int) -> None:
        self.max_frame = self.max_message = max(most, SHORT + 1)
        self.max_fragments = max_fragments


class Tunnel(asyncio.Protocol):
    """One connection: frames towards the peer, bytes towards its wire."""

    def __init__(
        self, bounds: Bounds, exchange: Exchange, transport: asyncio.Transport, wire: Any
    ) -> None:
        self._bounds = bounds
        self._release = exchange.release
        self._transport = transport
        self.wire = wire
        self._engine: Engine | None = None
        self._held = b""
        self._reading = True
        self._closing = False

    def begin(self, unread: bytes) -> None:
        """Take over."""
        self._transport.set_protocol(self)
        self.wire.connection_made(self)
        self._held = unread
        asyncio.get_running_loop().call_soon(self._resumed)

    # ------------------------------------------------ what asyncio calls

    def data_received(self, data: bytes) -> None:
        """Read frames, hand over what they carry."""
        if self._held:
            data, self._held = self._held + data, b""
        pos, size = 0, len(data)
        while pos < size and not self._closing:
            if not self._reading:
                self._held = data[pos:]
                return
            events: list[Event] = []
            engine = self._engine
            if engine is None:
                pos = frames.split(data, pos, BATCH, SHORT, events)
                if pos < size and len(events) < BATCH:
                    engine = self._engine = Engine(self._bounds)
            if engine is not None:
                pos = engine.feed(data, pos, events)
                if engine.idle:
                    self._engine = None
            for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, (bytes, str)):
            self.heard(event)
        elif isinstance(event, Ping):
            self._transport.write(frames.control_frame(frames.PONG, event.payload))
        elif isinstance(event, Fault):
            self.end(frames.close_frame(event.code, event.reason))
        elif isinstance(event, Closed):
            self.end(frames.close_frame(event.code))

    @abstractmethod
    def heard(self, message: bytes | str) -> None:
        """Hand what a message carries to ``self.wire``, or ``end`` the connection."""

    @abstractmethod
    def framed(self, data: bytes) -> bytes:
        """Return the frames that carry what the wire writes."""

    def end(self, last: bytes) -> None:
        """End it from this side of what is tunnelled, with a last frame."""
        if not self._closing:
            self._closing = True
            self._transport.write(last)
            self._transport.close()

    def eof_received(self) -> None:
        """Hear that the peer will send no more: as if it were gone."""
        self.wire.eof_received()

    def pause_writing(self) -> None:
        """Tell the wire that its peer reads too slowly."""
        self.wire.pause_writing()

    def resume_writing(self) -> None:
        """Tell the wire that it has caught up."""
        self.wire.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the wire."""
        self._closing = True
        self._release()
        self.wire.connection_lost(exc)

    # ------------------------------------------------ what the wire calls

    def write(self, data: bytes) -> None:
        """Send what the wire has."""
        if not self._closing and not self._transport.is_closing():
            self._transport.write(self.framed(data))

    def close(self) -> None:
        """End it, after what was written."""
        if not self._closing:
            self._closing = True
            if not self._transport.is_closing():
                self._transport.write(frames.close_frame(1000))
                self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether it is being closed."""
        return self._closing or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer has still to take."""
        return self._transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return False: a WebSocket does not end by halves."""
        return False

    def is_reading(self) -> bool:
        """Return whether the peer is read."""
        return self._reading

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._reading = False
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._reading = True
        asyncio.get_running_loop().call_soon(self._resumed)

    def _resumed(self) -> None:
        if self._reading and not self._closing and not self._transport.is_closing():
            if not self._transport.is_reading():
                self._transport.resume_reading()
            if self._held:
                self.data_received(b"")
