"""An HTTP/1.1 client that does no more than a benchmark needs, the same for every server.

``connections`` clients send one request at a time each, wait for the whole response, send
the next; no pipelining. Where a server closes after the response (gunicorn's sync worker
knows no keep-alive) the client connects anew, and the latency includes that. Over TLS the
connections are opened, and used once, before what is measured begins; `handshakes` measures
what opening them costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks import certificate
from benchmarks.sample import Meter, Sample
from benchmarks.servers import Running

SETTLE_SECONDS = 0.2
LIMIT_SECONDS = 120.0
"""A load that takes longer is a fault of the server, not a figure."""

HEADERS = (
    b"Host: localhost\r\n"
    b"User-Agent: benchmark\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Accept-Language: en\r\n\r\n"
)


_OK = b"HTTP/1.1 200 "


class LoadError(RuntimeError):
    """A server answered something else than what was asked for."""


def request(path: str) -> bytes:
    """Return a GET request as bytes."""
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HEADERS


class _Load:
    """What the connections share: requests still to send, latencies, the end."""

    def __init__(
        self, server: Running, requests: Sequence[bytes], count: int, pause: float
    ) -> None:
        self.name = server.name
        self.port = server.port
        self.tls = certificate.client() if server.tls else None
        self.requests = requests
        self.count = count
        self.pause = pause
        self.sent = 0
        self.latencies: list[float] = []
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    def go_on(self, count: int) -> None:
        """Count anew, for the same connections."""
        self.count = count
        self.sent = 0
        self.latencies = []
        self.done = self.loop.create_future()

    def answered(self, began: float) -> None:
        self.latencies.append(time.perf_counter() - began)
        if len(self.latencies) == self.count and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(f"{self.name}: {reason}"))


class _Client(asyncio.Protocol):
    """One connection at a time, with the next request whenever the last is answered."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._usual = 0
        self._began = 0.0
        self._waits = False
        self._opening: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    def begin(self) -> None:
        load = self._load
        if load.sent >= load.count:
            return
        self._waits = True
        self._began = time.perf_counter()
        if self._transport is None:
            self._opening = load.loop.create_task(self._connect())
        else:
            self._send()

    async def _connect(self) -> None:
        load = self._load
        try:
            await load.loop.create_connection(lambda: self, "127.0.0.1", load.port, ssl=load.tls)
        except OSError as error:
            load.fail(f"cannot connect: {error}")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._send()

    def _send(self) -> None:
        load = self._load
        wanted = load.requests[load.sent % len(load.requests)]
        load.sent += 1
        self._transport.write(wanted)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        if len(data) == self._usual and data.startswith(_OK) and not self._buffer:
            self._waits = False
            self._load.answered(self._began)
            self._next()
            return
        self._buffer = data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = data[:end].lower()
        if not data.startswith(_OK):
            self._load.fail(f"not a 200: {data[:300]!r}")
            return
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].partition(b"\r\n")[0])
            if len(data) < end + 4 + length:
                return
        elif not data.endswith(b"\r\n0\r\n\r\n"):  # the last chunk, RFC 9112 section 7.1
            return
        self._buffer = b""
        self._waits = False
        self._load.answered(self._began)
        if b"connection: close" not in head:
            # The next answer differs in its date at most: one look at its length will do.
            self._usual = len(data)
            self._next()

    def _next(self) -> None:
        load = self._load
        if load.pause and load.sent < load.count:
            load.loop.call_later(load.pause, self.begin)
        else:
            self.begin()

    async def close(self) -> None:
        """Leave; return once nothing is left open."""
        if self._opening is not None:
            await asyncio.wait({self._opening})
        self._waits = False
        if self._transport is not None:
            self._closed = self._load.loop.create_future()
            if self._load.tls is None:
                self._transport.close()
            else:
                self._transport.abort()  # not waiting for the server's farewell
            await self._closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._closed is not None:
            self._closed.set_result(None)
        elif self._waits:
            self._load.fail(f"the server closed before it answered: {self._buffer[:300]!r}")
        elif not self._load.done.done():
            self.begin()


async def http_load(
    server: Running,
    *,
    requests: Sequence[bytes],
    count: int,
    connections: int,
    pause: float = 0.0,
) -> Sample:
    """Send ``count`` requests, taken from ``requests`` in turn, over ``connections``.

    Each connection pauses for ``pause`` seconds after an answer.
    """
    load = _Load(server, requests, count, pause)
    clients = [_Client(load) for _ in range(connections)]
    try:
        if server.tls:
            load.go_on(connections)
            await _run(load, clients, once=True)
            load.go_on(count)
        with Meter(server) as meter:
            await _run(load, clients)
    finally:
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.gather(*(client.close() for client in clients))
    return Sample(count, meter.cpu, meter.seconds, load.latencies)


async def _run(load: _Load, clients: Sequence[_Client], *, once: bool = False) -> None:
    for number, client in enumerate(clients):
        if load.pause:  # one after the other, as far apart as they will stay
            load.loop.call_later(load.pause * number / len(clients), client.begin)
        else:
            client.begin()
    if once:
        load.sent = load.count  # one for each: nobody takes another's
    async with asyncio.timeout(LIMIT_SECONDS):
        await load.done


async def handshakes(server: Running, *, count: int, connections: int) -> Sample:
    """Open ``count`` connections over TLS, so many at once, and close each; no ticket is used."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    left = count

    async def one_after_another() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", server.port, ssl=certificate.client()
            )
            latencies.append(time.perf_counter() - began)
            transport.abort()

    with Meter(server) as meter:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(one_after_another())
        await asyncio.sleep(SETTLE_SECONDS)  # what the server does with the last ones
    return Sample(count, meter.cpu, meter.seconds, latencies)
