"""Clients that come back get what they missed, whatever was killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from tests.e2e.serving import Served, wait_until

pytestmark = pytest.mark.timeout(60)  # six processes start for each
CLIENTS = 16
"""Over two gateways: that one gets none happens once in 30,000."""
MESSAGES = 400
GROUPS = ("feed-a", "feed-b")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Two gateways, a hub, two workers; a test may break them."""
    with Served(tmp_path, gateways=2, workers=2) as served:
        yield served


@pytest.fixture
def layer(served: Served) -> Iterator[UnixLayer]:
    """Somebody who sends."""
    layer = UnixLayer(f"unix://{served.socket}", LayerOptions())
    yield layer
    layer.close()


class Client:
    """Speaks ``gateway.v1``; comes back as often as it must, with the last id that it got."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.last = ""
        self.numbers: list[int] = []
        self.missed = 0
        self.lost = 0
        self.ready = asyncio.Event()
        """It has been told a position."""

    async def run(self) -> None:
        """Read until the last message has come."""
        while not self.numbers or self.numbers[-1] < MESSAGES - 1:
            try:
                url = self.served.url(f"/feed?last_event_id={self.last}", "ws")
                async with connect(url, subprotocols=["gateway.v1"], proxy=None) as sock:
                    await self.read(sock)
            except (OSError, WebSocketException):
                await asyncio.sleep(0.01)  # nobody may listen yet
            self.lost += 1

    async def read(self, sock: ClientConnection) -> None:
        """Read until the connection ends, or the last message has come."""
        with suppress(ConnectionClosed):
            async for text in sock:
                said = json.loads(text)
                self.missed += "missed" in said
                if "text" in said:
                    self.numbers.append(int(said["text"]))
                if "id" in said:
                    self.last = said["id"]
                    self.ready.set()
                if self.numbers and self.numbers[-1] == MESSAGES - 1:
                    return


def test_no_gap_and_no_double(served: Served, layer: UnixLayer) -> None:
    """A gateway and a worker are killed while messages flow to two groups: each client gets each
    message of both once, in order.
    """
    before = served.processes()

    async def send() -> None:
        for number in range(MESSAGES):
            group = GROUPS[number % 3 == 0]
            await layer.asend_group(group, {"text": str(number)}, history=MESSAGES)
            if number == MESSAGES // 4:
                os.kill(before["gateway"][0], signal.SIGKILL)
            if number == MESSAGES // 2:
                os.kill(before["worker"][0], signal.SIGKILL)
                os.kill(before["gateway"][1], signal.SIGKILL)
            await asyncio.sleep(0.005)  # a second or two in all: they come back meanwhile

    async def run() -> list[Client]:
        clients = [Client(served) for _ in range(CLIENTS)]
        async with asyncio.timeout(50), asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.run())
            for client in clients:
                await client.ready.wait()
            await send()
            await layer.aclose()
        return clients

    clients = asyncio.run(run())
    assert [client.numbers for client in clients] == [list(range(MESSAGES))] * CLIENTS
    assert [client.missed for client in clients] == [0] * CLIENTS
    assert sum(client.lost > 1 for client in clients) > CLIENTS // 2
    wait_until(lambda: [len(served.processes()[role]) for role in before] == [2, 2, 1])


def test_the_hub_is_killed(served: Served, layer: UnixLayer) -> None:
    """With the hub goes what was kept: clients that stay connected are told, and get what is kept
    since; one that comes back with an old id is told as well.
    """
    hub = served.processes()["hub"][0]

    async def told(sock: ClientConnection, key: str) -> str:
        """Read up to what has a key; return that."""
        async with asyncio.timeout(15):
            while key not in (said := json.loads(await sock.recv())):
                pass
        return str(said[key])

    async def run() -> None:
        url = served.url("/feed", "ws")
        sock = await connect(url, subprotocols=["gateway.v1"], proxy=None)
        before = await told(sock, "id")
        os.kill(hub, signal.SIGKILL)
        assert await told(sock, "missed")
        after = await told(sock, "id")
        assert after.partition("-")[0] != before.partition("-")[0]
        await asyncio.to_thread(wait_until, lambda: served.get("/pid")[0] == 200)
        await asyncio.to_thread(layer.send_group, "feed-a", {"text": "new"}, history=5)
        assert await told(sock, "text") == "new"
        await sock.close()
        url = f"{url}?last_event_id={before}"
        async with connect(url, subprotocols=["gateway.v1"], proxy=None) as sock:
            assert await told(sock, "missed")
            assert await told(sock, "text") == "new"
            assert await told(sock, "id")

    asyncio.run(run())
