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

    def __init__(self, members: Sequence[Member], rounds: int, speak: Callable[[], None]) -> None:
        self._speak_now = speak
        self._members = len(members)
        self._rounds = rounds
        self._missing = 0
        self._began = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for member in members:
            member.on_text = self._delivered
            member.on_failure = self.failed
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
                self._speak()
            elif not self.done.done():
                self.done.set_result(None)

    def failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(reason))


async def broadcast(
    server: Running, members: Sequence[Member], rounds: int, speak: Callable[[], None]
) -> Sample:
    """Have ``rounds`` messages reach all members; an operation is a delivery."""
    with Meter(server) as meter:
        broadcasts = _Broadcasts(members, rounds, speak)
        async with asyncio.timeout(LIMIT_SECONDS):
            await broadcasts.done
    return Sample(len(members) * rounds, meter.cpu, meter.seconds, broadcasts.latencies)


async def idle_bytes(server: Running, make: Callable[[], Member], count: int) -> float:
    """Return what one idle connection adds to the memory of the process that holds it."""
    async with opened(server, make, max(1, count // 20)):
        front = server.front()
        before = processes.resident_bytes(front)
        async with opened(server, make, count):
            await asyncio.sleep(SETTLE_SECONDS)
            return (processes.resident_bytes(front) - before) / count
