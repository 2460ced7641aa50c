"""Workers that die, channels that overflow, clients that do not read: nothing is lost in silence."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import statistics
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.serving import Served, wait_until

SOCKETS = 100
FRAMES = 300


def test_order_with_a_worker_killed(tmp_path: Path) -> None:
    """100 sockets x 300 frames over 3 workers, one killed on the way: each socket in order, each
    frame once; sent = handled + counted.
    """
    with Served(tmp_path, "--set", "websocket.on_failure=keep", workers=3) as served:
        heard: dict[int, list[int]] = {number: [] for number in range(SOCKETS)}
        worker = served.processes()["worker"][0]

        async def read(number: int, socket: ClientConnection) -> None:
            async for text in socket:
                if text == "end":
                    return
                heard[number].append(int(text))
                if number == 0 and text == str(FRAMES // 3):
                    os.kill(worker, signal.SIGKILL)

        async def write(socket: ClientConnection) -> None:
            for frame in range(FRAMES):
                await socket.send(str(frame))
                if frame % 50 == 0:
                    await asyncio.sleep(0)
            await socket.send("end")

        async def run() -> None:
            async with asyncio.timeout(18):
                sockets = [
                    await connect(served.url(f"/ordered/{number}", "ws"))
                    for number in range(SOCKETS)
                ]
                await asyncio.gather(
                    *(read(number, socket) for number, socket in enumerate(sockets)),
                    *(write(socket) for socket in sockets),
                )
                await asyncio.gather(*(socket.close() for socket in sockets))

        asyncio.run(run())
        handled = 0
        for number in range(SOCKETS):
            assert heard[number] == sorted(set(heard[number])), f"socket {number}"
            handled += len(heard[number])
        failed = served.total("gateway_drops_total", cause="failed", where="websocket")
        assert handled + failed == SOCKETS * FRAMES
        assert failed > 0, "the kill hit nothing: the test proves too little"


def test_a_worker_killed_in_mid_request(tmp_path: Path) -> None:
    """The client gets 503 or 500 at once, its connection is kept, the next request is served."""
    with Served(tmp_path, workers=1) as served:
        client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        client.request("GET", "/pid")
        assert client.getresponse().read()
        sock = client.sock
        begun = time.monotonic()
        client.request("GET", "/die")
        response = client.getresponse()
        response.read()
        assert response.status in {500, 503}
        assert time.monotonic() - begun < 2
        assert client.sock is sock, "the connection was closed"
        wait_until(lambda: _answers(client) == 200)
        assert client.sock is sock
        client.close()


def _answers(client: http.client.HTTPConnection) -> int:
    client.request("GET", "/pid")
    response = client.getresponse()
    response.read()
    return response.status


def test_the_gateway_is_killed(tmp_path: Path) -> None:
    """The supervisor starts it anew on the same port; the workers find the new hub."""
    with Served(tmp_path, workers=1) as served:
        before = served.processes()
        os.kill(before["gateway"][0], signal.SIGKILL)

        def back() -> bool:
            try:
                return served.get("/pid")[0] == 200
            except OSError:
                return False

        wait_until(back)
        after = served.processes()
        assert after["gateway"] != before["gateway"]
        assert after["worker"] == before["worker"], "the worker lived through it"


def test_flood(tmp_path: Path) -> None:
    """Beyond its capacity the gateway answers 503 and closes with 1013, and recovers."""
    with Served(
        tmp_path,
        "--set", "layer.capacities={'http.request'=2,'websocket.receive'=2}",
        "--set", "workers.threads=1",
        "--set", "http.queue_timeout=0.1",
        "--set", "gateway.full_timeout=0.1",
        workers=1,
    ) as served:  # fmt: skip

        async def socket() -> int | None:
            async with connect(served.url("/hold", "ws")) as client:
                await client.send("300")
                try:
                    await client.recv()
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else None
                return None

        async def request() -> int:
            status, _ = await asyncio.to_thread(served.get, "/slow/100")
            return status

        async def run() -> tuple[list[int | None], list[int]]:
            codes = await asyncio.gather(*(socket() for _ in range(50)))
            statuses = await asyncio.gather(*(request() for _ in range(60)))
            return list(codes), list(statuses)

        codes, statuses = asyncio.run(run())
        assert set(codes) == {None, 1013}
        assert set(statuses) == {200, 503}
        assert served.get("/slow/1")[0] == 200
        assert served.total("gateway_layer_full_total") > 0


def test_a_slow_reader_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    """While clients do not read, the p99 of their neighbours stays what it was; then they are
    closed, counted.
    """
    with Served(tmp_path, workers=1) as served:

        async def p99(socket: ClientConnection) -> float:
            took = []
            for _ in range(300):
                begun = time.perf_counter()
                await socket.send("ping")
                await socket.recv()
                took.append(time.perf_counter() - begun)
            return statistics.quantiles(took, n=100)[98]

        async def run() -> tuple[float, float]:
            async with connect(served.url("/echo", "ws")) as neighbour:
                before = await p99(neighbour)
                slow = []
                for _ in range(5):
                    socket = await connect(served.url("/burst", "ws"), max_queue=1)
                    slow.append(socket)
                    for _ in range(10):
                        await socket.send("64")  # 10 MiB in all, of which it reads nothing
                await asyncio.sleep(0)
                after = await p99(neighbour)
                for socket in slow:
                    socket.transport.abort()
                return before, after

        before, after = asyncio.run(run())
        assert after < before * 5 + 0.05
        wait_until(lambda: served.total("gateway_drops_total", cause="slow") > 0)


@pytest.mark.timeout(40)
def test_nothing_is_left_of_connections(tmp_path: Path) -> None:
    """After four rounds of 500 connections nothing of them lives, and memory has not grown."""
    with Served(tmp_path, workers=1) as served:
        gateway = served.processes()["gateway"][0]

        async def one() -> None:
            async with connect(served.url("/echo", "ws")) as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"

        async def round_of() -> None:
            for _ in range(10):
                await asyncio.gather(*(one() for _ in range(50)))

        resident = []
        for _ in range(4):
            asyncio.run(round_of())
            wait_until(lambda: served.total("gateway_connections", plugin="websocket") == 0)
            resident.append(served.resident(gateway))
        assert resident[3] < resident[0] * 1.1
        wait_until(lambda: served.total("gateway_layer_pending") == 0)
        assert served.total("gateway_layer_groups") == 0
        assert served.seen.read_text().count("disconnect") == 2000
