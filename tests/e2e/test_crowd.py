"""Many idle and slow clients: others are served, limits end the slow ones, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.e2e.serving import Served, wait_until

IDLE = 200
SOCKETS = 100
SLOW = 15
"""Of each kind."""
GET = b"GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /transfers/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


class Client:
    """One connection, of which nothing more is read than is asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, data: bytes) -> Client:
        """Connect, with a small window, and send ``data``."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        client = cls(*await asyncio.open_connection(sock=sock, limit=4096))
        client._writer.write(data)
        return client

    async def status(self) -> int:
        """Read a response with a length; return its status."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split()[1])

    async def get(self) -> int:
        """Ask for a page; return the status."""
        self._writer.write(GET)
        return await self.status()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def descriptors(served: Served) -> dict[int, int]:
    """The number of open files of the gateway and the worker."""
    return {pid: len(served.files(pid)) for group in served.processes().values() for pid in group}


def timeouts(served: Served, setting: str) -> float:
    return served.total("gateway_http_timeouts_total", setting=setting)


@pytest.mark.timeout(60)
def test_a_crowd(tmp_path: Path) -> None:
    """Beside 300 idle clients and 60 slow ones every request is answered; the slow ones are
    ended by their limits and counted, the idle ones are not; afterwards nothing is left.
    """
    (tmp_path / "big").write_bytes(bytes(8 * 1024 * 1024))
    limits = {"header_timeout": SLOW, "body_timeout": 2 * SLOW, "write_timeout": SLOW}
    with Served(
        tmp_path,
        *(option for name in limits for option in ("--set", f"http.{name}=2")),
        E2E_FILES=str(tmp_path),
    ) as served:
        assert served.get("/transfers/upload", bytes(200_000))[0] == 200  # all that is made once
        assert served.get("/transfers/file/big")[0] == 200
        wait_until(lambda: served.total("gateway_layer_in_hand") == 0)
        wait_until(lambda: served.total("gateway_layer_pending") == 0)
        before = descriptors(served)

        def over() -> bool:
            return all(timeouts(served, name) >= count for name, count in limits.items())

        async def run() -> None:
            async with asyncio.timeout(50), contextlib.AsyncExitStack() as stack:

                async def clients(count: int, data: bytes) -> list[Client]:
                    found = await asyncio.gather(
                        *(Client.open(served.port, data) for _ in range(count))
                    )
                    for client in found:
                        stack.push_async_callback(client.close)
                    return found

                idle = await clients(IDLE, GET)
                assert {await client.status() for client in idle} == {200}
                sockets = [
                    await stack.enter_async_context(connect(served.url("/echo", "ws")))
                    for _ in range(SOCKETS)
                ]
                await clients(SLOW, GET[:-2])
                await clients(SLOW, POST + b"x")
                await clients(SLOW, POST + bytes(200_000))
                await clients(SLOW, GET.replace(b"/pid", b"/transfers/file/big"))
                others = await clients(4, b"")
                while not await asyncio.to_thread(over):
                    assert {await client.get() for client in others} == {200}
                assert {await client.get() for client in idle} == {200}
                for echo in sockets:
                    await echo.send("still there")
                    assert await echo.recv() == "still there"

        asyncio.run(run())
        assert {name: timeouts(served, name) for name in limits} == limits
        assert served.total("gateway_drops_total", cause="slow", where="http") == SLOW
        wait_until(lambda: served.total("gateway_connections") == 0)
        wait_until(lambda: descriptors(served) == before)
        wait_until(lambda: served.total("gateway_layer_in_hand") == 0)
        wait_until(lambda: served.total("gateway_layer_pending") == 0)


def limit(pid: int) -> list[str]:
    """The soft and the hard limit of open files of a process."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return line.split()[3:5]
    raise AssertionError("no limit of open files")


def test_the_limit_of_open_files(tmp_path: Path) -> None:
    """The gateway raises its limit to what it may have, a worker to what it needs; where that is
    fewer than ``max_connections`` a line says so.
    """
    with Served(tmp_path, "--set", "workers.async_limit=100", open_files=(256, 700)) as served:
        processes = served.processes()
        assert limit(processes["gateway"][0]) == ["700", "700"]
        assert limit(processes["worker"][0]) == ["300", "700"]
        assert "WARNING gateway.process: http.max_connections = 10000: " in served.text()


def test_no_files_left(tmp_path: Path) -> None:
    """Where descriptors run out who is connected is served on, and when there are some again
    newcomers are, too.
    """
    with Served(tmp_path, open_files=(100, 100)) as served:
        kept = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)

        def answers(client: http.client.HTTPConnection) -> int:
            client.request("GET", "/pid")
            response = client.getresponse()
            response.read()
            return response.status

        assert answers(kept) == 200
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 10))
            for _ in range(50):
                assert answers(kept) == 200
        kept.close()

        def back() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return served.get("/pid")[0] == 200
            return False

        wait_until(back)
        assert len(served.text()) < 20_000, "a line for each connection that found no room"
