"""The protocol server: its plugins start in order, roll back, drain, tell their health."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import pytest

from gateway.core.boot import Boot
from gateway.core.config import GatewaySettings, Settings
from gateway.core.errors import ConfigError, PluginError
from gateway.core.layers import open_layer
from gateway.core.layers.base import OK
from gateway.core.listen import bind, parse
from gateway.core.listeners import Listeners
from gateway.core.metrics import Metrics
from gateway.core.plugin import (
    Accepted,
    Emit,
    NoConfig,
    Peer,
    ProtocolPlugin,
    Session,
    hookimpl,
)
from gateway.core.project import Project
from gateway.core.registry import Registry
from gateway.core.server import Server
from gateway.core.sources import Sources
from gateway.core.web import Claim


class Event(TypedDict, total=False):
    reply_channel: str
    order: int
    client: list | None
    server: list | None


class Messages:
    KINDS = {"connect": Event, "disconnect": Event}  # noqa: RUF012 - as a module has them
    REPLY = Event


class Plugin(ProtocolPlugin):
    """Notes what it is told; fails as it is told."""

    name = "plain"
    messages = Messages
    told: list[str] = []  # noqa: RUF012 - replaced by each test
    fails: dict[str, Exception] = {}  # noqa: RUF012 - replaced by each test
    seen_claims: list = []  # noqa: RUF012 - replaced by each test

    def __init__(self, config, context):
        super().__init__(config, context)
        self.note("made")

    async def start(self):
        self.seen_claims += self.context.claims()
        self.note("start")

    async def stop(self):
        self.note("stop")

    def health(self):
        self.note("health")
        return {"ok": True, "count": 3}

    async def reload(self):
        self.note("reload")

    def note(self, what):
        self.told.append(f"{self.name} {what}")
        if error := self.fails.get(f"{self.name} {what}"):
            raise error


@pytest.fixture
def serving(monkeypatch):
    """Make a server of the plugins ``a`` and ``b`` (b requires a) over a memory layer."""
    monkeypatch.setattr(Plugin, "told", [])
    monkeypatch.setattr(Plugin, "fails", {})
    monkeypatch.setattr(Plugin, "seen_claims", [])
    for name, requires in (("a", ()), ("b", ("a",))):
        found = type(name, (Plugin,), {"name": name, "requires": requires})
        module = ModuleType(f"served_{name}")
        module.gateway_plugin = hookimpl(lambda found=found: found)
        monkeypatch.setitem(sys.modules, f"served_{name}", module)

    def claims():
        Plugin.told.append("claims")
        return [Claim(bool, print)]

    sys.modules["served_b"].gateway_http_claims = hookimpl(claims)

    def make(listeners=None, **gateway):
        points = [EntryPoint(name, f"served_{name}", "gateway.plugins") for name in "ab"]
        registry = Registry(points)
        plugins = registry.load(["b"], "--plugins")
        started = Boot(
            project=Project(Path("/")),
            registry=registry,
            application=None,
            plugins=plugins,
            sources=Sources(),
            settings=Settings(
                tables={"a": NoConfig(), "b": NoConfig()},
                gateway=GatewaySettings(**{"grace": 1.0} | gateway),
            ),
            workers=None,
        )
        listeners = listeners or Listeners({"a": [], "b": []})
        listeners.bind()
        return Server(started, open_layer("memory://"), listeners, Metrics())

    return make


def test_order(serving):
    """All plugins are made, claims collected, then started, required ones first."""

    async def main():
        server = serving()
        await server.start()
        assert Plugin.told == ["a made", "b made", "claims", "a start", "b start"]
        assert len(Plugin.seen_claims) == 2  # both saw the one claim when they started
        await server.drain()
        assert sorted(Plugin.told[5:]) == ["a stop", "b stop"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fails", "error", "told"),
    [
        ("b start", OSError("full"), ["a start", "b start", "b stop", "a stop"]),
        ("a start", ConfigError("a.listen: taken"), ["a start", "a stop"]),
        ("b made", ValueError("no"), []),
    ],
)
def test_roll_back(serving, fails, error, told):
    """A failure stops what has started, in reverse, and names the plugin; nobody listens."""

    async def main():
        listeners = Listeners({"a": [parse("0")], "b": []})
        server = serving(listeners)
        port = int(listeners.places("a")[0].rpartition(":")[2])
        Plugin.fails[fails] = error
        kind = ConfigError if isinstance(error, ConfigError) else PluginError
        with pytest.raises(kind, match=f"plugin '{fails[0]}' cannot start: .*{error}"):
            await server.start()
        assert [what for what in Plugin.told if what[2:] in {"start", "stop"}] == told
        assert not server.started
        assert not server.health()["ok"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


def test_failing_stop_stops_nobody_else(serving, caplog):
    """A plugin that fails to stop is logged, and the others stop all the same."""

    async def main():
        server = serving()
        await server.start()
        Plugin.fails["a stop"] = RuntimeError("stuck")
        await server.drain()
        assert "b stop" in Plugin.told

    asyncio.run(main())
    assert "plugin 'a' failed to stop" in caplog.text


def test_reload(serving, caplog):
    """A reload asks every plugin, in turn; one that fails costs the others nothing."""

    async def main():
        server = serving()
        await server.start()
        Plugin.fails["a reload"] = OSError("no such file")
        await asyncio.gather(server.reload(), server.reload())
        assert Plugin.told[-4:] == ["a reload", "b reload"] * 2
        assert server.health()["ok"]
        await server.drain()

    asyncio.run(main())
    assert "plugin 'a' failed to reload" in caplog.text


def test_reload_of_what_has_nothing(serving):
    """Most plugins have nothing to load again, and need not say so."""

    async def main():
        server = serving()
        await server.start()
        await ProtocolPlugin.reload(server.plugins["a"])
        await server.drain()

    asyncio.run(main())


def test_listeners_close_first(serving):
    """A drain refuses new clients before any plugin is told to stop."""

    async def main():
        listeners = Listeners({"a": [parse("0")], "b": []})
        server = serving(listeners)
        (endpoint,) = listeners.endpoints("a")
        own = bind(endpoint)
        await server.start()
        own.close()
        refused = []

        async def stop():
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*own_address)
            refused.append(True)

        own_address = listeners.places("a")[0].split(":")
        server.plugins["a"].stop = stop
        await server.drain()
        assert refused

    asyncio.run(main())


def test_health(serving):
    """Health is every plugin's and the layer's; a check that raises is an unhealthy plugin."""

    async def main():
        server = serving()
        assert not server.health()["ok"]
        await server.start()
        health = server.health()
        assert health["ok"]
        assert health["plugins"]["a"] == {"ok": True, "count": 3}
        Plugin.fails["a health"] = ZeroDivisionError("x")
        health = server.health()
        assert not health["ok"]
        assert health["plugins"]["a"] == {"ok": False, "error": "ZeroDivisionError: x"}
        await server.drain()

    asyncio.run(main())


class Caller(Session):
    """Connects, is accepted, and leaves when it is told that it is the end."""

    def opened(self, peer):
        return [Emit("connect", {}, token=1)]

    def received(self, data):
        return []

    def send(self, conversation, reply, token):
        return []

    def outcome(self, token, outcome):
        return [Accepted()]


class Line:
    """A transport that closes at once when it is told to."""

    connection = None

    def write(self, output):
        pass

    def close(self, data, *, abort):
        asyncio.get_running_loop().call_soon(self.connection.lost)

    def pause(self):
        pass

    def resume(self):
        pass


@pytest.mark.parametrize("patient", [True, False])
def test_drain_waits_for_the_disconnects(serving, patient, caplog):
    """A drain ends when consumers have run the disconnects, or with a line at its grace."""

    async def main():
        server = serving(grace=5.0 if patient else 0.2)
        worker = server._layer
        await worker.aannounce(["a.connect", "a.disconnect"])
        await server.start()
        line = Line()
        line.connection = server._contexts["a"].attach(Caller(), line, Peer())
        await worker.asettle(await worker.atake(["a.connect"], block=5), [OK])
        async with asyncio.timeout(5):
            while not line.connection.accepted:  # noqa: ASYNC110 - a turn brings the outcome
                await asyncio.sleep(0)
        draining = asyncio.ensure_future(server.drain())
        if patient:
            delivery = await worker.atake(["a.disconnect"], block=5)
            assert not draining.done()
            await worker.asettle(delivery, [OK])
        await draining

    asyncio.run(main())
    assert ("disconnect messages left to workers that come later: 1" in caplog.text) is not patient
