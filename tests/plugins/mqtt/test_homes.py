"""Where a session is: with several gateway processes, whose messages get lost or come late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.deadlines import Deadlines
from gateway.core.layers import codec
from gateway.core.metrics import Drop
from gateway.core.singletons import Held
from gateway.plugins.mqtt.server import homes
from gateway.plugins.mqtt.server.device import Limits
from gateway.plugins.mqtt.server.homes import Home, Homes
from gateway.plugins.mqtt.server.publication import Publication
from gateway.plugins.mqtt.server.subscriptions import Subscription

LIMITS = Limits(10, 20_000, lambda: 0.0, lambda _: None)
TURN = 0.005


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "ASK_AFTER", 2 * TURN)
    monkeypatch.setattr(homes, "ANSWER", 6 * TURN)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of what has no event
        await asyncio.sleep(TURN)


class World:
    """Gateway processes, their bus, and who holds which key."""

    def __init__(self) -> None:
        self.keys: dict[str, Process] = {}
        self.processes: list[Process] = []
        self.lost: Callable[[dict[str, Any]], bool] = lambda _: False
        self.told: list[dict[str, Any]] = []

    def tell(self, message: dict[str, Any]) -> None:
        self.told.append(message)
        if not self.lost(message):
            for process in self.processes:
                asyncio.get_running_loop().call_soon(process.homes.hear, message)


class Process:
    """What `Homes` uses of a context, and what it calls back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self.loop)
        self.message_bytes = 20_000
        self.draining = False
        self.dropped = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.begun: list[bool] = []
        self.parked: list[Home] = []
        self.left: list[Home] = []
        self.homes = Homes(self, LIMITS, world.tell, self.left.append, self.parked.append)  # type: ignore[arg-type]
        world.processes.append(self)

    def drop(self, cause: Drop, count: int = 1) -> None:
        assert cause is Drop.GONE
        self.dropped += count

    def spawn(self, coro: Any) -> asyncio.Task[None]:
        task = self.loop.create_task(coro)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @asynccontextmanager
    async def singleton(self, key: str) -> AsyncIterator[Held]:
        await until(lambda: self.world.keys.get(key) in {None, self})
        self.world.keys[key] = self
        yield Held(key, 1)
        await asyncio.sleep(3 * TURN)  # the layer is asked
        if self.world.keys.get(key) is self:
            del self.world.keys[key]

    def claim(self) -> Any:
        """Have a device come here; return its wire."""
        wire = SimpleNamespace(connection=object())
        self.homes.claim(wire, "d", lambda _home, _wire, found: self.begun.append(found))
        return wire

    async def has(self) -> Home:
        await until(lambda: "d" in self.homes.here)
        return self.homes.here["d"]


def play(scene: Callable[[World], Awaitable[None]]) -> None:
    async def played() -> None:
        async with asyncio.timeout(10):
            await scene(World())

    asyncio.run(played())


async def settled(process: Process) -> None:
    while process.tasks:
        await asyncio.wait(set(process.tasks))


def test_who_comes_back_at_once_holds_its_key() -> None:
    """A session that begins while the key of the last one is let go of is held all the same."""

    async def scene(world: World) -> None:
        one = Process(world)
        one.claim()
        one.homes.end(await one.has())
        one.claim()
        await one.has()
        await settled(one)
        assert list(world.keys.values()) == [one]
        await one.homes.close(others=False)
        assert not world.keys

    play(scene)


def test_who_is_not_answered_asks_again() -> None:
    """A session is asked for until it comes: the first word may be lost, or too early."""

    async def scene(world: World) -> None:
        one, other = Process(world), Process(world)
        one.claim()
        home = await one.has()
        home.device.expiry = 100
        world.lost = lambda message: "take" in message and len(world.told) < 3
        other.claim()
        await other.has()
        assert other.begun == [True]
        assert one.left == [home]

    play(scene)


