"""A bad network between browser and gateway: one transport at a time is refused, cut, or held up.

Every connection carries one request, whose head says what it is::

    page       anything else
    websocket  a handshake, and what follows it
    sse        a request for an event stream, and the stream
    open       a POST that asks for a long-poll connection
    poll       a GET of its location
    post       a POST to a location of either kind
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST


def kind_of(head: bytes) -> str:
    """What a request is."""
    if re.search(rb"^upgrade: *websocket", head, re.IGNORECASE | re.MULTILINE):
        return "websocket"
    if re.search(rb"^accept: *text/event-stream", head, re.IGNORECASE | re.MULTILINE):
        return "sse"
    if re.search(rb"^prefer: *respond-async", head, re.IGNORECASE | re.MULTILINE):
        return "open"
    method, target, *_ = head.split(b" ", 2)
    if b"gateway_connection=" in target:
        return {b"GET": "poll", b"POST": "post"}.get(method, "page")
    return "page"


class Passing:
    """One connection that passes through."""

    def __init__(self, kind: str, client: asyncio.StreamWriter) -> None:
        self.kind = kind
        self.client = client
        self.cut_within = False
        """Whether to cut in the middle of the next piece that comes down."""

    def cut(self) -> None:
        """Reset it, as a network does that forgets: what was on its way is lost."""
        sock = self.client.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.client.transport.abort()


class Proxy:
    """Stands at a port of its own before another. Use as a context manager; change ``refused``,
    ``stalled``, ``lossy`` at will, from any thread.
    """

    def __init__(self, upstream: int, host: str = "127.0.0.1") -> None:
        """``host`` is what the browser calls it."""
        self.upstream = upstream
        self.host = host
        self.refused: set[str] = set()
        """Kinds that are answered 502 by the proxy itself."""
        self.down: set[str] = set()
        """Kinds whose connections are reset as soon as they say what they want."""
        self.stalled: set[str] = set()
        """Kinds of which nothing comes down any more."""
        self.lossy: set[str] = set()
        """Kinds whose answers are read to their end, and then lost."""
        self.seen: Counter[str] = Counter()
        self.lost = 0
        """Answers that were lost."""
        self.port = 0
        self._open: set[Passing] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    def open(self, kind: str) -> int:
        """How many connections of a kind there are."""
        return sum(passing.kind == kind for passing in list(self._open))

    def cut(self, *kinds: str, within: bool = False) -> None:
        """Reset the connections of some kinds (all); ``within`` the next piece that comes down."""

        async def cut() -> None:
            for passing in list(self._open):
                if not kinds or passing.kind in kinds:
                    if within:
                        passing.cut_within = True
                    else:
                        passing.cut()

        self._do(cut())

    # ------------------------------------------------ one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            passing = Passing(kind_of(head), writer)
            self.seen[passing.kind] += 1
            if passing.kind in self.down:
                passing.cut()
            elif passing.kind in self.refused:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n")
                await writer.drain()
            else:
                self._open.add(passing)
                await self._pass(passing, head, reader)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # at the end; asyncio would log it as an error of this callback
        finally:
            if passing is not None:
                self._open.discard(passing)
            writer.close()

    async def _pass(self, passing: Passing, head: bytes, reader: asyncio.StreamReader) -> None:
        if passing.kind != "websocket":
            head = re.sub(rb"(?im)^connection:.*\r\n", b"", head)
            head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        above, up = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            up.write(head)
            ways = [asyncio.ensure_future(self._up(reader, up))]
            ways.append(asyncio.ensure_future(self._down(passing, above)))
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            up.close()

    async def _up(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            up.write(data)
            await up.drain()

    async def _down(self, passing: Passing, above: asyncio.StreamReader) -> None:
        while data := await above.read(65536):
            while passing.kind in self.stalled:  # noqa: ASYNC110 - other threads change it
                await asyncio.sleep(0.01)
            if passing.kind in self.lossy:
                continue
            if passing.cut_within:
                passing.client.write(data[: len(data) // 2])
                await passing.client.drain()
                # An orderly end, so that the half arrives; a chunked response is cut short so.
                return
            passing.client.write(data)
            await passing.client.drain()
        if passing.kind in self.lossy:
            self.lost += 1
            passing.cut()
