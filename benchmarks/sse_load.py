"""A client of event streams that does no more than a benchmark needs, the same for every server.

An event is counted by the text that it carries, however the server frames it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from benchmarks.http_load import LIMIT_SECONDS, LoadError
from benchmarks.members import Member, broadcast, opened
from benchmarks.sample import Sample
from benchmarks.servers import Running
from benchmarks.ws_load import TEXT

PATH = "/events/"


def request(path: str = PATH) -> bytes:
    """Return the request of a browser's EventSource."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\n\r\n"
    ).encode()


class Stream(Member):
    """One open event stream."""

    def __init__(self) -> None:
        super().__init__(request())
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if not self.opened.done():
            end = data.find(b"\r\n\r\n")
            # A stream begins with some event or comment, by which its server shows that it is on.
            if end < 0 or len(data) == end + 4:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self.fail(f"the stream was refused: {data[:300]!r}")
                return
            self.opened.set_result(None)
            data = data[end + 4 :]
        at = data.rfind(TEXT)
        if at >= 0:
            for _ in range(data.count(TEXT)):
                self.on_text(self)
            data = data[at + len(TEXT) :]
        self._buffer = data[1 - len(TEXT) :]


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


async def event_load(server: Running, *, members: int, rounds: int, path: str) -> Sample:
    """Have a view tell ``members`` streams ``rounds`` messages; an operation is a delivery."""
    async with speaking(server, path) as speaker, opened(server, Stream, members) as streams:
        return await broadcast(server, streams, rounds, speaker.speak)
