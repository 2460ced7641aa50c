"""Clients that go on whatever happens, and write down what they saw."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.chaos.judge import End, Request, Socket

PATIENCE: Final = 15.0
"""Seconds after which a client that hears nothing gives up; more than any timeout of the gateway
that this test lets happen."""
PAUSE: Final = 0.05
"""Seconds before a client that was refused comes back."""
AHEAD: Final = 5
"""Messages of one socket that may wait for their answers."""
LIFE: Final = 200
"""Messages after which a client closes its socket and opens another one."""

Clock = Callable[[], float]


class Clients:
    """So many sockets and requesters, until they are told to stop."""

    def __init__(self, port: int, clock: Clock) -> None:
        self._port = port
        self._clock = clock
        self._numbers = itertools.count(1)
        self._stopping = asyncio.Event()
        self.sockets: list[Socket] = []
        self.requests: list[Request] = []
        self.refused = 0
        """Handshakes that were refused, or broke."""
        self.answers: list[float] = []
        """When a request was answered 200."""
        self.echoes: list[float] = []
        """When a message was answered."""
        self.silent: list[str] = []
        """Who heard nothing for too long."""

    def stop(self) -> None:
        """Have every client finish what it began."""
        self._stopping.set()

    async def run(self, sockets: int, requesters: int) -> None:
        """Run them until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(sockets):
                group.create_task(self._keep_socket())
            for _ in range(requesters):
                group.create_task(self._keep_asking())

    # ------------------------------------------------ WebSockets

    async def _keep_socket(self) -> None:
        while not self._stopping.is_set():
            try:
                url = f"ws://127.0.0.1:{self._port}/"
                socket = await connect(url, open_timeout=PATIENCE, ping_interval=None)
            except (OSError, EOFError, InvalidHandshake):
                self.refused += 1
                await asyncio.sleep(PAUSE)
                continue
            await self._talk(socket)

    async def _talk(self, socket: ClientConnection) -> None:
        name = ""
        sent = 0
        heard: list[int] = []
        end: End = "closed"
        try:
            while True:
                text = await asyncio.wait_for(socket.recv(), PATIENCE)
                assert isinstance(text, str)
                if text.startswith("name "):
                    name = text.removeprefix("name ")
                elif text != "news":
                    heard.append(int(text))
                    self.echoes.append(self._clock())
                last = self._stopping.is_set() or sent >= LIFE
                if last and len(heard) == sent:
                    break
                while not last and sent < len(heard) + AHEAD:
                    # Counted before it leaves: what was written when the connection broke may
                    # have arrived.
                    sent += 1
                    await socket.send(str(sent))
            await socket.close()
        except ConnectionClosed as closed:
            end = "told" if closed.rcvd is not None else "broken"
        except TimeoutError:
            self.silent.append(f"{name}: {sent} sent, {len(heard)} answered, then nothing")
            socket.transport.abort()
        if name:
            self.sockets.append(Socket(name, sent, tuple(heard), end))
        else:
            self.refused += 1

    # ------------------------------------------------ HTTP

    async def _keep_asking(self) -> None:
        while not self._stopping.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(PAUSE)
                continue
            try:
                while not self._stopping.is_set() and await self._ask(reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; return whether the connection is good for more."""
        number = next(self._numbers)
        try:
            writer.write(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            async with asyncio.timeout(PATIENCE):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r")[0])
                await reader.readexactly(length)
        except TimeoutError:
            self.silent.append(f"request {number}")
            return False
        except (OSError, asyncio.IncompleteReadError):
            self.requests.append(Request(number, None))
            return False
        status = int(head.split()[1])
        self.requests.append(Request(number, status))
        if status == 200:
            self.answers.append(self._clock())
        else:
            await asyncio.sleep(PAUSE)
        return b"connection: close" not in head
