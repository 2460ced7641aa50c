"""``unix:///path``: the layer of a hub, for the other processes of its machine.

Two clients share the lease of one process: `threads.ThreadClient`, for all threads over
one connection, and a `loops.LoopClient` for each running loop. Both are made at first use.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.core import names
from gateway.core.errors import ConfigError, LayerError, LayerUnavailable
from gateway.core.layers import wire
from gateway.core.layers.base import OK, Delivery, Intake, Outcome, Send
from gateway.core.layers.edge import Edge, Item
from gateway.core.layers.held import Held
from gateway.core.layers.intake import ThreadIntake
from gateway.core.layers.loopintake import LoopIntake
from gateway.core.layers.loops import LoopClient, LoopEdge
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.threads import ThreadClient
from gateway.core.layers.verbs import DO_ANNOUNCE, Verbs, off_loop
from gateway.core.metrics import Drop, Metrics

log = logging.getLogger("gateway.layer")

_layers: weakref.WeakSet[UnixLayer] = weakref.WeakSet()


class UnixLayer(Verbs):
    """The layer behind a Unix socket. See `Layer` for the verbs."""

    def __init__(self, url: str, options: LayerOptions) -> None:
        self.path = url.partition("://")[2]
        if not self.path.startswith("/"):
            raise ConfigError(f"layer URL {url!r}: the path of the socket must be absolute")
        self.options = options
        self.process = names.new_process()
        self.closed = False
        self.said: tuple[list[str], str] | None = None
        """What was announced, to be said again to a hub that is new."""
        self.held = Held()
        """The disconnects that are in hand here, whatever becomes of the hub."""
        self.numbers: Callable[[], str] = str
        """What an edge tells of itself when somebody asks the hub for metrics."""
        self.metrics = Metrics()
        """What this process lost for want of a hub."""
        self._lock = threading.Lock()
        self._threads: ThreadClient | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopClient] = {}
        _layers.add(self)

    def forked(self) -> None:
        """Be a process of its own in the child of a fork: its connections are the parent's."""
        self.process = names.new_process()
        self.said = None
        self.held = Held()  # what is in hand is in the parent's
        self._lock = threading.Lock()  # a thread that is not here may hold the other
        threads, self._threads = self._threads, None
        loops, self._loops = self._loops, {}
        for client in (threads, *loops.values()):
            if client is not None:
                client.let_go()

    def welcomed(self, process: str, options: dict[str, Any]) -> None:
        """Take the name under which the hub knows us, and its options."""
        self.process = process
        self.options = LayerOptions(**options)

    def late(self, delivery: Delivery, number: int) -> None:
        """Count settlements of what is not in hand any more: the hub has failed it as lost."""
        self.metrics.drop(Drop.STALE, number, where="layer")
        log.warning("%s was lost with the connection to the hub: not settled", delivery)

    def away(self, error: OSError | None) -> LayerUnavailable:
        """Return what to raise while no hub answers; ``error`` says why, where it is known."""
        why = f": {error.strerror}" if error is not None and error.strerror else ""
        return LayerUnavailable(
            f"no hub answers at {self.path}{why}; start `gateway run` in the project's directory, "
            "or set layer.url to the layer that is running"
        )

    def threads(self) -> ThreadClient:
        """Return the client of this process's threads."""
        client = self._threads
        if client is None:
            with self._lock:
                client = self._threads = self._threads or ThreadClient(self)
        return client

    def loop(self) -> LoopClient:
        """Return the client of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._loops.get(loop)
        if client is None:
            with self._lock:
                for gone in [one for one in self._loops if one.is_closed()]:
                    del self._loops[gone]
                client = self._loops[loop] = LoopClient(self, loop)
        return client

    # ---------------------------------------------------------------- primitives

    def _ask(self, op: int, *args: Any) -> Any:
        if op == DO_ANNOUNCE:
            self.said = (args[0], args[1])
        return self.threads().ask(op, *args)

    async def _aask(self, op: int, *args: Any) -> Any:
        if op == DO_ANNOUNCE:
            self.said = (args[0], args[1])
        return await self.loop().ask(op, *args)

    def _take(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        client = self.threads()
        delivery = client.pull(channels, block, inbox=inbox)
        if delivery is not None and settled:
            _settle_first(client, delivery)
        return delivery

    async def _atake(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        client = self.loop()
        delivery = await client.pull(channels, block, inbox=inbox)
        if delivery is not None and settled:
            _settle_first(client, delivery)
        return delivery

    def _settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> None:
        delivery.source.client.settle(delivery, outcomes, sends)

    def intake(self, channels: Iterable[str], credit: int = 32) -> Intake:
        return UnixIntake(self, self._standing(channels), credit)

    def edge(self, deliver: Callable[[list[Item]], None]) -> Edge:
        client = self.loop()
        if client.edge is not None:
            raise LayerError("this layer has an edge already")
        client.edge = LoopEdge(client, deliver)
        return client.edge

    def metrics_text(self) -> str:
        """Return the numbers of the hub, and of every gateway process on it.

        In the Prometheus text format. Raises `LayerUnavailable`.
        """
        return str(self.threads().ask(wire.METRICS))

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._threads is not None:
            self._threads.close()
        for loop, client in list(self._loops.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(client.close)

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        running = asyncio.get_running_loop()
        for loop, client in list(self._loops.items()):
            if loop is running:
                await client.aclose()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(client.close)
        if self._threads is not None:
            self._threads.close()


def _settle_first(client: ThreadClient | LoopClient, delivery: Delivery) -> None:
    """Settle the one message that ``receive`` returns, and put the others back."""
    if not delivery.tag:
        return
    more = len(delivery.payloads) > 1
    client.settle(delivery, (OK,), ())
    if more:
        client.put_back(delivery)


class UnixIntake(Intake):
    """The standing wish of a process: of its threads, and of each of its loops."""

    def __init__(self, layer: UnixLayer, channels: Sequence[str], credit: int) -> None:
        self._layer = layer
        self._channels = channels
        self._credit = credit
        self._lock = threading.Lock()
        self._closed = False
        self._threads: ThreadIntake | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopIntake] = {}

    def take(self, block: float | None = None) -> Delivery | None:
        off_loop("take")
        intake = self._threads
        if intake is None:
            with self._lock:
                if self._closed:
                    return None
                if self._threads is None:
                    client = self._layer.threads()
                    self._threads = ThreadIntake(client, self._channels, self._credit)
                intake = self._threads
        return intake.take(block)

    async def atake(self, block: float | None = None) -> Delivery | None:
        loop = asyncio.get_running_loop()
        intake = self._loops.get(loop)
        if intake is None:
            with self._lock:
                if self._closed:
                    return None
                client = self._layer.loop()
                intake = LoopIntake(client, self._channels, self._credit)
                self._loops[loop] = intake
        return await intake.take(block)

    def set_aside(self, delivery: Delivery) -> None:
        delivery.source.client.set_aside(delivery)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._threads is not None:
            self._threads.close()
        for loop, intake in list(self._loops.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(intake.close)


def _forked() -> None:
    for layer in list(_layers):
        layer.forked()


os.register_at_fork(after_in_child=_forked)
