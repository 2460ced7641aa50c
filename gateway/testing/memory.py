r"""A whole gateway without sockets: the real server and its plugins, on a virtual clock.

::

    gateway = MemoryGateway(boot(Options()))
    worker = gateway.layer()                      # another process on its layer
    line = gateway.connect("http", heard.append)  # a client
    gateway.loop.call(line.send, b"GET / HTTP/1.1\r\nhost: example\r\n\r\n")
    delivery = worker.take(["http.request"])

Nothing here knows a protocol: a client brings its own bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import weakref
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.core.arrivals import Arrived
from gateway.core.boot import Boot
from gateway.core.config import TlsSettings
from gateway.core.layers.base import Layer
from gateway.core.layers.memory import MemoryLayer, sibling
from gateway.core.layers.options import LayerOptions
from gateway.core.listeners import Listeners
from gateway.core.metrics import Drop, Metrics
from gateway.core.places import Places
from gateway.core.plugin import Peer
from gateway.core.server import Server
from gateway.testing.line import Line
from gateway.testing.virtual import VirtualLoop

FIRST_PORT: Final = 50_000
"""Port of the first client; each has one of its own, so that it is known by it."""
PORTS: Final = 10_000
"""Ports before they come again."""


class Complaints(logging.Handler):
    """Keeps what the gateway of one loop warns of."""

    def __init__(self, ident: int | None) -> None:
        super().__init__(logging.WARNING)
        self._ident = ident
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, if it is one of ours."""
        if record.thread == self._ident:
            self.texts.append(record.getMessage())


class MemoryGateway:
    """The gateway process of ``boot``'s plugins and settings; it listens and connects nowhere.

    ``layer`` in the settings says how its memory layer behaves, whatever its URL; ``layer`` here
    is the class of that: `gateway.testing.failing.FailingLayer`, say.
    """

    def __init__(self, boot: Boot, layer: type[MemoryLayer] = MemoryLayer) -> None:
        self.loop = loop = VirtualLoop()
        self.metrics = Metrics()
        settings = msgspec.structs.replace(boot.settings, tls=TlsSettings())
        self.boot = msgspec.structs.replace(boot, settings=settings)
        options = LayerOptions(**settings.layer.options())
        self._layer = layer("memory://", options, loop.time)
        self.shared = self._layer.shared
        self._ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS))
        self._complaints = Complaints(loop.ident)
        logging.getLogger("gateway").addHandler(self._complaints)
        self.close = weakref.finalize(self, _end, loop, self._complaints)
        """End it, at once; at the latest when it is forgotten."""
        try:
            self.server: Server = loop.do(self._start())
        except BaseException:
            self.close()
            raise

    async def _start(self) -> Server:
        names = self.boot.settings.tables
        listeners = Listeners({name: [] for name in names})
        listeners.adopt({name: [] for name in names})
        server = Server(self.boot, self._layer, listeners, self.metrics)
        server.engine.outbound = False
        await server.start()
        return server

    def connect(
        self,
        plugin: str,
        heard: Callable[[bytes], None],
        *,
        host: str = "127.0.0.1",
        server: tuple[str, int] = ("127.0.0.1", 80),
        tls: bool = False,
    ) -> Line:
        """Return a new connection to ``plugin``, whose words go to ``heard``.

        Raises LookupError where the settings' ``plugins`` do not have it.
        """
        found = self.server.plugins.get(plugin)
        if found is None:
            running = ", ".join(self.server.plugins)
            raise LookupError(f"the gateway has no plugin {plugin!r}: its plugins are {running}")
        serve = getattr(found, "serve", None)
        if serve is None:
            raise LookupError(f"plugin {plugin!r} takes no connections: it has no serve(arrived)")
        peer = Peer((host, next(self._ports)), server, tls)

        def begin() -> Line:
            line = Line(asyncio.get_running_loop(), peer, heard)
            line.begin(serve(Arrived(peer, Places(1).take())))
            return line

        return self.loop.call(begin)

    @property
    def edge_layer(self) -> MemoryLayer:
        """The gateway's own process on its layer."""
        return self._layer

    def layer(self) -> Layer:
        """Return another process on its layer: a worker, say."""
        return sibling(self._layer)

    @property
    def invalid(self) -> int:
        """How many replies were dropped that their format or protocol does not allow."""
        return self.metrics.dropped().get(Drop.INVALID.value, 0)

    @property
    def complaints(self) -> list[str]:
        """What it has warned of, in order."""
        return self._complaints.texts


def _end(loop: VirtualLoop, complaints: Complaints) -> None:
    logging.getLogger("gateway").removeHandler(complaints)
    loop.close()
