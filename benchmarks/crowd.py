"""A crowd of idle and slow clients, in a process of its own: ``python -m benchmarks.crowd``.

It says ``ready`` once all have come, keeps their number up (whoever is ended by the server
comes again a second later) until its standard input ends, and then prints what it saw.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvloop

from benchmarks.http_load import request
from benchmarks.ws_load import handshake

OPENING = 64
"""Connections under way at once: less than any server's backlog."""
BUFFER = 16384
"""Bytes of a slow reader's receive buffer, so that what is sent waits at the server."""
READY_SECONDS = 120.0
SETTLE_SECONDS = 2.0
"""After the last has come, for what the server does once for each."""

_HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
_BODY = b"POST /body" + _HEAD + b"Content-Length: 1000000\r\n\r\n"


@dataclass(frozen=True)
class Kind:
    """One kind of clients: what each says at first, and then each second."""

    share: float
    """Of its half of the crowd: the idle ones, or the slow ones."""
    first: bytes
    drip: bytes = b""
    answered: bool = False
    """Whether it has come only once it was answered."""
    reads: bool = True
    """Whether it reads what comes; otherwise a bufferful each second."""


IDLE = {
    "kept connections": Kind(0.8, request("/"), answered=True),
    "WebSockets": Kind(0.2, handshake("/echo"), answered=True),
}
SLOW = {
    "heads": Kind(0.25, b"GET /" + _HEAD, drip=b"X: y\r\n"),
    "small bodies": Kind(0.25, _BODY, drip=b"x"),
    "large bodies": Kind(0.25, _BODY + bytes(100_000), drip=b"x"),
    "readers of files": Kind(0.125, request("/file"), reads=False),
    "readers of streams": Kind(0.125, request("/stream"), reads=False),
}


class Client(asyncio.Protocol):
    """One of the crowd, again and again."""

    def __init__(self, crowd: Crowd, name: str, kind: Kind) -> None:
        self._crowd = crowd
        self._name = name
        self._kind = kind
        self.came: asyncio.Future[None] = crowd.loop.create_future()
        self.transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        """Come; return once it is there."""
        sock = socket.socket()
        sock.setblocking(False)
        if not self._kind.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        try:
            await self._crowd.loop.sock_connect(sock, ("127.0.0.1", self._crowd.port))
            await self._crowd.loop.create_connection(lambda: self, sock=sock)
        except OSError as error:
            sock.close()
            self._crowd.seen[f"{self._name}: {error.strerror}"] += 1
            self._crowd.loop.call_later(1.0, self.again)
            return
        if self._kind.answered:
            await self.came

    def again(self) -> None:
        """Come again."""
        if not self._crowd.over:
            self._crowd.tasks.add(task := self._crowd.loop.create_task(self.connect()))
            task.add_done_callback(self._crowd.tasks.discard)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._kind.first)

    def data_received(self, data: bytes) -> None:
        if not self.came.done():
            self._crowd.seen[f"{self._name}: {data[9:12].decode('ascii', 'replace')}"] += 1
            self.came.set_result(None)
        if not self._kind.reads and self.transport is not None:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._crowd.over:
            return
        self._crowd.seen[f"{self._name}: ended"] += 1
        if not self.came.done():
            self.came.set_result(None)
        self.came = self._crowd.loop.create_future()
        self._crowd.loop.call_later(1.0, self.again)

    def tick(self) -> None:
        """Do what a slow client does each second."""
        if self.transport is None:
            return
        if self._kind.drip:
            self.transport.write(self._kind.drip)
        elif not self._kind.reads and not self.transport.is_closing():
            self.transport.resume_reading()


class Crowd:
    """All of them."""

    def __init__(self, port: int, idle: int, slow: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.over = False
        self.seen: collections.Counter[str] = collections.Counter()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._idle = self._made(IDLE, idle)
        self._slow = self._made(SLOW, slow)

    def _made(self, kinds: dict[str, Kind], count: int) -> list[Client]:
        return [
            Client(self, name, kind)
            for name, kind in kinds.items()
            for _ in range(max(1, int(count * kind.share)))
        ]

    async def gather(self) -> None:
        """Let all come, and begin to be slow."""
        gate = asyncio.Semaphore(OPENING)

        async def one(client: Client) -> None:
            async with gate:
                await client.connect()

        await asyncio.gather(*(one(client) for client in (*self._idle, *self._slow)))
        self._tick(0)

    def _tick(self, turn: int) -> None:
        for client in self._slow[turn::10]:  # a tenth of them at a time
            client.tick()
        if not self.over:
            self.loop.call_later(0.1, self._tick, (turn + 1) % 10)

    def end(self) -> None:
        """Leave, all at once."""
        self.over = True
        for client in (*self._idle, *self._slow):
            if client.transport is not None:
                client.transport.abort()


async def main(port: int, idle: int, slow: int) -> None:
    """Be a crowd until the standard input ends."""
    crowd = Crowd(port, idle, slow)
    await crowd.gather()
    print("ready", flush=True)
    await crowd.loop.run_in_executor(None, sys.stdin.read)
    crowd.end()
    await asyncio.sleep(0.2)  # for the connections to be gone
    print(json.dumps(crowd.seen))


class CrowdError(RuntimeError):
    """The crowd could not gather."""


@contextlib.contextmanager
def gathered(port: int, idle: int, slow: int) -> Iterator[dict[str, int]]:
    """Have a crowd around while the block runs; what it saw is in the dict afterwards."""
    seen: dict[str, int] = {}
    argv = [sys.executable, "-m", "benchmarks.crowd", str(port), str(idle), str(slow)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise CrowdError("the crowd did not gather")
            time.sleep(SETTLE_SECONDS)
            yield seen
            told, _ = child.communicate("", timeout=READY_SECONDS)
            seen.update(json.loads(told))
        finally:
            child.kill()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main(*(int(word) for word in sys.argv[1:])))
