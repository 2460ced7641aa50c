"""The sse plugin, really started beside http, with consumers, on the loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from gateway.core.plugin import ProtocolPlugin
from gateway.core.web import Claim
from gateway.plugins.sse import SsePlugin, gateway_http_claims
from tests.plugins.sse.reader import Event, Reader
from tests.plugins.websocket import serving
from tests.plugins.websocket.serving import accept, on_loop, wait_until

__all__ = ["Serving", "Stream", "accept", "on_loop", "page", "wait_until"]


class Serving(serving.Serving):
    """One gateway with http and sse, and one worker for each of its channels."""

    kind: ClassVar[type[ProtocolPlugin]] = SsePlugin
    claims: ClassVar[Callable[..., list[Claim]]] = staticmethod(gateway_http_claims)

    async def ask(
        self, target: str = "/news", *headers: str, version: str = "1.1", method: str = "GET"
    ) -> Stream:
        """Return a connection that has asked for a stream."""
        named = "" if any(line.lower().startswith("accept:") for line in headers) else STREAM
        lines = [f"{method} {target} HTTP/{version}", "Host: localhost", named, *headers]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*(line for line in lines if line), "", ""]).encode())
        self.peers.append(stream := Stream(reader, writer))
        return stream

    async def open(self, target: str = "/news", *headers: str, **more: Any) -> Stream:  # type: ignore[override]
        """Return a stream that was accepted."""
        stream = await self.ask(target, *headers, **more)
        await stream.head()
        assert stream.status == 200, stream.headers
        return stream

    @property
    def channel(self) -> str:
        """The reply channel of the last stream."""
        return str(self.messages("connect")[-1]["reply_channel"])


STREAM = "Accept: text/event-stream"


class Stream(serving.Raw):
    """A client of one stream, which reads it as the standard says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""

    async def head(self) -> dict[str, str]:
        """Return the headers of the response."""
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = [(n.lower(), v) for n, v in (line.split(": ", 1) for line in lines[1:-2])]
        return dict(self.headers)

    async def content(self) -> str:
        """Return the content of a refusal."""
        length = int((await self.head()).get("content-length", "0"))
        return (await self.reader.readexactly(length)).decode()

    async def piece(self) -> bytes:
        """Return the next chunk; nothing at the end."""
        async with asyncio.timeout(5):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        self.body += data
        return data

    async def until(self, end: bytes) -> bytes:
        """Return the stream up to such an end."""
        while not self.body.endswith(end):
            assert await self.piece(), self.body
        return self.body

    async def rest(self) -> bytes:
        """Return the whole stream, once it has ended as it should."""
        while await self.piece():
            pass
        return self.body

    def read(self) -> list[Event]:
        """Return the events so far."""
        return Reader().read(self.body)


def page(origin: str) -> str:
    """Return the header of a page's request."""
    return f"Origin: {origin}"
