"""A protocol of Twisted's on a transport of asyncio's: how stream plugins speak TLS.

With asyncio's TLS a stream plugin has the certificates, their reload, the deadlines and the
limits that http has. Twisted's own would have to be taught each of them again, and needs
pyOpenSSL.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure

from gateway.core.arrivals import socket_address
from gateway.core.plugin import Peer
from gateway.core.tls import WATER


class Bridge(asyncio.Protocol):
    """Both ends of it: asyncio's protocol, and the transport that Twisted's protocol sees.

    Of a Twisted transport it has what `gateway.core.stream.StreamProtocol` uses. TLS cannot be
    closed by halves here: after the peer's close_notify what is written at once still leaves.
    Where the protocol reads no further at that moment, the end waits until it does: asyncio
    has handed over all that came before, and some of it is still to be worked on.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport: asyncio.Transport
        self._producer: Any = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._ended = False
        """Whether the peer's end waits to be told."""
        self._lost = False
        """Whether the connection is gone, which waits to be told likewise."""

    # ------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._protocol.dataReceived(data)

    def eof_received(self) -> None:
        """Hear that the peer will send no more; asyncio closes when this returns."""
        if self._paused:
            self._ended = True
        else:
            self._protocol.readConnectionLost()
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._waiting.clear()
        self._lost = True
        if not self._ended:
            self._tell_lost(exc)

    def _tell_ended(self) -> None:
        if self._ended:
            self._ended = False
            self._protocol.readConnectionLost()
            if self._lost:
                self._tell_lost()

    def _tell_lost(self, error: Exception | None = None) -> None:
        reason = Failure(error or ConnectionDone())  # type: ignore[no-untyped-call] # Twisted's
        self._protocol.connectionLost(reason)

    def pause_writing(self) -> None:
        """Hear that the peer takes no more now."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_writing(self) -> None:
        """Hear that the peer takes more."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def peer(self) -> Peer:
        """Return who is at the other end of a connection that we began."""
        told = self._transport.get_extra_info
        return Peer(
            socket_address(told("peername")),
            socket_address(told("sockname")),
            told("ssl_object") is not None,
        )

    # ------------------------------------------------ what a Twisted protocol calls

    def write(self, data: bytes) -> None:
        """Send bytes; what is written in one turn of the loop leaves together.

        Unless it is much: then the protocol is to hear at once that the peer takes no more.
        """
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= WATER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close, behind what was written; what comes until the peer has closed is dropped."""
        self._flush()
        self._forget_end()
        if not self._transport.is_closing():
            if not self._transport.is_reading():
                self._transport.resume_reading()
            self._transport.close()

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close at once."""
        self._waiting.clear()
        self._forget_end()
        self._transport.abort()

    def _forget_end(self) -> None:
        """Have the peer's end not told: the protocol has ended it itself."""
        if self._ended:
            self._ended = False
            if self._lost:
                self._loop.call_soon(self._tell_lost)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read no more for now."""
        self._paused = True
        if not self._transport.is_closing() and self._transport.is_reading():
            self._transport.pause_reading()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read on."""
        self._paused = False
        if self._ended:
            self._loop.call_soon(self._tell_ended)
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:  # noqa: N802 - as above
        """Have ``producer`` told when to pause."""
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """Tell nobody any more."""
        self._producer = None
