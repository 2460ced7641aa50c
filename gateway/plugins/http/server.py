"""`HttpPlugin`: the listeners, the claims, start and stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from gateway.core.listen import Listen, bind
from gateway.core.networks import EVERYBODY
from gateway.core.plugin import Context, ProtocolPlugin
from gateway.plugins.http import messages
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.port import Port
from gateway.plugins.http.transport import HttpProtocol


class HttpPlugin(ProtocolPlugin):
    """HTTP/1.1 and HTTP/1.0 over TCP and Unix sockets."""

    name: ClassVar[str] = "http"
    Config: ClassVar[type[HttpConfig]] = HttpConfig
    messages: ClassVar[Any] = messages

    def __init__(self, config: HttpConfig, context: Context) -> None:
        super().__init__(config, context)
        self._port = Port(config, context)
        # uvloop closes, in silence, a server that nobody holds.
        self._servers: list[asyncio.Server] = []

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
            self._servers.append(await self._listen(endpoint))

    async def _listen(self, endpoint: Listen) -> asyncio.Server:
        if endpoint.kind == "twisted" or endpoint.tls:
            raise endpoint.error("http listens at tcp:, unix:, fd: and systemd: endpoints")
        sock = bind(endpoint)
        factory = partial(HttpProtocol, self._port)
        loop = self.context.loop
        if sock.family == socket.AF_UNIX:
            return await loop.create_unix_server(factory, sock=sock)
        return await loop.create_server(factory, sock=sock, backlog=endpoint.backlog)

    async def stop(self) -> None:
        """Listen no more, close what is idle, let requests finish until this is cancelled."""
        port = self._port
        port.draining = True
        for server in self._servers:
            server.close()
        for connection in list(port.connections):
            connection.drain()
        port.emptied.clear()
        try:
            if port.connections:
                await port.emptied.wait()
        finally:
            for connection in list(port.connections):
                connection.abort()
            self._servers.clear()

    def health(self) -> Mapping[str, Any]:
        """Return the number of open connections."""
        return {"ok": True, "connections": len(self._port.connections)}
