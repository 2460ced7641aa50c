"""Throw what clients may send, and what none should, at a served plugin: ``make fuzz``.

Each stream of bytes is made by chance from a seed and a number, cut into pieces, and sent
while others are; then its client reads on, closes its half, leaves, or resets. Wrong is: an
exception that was logged, a response that h11 (or, of HTTP/2, hyperframe) does not read, a
neighbour that is not served, a connection, conversation or deadline that is left.

Run as ``python -m tests.plugins.http.fuzz --seconds 60``; ``--seed`` and ``--only`` repeat one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import socket
import struct
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import h11
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import Frame

from gateway.core.plugin import Peer
from gateway.core.web import Claim, Exchange
from gateway.plugins.http.body import ChunkedBody, LengthBody
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import CHUNKED, HeadReader, glimpse
from gateway.plugins.http.port import PREFACE
from gateway.plugins.http.refusals import Refused
from tests.plugins.http import grammar
from tests.plugins.http.http2 import refused as http2
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.http.serving import Served, wait_until

CONFIG = HttpConfig(
    header_timeout=0.2,
    body_timeout=0.2,
    idle_timeout=0.2,
    write_timeout=0.5,
    timeout=2.0,
    body_inline=64,
    max_body=100_000,
    trusted_proxies=("127.0.0.1",),
    proxy_parts=("for", "proto", "host", "prefix"),
)
"""Such that whatever a client does, it is over in a moment."""
TOGETHER = 40
"""Clients at once."""
LEFT = 5.0
"""Seconds after which nothing of them may be left."""
PATIENCE = 10.0
"""Seconds for one client: far more than all the timeouts together."""


class Finding(AssertionError):  # noqa: N818 - a result, told to whoever asked
    """Something is wrong: what, and the bytes that led to it."""


def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer a request at once, in pieces, or with very much, as its path says."""
    kind = len(message["raw_path"]) % 4
    if kind == 0:
        return [{"text": "hi"}]
    if kind == 1:
        first = {"status": 200, "headers": [(b"a", b"b")], "content": b"a", "more_content": True}
        return [first, {"offset": 1, "content": b"b" * 5, "more_content": True}, {"offset": 6}]
    content = b"x" * (200_000 if kind == 2 else 1)
    return [{"status": 200, "headers": [], "content": content}]


async def echo(exchange: Exchange) -> None:
    """Answer a claimed request with its body."""
    with contextlib.suppress(ConnectionError):
        pieces = [piece async for piece in exchange.body()]
        exchange.respond(200)
        for piece in pieces:
            exchange.write(piece)
        exchange.end()


class Logged(logging.Handler):
    """Keeps errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.errors.append(logging.Formatter().format(record))


# ---------------------------------------------------------------- what is sent


def http2_stream(rng: Random) -> bytes:
    """Return what a client of HTTP/2 may send: requests, and frames with a few bytes changed."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Http2Client(ours) as client:
        for _ in range(rng.randint(1, 4)):
            fields = request(rng.choice(["/", "/a", "/a/b"]))
            if rng.random() < 0.5:
                fields = rng.choice([fields for _, _, fields in http2.CASES if len(fields) < 20])
            with contextlib.suppress(Exception):  # what the library refuses to send
                client.send(fields, rng.choice([b"", b"hello", b"x" * 300]), end=rng.random() < 0.8)
        theirs.setblocking(False)
        data = theirs.recv(1 << 20)
    if rng.random() < 0.7:
        at = len(PREFACE)
        data = data[:at] + grammar.mutate(rng, data[at:])
    return data


def made(seed: int, number: int) -> tuple[Random, bytes]:
    """Return the stream of that number, and the chance that goes on from there."""
    rng = Random(f"{seed}/{number}")
    return rng, http2_stream(rng) if rng.random() < 0.15 else grammar.stream(rng)


# ---------------------------------------------------------------- what comes back


def methods(data: bytes) -> Iterator[str]:
    """Iterate over the methods of the requests in it, that of the refused one, GET for ever."""
    reader = HeadReader(CONFIG, Peer())
    with contextlib.suppress(Refused):
        while data and (head := reader.read(data)) is not None:
            yield head.method
            data = data[reader.size :]
            if head.length:
                chunked = head.length == CHUNKED
                body = ChunkedBody(1 << 30) if chunked else LengthBody(head.length)
                body.feed(data)
                data = body.rest
    # What is refused, or incomplete, is answered by its request line, if that came.
    seen = glimpse(data, CONFIG)
    yield seen.method if seen is not None and seen.http_version else "GET"
    while True:
        yield "GET"


def check_responses(data: bytes, sent: bytes, *, whole: bool) -> None:
    """Read everything as responses of HTTP/1; the last may be cut off unless ``whole``."""
    expected = methods(sent)
    while data:
        method = next(expected)
        if data.startswith(b"HTTP/1.1 408 ") and data.endswith(b"(header-timeout)\n"):
            method = "GET"  # the part of the head that had come did not say that it is HEAD
        data = _rest_of(data, method, whole=whole)


