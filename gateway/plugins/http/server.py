"""`HttpPlugin`: the listeners, the claims, start and stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from gateway.core.accept import Acceptor
from gateway.core.arrivals import Arrivals, Arrived
from gateway.core.listen import Listen, bind
from gateway.core.networks import EVERYBODY
from gateway.core.plugin import Context, ProtocolPlugin
from gateway.plugins.http import messages
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.phase import LINGER
from gateway.plugins.http.port import Port
from gateway.plugins.http.transport import HttpProtocol


class HttpPlugin(ProtocolPlugin):
    """HTTP/1.1 and HTTP/1.0, and HTTP/2 where h2 is installed, over TCP, Unix sockets and TLS."""

    name: ClassVar[str] = "http"
    Config: ClassVar[type[HttpConfig]] = HttpConfig
    messages = messages

    def __init__(self, config: HttpConfig, context: Context) -> None:
        super().__init__(config, context)
        self._port = Port(config, context)
        # uvloop closes, in silence, a server that nobody holds.
        self._servers: list[asyncio.Server] = []
        self._acceptors: list[Acceptor] = []
        self._arrivals: list[Arrivals] = []

    @classmethod
    def warnings(cls, config: HttpConfig) -> Iterable[str]:
        """Say what of the settings is risky, or has no effect."""
        if EVERYBODY in config.trusted_proxies:
            yield (
                "http.trusted_proxies: '*' believes whoever can connect: any client may pass for "
                "any other; name the proxies' addresses"
            )
        usual = HttpConfig()
        if not config.trusted_proxies and (
            config.proxy_header != usual.proxy_header or config.proxy_parts != usual.proxy_parts
        ):
            yield (
                "http.proxy_header and http.proxy_parts have no effect: http.trusted_proxies "
                "names nobody"
            )

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError for one that http cannot serve."""
        self._port.claims = self.context.claims()
        for endpoint in self.context.endpoints():
            if endpoint.kind == "twisted":
                raise endpoint.error(
                    "http listens at tcp:, unix:, fd: and systemd: endpoints, with tls: before it "
                    "or without"
                )
            if endpoint.tls or self.config.proxy_protocol:
                self._accept(endpoint)
            elif endpoint.spare:
                self._acceptors.append(
                    Acceptor(bind(endpoint), self._adopt, self.context, spare=True)
                )
            else:
                self._servers.append(await self._listen(endpoint))

    async def _listen(self, endpoint: Listen) -> asyncio.Server:
        """Listen where connections begin with a request: the loop's own way is the fastest."""
        sock = bind(endpoint)
        factory = partial(HttpProtocol, self._port)
        loop = self.context.loop
        if sock.family == socket.AF_UNIX:
            return await loop.create_unix_server(factory, sock=sock)
        return await loop.create_server(factory, sock=sock, backlog=endpoint.backlog)

    def _accept(self, endpoint: Listen) -> None:
        """Listen where something comes before the first request."""
        port = self._port
        arrivals = Arrivals(
            self.context,
            self.serve,
            port.places,
            tls=self.context.tls(port.alpn) if endpoint.tls else None,
            proxies=port.proxies if self.config.proxy_protocol else None,
            answer=port.insecure,
            # The phases of a connection have their own, shorter deadlines.
            shutdown_timeout=self.config.write_timeout + LINGER,
        )
        self._arrivals.append(arrivals)
        self._acceptors.append(
            Acceptor(bind(endpoint), arrivals.take, self.context, spare=endpoint.spare)
        )

    def _adopt(self, sock: socket.socket, _: Any) -> None:
        self.context.spawn(self._take_over(sock))

    async def _take_over(self, sock: socket.socket) -> None:
        """Serve a connection that waited for another process."""
        factory = partial(HttpProtocol, self._port)
        await self.context.loop.connect_accepted_socket(factory, sock)

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a connection that is there, whoever accepted it."""
        return HttpProtocol(self._port, arrived)

    async def stop(self) -> None:
        """Listen no more, close what is idle, let requests finish until this is cancelled."""
        port = self._port
        port.draining = True
        for server in self._servers:
            server.close()
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        for connection in list(port.connections):
            connection.drain()
        port.emptied.clear()
        try:
            for arrivals in self._arrivals:
                await arrivals.stop()
            if port.connections:
                await port.emptied.wait()
        finally:
            for connection in list(port.connections):
                connection.abort()
            self._servers.clear()

    def health(self) -> Mapping[str, Any]:
        """Return the number of open connections."""
        return {"ok": True, "connections": len(self._port.connections)}
