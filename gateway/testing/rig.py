r"""A plugin started in a gateway without sockets; the test is its client and its worker.

::

    with Rig(Sensor, SensorConfig()) as rig:
        client = rig.connect()
        client.send(b"S 1 20.5\n")
        heard = rig.hear()                       # takes the message, as a worker does
        heard.settle(OK, {"text": "thanks"})     # its outcome, and replies before it
        rig.run()
        assert client.take() == b"T thanks\nOK 1\n"

The server is the real one, its time is virtual (`gateway.testing.virtual`): nothing is waited for.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import msgspec

from gateway.core.boot import Boot
from gateway.core.client import ClientPlugin, Target
from gateway.core.config import GatewaySettings, LayerSettings, Settings
from gateway.core.connection import Engine
from gateway.core.datagram import DatagramPlugin
from gateway.core.layers.base import OK, Delivery, Outcome, Send, group_add, group_send
from gateway.core.metrics import Metrics
from gateway.core.plugin import Context, Message, ProtocolPlugin, Session, hookimpl
from gateway.core.project import Project
from gateway.core.registry import PLUGINS, Registry
from gateway.core.sources import Sources
from gateway.testing.datagrams import DatagramDoor
from gateway.testing.failing import FailingLayer
from gateway.testing.heard import Heard
from gateway.testing.memory import MemoryGateway

T = TypeVar("T")

STEP: Final = 0.1
"""Virtual seconds that pass at once while something is waited for: what deadlines resolve."""
STRIDE: Final = 1.0
"""The same once it takes long."""
PATIENCE: Final = 3.0
"""Virtual seconds to wait for what is to happen at once: some timers of the protocol's own."""
OURS: Final = ("MemoryEdge._tick", "Deadlines._turn")
"""Timers of the gateway's own, which last as long as it does."""


class Client(Protocol):
    """One client of the plugin, whatever carries its bytes."""

    def send(self, data: bytes) -> None:
        """Say something to the plugin."""

    def take(self) -> bytes:
        """Return all that came since the last time."""

    def leave(self) -> None:
        """End it politely: say nothing more."""

    def cut(self) -> None:
        """Vanish."""

    def hold(self, room: int) -> None:
        """Read no more; what carries it takes ``room`` bytes before it says so."""

    def release(self) -> None:
        """Read on."""

    @property
    def held(self) -> int:
        """How many bytes wait for it to read on."""

    @property
    def ended(self) -> bool:
        """Whether the plugin has ended it."""


class LineClient:
    """A client of a byte stream: a connection without a socket."""

    def __init__(self, gateway: MemoryGateway, door: str) -> None:
        self._came = bytearray()
        self._loop = gateway.loop
        self._line = gateway.connect(door, self._came.extend)

    def send(self, data: bytes) -> None:
        """Have the plugin read ``data``."""
        self._loop.call(self._line.send, data)

    def take(self) -> bytes:
        """Return all that came since the last time."""
        came = bytes(self._came)
        self._came.clear()
        return came

    def leave(self) -> None:
        """Close the sending side."""
        self._loop.call(self._line.leave)

    def cut(self) -> None:
        """Vanish, as one whose network is gone."""
        self._loop.call(self._line.cut)

    def hold(self, room: int) -> None:
        """Read no more; the plugin is told once ``room`` bytes wait."""
        self._loop.call(self._line.hold, room)

    def release(self) -> None:
        """Read on."""
        self._loop.call(self._line.release)

    @property
    def held(self) -> int:
        """How many bytes wait for it to read on."""
        return self._line.held

    @property
    def ended(self) -> bool:
        """Whether the plugin has ended it."""
        return self._line.ended


