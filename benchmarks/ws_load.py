"""A WebSocket client that does no more than a benchmark needs, the same for every server.

Frames are made once, masked once, uncompressed; what comes back is counted frame by frame
(RFC 6455 section 5.2) and compared by length.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.http_load import LIMIT_SECONDS, LoadError
from benchmarks.members import Member, broadcast, opened
from benchmarks.sample import Meter, Sample
from benchmarks.servers import Running

TEXT = b"0123456789abcdef" * 4
"""What is echoed: 64 characters, a short chat message."""

_MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 section 5.7 masks its example with it
_PONG = bytes((0x8A, 0x80)) + _MASK


def frame(text: bytes, *, first: int = 0x81) -> bytes:
    """Return ``text`` (at most 65,535 bytes) as a masked frame; ``first`` is its first byte."""
    masked = bytes(byte ^ _MASK[i % 4] for i, byte in enumerate(text))
    size = len(text)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + _MASK + masked


def handshake(path: str) -> bytes:
    """Return an opening handshake; the key is the one of RFC 6455 section 1.3."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\nOrigin: http://localhost\r\n\r\n"
    ).encode()


class Socket(Member):
    """One open WebSocket."""

    def __init__(self, path: str) -> None:
        super().__init__(handshake(path))
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self.opened.done():
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.fail(f"the handshake was refused: {data[:300]!r}")
                return
            self.opened.set_result(None)
            data = data[end + 4 :]
        at = 0
        size = len(data)
        while size - at >= 2:
            length = data[at + 1]
            if length > 125:
                self.fail(f"a frame over 125 bytes: {data[at : at + 8]!r}")
                return
            if size - at < 2 + length:
                break
            kind = data[at]
            at += 2 + length
            if kind == 0x81:
                self.on_text(self)
            elif kind == 0x89:
                self.write(_PONG)
            elif kind == 0x88 and not self.ours:
                self.fail(f"the server closed: {data[at - length : at]!r}")
                return
        self._buffer = data[at:]


class _Echoes:
    """A closed loop: each socket has one message on the way, and sends the next on its echo."""

    def __init__(self, sockets: list[Socket], count: int) -> None:
        self._left = count - len(sockets)
        self._awaited = count
        self._frame = frame(TEXT)
        self._began: dict[Socket, float] = {}
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for socket in sockets:
            socket.on_text = self._echoed
            socket.on_failure = self._failed
            self._send(socket)

    def _send(self, socket: Socket) -> None:
        self._began[socket] = time.perf_counter()
        socket.write(self._frame)

    def _echoed(self, socket: Socket) -> None:
        self.latencies.append(time.perf_counter() - self._began[socket])
        if self._left > 0:
            self._left -= 1
            self._send(socket)
        elif len(self.latencies) == self._awaited and not self.done.done():
            self.done.set_result(None)

    def _failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(reason))


async def echo_load(server: Running, *, count: int, connections: int) -> Sample:
    """Have ``count`` messages echoed over ``connections`` sockets, at least one on each."""
    connections = min(connections, count)
    async with opened(server, lambda: Socket("/echo"), connections) as sockets:
        with Meter(server) as meter:
            echoes = _Echoes(sockets, count)
            async with asyncio.timeout(LIMIT_SECONDS):
                await echoes.done
    return Sample(count, meter.cpu, meter.seconds, echoes.latencies)


async def group_load(server: Running, *, members: int, rounds: int) -> Sample:
    """Send ``rounds`` messages to a group of ``members`` sockets; one of them says each."""
    async with opened(server, lambda: Socket("/group"), members) as sockets:
        said = frame(TEXT)
        return await broadcast(server, sockets, rounds, lambda: sockets[0].write(said))
