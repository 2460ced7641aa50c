"""One process of the gateway, from its first signal handler to its exit status.

It opens the layer (with the hub in it where nobody else serves one), starts the server,
waits for a signal, drains. The hub ends last: workers settle through it until they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import gateway
from gateway.core import child, malloc
from gateway.core.access import AccessLog, OpenLog
from gateway.core.boot import Boot
from gateway.core.child import DRAINED, LAYER_VARIABLE, READY, RELOAD, STOP, Orders
from gateway.core.config import LayerSettings
from gateway.core.errors import ConfigError, GatewayError
from gateway.core.layers import open_layer
from gateway.core.layers.base import Layer
from gateway.core.layers.edge import Edge
from gateway.core.layers.hub import Hub
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from gateway.core.listen import answers
from gateway.core.listeners import Listeners, bind_hub
from gateway.core.metrics import Metrics
from gateway.core.plugin import RunningWorker
from gateway.core.server import Server
from gateway.core.watchdog import Watchdog

log = logging.getLogger("gateway.process")

HUB_TIME: Final = 10.0
"""Seconds that a gateway waits at its start for the hub; after that it answers "unavailable"."""
LOOK: Final = 0.02
"""Seconds between two looks whether the hub is there."""


class Stop:
    """SIGTERM and SIGINT: the first asks to stop, the second ends the process at once.

    SIGHUP calls ``reload``. A process that is ``supervised`` is asked by its supervisor alone,
    one without ``reload`` by whoever it is the guest of.
    """

    def __init__(self, reload: Callable[[], None] | None, *, supervised: bool = False) -> None:
        self.asked = asyncio.Event()
        self.files: list[str] = []
        """Socket files to remove when the process ends."""
        if supervised:
            child.leave_signals_to_the_supervisor()
            return
        if reload is None:
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, reload)

    def _signalled(self, name: str) -> None:
        if not self.asked.is_set():
            log.info("%s: draining; the same again stops at once", name)
            self.asked.set()
            return
        log.warning("%s again: stopping at once", name)
        self.remove_files()
        sys.stdout.flush()
        # No handler, thread or peer may hold up what was asked for twice.
        os._exit(1)

    def remove_files(self) -> None:
        """Remove the socket files of this process."""
        for path in self.files:
            Path(path).unlink(missing_ok=True)


class Process:
    """The gateway process: alone, or as the supervisor's child with its ``orders``."""

    def __init__(self, boot: Boot, orders: Orders | None) -> None:
        self._boot = boot
        self._orders = orders
        self._settings = boot.settings
        self._url = boot.layer_url
        self._metrics = Metrics()
        self._listeners = Listeners(boot.endpoints())
        self._watchdog = Watchdog(self._settings.gateway.watchdog, self._metrics)
        self._stop = self._make_stop()
        self._reloads: set[asyncio.Task[None]] = set()
        self._access: AccessLog | None = None
        self._line: socket.socket | None = None
        self._released = asyncio.Event()
        self._hub: Hub | None = None
        self._layer: Layer | None = None
        self._server: Server | None = None
        self._worker: RunningWorker | None = None
        self._cut_off = False
        """Whether consumers still run on the threads of this process."""

    async def run(self) -> int:
        """Serve until asked to stop; return 0. Raises GatewayError if it cannot start."""
        starting = asyncio.ensure_future(self._start())
        asked = asyncio.ensure_future(self._stop.asked.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
            if not starting.cancelled():
                starting.result()
                await asked
        finally:
            asked.cancel()
            await self._end()
        return self._status()

    def _status(self) -> int:
        return child.cut_off(self._settings.workers.grace) if self._cut_off else 0

    # ------------------------------------------------ what is another's in a guest's place

    def _make_stop(self) -> Stop:
        return Stop(self._reload, supervised=self._orders is not None)

    def _open_access(self) -> AccessLog | None:
        log = self._settings.log
        return OpenLog(log, self._metrics) if log.access else None

    def _tell(self) -> None:
        """Say that traffic flows from now on."""
        for text in self._boot.warnings():
            log.warning("%s", text)
        if self._orders is None or (self._orders.first and self._orders.number <= 1):
            for line in banner(self._boot, self._listeners):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()

    # ------------------------------------------------ start

    async def _start(self) -> None:
        if self._orders is None:
            self._listeners.bind()
        else:
            self._listeners.adopt(self._orders.listen)
            self._line = socket.socket(fileno=self._orders.parent)
            self._line.setblocking(False)
            asyncio.get_running_loop().add_reader(self._line, self._hear)
        self._access = self._open_access()
        self._layer = await self._open_layer()
        if self._boot.workers == 0:
            await self._start_worker()
        self._server = Server(self._boot, self._layer, self._listeners, self._metrics, self._access)
        if self._orders is not None:
            await self._await_hub(self._server.engine.edge)
        await self._server.start()
        if self._settings.gateway.watchdog:
            self._watchdog.start()
        self._tell()
        if self._line is not None:
            child.say(self._line, READY)
        malloc.keep_objects()

    async def _open_layer(self) -> Layer:
        os.environ[LAYER_VARIABLE] = self._url
        options = self._settings.layer.options()
        scheme, _, path = self._url.partition("://")
        if self._orders is not None and self._orders.hub >= 0:
            sock = socket.socket(fileno=self._orders.hub)
        elif self._orders is None and scheme == "unix" and not answers(path):
            sock = bind_hub(self._settings.layer, self._url)
            self._stop.files.append(path)
        else:
            return self._joined(open_layer(self._url, **options))
        self._hub = Hub(LayerOptions(**options))
        self._hub.sources.append(self._metrics.text)
        keep_journal(self._hub, self._settings.layer, self._url)
        await self._hub.serve(sock)
        return self._hub.layer()

    def _joined(self, layer: Layer) -> Layer:
        """Prepare a layer whose hub is another process: it may ask for our numbers."""
        if isinstance(layer, UnixLayer):
            # Without workers of ours the hub may be another's, and have a gateway 1 already.
            number = ""
            if self._orders is not None and self._boot.workers is not None:
                number = str(self._orders.number)

            def numbers() -> str:
                name = number or layer.process
                return self._metrics.text(gateway=name) + layer.metrics.text(gateway=name)

            layer.numbers = numbers
        return layer

    async def _await_hub(self, edge: Edge) -> None:
        """Wait for a hub that starts beside us, so that the first request finds it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HUB_TIME):
                while not edge.available:  # noqa: ASYNC110 - an edge tells nobody
                    await asyncio.sleep(LOOK)

    async def _start_worker(self) -> None:
        application = self._boot.need_application()
        layer = open_layer(self._url, **self._settings.layer.options())
        starting = asyncio.ensure_future(
            asyncio.to_thread(application.start_worker, layer, self._settings)
        )
        try:
            await asyncio.shield(starting)
        except GatewayError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the application cannot start: {type(error).__name__}: {error}"
            ) from error
        finally:
            # A thread cannot be cancelled: what it has started is to be stopped in any case.
            await asyncio.wait({starting})
            if starting.exception() is None:
                self._worker = starting.result()

    def _hear(self) -> None:
        """Take the supervisor's word: to reload, to drain, or, if it hung up or died, to end."""
        if self._line is not None:
            said = child.hear(self._line)
            if not said:
                asyncio.get_running_loop().remove_reader(self._line)
                self._released.set()
            if RELOAD in said:
                self._reload()
            if not said or STOP in said:
                self._stop.asked.set()

    def _reload(self) -> None:
        """Load files again; not while the start reads them, nor once it is the end.

        The access log's file is opened anew at any time: it may have been moved away.
        """
        if self._access is not None:
            self._access.reopen()
        if self._server is None or not self._server.started or self._stop.asked.is_set():
            log.info("SIGHUP: nothing to reload now")
            return
        log.info("SIGHUP: reloading")
        task = asyncio.ensure_future(self._server.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    # ------------------------------------------------ end

    async def _end(self) -> None:
        """End what has started, whatever that is."""
        self._watchdog.stop()
        for task in self._reloads:
            task.cancel()
        if self._server is not None and self._server.started:
            await self._server.drain()
            log.info("drained")
        if self._access is not None:
            await asyncio.to_thread(self._access.close)
        self._listeners.close()
        if self._worker is not None:
            grace = self._settings.workers.grace
            self._cut_off = not await asyncio.to_thread(self._worker.stop, grace)
        if self._line is not None:
            if self._hub is not None and self._server is not None and self._server.started:
                await self._await_workers(self._line)
            asyncio.get_running_loop().remove_reader(self._line)
            self._line.close()
        if self._layer is not None:
            await self._layer.aclose()
        if self._hub is not None:
            await self._hub.stop()
        self._stop.remove_files()

    async def _await_workers(self, line: socket.socket) -> None:
        """Keep the hub until the supervisor says that no worker needs it."""
        if not self._released.is_set():
            child.say(line, DRAINED)
            await self._released.wait()


def banner(boot: Boot, listeners: Listeners) -> Iterator[str]:
    """Iterate over the lines that a start prints: what listens where, and how to stop it."""
    settings = boot.settings
    what = boot.project.settings or "no application of its own"
    yield f"gateway {gateway.__version__} serves {what}"
    for name, where in served(boot, listeners):
        yield f"  {name:<10} {', '.join(where)}"
    yield f"  {'layer':<10} {boot.layer_url}"
    if settings.gateway.count > 1:
        yield f"  {'gateways':<10} {settings.gateway.count} processes"
    threads = settings.workers.threads
    if boot.workers is None:
        yield f"  {'workers':<10} none here; start them with: gateway worker"
    elif boot.workers == 0:
        yield f"  {'workers':<10} {threads} threads in this process"
    else:
        yield f"  {'workers':<10} {boot.workers} of {threads} threads each"
    yield f"  {'stop':<10} Ctrl-C or SIGTERM; again to stop at once"


def served(boot: Boot, listeners: Listeners) -> Iterator[tuple[str, list[str]]]:
    """Iterate over the plugins and where each is served: at these places, or ``on`` another."""
    for loaded in boot.plugins:
        places = [_url(loaded.name, place) for place in listeners.places(loaded.name)]
        yield loaded.name, places or [f"on {', '.join(loaded.kind.requires) or 'no port'}"]


def _url(scheme: str, place: str) -> str:
    """Return where a plugin listens as a URL, where it can be one: ``https://127.0.0.1:8443``."""
    secure = place.startswith("tls:")
    host = place.removeprefix("tls:")
    if host.startswith(("unix:", "udp:")):
        return place
    return f"{scheme}{'s' if secure else ''}://{host}"


async def serve(boot: Boot, orders: Orders | None) -> int:
    """Run the gateway process to its end. Raises GatewayError if it cannot start."""
    return await Process(boot, orders).run()


def keep_journal(hub: Hub, settings: LayerSettings, url: str) -> None:
    """Have the hub at ``url`` keep its journal beside its socket, open to whom that is."""
    path = url.partition("://")[2] + ".journal"
    hub.keep_journal(path, int(settings.socket_mode, 8), settings.socket_group)


async def serve_hub(boot: Boot, orders: Orders | None = None) -> int:
    """Run the hub alone until a signal, or as the supervisor's child until that hangs up.

    Raises ConfigError if it cannot start.
    """
    url = boot.layer_url
    stop = Stop(
        lambda: log.info("SIGHUP: a hub has nothing to reload"), supervised=orders is not None
    )
    line: socket.socket | None = None
    if orders is None:
        sock = bind_hub(boot.settings.layer, url)
        stop.files.append(url.partition("://")[2])
    else:
        sock = socket.socket(fileno=orders.hub)
        line = socket.socket(fileno=orders.parent)
        line.setblocking(False)
        asyncio.get_running_loop().add_reader(line, stop.asked.set)
    hub = Hub(LayerOptions(**boot.settings.layer.options()))
    keep_journal(hub, boot.settings.layer, url)
    try:
        await hub.serve(sock)
        if line is not None:
            child.say(line, READY)
        else:
            sys.stdout.write(f"gateway {gateway.__version__} hub at {url}\n")
            sys.stdout.flush()
        await stop.asked.wait()
    finally:
        if line is not None:
            asyncio.get_running_loop().remove_reader(line)
            line.close()
        await hub.stop()
        stop.remove_files()
    return 0
