"""The site's certificates as TLS contexts, and how they are loaded again while it runs.

A plugin takes an `Offer` at its start and begins every connection with the context that the
offer holds at that moment::

    offer = context.tls(["http/1.1"])
    await offer.accept(Protocol, sock, loop, 60)

`Tls.reload` makes wholly new contexts and then puts them into the offers: new connections get
the new certificate, open ones are not touched, nobody is refused meanwhile, and where a file is
broken everything stays as it was. A new context has new keys for session tickets, so a
session that an older client certificate began is not resumed past a new ``client_ca``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Final

from gateway.core.certificates import SOCKET, Pair, checked, day, make_context
from gateway.core.config import TlsSettings
from gateway.core.errors import ConfigError
from gateway.core.metrics import Metrics

log = logging.getLogger("gateway.tls")

SETTLE: Final = 1.0
"""Seconds that changed files have to stay as they are before they are read: certificate and key
are not written at the same moment."""
WATER: Final = 65536
"""Bytes that wait for a client before its protocol is told to pause, as without TLS; the
loops' own limit with TLS is eight times that."""


class Offer:
    """What connections of one kind begin with. ``context`` is the present one."""

    __slots__ = ("alpn", "context", "handshake_timeout", "max_handshakes")

    def __init__(
        self, alpn: tuple[str, ...], context: ssl.SSLContext, settings: TlsSettings
    ) -> None:
        self.alpn = alpn
        self.context = context
        self.handshake_timeout = settings.handshake_timeout
        self.max_handshakes = settings.max_handshakes

    async def accept(
        self,
        factory: Callable[[], asyncio.Protocol],
        sock: socket,
        loop: asyncio.AbstractEventLoop,
        shutdown_timeout: float,
    ) -> None:
        """Shake hands on an accepted socket; the protocol is connected when it is done.

        Raises OSError (ssl.SSLError is one) where that fails; the transport is closed then.
        ``shutdown_timeout`` bounds a close, as the last resort behind the protocol's own.
        """
        SOCKET.set(sock)
        await loop.connect_accepted_socket(
            factory,
            sock,
            ssl=self.context,
            # Who calls has a deadline of its own, which began with the accept.
            ssl_handshake_timeout=self.handshake_timeout + 1,
            ssl_shutdown_timeout=shutdown_timeout,
        )

    async def upgrade(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        loop: asyncio.AbstractEventLoop,
        shutdown_timeout: float,
    ) -> asyncio.Transport:
        """Shake hands on a connection that began without TLS; return its transport from now on.

        ``connection_made`` is not called again. Raises OSError where it fails, and the transport is
        closed then; the protocol may not hear of that.
        """
        SOCKET.set(transport.get_extra_info("socket"))
        found = await loop.start_tls(
            transport,
            protocol,
            self.context,
            server_side=True,
            ssl_handshake_timeout=self.handshake_timeout,
            ssl_shutdown_timeout=shutdown_timeout,
        )
        if found is None:
            raise ConnectionError("the connection was lost in its handshake")
        tune(found)
        return found


def tune(transport: asyncio.Transport) -> None:
    """Have a TLS transport buffer as one without TLS does, in both directions."""
    transport.set_write_buffer_limits(WATER)
    # A paused reader leaves what comes in the socket: there it holds the client back, and what
    # is left of it does not get lost when the client closes.
    transport.set_read_buffer_limits(1, 0)  # type: ignore[attr-defined] # of TLS transports alone


class Tls:
    """The certificates of one gateway process. Reads the files; raises ConfigError for them."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._offers: list[Offer] = []
        self._reloading = asyncio.Lock()
        self._seen = self._look()
        self.pairs = checked(settings)
        self._metrics = Metrics()

    def count_in(self, metrics: Metrics) -> None:
        """Count there from now on."""
        self._metrics = metrics
        metrics.gauge("gateway_tls_expiry_timestamp_seconds", self._expiry)

    def offer(self, alpn: Sequence[str] = ()) -> Offer:
        """Return what connections begin with that speak one of these protocols (RFC 7301)."""
        names = tuple(alpn)
        offer = Offer(names, make_context(self._settings, self.pairs, names), self._settings)
        self._offers.append(offer)
        return offer

    async def reload(self) -> bool:
        """Load everything again, or, where a file is broken, nothing; say which.

        What is wrong is logged and counted.
        """
        async with self._reloading:
            self._seen = await asyncio.to_thread(self._look)
            try:
                pairs, loaded = await asyncio.to_thread(self._load)
            except ConfigError as error:
                log.error("%s; the certificate in use stays", error)  # noqa: TRY400 - no fault of ours
                self._metrics.count("gateway_tls_reloads_total", result="failed")
                return False
            self.pairs = pairs
            for offer, context in loaded:
                offer.context = context
        self._metrics.count("gateway_tls_reloads_total", result="done")
        for pair in pairs:
            log.info("%s is loaded, valid until %s", pair.certificate, day(pair.says.not_after))
        self.warn()
        return True

    def _load(self) -> tuple[tuple[Pair, ...], list[tuple[Offer, ssl.SSLContext]]]:
        settings = self._settings
        pairs = checked(settings)
        offers = list(self._offers)
        return pairs, [(offer, make_context(settings, pairs, offer.alpn)) for offer in offers]

    def warn(self) -> None:
        """Log what an operator should know of the certificates in use."""
        for pair in self.pairs:
            for text in pair.warnings():
                log.warning("%s", text)

    async def watch(self) -> None:
        """Load the files again whenever they change, without end; never, for ``watch`` 0."""
        every = self._settings.watch
        while every:
            await asyncio.sleep(every)
            found = await asyncio.to_thread(self._look)
            if found == self._seen:
                continue
            while True:
                await asyncio.sleep(min(SETTLE, every))
                again = await asyncio.to_thread(self._look)
                if again == found:
                    break
                found = again
            await self.reload()

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what tells whether a file is another than before, for each file."""
        settings = self._settings
        paths = [*settings.certificates(), *settings.keys()]
        if settings.client_ca:
            paths.append(settings.client_ca)
        found: list[tuple[int, int, int] | None] = []
        for path in paths:
            try:
                status = Path(path).stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _expiry(self) -> float:
        return min(pair.says.not_after for pair in self.pairs).timestamp()
