"""Several gateway processes at one address, over a hub process of its own."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.serving import Served, wait_until
from tests.e2e.test_journal import disconnects, opened

pytestmark = pytest.mark.timeout(60)  # five processes start for each
SOCKETS = 24
"""The kernel spreads them over two gateways: that one gets none happens once in 8 million."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Two gateways, a hub, a worker; a test may break them."""
    with Served(
        tmp_path,
        *("--listen", f"unix:{tmp_path}/http.sock"),
        *("--set", f"log.access={tmp_path}/access"),
        gateways=2,
        workers=1,
    ) as served:
        yield served


def open_by_gateway(served: Served) -> list[int]:
    """How many WebSockets each gateway holds."""
    return [
        int(served.total("gateway_connections", plugin="websocket", gateway=str(number)))
        for number in (1, 2)
    ]


async def heard(sockets: list[ClientConnection], text: str) -> None:
    """Wait until each socket has heard a text."""
    async with asyncio.timeout(10):
        for sock in sockets:
            while await sock.recv() != text:
                pass


def test_groups_and_replies_cross_gateways(served: Served) -> None:
    """A group has members on both, and a consumer answers a connection of either."""
    assert [len(served.processes()[role]) for role in ("gateway", "hub", "worker")] == [2, 1, 1]

    async def run() -> None:
        sockets = [await opened(served, f"/ordered/{n}") for n in range(SOCKETS)]
        there = await asyncio.to_thread(open_by_gateway, served)
        assert sum(there) == SOCKETS
        assert min(there) > 0
        await asyncio.to_thread(served.get, "/shout/all?text=to-all")
        await heard(sockets, "to-all")
        tellers = [await connect(served.url("/tell", "ws")) for _ in range(SOCKETS)]
        names = []
        for teller in tellers:
            await teller.send("who")
            names.append(await teller.recv())
        assert len({str(name).partition("!")[0] for name in names}) == 2
        for number, teller in enumerate(tellers):
            await teller.send(f"{names[number - 1]} from-{number}")
        for number, teller in enumerate(tellers):
            assert await teller.recv() == f"from-{(number + 1) % SOCKETS}"
        for sock in (*sockets, *tellers):
            await sock.close()

    asyncio.run(run())
    assert served.stop() == 0
    assert set(disconnects(served).values()) == {1, SOCKETS}  # /tell is one path


def test_one_gateway_is_killed(served: Served) -> None:
    """Its connections' disconnects come once; the others' go on; it is started again."""
    victim = served.processes()["gateway"][0]

    async def run() -> tuple[list[str], list[str]]:
        sockets = {f"/ordered/{n}": await opened(served, f"/ordered/{n}") for n in range(SOCKETS)}
        os.kill(victim, signal.SIGKILL)
        cut, kept = [], []
        for path, sock in sockets.items():
            try:
                await sock.send("still")
                while await sock.recv() != "still":
                    pass
                kept.append(path)
            except ConnectionClosed:
                cut.append(path)
        await asyncio.to_thread(wait_until, lambda: disconnects(served) == Counter(cut))
        # No new client waits for the one that is away.
        assert [served.get("/pid")[0] for _ in range(10)] == [200] * 10
        await asyncio.to_thread(served.get, "/shout/all?text=to-all")
        await heard([sockets[path] for path in kept], "to-all")
        for path in kept:
            await sockets[path].close()
        return cut, kept

    cut, kept = asyncio.run(run())
    assert cut
    assert kept
    wait_until(lambda: len(served.processes()["gateway"]) == 2)
    assert served.stop() == 0
    assert disconnects(served) == Counter([*cut, *kept])


def test_the_hub_is_killed(served: Served) -> None:
    """Gateways and workers survive; connections with nothing in hand stay open, groups work again,
    and each has one disconnect.
    """
    before = served.processes()

    async def run() -> None:
        sockets = [await opened(served, f"/ordered/{n}") for n in range(SOCKETS)]
        os.kill(before["hub"][0], signal.SIGKILL)
        closing = [sock.close() for sock in sockets[:4]]  # while there is no hub
        await asyncio.gather(*closing)
        del sockets[:4]
        await asyncio.to_thread(wait_until, lambda: served.get("/pid")[0] == 200)
        for sock in sockets:
            await sock.send("again")
            assert await sock.recv() == "again"
        await asyncio.to_thread(served.get, "/shout/all?text=to-all")
        await heard(sockets, "to-all")
        for sock in sockets:
            await sock.close()

    asyncio.run(run())
    after = served.processes()
    assert sorted(after["gateway"] + after["worker"]) == sorted(
        before["gateway"] + before["worker"]
    )
    wanted = Counter(f"/ordered/{n}" for n in range(SOCKETS))
    wait_until(lambda: disconnects(served) == wanted)
    assert served.stop() == 0
    assert disconnects(served) == wanted


def test_a_gateway_that_stands_still_keeps_no_client_waiting(served: Served) -> None:
    """What the kernel queues for a gateway that does not accept is taken by the other."""
    victim = served.processes()["gateway"][1]
    os.kill(victim, signal.SIGSTOP)
    try:
        assert [served.get("/pid")[0] for _ in range(20)] == [200] * 20
    finally:
        os.kill(victim, signal.SIGCONT)


def test_stop_log_numbers_reload_and_unix(served: Served, tmp_path: Path) -> None:
    """All share a Unix socket and the access log, reload, say their numbers, and stop in order."""
    requests = 60
    for _ in range(requests):
        client = http.client.HTTPConnection("localhost")
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.connect(str(tmp_path / "http.sock"))
        client.request("GET", "/pid")
        assert client.getresponse().status == 200
        client.close()
    numbers = served.numbers()
    by_gateway = [
        numbers[f'gateway_messages_total{{gateway="{n}",kind="request",plugin="http"}}']
        for n in (1, 2)
    ]
    assert sum(by_gateway) == requests
    os.kill(served._process.pid, signal.SIGHUP)
    wait_until(lambda: served.text().count("gateway.server: reloaded") == 2)

    async def run() -> list[int | None]:
        sockets = [await opened(served, f"/ordered/{n}") for n in range(SOCKETS)]
        stopping = asyncio.create_task(asyncio.to_thread(served.stop))
        for sock in sockets:
            await sock.wait_closed()
        assert await stopping == 0
        return [sock.close_code for sock in sockets]

    assert set(asyncio.run(run())) == {1012}
    assert disconnects(served) == Counter(f"/ordered/{n}" for n in range(SOCKETS))
    lines = (tmp_path / "access").read_text().splitlines()
    assert sum("GET /pid" in line for line in lines) == requests
    assert not list(tmp_path.glob("*.sock*"))
    assert "killed" not in served.text()
