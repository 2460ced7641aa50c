"""Clients that come and go, on a whole engine and layer, in any interleaving."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core import groups, outbox
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers.base import group_add, group_send
from gateway.core.layers.memory import MemoryLayer, sibling
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Metrics
from gateway.core.names import parse_position
from gateway.core.plugin import Peer, Write
from gateway.testing.fakes import FakeWire

from .toys import Recorder, Requests

GROUPS = "ghi"


class Said(Recorder):
    """Comes back, and writes what it hears as it is."""

    resumes = True

    def send(self, conversation, reply, token):
        return [Write(dict(reply))]

    @classmethod
    def frame(cls, reply):
        return dict(reply)


class Client:
    """Somebody who comes back with the last id."""

    def __init__(self, world):
        self.world = world
        self.connection = None
        self.last = ""
        self.begun = 0
        """After which message it came first."""
        self.heard = []
        self.places = []
        self.missed = False

    def come(self):
        """Connect; return the joins of its consumer."""
        world, wire = self.world, FakeWire()
        self.connection = here = world.context.attach(Said(kind="request"), wire, Peer())

        def write(reply):
            if self.connection is here:
                self.hear(reply)
            if world.random.random() < 0.2:
                here.writable(False)

        def close(data, *, abort=False):
            asyncio.get_running_loop().call_soon(here.lost)
            if self.connection is here:
                self.connection = None

        wire.write, wire.close = write, close
        here.writable(world.random.random() < 0.7)
        if not self.last:
            self.begun = world.sent
        return [group_add(group, here.reply_channel, since=self.last) for group in GROUPS]

    def go(self):
        connection, self.connection = self.connection, None
        connection.lost()

    def hear(self, reply):
        self.missed = self.missed or "missed" in reply
        if "text" in reply:
            self.heard.append(int(reply["text"]))
        if "id" in reply:
            self.last = reply["id"]
            self.places.append(parse_position(self.last))


class World:
    """A gateway process with clients, and a worker."""

    def __init__(self, chance):
        self.random = chance
        layer = MemoryLayer("memory://", LayerOptions(process_capacity=chance.choice([9999, 3])))
        settings = GatewaySettings(
            outbox_messages=chance.choice([1, 3, 1000]),
            slow_consumer=chance.choice(["close", "drop_oldest", "drop_newest"]),
        )
        self.engine = Engine(layer, settings, Metrics(), asyncio.get_running_loop())
        self.context = self.engine.context(Requests, None)
        self.worker = sibling(layer)
        self.history = chance.choice([3, 1000])
        self.sent = 0
        self.clients = [Client(self) for _ in range(4)]

    def send(self):
        self.sent += 1
        group = self.random.choice(GROUPS)
        return group_send(group, {"text": str(self.sent)}, history=self.history)

    async def step(self):
        """Let something happen, of one consumer or of a client."""
        chance = self.random
        actions = []
        for _ in range(chance.choice([1, 1, 4])):
            client = chance.choice(self.clients)
            what = chance.random()
            if what < 0.6:
                actions.append(self.send())
            elif client.connection is None:
                actions += client.come()
            elif what < 0.7:
                client.go()
            else:
                client.connection.writable(chance.random() < 0.8)
        await self.worker.aapply(actions)
        for _ in range(chance.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)

    async def calm(self):
        """Have all clients there, until they have read all."""
        busy = True
        while busy:
            busy = self.engine.groups.busy
            for client in self.clients:
                if client.connection is None:
                    await self.worker.aapply(client.come())
                    busy = True
                elif not client.connection.direct:
                    client.connection.writable(True)
                    busy = True
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.mark.parametrize("tens", range(10))
def test_none_lost_and_none_twice(tens, monkeypatch):
    """Whatever clients and consumers do, however slow clients are and however little has room: each
    kept message comes to each client once, in order, or the client is told that it missed some.
    """

    async def play(seed):
        chance = random.Random(seed)
        monkeypatch.setattr(outbox, "SLICE", chance.choice([1, 2, 500]))
        monkeypatch.setattr(groups, "SLICE", chance.choice([1, 2, 500]))
        world = World(chance)
        try:
            for _ in range(chance.randrange(10, 80)):
                await world.step()
            await world.calm()
        finally:
            world.worker.close()
            world.engine.edge.leave()
        for client in world.clients:
            wanted = list(range(client.begun + 1, world.sent + 1))
            assert client.places == sorted(client.places), seed
            assert client.heard == sorted(set(client.heard)), seed
            assert client.missed or client.heard == wanted, seed

    for seed in range(10 * tens, 10 * tens + 10):
        asyncio.run(play(seed))
