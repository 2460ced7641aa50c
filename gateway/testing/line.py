"""A connection without a socket: the server's transport at one end, a test's client at the other.

The client's side is `Line.send`, `Line.leave` and `Line.cut`; what the server says goes to
``heard`` as it is written, but for the time between `Line.hold` and `Line.release`, and once the
server has closed, ``ended`` is true. Everything happens on the gateway's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.core.plugin import Peer

HIGH: Final = 65536
"""Bytes that wait for a client that does not read before the server is told: as in asyncio."""


class Line(asyncio.Transport):
    """What a protocol believes to be its socket. As strict as asyncio's."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peer: Peer, heard: Callable[[bytes], None]
    ) -> None:
        super().__init__({"peername": peer.client, "sockname": peer.server})
        self.peer = peer
        self.ended = False
        """Whether the server has closed it, or its sending side."""
        self._loop = loop
        self._heard = heard
        self._protocol: Any = None
        self._reading = True
        self._closing = False
        self._lost = False
        self._unread: list[bytes] = []
        self._left = False
        self._shut = False
        self._held: bytearray | None = None
        """What the client does not read; None while it reads."""
        self._high = HIGH
        self._full = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect it to the server's protocol."""
        self._protocol = protocol
        protocol.connection_made(self)

    # ------------------------------------------------ the client's side

    def send(self, data: bytes) -> None:
        """Have the server read ``data``, when it reads; ignored once it has closed."""
        self._unread.append(data)
        self._hand_over()

    def soon(self, call: Callable[..., None], *args: Any) -> None:
        """Call one of these in the loop's next turn: from within `heard`, say."""
        self._loop.call_soon(call, *args)

    def leave(self) -> None:
        """Send no more: the server sees the end of what came."""
        if not self._left:
            self._left = True
            self._hand_over()

    def cut(self) -> None:
        """Vanish, as a client does whose network is gone."""
        self._unread.clear()
        self.abort()

    def hold(self, room: int | None = None) -> None:
        """Read no more: what the server says waits, and once it is much the server is told.

        Much is ``room`` bytes, where that is given.
        """
        if self._held is None:
            self._held = bytearray()
        if room is not None:
            self._high = room

    def release(self) -> None:
        """Read on, beginning with what waits."""
        held, self._held = self._held, None
        if held:
            self._heard(bytes(held))
        if self._full:
            self._full = False
            if not self._closing:
                self._protocol.resume_writing()
        if self._closing:
            self._loop.call_soon(self._lose)
        elif self.ended:
            self._loop.call_soon(self.leave)

    @property
    def held(self) -> int:
        """How many bytes wait for the client to read on."""
        return len(self._held or b"")

    def _hand_over(self) -> None:
        while self._unread and self._reading and not self._closing:
            self._protocol.data_received(self._unread.pop(0))
        if self._closing:
            self._unread.clear()
        elif self._left and self._reading and not self._unread and not self._shut:
            self._shut = True
            if not self._protocol.eof_received():
                self.close()

    # ------------------------------------------------ the server's side

    def write(self, data: Any) -> None:
        """Say something to the client."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if self._closing or self.ended:
            raise RuntimeError("a transport that is closing is written to")
        if not data:
            return
        if self._held is None:
            self._heard(bytes(data))
            return
        self._held += data
        if len(self._held) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """End it, behind what was written."""
        if not self._closing:
            self._closing = self.ended = True
            if not self._held:
                self._loop.call_soon(self._lose)

    def abort(self) -> None:
        """End it at once."""
        if self._held:
            self._held.clear()
        self._closing = self.ended = True
        self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._unread.clear()
            self._protocol.connection_lost(None)

    def can_write_eof(self) -> bool:
        """Return whether its sending side may be closed alone: not over TLS."""
        return not self.peer.tls

    def write_eof(self) -> None:
        """Close the sending side. The client has nothing more to wait for, and leaves."""
        if not self.can_write_eof():
            raise NotImplementedError("TLS is not closed by halves")
        self.ended = True
        if not self._held:
            self._loop.call_soon(self.leave)

    def is_closing(self) -> bool:
        """Return whether it is being closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether the server reads."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read on."""
        self._reading = True
        self._loop.call_soon(self._hand_over)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol hear what comes."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that hears what comes."""
        found: asyncio.BaseProtocol = self._protocol
        return found

    def get_write_buffer_size(self) -> int:
        """Return how much waits: nothing while the client reads."""
        return self.held

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have the server told when more than ``high`` bytes wait."""
        self._high = HIGH if high is None else high