def test_a_session_that_comes_for_nobody_is_kept() -> None:
    """A device that leaves while its session is sent after it finds it where it was sent."""

    async def scene(world: World) -> None:
        one, other = Process(world), Process(world)
        one.claim()
        (await one.has()).device.expiry = 100
        wire = other.claim()
        await until(lambda: bool(world.told))
        wire.connection = None
        home = await other.has()
        assert other.parked == [home]
        assert home.device.expiry == 100
        assert other.begun == []

    play(scene)


def test_a_large_session_goes_in_pieces() -> None:
    """A session of more than one message of the layer loses nothing on its way."""

    async def scene(world: World) -> None:
        one, other = Process(world), Process(world)
        one.claim()
        device = (await one.has()).device
        device.expiry = 100
        device.subscriptions = {f"{number}/#": Subscription(1) for number in range(9)}
        for number in range(10):
            device.send(Publication(str(number), bytes(900), 1), 1)
        other.claim()
        device = (await other.has()).device
        assert [message.publication.topic for message in device.queue or ()] == list("0123456789")
        assert len(device.subscriptions or ()) == 9
        given = [message for message in world.told if "given" in message]
        assert len(given) > 2
        assert all(len(codec.encode(message)) <= 20_000 for message in given)

    play(scene)


def test_a_process_that_ends_leaves_its_sessions_to_another() -> None:
    """What a process has when it ends is kept by one that stays; the device finds it anywhere."""

    async def scene(world: World) -> None:
        one, other, third = Process(world), Process(world), Process(world)
        other.draining = True
        one.claim()
        device = (await one.has()).device
        device.expiry = 100
        device.send(Publication("t", b"x", 1), 1)
        one.draining = True
        await one.homes.close(others=True)
        assert (one.homes.here, one.dropped) == ({}, 0)
        home = await third.has()
        assert third.parked == [home]
        assert home.device.waiting == 1
        other.claim()
        await other.has()
        assert other.begun == [True]

    play(scene)


def test_what_was_left_to_another_is_had_by_who_asks_first() -> None:
    """A device that is quicker than what was left to another process gets it all the same."""

    async def scene(world: World) -> None:
        one, other, third = Process(world), Process(world), Process(world)
        other.draining = True
        one.claim()
        (await one.has()).device.expiry = 100
        one.draining = True
        other.claim()
        world.lost = lambda message: "take" in message and bool(one.homes.here)
        await one.homes.close(others=True)
        await other.has()
        assert other.begun == [True]
        await settled(third)
        assert third.homes.here == {}

    play(scene)


def test_where_nobody_stays_what_waits_is_counted() -> None:
    """A process that is the last drops what it has, counted."""

    async def scene(world: World) -> None:
        one = Process(world)
        one.claim()
        device = (await one.has()).device
        device.expiry = 100
        device.send(Publication("t", b"x", 1), 1)
        await one.homes.close(others=True)
        assert (one.homes.here, one.dropped, world.keys) == ({}, 1, {})

    play(scene)


def test_who_waits_no_more_takes_nothing() -> None:
    """Where all have left that wanted a session it is not asked for, and not held later."""

    async def scene(world: World) -> None:
        one, other = Process(world), Process(world)
        one.claim()
        home = await one.has()
        world.lost = lambda _: True
        wire = other.claim()
        await until(lambda: bool(world.told))
        wire.connection = None
        await settled(other)
        one.homes.end(home)
        await settled(one)
        assert not world.keys
        assert other.homes.here == {}
        other.claim()
        await other.has()

    play(scene)


def test_whose_key_is_lost_gives_nothing() -> None:
    """A process that has lost the key of a session does not hand out what it had of it."""

    async def scene(world: World) -> None:
        one, other = Process(world), Process(world)
        one.claim()
        home = await one.has()
        home.device.expiry = 100
        home.held.lost.set()
        world.tell({"take": "d", "to": other.homes.name})
        await settled(one)
        await until(lambda: not one.homes.here)
        assert [message for message in world.told if "given" in message] == []
        assert one.left == [home]

    play(scene)
