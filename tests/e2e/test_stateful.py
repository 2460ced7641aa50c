"""Stateful consumers behind `gateway run`: workers are replaced and killed, and states with them."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.serving import Served, wait_until

SOCKETS = 50


@contextlib.asynccontextmanager
async def crowd(served: Served, path: str) -> AsyncIterator[list[ClientConnection]]:
    """Open the sockets, each of which has said something; they are closed at the end."""
    async with asyncio.timeout(35), contextlib.AsyncExitStack() as stack:
        url = served.url(path, "ws")
        found = [await stack.enter_async_context(connect(url)) for _ in range(SOCKETS)]
        assert [count for _, count in await ask(found)] == [1] * SOCKETS
        yield found


async def ask(sockets: list[ClientConnection]) -> list[tuple[int, int]]:
    """Say something by each socket; return which worker answered, and its count."""
    for socket in sockets:
        await socket.send("?")
    answers = [str(await socket.recv()).split() for socket in sockets]
    return [(int(pid), int(count)) for pid, count in answers]


async def code_of(socket: ClientConnection) -> tuple[int, str]:
    """Return how the other end closes the connection."""
    with pytest.raises(ConnectionClosed) as closed:
        await socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def none_left(served: Served) -> None:
    """Check that no worker keeps an instance: each is asked until all have said so."""
    clean: set[int] = set()

    def all_clean() -> bool:
        answer = json.loads(served.get("/kept")[1])
        (clean.add if answer["kept"] == 0 else clean.discard)(answer["pid"])
        return clean >= set(served.processes()["worker"])

    wait_until(all_clean)


async def reload(served: Served) -> None:
    done = await asyncio.to_thread(served.command, "reload")
    assert done.returncode == 0, done.stderr


async def kill(served: Served, pid: int) -> None:
    """Kill a worker outright, and wait for its successor."""
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        workers = served.processes()["worker"]
        return pid not in workers and len(workers) == 2

    await asyncio.to_thread(wait_until, replaced)


@pytest.mark.parametrize("path", ["/brittle", "/going/async"])
def test_a_state_over_many_messages(tmp_path: Path, path: str) -> None:
    """Each connection finds its own state in each of 100 messages, with two workers."""
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            async with crowd(served, path) as sockets:
                homes = [pid for pid, _ in await ask(sockets)]
                for count in range(3, 101):
                    assert await ask(sockets) == [(pid, count) for pid in homes]

        asyncio.run(run())
        none_left(served)


@pytest.mark.timeout(40)  # four starts of Django
@pytest.mark.parametrize("path", ["/going", "/going/async"])
def test_a_reload(tmp_path: Path, path: str) -> None:
    """Over a reload all connections stay open; the next message of each makes an instance that has
    been ``reconnected``, in one of the new workers, where it stays.
    """
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            async with crowd(served, path) as sockets:
                old = {pid for pid, _ in await ask(sockets)}
                await reload(served)
                answers = await ask(sockets)
                assert {count for _, count in answers} == {1001}
                assert old.isdisjoint(pid for pid, _ in answers)
                assert await ask(sockets) == [(pid, 1002) for pid, _ in answers]

        asyncio.run(run())
        none_left(served)


@pytest.mark.timeout(40)  # four starts of Django
def test_a_reload_under_what_cannot_go_on(tmp_path: Path) -> None:
    """Connections whose class has no ``reconnected`` are closed with 1012, though they are idle;
    each can connect again.
    """
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            async with crowd(served, "/brittle") as sockets:
                await reload(served)
                for socket in sockets:
                    assert await code_of(socket) == (1012, "the worker was replaced")
                async with crowd(served, "/brittle"):
                    pass

        asyncio.run(run())
        none_left(served)
        assert served.total("gateway_layer_disconnects") == 0


@pytest.mark.timeout(40)  # three starts of Django
@pytest.mark.parametrize("path", ["/going", "/brittle"])
def test_a_worker_that_is_killed(tmp_path: Path, path: str) -> None:
    """Its connections go on with an instance that has been ``reconnected``, or are closed with 1012
    at their next message; those of the other worker notice nothing.
    """
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            async with crowd(served, path) as sockets:
                before = await ask(sockets)
                dead = before[0][0]
                await kill(served, dead)
                for socket, (pid, count) in zip(sockets, before, strict=True):
                    await socket.send("?")
                    if pid != dead:
                        assert await socket.recv() == f"{pid} {count + 1}"
                    elif path == "/going":
                        assert str(await socket.recv()).endswith(" 1001")
                    else:
                        assert await code_of(socket) == (1012, "the worker was replaced")

        asyncio.run(run())
        none_left(served)
