"""Connections that are held open, and what is told to all of them: for any protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from benchmarks import processes
from benchmarks.http_load import LIMIT_SECONDS, LoadError
from benchmarks.sample import Meter, Sample
from benchmarks.servers import Running

OPENING = 64
"""Handshakes under way at once: less than any server's backlog."""
SETTLE_SECONDS = 1.0
"""After the last handshake, for what servers free a moment later."""


class Member(asyncio.Protocol):
    """A connection that was asked for with ``hello`` and stays.

    ``on_text(member)`` is called for each message that comes to it.
    """

    def __init__(self, hello: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.on_text: Callable[[Any], None] = lambda _: None
        self.on_failure: Callable[[str], None] = lambda _: None
        self.ours = False
        """Whether it is this side that ends it."""
        self._hello = hello

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.write = transport.write
        transport.write(self._hello)

    @abstractmethod
    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ours:
            self.fail("the server dropped the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Leave without a closing handshake: that costs every server the same."""
        self.ours = True
        self.transport.close()

    def fail(self, reason: str) -> None:
        self.ours = True
        if not self.opened.done():
            self.opened.set_exception(LoadError(reason))
        self.on_failure(reason)
        self.transport.abort()


M = TypeVar("M", bound=Member)


@contextlib.asynccontextmanager
async def opened(server: Running, make: Callable[[], M], count: int) -> AsyncIterator[list[M]]:
    """Open ``count`` connections; close them at the end."""
    loop = asyncio.get_running_loop()
    members: list[M] = []
    gate = asyncio.Semaphore(OPENING)

    async def one() -> None:
        async with gate:
            _, member = await loop.create_connection(make, "127.0.0.1", server.port)
            members.append(member)
            await member.opened

    try:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())
        yield members
    finally:
        for member in members:
            member.close()
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.gather(*(member.closed for member in members))


class _Broadcasts:
    """Something is said, all get it, then the next round begins."""

    def __init__(
        self, members: Sequence[Member], rounds: int, speak: Callable[[], None], pause: float
    ) -> None:
        self._speak_now = speak
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._members = len(members)
        self._rounds = rounds
        self._missing = 0
        self._began = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = self._loop.create_future()
        for member in members:
            member.on_text = self._delivered
            member.on_failure = self.failed
        self._next()

    def _next(self) -> None:
        if self._pause:
            self._loop.call_later(self._pause, self._speak)
        else:
            self._speak()

    def _speak(self) -> None:
        self._rounds -= 1
        self._missing = self._members
        self._began = time.perf_counter()
        self._speak_now()

    def _delivered(self, _: Member) -> None:
        self.latencies.append(time.perf_counter() - self._began)
        self._missing -= 1
        if self._missing == 0:
            if self._rounds:
                self._next()
            elif not self.done.done():
                self.done.set_result(None)

    def failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(reason))


async def broadcast(
    server: Running,
    members: Sequence[Member],
    rounds: int,
    speak: Callable[[], None],
    pause: float = 0.0,
) -> Sample:
    """Have ``rounds`` messages reach all members, ``pause`` seconds apart; each is an operation."""
    with Meter(server) as meter:
        broadcasts = _Broadcasts(members, rounds, speak, pause)
        async with asyncio.timeout(LIMIT_SECONDS):
            await broadcasts.done
    return Sample(len(members) * rounds, meter.cpu, meter.seconds, broadcasts.latencies)


class Speaker(asyncio.Protocol):
    """Asks, over one connection, for a view that tells everybody."""

    def __init__(self, path: str) -> None:
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)

    def speak(self) -> None:
        """Have everybody told."""
        self.transport.write(self._request)


@contextlib.asynccontextmanager
async def speaking(server: Running, path: str) -> AsyncIterator[Speaker]:
    """Open the connection of a `Speaker` that is answered; close it at the end."""
    loop = asyncio.get_running_loop()
    _, speaker = await loop.create_connection(lambda: Speaker(path), "127.0.0.1", server.port)
    try:
        speaker.speak()
        async with asyncio.timeout(LIMIT_SECONDS):
            answer = await speaker.answered
        if not answer.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"not a 200: {answer[:300]!r}")
        yield speaker
    finally:
        speaker.transport.close()


async def told(
    server: Running,
    make: Callable[[], Member],
    members: int,
    rounds: int,
    *,
    path: str,
    pause: float = 0.0,
) -> Sample:
    """Have the view at ``path`` tell so many members; see `broadcast`."""
    async with speaking(server, path) as speaker, opened(server, make, members) as found:
        return await broadcast(server, found, rounds, speaker.speak, pause)


async def idle_bytes(server: Running, make: Callable[[], Member], count: int) -> float:
    """Return what one idle connection adds to the memory of the process that holds it."""
    async with opened(server, make, max(1, count // 20)):
        front = server.front()
        before = processes.resident_bytes(front)
        async with opened(server, make, count):
            await asyncio.sleep(SETTLE_SECONDS)
            return (processes.resident_bytes(front) - before) / count
