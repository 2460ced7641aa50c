"""New code is deployed while clients are served: none of them notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.core import descriptors
from tests.e2e.serving import PROJECT, Served, wait_until

SOCKETS = 1000
CHATTING = 20
"""Sockets that talk all the time."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, to be changed."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def deploy(project: Path, version: str) -> None:
    """Write another version of the code, of another length: the cache of compiled code heeds
    seconds and lengths.
    """
    file = project / "deployed.py"
    file.write_text(file.read_text().replace('VERSION = "first"', f"VERSION = {version}"))


class Steady:
    """Requests one after the other, on a connection that stays and on one of its own each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: list[bytes] = []
        self.worst = 0.0
        """Seconds that the slowest took."""
        self._over = False

    @contextlib.asynccontextmanager
    async def asking(self, path: str) -> AsyncIterator[None]:
        """Ask during the block. Raises what no client may see: other statuses than 200, resets."""
        asking = [asyncio.create_task(self._ask(path, keep=keep)) for keep in (True, False)]
        try:
            yield
        finally:
            self._over = True
            await asyncio.gather(*asking)

    async def _ask(self, path: str, *, keep: bool) -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while not self._over:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            self.answers.append(await reader.readexactly(length))
            self.worst = max(self.worst, time.perf_counter() - began)
            if not keep:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.sleep(0.005)
        writer.close()


async def crowd(served: Served, stack: contextlib.AsyncExitStack) -> list[ClientConnection]:
    """Open the sockets, 50 at a time."""
    room = asyncio.Semaphore(50)

    async def one() -> ClientConnection:
        async with room:
            url = served.url("/deployed", "ws")
            return await connect(url, ping_interval=None, compression=None, open_timeout=30)

    found = await asyncio.gather(*(one() for _ in range(SOCKETS)))
    for socket in found:
        stack.push_async_callback(socket.close)
    return found


async def chat(socket: ClientConnection, over: asyncio.Event) -> int:
    """Talk until it is over; return how often. Each word is answered, in order."""
    count = 0
    while not over.is_set():
        await socket.send(str(count))
        said = str(await socket.recv()).split()
        assert said[-1] == str(count)
        count += 1
        await asyncio.sleep(0.01)
    return count


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds, while others go on."""
    await asyncio.to_thread(wait_until, condition)


def versions(served: Served) -> dict[str, float]:
    """How many workers there are of each version."""
    found = {}
    for series, value in served.numbers().items():
        if series.startswith("gateway_workers{"):
            found[series.partition('"')[2].rstrip('"}')] = value
    return found


@pytest.mark.timeout(60)  # a thousand handshakes, and four starts of Django
def test_nobody_notices(tmp_path: Path, project: Path) -> None:
    """Over a reload 1,000 WebSockets stay open, no request fails, and new code answers then."""
    descriptors.allow(SOCKETS + 500)
    with Served(tmp_path, workers=2, project=project) as served:
        assert served.get("/version") == (200, b"first")
        assert versions(served) == {"1": 2}
        steady = Steady(served.port)

        async def run() -> None:
            async with asyncio.timeout(50), contextlib.AsyncExitStack() as stack:
                sockets = await crowd(served, stack)
                over = asyncio.Event()
                chats = [asyncio.create_task(chat(one, over)) for one in sockets[:CHATTING]]
                async with steady.asking("/version"):
                    wait = asyncio.create_task(asyncio.to_thread(served.command, "reload"))
                    deploy(project, '"the second"')
                    done = await wait
                    enough = len(steady.answers) + 20
                    await until(lambda: len(steady.answers) >= enough)
                over.set()
                assert min(await asyncio.gather(*chats)) > 5
                assert done.returncode == 0, done.stderr
                assert "reloaded: 2 workers of generation 2 in" in done.stdout
                for socket in sockets:
                    await socket.send("still here")
                heard = await asyncio.gather(*(socket.recv() for socket in sockets))
                assert heard == ["the second still here"] * SOCKETS
                assert not any(socket.close_code for socket in sockets)
                print(f"{done.stdout.strip()}; worst request {steady.worst * 1000:.0f} ms")

        asyncio.run(run())
        assert set(steady.answers) == {b"first", b"the second"}
        assert steady.answers[-1] == b"the second"
        assert versions(served) == {"2": 2}
        for drop in ("failed", "expired", "unrouted", "full"):
            assert served.total("gateway_drops_total", cause=drop) == 0


