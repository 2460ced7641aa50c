"""A gateway that is killed outright: its successor delivers each connection's disconnect, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.e2e.serving import Served, wait_until


def disconnects(served: Served) -> Counter[str]:
    """The paths of the disconnect messages that consumers saw, and how often."""
    if not served.seen.exists():
        return Counter()
    lines = served.seen.read_text().splitlines()
    return Counter(line.split()[1] for line in lines if line.startswith("disconnect "))


async def opened(served: Served, path: str) -> ClientConnection:
    """Open a WebSocket, and hear one echo: its connect consumer has run."""
    socket = await connect(served.url(path, "ws"))
    await socket.send("in")
    assert await socket.recv() == "in"
    return socket


def test_each_connection_of_a_killed_gateway_disconnects_once(tmp_path: Path) -> None:
    """Open or closing when the gateway and the hub in it are killed: one disconnect each, and a
    clean stop leaves no journal.
    """
    paths = [f"/ordered/{number}" for number in range(40)]
    with Served(tmp_path, workers=2) as served:
        victim = served.processes()["gateway"][0]

        async def run() -> None:
            sockets = [await opened(served, path) for path in paths]
            for socket in sockets[:10]:  # their disconnects are on the way
                await socket.close()
            os.kill(victim, signal.SIGKILL)
            for socket in sockets:
                with suppress(ConnectionClosed):
                    await socket.recv()

        asyncio.run(run())
        wait_until(lambda: disconnects(served) == Counter(paths))
        assert served.stop() == 0
        assert disconnects(served) == Counter(paths)
        assert served.seen.read_text().count(" 1006\n") >= 30
        assert not list(tmp_path.glob("hub.sock*"))


def test_killed_amid_comings_and_goings(tmp_path: Path) -> None:
    """Whatever a kill hits, connections that were accepted have one disconnect, never none, never
    two: no worker died.
    """
    with Served(tmp_path, workers=2) as served:
        accepted: list[str] = []
        tried: list[str] = []

        async def visit(kill: int, number: int, killed: asyncio.Event) -> None:
            """Come and go until the kill."""
            turn = 0
            while not killed.is_set():
                turn += 1
                path = f"/ordered/{kill}-{number}-{turn}"
                tried.append(path)
                # What is cut off in its handshake has many names.
                with suppress(ConnectionClosed, OSError, EOFError, WebSocketException):
                    async with connect(served.url(path, "ws"), close_timeout=1):
                        accepted.append(path)
                        if turn == 10 and not killed.is_set():
                            os.kill(victim, signal.SIGKILL)
                            killed.set()

        async def run(kill: int) -> None:
            killed = asyncio.Event()
            await asyncio.gather(*(visit(kill, number, killed) for number in range(20)))

        for kill in range(2):
            victim = served.processes()["gateway"][0]
            asyncio.run(run(kill))
            assert len(accepted) > 100 * (kill + 1), "too little was under way"
            wait_until(lambda: served.get("/pid")[0] == 200, 5)
        wait_until(lambda: not set(accepted) - set(disconnects(served)), 5)
        assert served.stop() == 0
        found = disconnects(served)
        assert [path for path, number in found.items() if number > 1] == []
        assert set(accepted) <= set(found) <= set(tried)
