"""What the connections of one http plugin share."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, cast

from gateway.core.arrivals import Arrived, socket_address
from gateway.core.networks import Networks
from gateway.core.places import Places
from gateway.core.plugin import Context, Drop, Peer
from gateway.core.web import Claim, Header, plain
from gateway.plugins.http import response
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.forwarded import Forwarding
from gateway.plugins.http.framing import Framing
from gateway.plugins.http.phase import Phase
from gateway.plugins.http.translate import Site

if TYPE_CHECKING:
    from gateway.plugins.http.http2.connection import Http2Protocol
    from gateway.plugins.http.transport import HttpProtocol

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a client begins to speak HTTP/2 (RFC 9113 section 3.4)."""


class Port:
    """What the connections of one http plugin share."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self.claims: list[Claim] = []
        self.connections: set[HttpProtocol | Http2Protocol] = set()
        self.draining = False
        self.emptied: asyncio.Event = asyncio.Event()
        """Set once no connection is left."""
        self.forwarding = Forwarding(config, lambda: context.count("garbled_forwarded_total"))
        self.proxies = Networks(config.trusted_proxies, "http.trusted_proxies")
        """Who speaks for others: not limited itself, and believed where it says who."""
        self.places = Places(
            config.max_connections, config.max_connections_per_address, self.proxies
        )
        self.stamp = Stamp(config.server_header)
        self.site = Site(config, cast("Framing", response), self.stamp, context.drop)
        """What the requests of HTTP/1 share."""
        self.http2 = _http2(config)
        """Makes the protocol of a connection of HTTP/2; None where that is not spoken."""
        self.alpn = ("http/1.1",) if self.http2 is None else ("h2", "http/1.1")
        """What TLS may agree on, the best first."""
        self.site2 = self.site
        """What the requests of HTTP/2 share."""
        if self.http2 is not None:
            framing = cast("Framing", import_module("gateway.plugins.http.http2.response"))
            self.site2 = Site(config, framing, self.stamp.fields, context.drop)

    def count_timeout(self, phase: Phase) -> None:
        """Count a connection or request that a timeout ended."""
        self.context.count("timeouts_total", setting=phase.value)
        if phase is Phase.WRITE:
            self.context.drop(Drop.SLOW)

    def arrived(self, transport: asyncio.BaseTransport) -> Arrived:
        """Return what there is to know of a connection that begins with its first request."""
        client = socket_address(transport.get_extra_info("peername"))
        peer = Peer(client, socket_address(transport.get_extra_info("sockname")))
        place = self.places.take()
        if place is None or not place.of(None if client is None else client[0]):
            self.context.drop(Drop.LIMITED)
            if place is not None:
                place.leave()
            place = None
        return Arrived(peer, place)

    def insecure(self, data: bytes) -> bytes:
        """Return what a client hears that begins so where TLS is spoken."""
        if not data[:1].isalpha():
            return b""
        headers, content = plain(400, "this port speaks TLS: write https:// instead of http://")
        return response.refusal(400, headers, content, self.stamp(), bare=False)

    def preface(self, data: bytes) -> bool:
        """Return whether a connection that begins so, with a line at least, is one of HTTP/2."""
        return self.http2 is not None and data[: len(PREFACE)] == PREFACE[: len(data)]


def http2_missing(config: HttpConfig) -> bool:
    """Return whether HTTP/2 is asked for, and the library that it needs is not installed."""
    return config.http2 and find_spec("h2") is None


def _http2(config: HttpConfig) -> type[Http2Protocol] | None:
    if not config.http2 or http2_missing(config):
        return None
    from gateway.plugins.http.http2.connection import Http2Protocol  # noqa: PLC0415 - optional

    return Http2Protocol


class Stamp:
    """Our Date and Server, made anew each second."""

    __slots__ = ("_fields", "_lines", "_second", "_server")

    def __init__(self, server: str) -> None:
        self._server: tuple[Header, ...] = ((b"server", server.encode()),) if server else ()
        self._second = 0
        self._fields: tuple[Header, ...] = ()
        self._lines = b""

    def __call__(self) -> bytes:
        """Return them as lines, each with a CRLF before it."""
        if int(time.time()) != self._second:
            self._renew()
        return self._lines

    def fields(self) -> tuple[Header, ...]:
        """Return them as header fields."""
        if int(time.time()) != self._second:
            self._renew()
        return self._fields

    def _renew(self) -> None:
        self._second = int(time.time())
        date = formatdate(self._second, usegmt=True).encode()
        self._fields = ((b"date", date), *self._server)
        self._lines = b"".join(b"\r\n%b: %b" % field for field in self._fields)