@pytest.mark.timeout(40)  # six starts of Django
def test_code_that_does_not_start(tmp_path: Path, project: Path) -> None:
    """Code with an error leaves the old workers in place; the next reload brings it mended."""
    good = (project / "deployed.py").read_text()
    with Served(tmp_path, workers=2, project=project) as served:
        before = served.processes()["worker"]
        (project / "deployed.py").write_text(good + "\ndef (:\n")
        done = served.command("reload")
        assert done.returncode == 1
        assert "0 of 2 workers replaced" in done.stderr
        assert "SyntaxError" in done.stderr
        assert "deployed.py" in done.stderr
        assert served.processes()["worker"] == before
        assert served.get("/version") == (200, b"first")
        (project / "deployed.py").write_text(good)
        deploy(project, '"the second"')
        done = served.command("reload")
        assert done.returncode == 0, done.stderr
        assert served.get("/version") == (200, b"the second")
        assert versions(served) == {"3": 2}


def test_the_name_of_a_version(tmp_path: Path, project: Path) -> None:
    """Workers are counted, and log, by ``workers.version``, which each reads anew."""
    settings = project / "settings.py"
    with settings.open("a") as file:
        file.write('GATEWAY = {"workers": {"version": "2026.1"}}\n')
    with Served(tmp_path, project=project) as served:
        assert versions(served) == {"2026.1": 1}
        settings.write_text(settings.read_text().replace("2026.1", "2026.10"))
        assert served.command("reload").returncode == 0
        assert versions(served) == {"2026.10": 1}
        assert 'gateway_workers{version="2026.10"} 1' in served.command("stats").stdout
        assert served.get("/fail")[0] == 500
        wait_until(lambda: "[worker 1 (2026.10)] ERROR" in served.text())


def grow(served: Served, megabytes: int) -> int:
    """Have a worker keep so much memory; return its process."""
    status, body = served.get(f"/grow/{megabytes}")
    assert status == 200
    return int(json.loads(body)["pid"])


def await_successors(served: Served, first: int, number: int) -> None:
    """Wait until so many others have answered after ``first``, and one is left; no request may
    fail meanwhile.
    """
    steady = Steady(served.port)

    def others() -> int:
        return len({int(json.loads(answer)["pid"]) for answer in steady.answers} - {first})

    async def run() -> None:
        async with asyncio.timeout(15), steady.asking("/grow/0"):
            await until(lambda: others() >= number)

    asyncio.run(run())
    wait_until(lambda: len(served.processes()["worker"]) == 1)


def test_max_requests(tmp_path: Path) -> None:
    """A worker that has run ``workers.max_requests`` messages is replaced, and no request fails."""
    with Served(tmp_path, "--set", "workers.max_requests=30") as served:
        await_successors(served, grow(served, 0), 2)
        assert "(workers.max_requests: 30)" in served.text()
        assert set(versions(served)) == {"1"}


def test_max_memory(tmp_path: Path) -> None:
    """A worker that has grown beyond ``workers.max_memory`` is replaced, and no request fails."""
    most = 300 << 20
    with Served(tmp_path, "--set", f"workers.max_memory={most}") as served:
        await_successors(served, grow(served, 400), 1)
        assert f"(workers.max_memory: {most})" in served.text()
        (pid,) = served.processes()["worker"]
        assert served.resident(pid) < most


@pytest.mark.timeout(30)  # three starts of Django, and two graces
def test_a_consumer_that_hangs(tmp_path: Path) -> None:
    """A worker that does not drain in ``workers.grace`` is ended: what it held fails and is
    counted, its client hears so, and the reload goes on.
    """
    with Served(tmp_path, "--set", "workers.grace=0.5", workers=1) as served:

        async def run() -> None:
            async with (
                asyncio.timeout(25),
                connect(served.url("/deployed", "ws")) as stuck,
                connect(served.url("/deployed", "ws")) as other,
            ):
                await stuck.send("sleep 60")
                await until(lambda: served.total("gateway_unsettled") == 1)
                done = await asyncio.to_thread(served.command, "reload")
                assert done.returncode == 0, done.stderr
                assert "1 of the old ones had consumers that ran longer" in done.stdout
                with pytest.raises(ConnectionClosed) as closed:
                    await stuck.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
                await other.send("and you")
                assert await other.recv() == "first and you"

        asyncio.run(run())
        assert served.total("gateway_drops_total", cause="failed") == 1
        assert versions(served) == {"2": 1}


@pytest.mark.timeout(40)  # four starts of Django
def test_a_worker_that_crashes_meanwhile(tmp_path: Path) -> None:
    """A worker killed during a reload costs only what it held: the reload goes on."""
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            async with asyncio.timeout(30):
                old = served.processes()["worker"]
                wait = asyncio.create_task(asyncio.to_thread(served.command, "reload"))
                await until(lambda: not set(served.processes()["worker"]) <= set(old))
                os.kill(old[1], signal.SIGKILL)
                done = await wait
                assert done.returncode == 0, done.stderr
                assert not set(old) & set(served.processes()["worker"])

        asyncio.run(run())
        wait_until(lambda: versions(served) == {"2": 2})
        assert len(served.processes()["worker"]) == 2
