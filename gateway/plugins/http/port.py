"""What the connections of one http plugin share."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, cast

from gateway.core.plugin import Context
from gateway.core.web import Claim
from gateway.plugins.http import response
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.framing import Framing
from gateway.plugins.http.translate import Site

if TYPE_CHECKING:
    from gateway.plugins.http.transport import HttpProtocol


class Port:
    """What the connections of one http plugin share."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self.claims: list[Claim] = []
        self.connections: set[HttpProtocol] = set()
        self.draining = False
        self.emptied: asyncio.Event = asyncio.Event()
        """Set once no connection is left."""
        self.stamp = Stamp(config.server_header)
        self.site = Site(config, cast("Framing", response), self.stamp, context.drop)
        """What the requests of HTTP/1 share."""


class Stamp:
    """The Date and Server lines, made anew each second."""

    __slots__ = ("_lines", "_second", "_server")

    def __init__(self, server: str) -> None:
        self._server = f"\r\nserver: {server}" if server else ""
        self._second = 0
        self._lines = b""

    def __call__(self) -> bytes:
        """Return the lines, each with a CRLF before it."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = f"\r\ndate: {formatdate(second, usegmt=True)}{self._server}".encode()
        return self._lines
