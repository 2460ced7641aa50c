"""Connections that belong somewhere: to a worker that they are pinned to, to a group that tells."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.serving import Served, wait_until

SOCKETS = 20
FRAMES = 5


async def ask(sockets: list[ClientConnection]) -> list[tuple[int, int, bool]]:
    """Send a frame by each socket; return who answered, his count, and whether it was moved."""
    for socket in sockets:
        await socket.send("?")
    found = []
    for socket in sockets:
        pid, count, moved = str(await socket.recv()).split()
        found.append((int(pid), int(count), moved == "True"))
    return found


@pytest.mark.parametrize("deployed", [False, True])
def test_pinned_connections(tmp_path: Path, deployed: bool) -> None:
    """Each connection stays with the worker that accepted it, its disconnect too. When that is
    killed, or replaced by a new version, its connections stay open and go to others, who hear of
    it once; those of a worker that lives stay where they are.
    """
    with Served(tmp_path, workers=2) as served:

        async def run() -> list[int]:
            async with asyncio.timeout(18):
                url = served.url("/pinned", "ws")
                sockets = [await connect(url) for _ in range(SOCKETS)]
                first = await ask(sockets)
                for n in range(2, FRAMES):
                    assert await ask(sockets) == [(pid, n, False) for pid, _, _ in first]
                homes = Counter(pid for pid, _, _ in first)
                ended = set(homes) if deployed else {max(homes)}
                if deployed:
                    assert (await asyncio.to_thread(served.command, "reload")).returncode == 0
                else:
                    os.kill(max(homes), signal.SIGKILL)
                await asyncio.to_thread(wait_until, lambda: _replaced(served, ended))
                second = await ask(sockets)
                for (pid, _, _), (new, count, moved) in zip(first, second, strict=True):
                    if pid in ended:
                        assert (new in ended, count, moved) == (False, 1, True)
                    else:
                        assert (new, count, moved) == (pid, FRAMES, False)
                third = [(pid, count + 1, False) for pid, count, _ in second]
                assert await ask(sockets) == third
                for socket in sockets:
                    await socket.close()
                return [pid for pid, _, _ in third]

        homes = asyncio.run(run())
        wait_until(lambda: len(served.seen.read_text().splitlines()) == SOCKETS)
        left = Counter(int(line.split()[1]) for line in served.seen.read_text().splitlines())
        assert left == Counter(homes)
        assert "None" not in served.seen.read_text()


def _replaced(served: Served, ended: set[int]) -> bool:
    workers = served.processes()["worker"]
    return ended.isdisjoint(workers) and len(workers) == 2


def test_presence(tmp_path: Path) -> None:
    """Of each announced member one join is told and then one leave, however it left, though
    workers are killed meanwhile.
    """
    with Served(tmp_path, workers=2) as served:

        def lines(what: str) -> Counter[str]:
            text = served.seen.read_text() if served.seen.exists() else ""
            found = [line for line in text.splitlines() if line.startswith(f"{what} room ")]
            return Counter(line.removeprefix(f"{what} room ") for line in found)

        async def run() -> None:
            async with asyncio.timeout(18):
                url = served.url("/room", "ws")
                sockets = [await connect(f"{url}?{n}") for n in range(SOCKETS)]
                await asyncio.to_thread(wait_until, lambda: len(lines("joined")) == SOCKETS)
                assert not lines("left")
                os.kill(served.processes()["worker"][0], signal.SIGKILL)
                for n, socket in enumerate(sockets):
                    if n % 2:
                        socket.transport.abort()
                    else:
                        await socket.close()
                await asyncio.to_thread(wait_until, lambda: len(lines("left")) == SOCKETS)

        asyncio.run(run())
        assert lines("joined") == dict.fromkeys(lines("left"), 1)
        text = served.seen.read_text().splitlines()
        for member in lines("left"):
            assert text.index(f"joined room {member}") < text.index(f"left room {member}")
