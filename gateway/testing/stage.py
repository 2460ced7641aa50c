r"""A plugin really started: the gateway's loop on a thread, an engine, a memory layer, sockets.

::

    with Staged(Sensor, SensorConfig()) as staged:
        client = staged.connect()
        client.sendall(b"S 1 20.5\n")
        heard = staged.hear()                    # takes the message, as a worker does
        heard.settle(OK, {"text": "thanks"})     # its outcome, and replies before it
        assert staged.read(client, 5) == b"OK 1\n"
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from gateway.core import loop as gateway_loop
from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers import open_layer
from gateway.core.layers.base import OK, Delivery, Layer, Outcome, Send
from gateway.core.listen import Listen, bind, parse
from gateway.core.metrics import Metrics
from gateway.core.plugin import Message, ProtocolPlugin
from gateway.core.tls import Tls
from gateway.testing.heard import Heard

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds to wait for what must happen: far more than it takes on a busy machine."""
SILENCE: Final = 0.05
"""Seconds without a message after which none is coming: many times a loopback round trip."""

_numbers = itertools.count()


def wait_until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return what ``condition`` returns once it is true; AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"it did not happen within {seconds} s")
        pause.wait(0.005)


class Stage:
    """The gateway's loop, Twisted's reactor on it, on a thread; once in a process."""

    _stage: Stage | None = None

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._over: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="gateway-stage", daemon=True)
        self._thread.start()
        self._ready.wait()

    @classmethod
    def of_this_process(cls) -> Stage:
        """Return the stage, built at first use; it lasts as long as the process."""
        if cls._stage is None:
            cls._stage = cls()
            atexit.register(cls._stage.close)
        return cls._stage

    def _run(self) -> None:
        gateway_loop.run(self._main)

    async def _main(self) -> int:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._ready.set()
        await self._over.wait()
        return 0

    def run(self, coro: Coroutine[Any, Any, T], seconds: float = PATIENCE) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result(seconds)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the loop and return its result."""

        async def body() -> T:
            return function(*args)

        return self.run(body())

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)


class Staged:
    """One plugin, started on loopback, over a memory layer; the test is its worker.

    ``announced`` are the kinds that the worker routes (default: all); None: there is no
    worker. ``settings`` are fields of `GatewaySettings`, ``layer`` options of the layer;
    ``beside`` is another one, whose layer it shares as a gateway process of its own;
    ``access`` is told of each connection that ends; ``tls`` is for a ``listen`` that begins
    with ``tls:``. Without ``bound`` the plugin binds the endpoint itself. After a failed start it
    is stopped, as the server does it.
    """

    def __init__(
        self,
        plugin: type[ProtocolPlugin],
        config: Any = None,
        *,
        listen: str = "127.0.0.1:0",
        announced: Iterable[str] | None = (),
        layer: dict[str, Any] | None = None,
        beside: Staged | None = None,
        access: AccessLog | None = None,
        tls: Tls | None = None,
        bound: bool = True,
        **settings: Any,
    ) -> None:
        self.plugin_class = plugin
        self.config = plugin.Config() if config is None else config
        self.kinds: tuple[str, ...] = tuple(plugin.messages.KINDS)
        self.channels = [f"{plugin.name}.{kind}" for kind in self.kinds]
        self.metrics = Metrics()
        self._listen = listen
        self._announced = announced
        self._layer_options = layer or {}
        self._url = beside.url if beside is not None else f"memory://staged{next(_numbers)}"
        self._access = access
        self._tls = tls
        self._bound = bound
        self._settings = GatewaySettings(**settings)
        self._stage = Stage.of_this_process()
        self._delivery: Delivery | None = None
        self._left: list[Message] = []
        self._clients: list[socket.socket] = []
        self.engine: Engine
        self.plugin: ProtocolPlugin
        self.worker: Layer

    def __enter__(self) -> Self:
        self._layer = open_layer(self._url, **self._layer_options)
        self.worker = open_layer(self._url, **self._layer_options)
        if self._announced is not None:
            kinds = list(self._announced) or self.kinds
            self.worker.announce(f"{self.plugin_class.name}.{kind}" for kind in kinds)
        endpoint = parse(self._listen, "listen")
        binds = self._bound and endpoint.kind != "twisted"
        self._socket = bind(endpoint) if binds else None
        if self._socket is not None:
            endpoint = msgspec.structs.replace(endpoint, fd=self._socket.fileno())
        try:
            self._stage.run(self._start(endpoint))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.close()
        try:
            self._stage.run(self._stop(), PATIENCE * 2)
        finally:
            self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self.worker.close()
        self._layer.close()

    async def _start(self, endpoint: Listen) -> None:
        loop = asyncio.get_running_loop()
        self._before = asyncio.all_tasks()
        self.engine = Engine(self._layer, self._settings, self.metrics, loop, access=self._access)
        self.context = self.engine.context(
            self.plugin_class, self.config, listeners=[endpoint], tls=self._tls
        )
        self.plugin = self.plugin_class(self.config, self.context)
        try:
            await self.plugin.start()
        except BaseException:
            await self._stop()
            raise

    async def _stop(self, grace: float = 0.0) -> None:
        stopping = asyncio.ensure_future(self.plugin.stop())
        await asyncio.sleep(0)
        await self.engine.drain(grace)
        await asyncio.wait_for(stopping, PATIENCE)
        await self.context.close()
        await self.engine.singletons.close()
        self.engine.edge.leave()

    # ------------------------------------------------ on the loop

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the loop and return its result."""
        return self._stage.call(function, *args)

    def drain(self) -> None:
        """Tell every session that the gateway is shutting down; return at once."""

        def begin() -> None:
            self._draining = asyncio.ensure_future(self.engine.drain(PATIENCE))

        self.call(begin)

    def left_over(self) -> dict[str, Any]:
        """Return what should be empty once every connection has ended, and is not."""

        def look() -> dict[str, Any]:
            engine = self.engine
            tasks = asyncio.all_tasks() - self._before - {asyncio.current_task()}
            found = {
                "reply channels": list(engine.by_channel),
                "unsettled": list(engine.flow.flights),
                "waiting": [*engine.flow.full, *engine.flow.parked],
                "groups": len(engine.groups),
                "connections": self.context.open,
                "tasks": [task.get_name() for task in tasks],
            }
            return {name: value for name, value in found.items() if value}

        return self.call(look)

    # ------------------------------------------------ as a client

    @property
    def url(self) -> str:
        """The URL of its layer."""
        return self._url

    @property
    def port(self) -> int:
        """The port that the plugin listens at."""
        if self._socket is None:
            raise LookupError(f"{self._listen!r} is no socket of ours")
        port: int = self._socket.getsockname()[1]
        return port

    def connect(self) -> socket.socket:
        """Return a new connection to the plugin, closed at the latest with the stage."""
        assert self._socket is not None
        client = socket.socket(self._socket.family, self._socket.type)
        self._clients.append(client)
        client.settimeout(PATIENCE)
        client.connect(self._socket.getsockname())
        if client.family != socket.AF_UNIX and client.type == socket.SOCK_STREAM:
            # What is sent in pieces is to arrive in pieces.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    @staticmethod
    def read(client: socket.socket, count: int) -> bytes:
        """Return the next ``count`` bytes; fewer if the connection ends before."""
        data = b""
        while len(data) < count:
            piece = client.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    @staticmethod
    def read_all(client: socket.socket) -> bytes:
        """Return everything until the connection ends."""
        data = b""
        while piece := client.recv(65536):
            data += piece
        return data

    # ------------------------------------------------ as a worker

    def hear(self, seconds: float = PATIENCE) -> Heard:
        """Take the next message; AssertionError where none comes."""
        heard = self.hear_any(seconds)
        assert heard is not None, f"no message within {seconds} s"
        return heard

    def hear_any(self, seconds: float = SILENCE) -> Heard | None:
        """Take the next message, None where none comes in time. One is in hand at a time."""
        if not self._left:
            self._delivery = self.worker.take(self.channels, block=seconds)
            self._left = [] if self._delivery is None else self._delivery.messages
        if self._delivery is None or not self._left:
            return None
        return Heard(self, self._delivery, self._left.pop(0))

    def settle(self, delivery: Delivery, outcome: Outcome, sends: list[Send]) -> None:
        """Say what became of the first message of a delivery that has no outcome yet."""
        self.worker.settle(delivery, [outcome], sends)
        if outcome.kind != OK.kind:
            self._left = []  # the rest is offered again, or lost with it