def _rest_of(data: bytes, method: str, *, whole: bool) -> bytes:
    """Return what follows the first response; raises where that is none."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            reader.receive_data(b"")
            if whole:
                reader.next_event()  # raises, unless the end is the end of the content
            return b""
        if isinstance(event, h11.Response) and event.status_code == 500:
            raise Finding("the gateway failed: 500")
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return reader.trailing_data[0]


def check_frames(data: bytes) -> None:
    """Read everything as frames; the last may be cut off."""
    while len(data) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(data)[:9])
        if len(data) < 9 + length:
            return
        frame.parse_body(memoryview(data)[9 : 9 + length])
        data = data[9 + length :]


# ---------------------------------------------------------------- the clients


async def client(address: tuple[str, int], seed: int, number: int) -> None:
    """Send one stream and see what comes; raises `Finding`."""
    rng, data = made(seed, number)
    try:
        async with asyncio.timeout(PATIENCE):
            found, whole = await _talk(rng, data, address)
        if data.startswith(PREFACE):
            check_frames(found)
        else:
            check_responses(found, data, whole=whole)
    except Finding as finding:
        raise Finding(f"stream {number}: {finding}; sent {data!r}") from None
    except (TimeoutError, h11.ProtocolError, HyperframeError) as error:
        raise Finding(f"stream {number}: {type(error).__name__} {error}; sent {data!r}") from error


async def _talk(rng: Random, data: bytes, address: tuple[str, int]) -> tuple[bytes, bool]:
    """Return what came, and whether all of it did."""
    reader, writer = await asyncio.open_connection(*address)
    way = rng.randrange(5)
    found = b""
    try:
        for piece in grammar.cuts(rng, data):
            writer.write(piece)
            await asyncio.sleep(0)
        if way == 0:
            if not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return b"", False
        if way == 1:
            writer.write_eof()
        while way > 0 and (piece := await reader.read(65536)):
            found += piece
    except OSError:
        return found, False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return found, way > 1


async def neighbour(address: tuple[str, int], stop: asyncio.Event) -> int:
    """Ask again and again, some times on each connection; return how often there was an answer."""
    count = 0
    while not stop.is_set():
        reader, writer = await asyncio.open_connection(*address)
        try:
            for _ in range(20):
                writer.write(b"GET /neighbour/ HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    if not head.startswith(b"HTTP/1.1 200 "):
                        raise Finding(f"a neighbour got {head!r}")
                    await reader.readexactly(2 if b"content-length: 2" in head else 1)
                count += 1
                await asyncio.sleep(0.01)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # idle for too long, where this machine is busy
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return count


async def _throw(
    address: tuple[str, int], seed: int, first: int, count: int | None, seconds: float
) -> int:
    until = time.monotonic() + seconds
    stop = asyncio.Event()
    room = asyncio.Semaphore(TOGETHER)
    number = first
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(neighbour(address, stop))
        while (count is None or number < first + count) and time.monotonic() < until:
            await room.acquire()
            task = group.create_task(client(address, seed, number))
            task.add_done_callback(lambda _: room.release())
            number += 1
        for _ in range(TOGETHER):
            await room.acquire()
        stop.set()
    if not beside.result():
        raise Finding("the neighbour was never served")
    return number - first


def fuzz(
    seed: int, *, first: int = 0, count: int | None = None, seconds: float = float("inf")
) -> int:
    """Throw streams until so many were thrown, or so much time has passed; return how many.

    Raises `Finding` for the first thing that is wrong.
    """
    logged = Logged()
    tasks: set[asyncio.Task[None]] = set()

    def open_(exchange: Exchange) -> None:
        tasks.add(asyncio.get_running_loop().create_task(echo(exchange)))

    claims = [Claim(lambda head: head.path.endswith("b"), open_)]
    consumers = {"http.request": answer, "http.disconnect": lambda _: None}
    logging.getLogger().addHandler(logged)
    try:
        with Served(consumers, config=CONFIG, claims=claims) as site:
            handler = logging.getLogger("asyncio").error
            site.call(site.loop.set_exception_handler, lambda _, context: handler("%s", context))
            try:
                thrown = asyncio.run(_throw(site.address, seed, first, count, seconds))
            except* Finding as findings:
                said = f"\nlogged: {logged.errors[0]}" if logged.errors else ""
                raise Finding(f"{findings.exceptions[0]}{said}") from None
            for what, left in {
                "connections": lambda: site.connections,
                "conversations": lambda: len(site.engine.by_channel),
                "deliveries": lambda: len(site.engine.flow.flights),
                "tasks of claims": lambda: sum(not task.done() for task in tasks),
            }.items():
                try:
                    wait_until(lambda left=left: not left(), LEFT)
                except AssertionError:
                    raise Finding(f"{left()} {what} are left") from None
            if logged.errors:
                raise Finding(f"logged: {logged.errors[0]}")
            for name, value in site.metrics.snapshot().items():
                if value and ("session_errors" in name or name == "gateway_errors_total"):
                    raise Finding(f"{name} is {value}")
    finally:
        logging.getLogger().removeHandler(logged)
    if logged.errors:
        raise Finding(f"logged: {logged.errors[0]}")
    return thrown


def main() -> int:
    """Run as told on the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="one stream, by its number")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    try:
        if options.only is None:
            thrown = fuzz(options.seed, seconds=options.seconds)
        else:
            print(made(options.seed, options.only)[1])
            thrown = fuzz(options.seed, first=options.only, count=1)
    except Finding as finding:
        print(f"found: {finding}")
        return 1
    print(f"{thrown} streams, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
