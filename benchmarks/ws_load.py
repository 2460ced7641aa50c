"""A WebSocket client that does no more than a benchmark needs, the same for every server.

Frames are made once, masked once, uncompressed; what comes back is counted frame by frame
(RFC 6455 section 5.2) and compared by length.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from benchmarks import processes
from benchmarks.http_load import LIMIT_SECONDS, LoadError
from benchmarks.sample import Meter, Sample
from benchmarks.servers import Running

TEXT = b"0123456789abcdef" * 4
"""What is echoed: 64 characters, a short chat message."""

_MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 section 5.7 masks its example with it
_PONG = bytes((0x8A, 0x80)) + _MASK
_OPENING = 64
"""Handshakes under way at once: less than any server's backlog."""


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


class Socket(asyncio.Protocol):
    """One open WebSocket. ``on_text(socket)`` is called for each text frame that comes."""

    def __init__(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.on_text: Callable[[Socket], None] = lambda _: None
        self.on_failure: Callable[[str], None] = lambda _: None
        self._path = path
        self._buffer = b""
        self._ours = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.write = transport.write
        transport.write(handshake(self._path))

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self.opened.done():
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._fail(f"the handshake was refused: {data[:300]!r}")
                return
            self.opened.set_result(None)
            data = data[end + 4 :]
        at = 0
        size = len(data)
        while size - at >= 2:
            length = data[at + 1]
            if length > 125:
                self._fail(f"a frame over 125 bytes: {data[at : at + 8]!r}")
                return
            if size - at < 2 + length:
                break
            kind = data[at]
            at += 2 + length
            if kind == 0x81:
                self.on_text(self)
            elif kind == 0x89:
                self.write(_PONG)
            elif kind == 0x88 and not self._ours:
                self._fail(f"the server closed: {data[at - length : at]!r}")
                return
        self._buffer = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ours:
            self._fail("the server dropped the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Leave without a closing handshake: that costs every server the same."""
        self._ours = True
        self.transport.close()

    def _fail(self, reason: str) -> None:
        self._ours = True
        if not self.opened.done():
            self.opened.set_exception(LoadError(reason))
        self.on_failure(reason)
        self.transport.abort()


@contextlib.asynccontextmanager
async def opened(server: Running, path: str, count: int) -> AsyncIterator[list[Socket]]:
    """Open ``count`` WebSockets; close them at the end."""
    loop = asyncio.get_running_loop()
    sockets: list[Socket] = []
    gate = asyncio.Semaphore(_OPENING)

    async def one() -> None:
        async with gate:
            _, socket = await loop.create_connection(lambda: Socket(path), "127.0.0.1", server.port)
            sockets.append(socket)
            await socket.opened

    try:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())
        yield sockets
    finally:
        for socket in sockets:
            socket.close()
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.gather(*(socket.closed for socket in sockets))


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
    async with opened(server, "/echo", connections) as sockets:
        with Meter(server) as meter:
            echoes = _Echoes(sockets, count)
            async with asyncio.timeout(LIMIT_SECONDS):
                await echoes.done
    return Sample(count, meter.cpu, meter.seconds, echoes.latencies)


class _Broadcasts:
    """One socket says something, all get it, then the next round begins."""

    def __init__(self, sockets: list[Socket], rounds: int) -> None:
        self._speaker = sockets[0]
        self._members = len(sockets)
        self._rounds = rounds
        self._missing = 0
        self._frame = frame(TEXT)
        self._began = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for socket in sockets:
            socket.on_text = self._delivered
            socket.on_failure = self._failed
        self._speak()

    def _speak(self) -> None:
        self._rounds -= 1
        self._missing = self._members
        self._began = time.perf_counter()
        self._speaker.write(self._frame)

    def _delivered(self, _: Socket) -> None:
        self.latencies.append(time.perf_counter() - self._began)
        self._missing -= 1
        if self._missing == 0:
            if self._rounds:
                self._speak()
            elif not self.done.done():
                self.done.set_result(None)

    def _failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(reason))


async def group_load(server: Running, *, members: int, rounds: int) -> Sample:
    """Send ``rounds`` messages to a group of ``members`` sockets; an operation is a delivery."""
    async with opened(server, "/group", members) as sockets:
        with Meter(server) as meter:
            broadcasts = _Broadcasts(sockets, rounds)
            async with asyncio.timeout(LIMIT_SECONDS):
                await broadcasts.done
    return Sample(members * rounds, meter.cpu, meter.seconds, broadcasts.latencies)


async def idle_bytes(server: Running, *, count: int) -> float:
    """Return what one idle WebSocket adds to the memory of the process that holds it."""
    warm = max(1, count // 20)
    async with opened(server, "/echo", warm):
        front = server.front()
        before = processes.resident_bytes(front)
        async with opened(server, "/echo", count):
            await asyncio.sleep(SETTLE_SECONDS)
            return (processes.resident_bytes(front) - before) / count


SETTLE_SECONDS = 1.0
"""After the last handshake, for what servers free a moment later."""