class Rig:
    """One plugin with those that it requires, started over a memory layer.

    ``config`` are its settings, ``others`` those of the plugins it requires, by name; ``layer``
    fields of ``[layer]``, and ``settings`` of ``[gateway]``. ``announced`` are the kinds that the
    worker routes (default: all); None: there is no worker.
    """

    def __init__(
        self,
        plugin: type[ProtocolPlugin],
        config: Any = None,
        *,
        others: Mapping[str, Any] | None = None,
        announced: Iterable[str] | None = (),
        layer: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.plugin_class = plugin
        self.kinds: tuple[str, ...] = tuple(plugin.messages.KINDS)
        self.channels = [f"{plugin.name}.{kind}" for kind in self.kinds]
        self.boot = _boot(plugin, config, others or {}, layer or {}, settings)
        self._announced = announced
        self._delivery: Delivery | None = None
        self._left: list[Message] = []
        self.heard: Counter[str] = Counter()
        """How many messages the worker has heard, by kind."""
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._datagrams: DatagramDoor | None = None

    def __enter__(self) -> Self:
        self.gateway = MemoryGateway(self.boot, FailingLayer)
        self.worker = self.gateway.layer()
        if self._announced is not None:
            self.announce(list(self._announced) or self.kinds)
        self._tasks = self.call(asyncio.all_tasks)
        self._timers = self.engine.deadlines.armed()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.worker.close()
        self.gateway.close()
        if self._datagrams is not None:
            self._datagrams.close()

    # ------------------------------------------------ its parts

    @property
    def engine(self) -> Engine:
        """The engine that carries its connections."""
        return self.gateway.server.engine

    @property
    def plugin(self) -> ProtocolPlugin:
        """The started plugin."""
        return self.gateway.server.plugins[self.plugin_class.name]

    @property
    def context(self) -> Context:
        """Its context."""
        return self.plugin.context

    @property
    def metrics(self) -> Metrics:
        """The gateway's metrics."""
        return self.gateway.metrics

    # ------------------------------------------------ time

    def run(self, seconds: float = 0.0) -> None:
        """Run what is ready, and what becomes due within so many virtual seconds."""
        self.gateway.loop.run(seconds)

    def wait(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Let time pass until ``condition`` returns something true; return what it returned last.

        It is asked with the loop at rest.
        """
        self.run()
        end = self.gateway.loop.time() + seconds
        step = STEP
        while not (found := condition()) and self.gateway.loop.time() < end:
            self.run(step)
            step = min(STRIDE, step * 1.25)
        return found

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the gateway's loop, run what follows, and return its result."""
        return self.gateway.loop.call(function, *args)

    # ------------------------------------------------ the client's side

    def connect(self, door: str | None = None) -> Client:
        """Return a new client of the plugin ``door``: itself, or the http port it claims at."""
        plugin = self.plugin
        if door is None and isinstance(plugin, DatagramPlugin):
            if self._datagrams is None:
                self._datagrams = DatagramDoor(plugin, self.gateway.loop)
            return self._datagrams.client()
        if door is None:
            own = getattr(self.plugin, "serve", None) is not None
            door = "http" if not own and "http" in self.gateway.server.plugins else self.plugin.name
        client = LineClient(self.gateway, door)
        self.look_at_sessions()
        return client

    def look_at_sessions(self) -> None:
        """Remember the sessions that there are now, to see whether they are forgotten."""
        for connection in self.context.connections():
            try:
                self._sessions.add(connection.session)
            except TypeError:  # one with slots and without a place for it
                continue

    @property
    def sessions(self) -> int:
        """How many of the sessions that were seen are still there."""
        return len(self._sessions)

    # ------------------------------------------------ the worker's side

    def announce(self, kinds: Iterable[str]) -> None:
        """Say that workers route these kinds, and no other."""
        self.worker.announce([f"{self.plugin_class.name}.{kind}" for kind in kinds])
        self.run()

    def hear(self, seconds: float = PATIENCE) -> Heard:
        """Take the next message; AssertionError where none comes."""
        heard = self.hear_any(seconds)
        if heard is None:
            raise AssertionError("the worker was to hear a message, and none came")
        return heard

    def hear_any(self, seconds: float = 0.0) -> Heard | None:
        """Take the next message, None where none comes. One is in hand at a time."""
        if not self._left:
            self._delivery = self.wait(lambda: self.worker.take(self.channels, block=0), seconds)
            self._left = [] if self._delivery is None else self._delivery.messages
            self.look_at_sessions()
        if self._delivery is None or not self._left:
            return None
        heard = Heard(self, self._delivery, self._left.pop(0))
        self.heard[heard.kind] += 1
        return heard

    def settle(self, delivery: Delivery, outcome: Outcome, sends: list[Send]) -> None:
        """Say what became of the first message of a delivery that has no outcome yet."""
        self.worker.settle(delivery, [outcome], sends)
        if outcome.kind != OK.kind:
            self._left = []  # the rest is offered again, or lost with it
        self.run()

    def send(self, channel: str, message: Message) -> None:
        """Send a message to a channel."""
        self.worker.send(channel, message)
        self.run()

    def group_add(self, group: str, *channels: str) -> None:
        """Have reply channels be members of a group."""
        self.worker.apply([group_add(group, channel) for channel in channels])
        self.run()

    def group_send(self, group: str, message: Message) -> None:
        """Send a message to all members of a group."""
        self.worker.apply([group_send(group, message)])
        self.run()

    # ------------------------------------------------ what may happen to it

    def fail(self) -> None:
        """Cut the layer off."""
        self.call(self._failing.fail)

    def restore(self) -> None:
        """Have the layer back."""
        self.call(self._failing.restore)

    @property
    def _failing(self) -> FailingLayer:
        layer = self.gateway.edge_layer
        if not isinstance(layer, FailingLayer):
            raise TypeError(f"a rig has a FailingLayer, not {layer!r}")
        return layer

    def drain(self) -> Callable[[], bool]:
        """Begin the shutdown; return what says whether it is over."""
        draining = asyncio.run_coroutine_threadsafe(
            self.gateway.server.drain(), self.gateway.loop.loop
        )
        self.run()
        return draining.done

    def left_over(self) -> dict[str, Any]:
        """Return what should be empty once every connection has ended, and is not."""

        def look() -> dict[str, Any]:
            engine = self.engine
            tasks = asyncio.all_tasks() - self._tasks - {asyncio.current_task()}
            found = {
                "reply channels": list(engine.by_channel),
                "unsettled messages": list(engine.flow.flights),
                "waiting messages": [*engine.flow.full, *engine.flow.parked],
                "groups": len(engine.groups),
                "connections": len(list(self.context.connections())),
                "tasks": sorted(_named(task) for task in tasks),
                "deadlines": max(0, engine.deadlines.armed() - self._timers),
                "timers of the loop": self._scheduled(),
            }
            return {name: value for name, value in found.items() if value}

        return self.call(look)

    def _scheduled(self) -> list[str]:
        handles = self.gateway.loop.loop._scheduled  # type: ignore[attr-defined] # noqa: SLF001 - asyncio tells it nowhere else
        names = [
            getattr(handle._callback, "__qualname__", repr(handle._callback))  # noqa: SLF001 - as above
            for handle in handles
            if not handle.cancelled()
        ]
        return sorted(name for name in names if name not in OURS)


def _named(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


# ---------------------------------------------------------------- a gateway of one plugin


class _Given(EntryPoint):
    """The entry point of a plugin that is here already."""

    def load(self) -> ModuleType:
        """Return its module."""
        return _here[self.name]


_here: dict[str, ModuleType] = {}
"""The modules of plugins, while they are loaded."""


@cache
def _installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=PLUGINS))


def _boot(
    plugin: type[ProtocolPlugin],
    config: Any,
    others: Mapping[str, Any],
    layer: Mapping[str, Any],
    gateway: Mapping[str, Any],
) -> Boot:
    """Return what a gateway of that plugin starts with."""
    if issubclass(plugin, ClientPlugin):
        plugin = _waiting(plugin)
    name = plugin.name
    points = [_Given(name, plugin.__module__, PLUGINS)]
    if plugin.requires:
        points += [point for point in _installed() if point.name != name]  # type: ignore[misc] # EntryPoints, too
    registry = Registry(points)
    _here[name] = _module(plugin)
    try:
        loaded = registry.load([name], "the test")
    finally:
        del _here[name]
    tables = {
        one.name: others.get(one.name, one.kind.Config()) for one in loaded if one.name != name
    }
    tables[name] = plugin.Config() if config is None else config
    settings = Settings(
        plugins=tuple(tables),
        layer=LayerSettings(url="memory://", **layer),
        gateway=GatewaySettings(**gateway),
        tables=tables,
    )
    for one in loaded:
        one.kind.check(tables[one.name], settings.layer)
    return Boot(
        project=Project(Path.cwd()),
        registry=registry,
        application=None,
        plugins=loaded,
        sources=Sources(),
        settings=settings,
        workers=None,
    )


def _waiting(plugin: type[ClientPlugin]) -> type[ClientPlugin]:
    """Return the plugin as one that connects to nobody: the test is its peer, and begins."""

    class Waiting(plugin):  # type: ignore[misc, valid-type] # whichever it is
        def targets(self) -> tuple[Target, ...]:
            """Return none."""
            return ()

    return Waiting


def _module(plugin: type[ProtocolPlugin]) -> ModuleType:
    """Return the module whose hook names the plugin: its own, or a package around it; else a new
    one with that hook.
    """  # noqa: D205 - one sentence
    name = plugin.__module__
    while name:
        module = sys.modules.get(name)
        hook: Any = getattr(module, "gateway_plugin", None)
        if module is not None and hasattr(hook, "gateway_impl") and hook() is plugin:
            return module
        name = name.rpartition(".")[0]
    module = ModuleType(plugin.__module__, plugin.__doc__)

    def gateway_plugin() -> type[ProtocolPlugin]:
        return plugin

    vars(module)["gateway_plugin"] = hookimpl(gateway_plugin)
    return module


def replaced(config: msgspec.Struct, **fields: Any) -> Any:
    """Return settings with those fields that they have set otherwise."""
    own = {name: value for name, value in fields.items() if name in config.__struct_fields__}
    return msgspec.structs.replace(config, **own)
