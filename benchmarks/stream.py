"""How many messages a second go from one process to another, through the unix layer or nothing.

Each role is a process of its own: ``python -m benchmarks.stream ROLE SOCKET COUNT``. Sender
and reader print when they began and ended, by the clock that all processes share.

The bare stream is the least that carries messages between two event loops: each is encoded
(msgpack), prefixed with its length, decoded at the other end; what one turn of the loop has
leaves in one write. The layer's sender posts as a protocol server does, one message a
delivery, and hears each outcome; its reader takes, decodes and settles as a worker's thread
does; the hub between them is a third process. The message is what a browser's request becomes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.servers import BIN, ROOT, ServerError, child, tail
from gateway import open_layer
from gateway.core.layers import codec
from gateway.core.layers.base import OK
from gateway.core.layers.edge import OUTCOME

CHANNEL = "bench.request"
TURN = 64
"""Messages of one turn of the sender's loop: what a busy gateway reads between two polls."""
AHEAD = 1000
"""Messages without outcome that the sender lets stand: the room of ``http.request``."""
CREDIT = 256
"""Deliveries that the hub hands over ahead. A worker asks for 32, so that others get their
share of work that takes time; a reader that only reads asks for what hides the round trip."""
LIMIT_SECONDS = 60.0


HEADERS = [
    [b"host", b"www.example.org"],
    [b"connection", b"keep-alive"],
    [b"cache-control", b"max-age=0"],
    [b"sec-ch-ua", b'"Chromium";v="130", "Not?A_Brand";v="99"'],
    [b"sec-ch-ua-mobile", b"?0"],
    [b"sec-ch-ua-platform", b'"Linux"'],
    [b"upgrade-insecure-requests", b"1"],
    [b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"],
    [b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
    [b"sec-fetch-site", b"same-origin"],
    [b"sec-fetch-mode", b"navigate"],
    [b"sec-fetch-user", b"?1"],
    [b"sec-fetch-dest", b"document"],
    [b"referer", b"http://www.example.org/articles/"],
    [b"accept-encoding", b"gzip, deflate, br, zstd"],
    [b"accept-language", b"en-GB,en;q=0.9"],
    [b"cookie", b"csrftoken=0123456789abcdef; sessionid=0123456789abcdef0123456789abcdef"],
]


def message(number: int) -> dict[str, object]:
    """Return an ``http.request``."""
    return {
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/articles/2024/",
        "raw_path": b"/articles/2024/",
        "query_string": b"page=2",
        "root_path": "",
        "headers": HEADERS,
        "body": b"",
        "body_channel": None,
        "reply_channel": "http.response.p_AbCdEfGhIjKl!x7",
        "order": number,
        "client": ["127.0.0.1", 50000],
        "server": ["127.0.0.1", 8000],
    }


# ---------------------------------------------------------------- nothing between


class _BareWriter(asyncio.Protocol):
    """Gathers what one turn of the loop sends, and writes it at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def send(self, content: dict[str, object]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        body = self._encode(content)
        self._out += (len(body).to_bytes(4, "little"), body)

    def _flush(self) -> None:
        self.transport.write(b"".join(self._out))
        self._out.clear()


class _BareReader(asyncio.Protocol):
    """Decodes messages as they come; done after ``count``."""

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self._left = count
        self._done = done
        self._decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        size = len(data)
        while size - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > size:
                break
            self.received(self._decode(data[at + 4 : end]))
            at = end
        self._rest = data[at:]

    def received(self, content: dict[str, Any]) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set_result(None)


async def _bare_send(path: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    transport, writer = await loop.create_unix_connection(_BareWriter, path)
    _say_now()
    for first in range(0, count, TURN):
        for number in range(first, min(first + TURN, count)):
            writer.send(message(number))
        await asyncio.sleep(0)
        await writer.room.wait()
    await asyncio.to_thread(sys.stdin.readline)  # what is buffered would be lost
    transport.close()


async def _bare_read(path: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    server = await loop.create_unix_server(lambda: _BareReader(count, done), path)
    _say_now()
    await done
    _say_now()
    server.close()


# ---------------------------------------------------------------- the layer between


async def _layer_send(path: str, count: int) -> None:
    layer = open_layer(f"unix://{path}")
    answered = 0
    moved = asyncio.Event()

    def deliver(items: list[tuple[Any, ...]]) -> None:
        nonlocal answered
        answered += sum(item[0] == OUTCOME for item in items)
        moved.set()

    edge = layer.edge(deliver)
    await layer.aannounced()  # connected
    _say_now()
    for first in range(0, count, TURN):
        for number in range(first, min(first + TURN, count)):
            payload = codec.encode(message(number))
            edge.post(CHANNEL, (payload,), number + 1)
        await asyncio.sleep(0)
        while first + TURN - answered > AHEAD:
            moved.clear()
            await moved.wait()
    await asyncio.to_thread(sys.stdin.readline)  # leaving would end our lease
    await layer.aclose()


def _layer_read(path: str, count: int) -> None:
    layer = open_layer(f"unix://{path}")
    intake = layer.intake([CHANNEL], CREDIT)
    layer.announce([CHANNEL])
    _say_now()
    while count:
        delivery = intake.take(LIMIT_SECONDS)
        if delivery is None:
            raise ServerError("no message came")
        for payload in delivery.payloads:
            codec.decode(payload)
            count -= 1
        layer.settle(delivery, (OK,) * len(delivery.payloads))
    _say_now()
    intake.close()
    layer.close()


def _say_now() -> None:
    print(time.monotonic(), flush=True)


def _main(role: str, path: str, count: int) -> None:
    if role == "layer-read":
        _layer_read(path, count)
    elif role == "bare-read":
        uvloop.run(_bare_read(path, count))
    elif role == "bare-send":
        uvloop.run(_bare_send(path, count))
    else:
        uvloop.run(_layer_send(path, count))


# ---------------------------------------------------------------- measuring


@contextmanager
def hub(folder: Path, count: int) -> Iterator[str]:
    """Run ``gateway hub`` with room for ``count`` messages; yield the path of its socket."""
    path = folder / "hub"
    room = ("--set", f"layer.capacity={count}", "--set", f"layer.channel_bytes={count * 1024}")
    argv = (str(BIN / "gateway"), "hub", "--layer", f"unix://{path}", *room)
    log = folder / "log"
    with child((*argv, "--log-level", "warning"), dict(os.environ), log) as process:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"gateway hub did not start\n{tail(log)}")
            time.sleep(0.05)
        yield str(path)


def rate(sender: str, reader: str, path: str, count: int) -> float:
    """Run the two roles against each other; return the messages a second."""
    with ExitStack() as stack:
        reading = stack.enter_context(_role(reader, path, count))
        _heard(reading)
        sending = stack.enter_context(_role(sender, path, count))
        began = _heard(sending)
        ended = _heard(reading)
        return count / (ended - began)


@contextmanager
def _role(role: str, path: str, count: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stream", role, path, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        limit = threading.Timer(LIMIT_SECONDS, process.kill)
        limit.start()
        try:
            yield process
            process.communicate("\n", timeout=LIMIT_SECONDS)
        finally:
            limit.cancel()
            process.kill()


def _heard(process: subprocess.Popen[str]) -> float:
    line = process.stdout.readline()  # type: ignore[union-attr]
    if not line:
        raise ServerError("a sender or reader of the stream ended early")
    return float(line)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
