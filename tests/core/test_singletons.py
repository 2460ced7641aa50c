"""What one gateway process holds alone: waiting, taking over, being fenced."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.core import singletons
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.errors import LayerUnavailable, PluginError
from gateway.core.layers.edge import FENCED, UP
from gateway.core.layers.memory import MemoryLayer, sibling
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Metrics
from gateway.testing.fakes import FakeEdge
from gateway.testing.stage import PATIENCE
from tests.core.toys import Requests


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Who waits looks often."""
    monkeypatch.setattr(singletons, "POLL", 0.005)


class Process:
    """A gateway process: an engine, one plugin's context, and who wants the key."""

    def __init__(self, layer):
        self.layer = layer
        loop = asyncio.get_running_loop()
        self.engine = Engine(layer, GatewaySettings(), Metrics(), loop)
        self.context = self.engine.context(Requests, None)
        self.held = None
        self.over = asyncio.Event()
        self.task = loop.create_task(self.want())

    async def want(self, key="the one: ünique"):
        async with self.context.singleton(key) as self.held:
            await self.over.wait()
        self.held = None

    async def holds(self):
        async with asyncio.timeout(PATIENCE):
            while self.held is None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)
        return self.held

    async def leave(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.engine.singletons.close()
        self.engine.edge.leave()


@pytest.fixture
def scene():
    """Run a coroutine function with two processes on one layer, the first of which holds."""

    def play(function):
        async def main():
            layer = MemoryLayer("memory://", LayerOptions())
            first = Process(layer)
            await first.holds()
            second = Process(sibling(layer))
            await asyncio.sleep(0.02)
            assert second.held is None
            try:
                await function(first, second)
            finally:
                await first.leave()
                await second.leave()

        asyncio.run(main())

    return play


def test_released(scene):
    """At the end of the block another process has it, with a higher epoch."""

    async def act(first, second):
        epoch = first.held.epoch
        first.over.set()
        held = await second.holds()
        assert held.epoch > epoch
        assert not held.lost.is_set()

    scene(act)


def test_dies(scene):
    """When the holder dies another process has it."""

    async def act(first, second):
        first.engine.edge.leave()
        await second.holds()

    scene(act)


def test_fenced(scene):
    """When the lease of the holder ends, ``lost`` is set; another process has it meanwhile."""

    async def act(first, second):
        held = first.held
        state = first.layer.state
        state.end_process(state.processes[first.layer.process])
        await asyncio.wait_for(held.lost.wait(), PATIENCE)
        await second.holds()

    scene(act)


def test_fenced_is_told(scene):
    """``FENCED`` sets ``lost`` at once."""

    async def act(first, second):
        first.engine.deliver([(FENCED,)])
        assert first.held.lost.is_set()

    scene(act)


def test_forgotten(scene):
    """A layer that comes back having forgotten who held it gives it to who held it."""

    async def act(first, second):
        second.task.cancel()
        epoch = first.held.epoch
        first.layer.state.held.clear()
        first.engine.deliver([(UP, True)])
        await asyncio.sleep(0.02)
        assert not first.held.lost.is_set()
        assert await first.layer.aacquire(first.held.key) == epoch

    scene(act)


def test_forgotten_and_taken(scene):
    """If another process has it by then, ``lost`` is set."""

    async def act(first, second):
        first.layer.state.held.clear()
        await second.holds()
        first.engine.deliver([(UP, True)])
        await asyncio.wait_for(first.held.lost.wait(), PATIENCE)
        first.over.set()
        await first.task
        assert await second.layer.aacquire(second.held.key) == second.held.epoch

    scene(act)


def test_back_and_not_forgotten(scene):
    """A layer that comes back and knows who holds it is asked nothing."""

    async def act(first, second):
        first.layer.state.held.clear()
        first.engine.deliver([(UP, False)])
        await second.holds()
        assert not first.held.lost.is_set()

    scene(act)


def test_waits_while_the_layer_is_away(scene, monkeypatch):
    """While the layer is away who waits goes on waiting."""

    async def act(first, second):
        real = second.layer.aacquire
        times = [0]

        async def away(key, epoch=0):
            times[0] += 1
            if times[0] < 3:
                raise LayerUnavailable("away")
            return await real(key, epoch)

        monkeypatch.setattr(second.layer, "aacquire", away)
        first.over.set()
        await second.holds()
        assert times[0] >= 3

    scene(act)


def test_gives_up_waiting(scene):
    """Who stops waiting has nothing, even if it was given to it at that moment."""

    async def act(first, second):
        real = second.layer.aacquire
        given = asyncio.Event()

        async def slow(key, epoch=0):
            found = await real(key, epoch)
            if found is not None:
                given.set()
                await asyncio.sleep(PATIENCE)
            return found

        second.layer.aacquire = slow
        first.over.set()
        await asyncio.wait_for(given.wait(), PATIENCE)
        second.task.cancel()
        await asyncio.wait({second.task})
        assert not first.layer.state.held

    scene(act)


def test_keys_are_of_the_plugin():
    """What one plugin holds is another matter than what another does by the same key."""

    async def main():
        layer = MemoryLayer("memory://", LayerOptions())
        first = Process(layer)
        held = await first.holds()
        assert held.key.startswith("ask.")
        assert first.context.name == "ask"
        await first.leave()

    asyncio.run(main())


def test_layer_without():
    """Where the layer has no such thing the error says what to set."""

    async def main():
        engine = Engine(FakeEdge(), GatewaySettings(), Metrics(), asyncio.get_running_loop())
        context = engine.context(Requests, None)
        with pytest.raises(PluginError, match=r"set layer\.url to unix"):
            async with context.singleton("x"):
                pass

    asyncio.run(main())
