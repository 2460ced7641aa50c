"""Ready I/O for stream protocols: one `Session` for each connection of any endpoint.

A plugin on it is a name, a config, messages and a session::

    class Sensor(StreamPlugin):
        name = "sensor"
        Config = SensorConfig
        messages = messages

        def session(self, peer: Peer) -> Session:
            return SensorSession(self.config)

Its setting ``listen`` says where, with ``tls:`` before it or without; settings
``max_connections`` and ``max_connections_per_address``, where it has them, bound how many are
served at once.
"""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final
from typing import Protocol as Face

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.core.accept import Acceptor
from gateway.core.arrivals import Arrivals, Arrived
from gateway.core.bridge import Bridge
from gateway.core.deadlines import Deadline
from gateway.core.listen import Listen, bind
from gateway.core.metrics import Drop
from gateway.core.places import Place, Places
from gateway.core.plugin import Connection, Context, Peer, ProtocolPlugin, Session, Summary

MAX_CONNECTIONS: Final = 10_000
"""Connections at once where the plugin's settings say nothing: what 1 GiB serves easily."""
SLICE: Final = 4096
"""Bytes handed to a session at once: what one call emits stays near the inbox's bounds."""
OWED: Final = 1 << 18
"""Bytes that a session may answer a peer which does not read, before that is not read either: as
many as wait for the application."""
LINGER: Final = 2.0
"""Seconds that a closing connection has to take what is left for it: a few round trips."""


class StreamPlugin(ProtocolPlugin):
    """A protocol over byte streams. A subclass makes the sessions."""

    alpn: ClassVar[tuple[str, ...]] = ()
    """The protocol's names in TLS (RFC 7301), the best first, where it has any."""

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._acceptors: list[Acceptor] = []
        self._arrivals: list[Arrivals] = []
        self._ports: list[Any] = []
        self._places = Places(
            getattr(config, "max_connections", MAX_CONNECTIONS),
            getattr(config, "max_connections_per_address", None),
        )

    @abstractmethod
    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""

    def wire(self, arrived: Arrived | None = None) -> StreamProtocol:
        """Return what carries a new connection; ``arrived`` unless Twisted accepted it."""
        return StreamProtocol(self, arrived)

    def crowded(self) -> bytes:
        """Return what a connection over ``max_connections`` hears before it is closed."""
        return b""

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError that names the setting."""
        endpoints = self.context.endpoints()
        if not endpoints:
            return  # whoever hands over connections (`serve`) needs no reactor
        # Not at the top: whoever imports this module must not choose the reactor.
        from twisted.internet import reactor  # noqa: PLC0415

        factory = Factory.forProtocol(self.wire)
        factory.noisy = False
        for listen in endpoints:
            if listen.kind == "twisted":
                self._ports.append(await self._listen(listen, factory, reactor))
            elif listen.tls:
                tls = self.context.tls(self.alpn)
                arrivals = Arrivals(self.context, self.serve, self._places, tls=tls)
                self._arrivals.append(arrivals)
                self._accept(listen, arrivals.take)
            else:
                self._accept(listen, partial(self._adopt, factory, reactor))

    def _accept(self, listen: Listen, accepted: Callable[[socket.socket, Any], None]) -> None:
        self._acceptors.append(Acceptor(bind(listen), accepted, self.context, spare=listen.spare))

    def serve(self, arrived: Arrived) -> Bridge:
        """Return the protocol of a connection that is there, whoever accepted it."""
        return Bridge(self.wire(arrived))

    def _adopt(self, factory: Any, reactor: Any, sock: socket.socket, _: Any) -> None:
        """Hand a socket to Twisted.

        Not by Twisted's own port, which removes the file of a Unix socket that somebody else
        bound.
        """
        with sock:  # Twisted works on a duplicate
            try:
                reactor.adoptStreamConnection(sock.fileno(), sock.family, factory)
            except OSError as error:
                self.context.log.debug("a connection was gone at once: %s", error)

    async def _listen(self, listen: Listen, factory: Any, reactor: Any) -> Any:
        from twisted.internet.endpoints import serverFromString  # noqa: PLC0415 - imports a reactor

        try:
            endpoint = serverFromString(reactor, listen.text)  # type: ignore[no-untyped-call] # Twisted's
            return await endpoint.listen(factory).asFuture(self.context.loop)
        except Exception as error:
            # Twisted's parser raises IndexError or TypeError on a slip of the pen.
            reason = str(error) or type(error).__name__
            raise listen.error(f"Twisted cannot listen there: {reason}") from error

    async def stop(self) -> None:
        """Accept nothing more; return when the last connection is gone."""
        acceptors, self._acceptors = self._acceptors, []
        ports, self._ports = self._ports, []
        for acceptor in acceptors:
            acceptor.close()
        for arrivals in self._arrivals:
            await arrivals.stop()
        for port in ports:
            await maybeDeferred(port.stopListening).asFuture(self.context.loop)
        await self.context.idle()

    def health(self) -> Mapping[str, Any]:
        """Return how many connections there are."""
        return {"ok": True, "connections": self._places.open}

    def enter(self, client: tuple[str, int] | None) -> Place | None:
        """Return a place for a connection; None, counted, where there are too many."""
        place = self._places.take()
        if place is not None and place.of(None if client is None else client[0]):
            return place
        self.context.drop(Drop.LIMITED)
        if place is not None:
            place.leave()
        return None


class Owner(Face):
    """Whose connections they are: a plugin, or one target of it."""

    context: Context

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""

    def crowded(self) -> bytes:
        """Return what a connection hears for which there is no place."""

    def enter(self, client: tuple[str, int] | None) -> Place | None:
        """Return a place for a connection; None, counted, where there is none."""


@implementer(IPushProducer, IHalfCloseableProtocol)
class StreamProtocol(Protocol):
    """One connection: the wire of its session, and what Twisted calls."""

    transport: Any

    def __init__(self, plugin: Owner, arrived: Arrived | None = None) -> None:
        self._plugin = plugin
        self._context = plugin.context
        self._arrived = arrived
        self._connection: Connection | None = None
        self._place: Place | None = None
        self._whole = False
        """Whether it can only be closed whole: TLS, and what `Bridge` carries, have no halves."""
        self._closing = False
        self._full = False
        self._paused = False
        self._owed = 0
        """Bytes written since the peer took no more."""
        self._stalled = False
        """Whether it is not read, since it does not read: what it is answered would have no end."""
        self._ended = False
        self._held = b""
        """Input that waits: reading was paused in the middle of it."""
        self._deadline: Deadline | None = None

    # ------------------------------------------------ what Twisted calls

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Begin a session."""
        transport = self.transport
        arrived = self._arrived or self._adopted()
        peer = arrived.peer
        self._whole = peer.tls or self._arrived is not None
        self._place = arrived.place
        if self._place is None:
            crowded = self._plugin.crowded()
            self._context.record(peer, Summary(sent=len(crowded), end="refused"))
            self.close(crowded, abort=False)
            return
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        try:
            session = self._plugin.session(peer)
        except Exception:
            self._context.count("session_errors_total")
            self._context.log.exception("the plugin could not make a session")
            transport.abortConnection()
            return
        self._connection = self._attach(session, peer)
        if self._full:
            self._connection.writable(False)

    def _attach(self, session: Session, peer: Peer) -> Connection:
        return self._context.attach(session, self, peer)

    def _adopted(self) -> Arrived:
        """Return what there is to know of a connection of Twisted's."""
        transport = self.transport
        client = _address(transport.getPeer())
        tls = ISSLTransport.providedBy(transport)
        peer = Peer(client, _address(transport.getHost()), tls)
        return Arrived(peer, self._plugin.enter(client))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take input, in slices."""
        if self._closing:
            return
        if self._paused or self._stalled:
            self._held += data
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        connection = self._connection
        start = 0
        while connection is not None and start < len(data) and not (self._paused or self._stalled):
            connection.received(data[start : start + SLICE])
            start += SLICE
        self._held = data[start:]

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """Hear that the peer will send no more."""
        if self._closing or self._connection is None:
            self.transport.loseConnection()
        elif self._paused or self._stalled:
            self._ended = True
        else:
            self._connection.eof()

    def writeConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: our side was closed because we asked for it."""

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802 - Twisted's name
        """Hear that it is gone."""
        self._closing = True
        self._held = b""
        if self._deadline is not None:
            self._context.deadlines.forget(self._deadline)
        if self._place is not None:
            self._place.leave()
        if self._connection is not None:
            self._connection.lost()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Hear that the peer takes no more now."""
        self._full = True
        if self._connection is not None:
            self._connection.writable(False)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Hear that the peer takes more."""
        self._full = False
        self._owed = 0
        if self._connection is not None:
            self._connection.writable(True)
        if self._stalled:
            self._stalled = False
            self._context.loop.call_soon(self._go_on)

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: `connectionLost` follows."""

    # ------------------------------------------------ what the core calls

    def write(self, output: bytes) -> None:
        """Send bytes; what is written in one turn leaves together."""
        if self._closing:
            return
        self.transport.write(output)
        if self._full:
            self._owed += len(output)
            if self._owed > OWED and not self._stalled:
                self._stalled = True
                self.transport.pauseProducing()

    def close(self, data: bytes, *, abort: bool) -> None:
        """End it. Where it has halves, ours is closed first and input is read to its end, since
        closing with input unread would take back what was sent just before.
        """  # noqa: D205 - one sentence
        transport = self.transport
        if abort:
            self._closing = True
            transport.abortConnection()
            return
        if data:
            transport.write(data)
        self._closing = True
        if self._place is not None:
            transport.unregisterProducer()
        if self._whole:
            transport.loseConnection()
        else:
            transport.loseWriteConnection()
            transport.resumeProducing()
        self._deadline = Deadline(transport.abortConnection)
        self._context.deadlines.set(self._deadline, LINGER)

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if not self._closing:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on, beginning with what is here already."""
        self._context.loop.call_soon(self._resumed)

    def _resumed(self) -> None:
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        if self._closing or self._connection is None or self._paused or self._stalled:
            return
        held, self._held = self._held, b""
        self._feed(held)
        if self._paused or self._stalled:
            return
        if self._ended:
            self._connection.eof()
        else:
            self.transport.resumeProducing()


def _address(address: Any) -> tuple[str, int] | None:
    """Return host and port of a Twisted address; a Unix socket has none."""
    host = getattr(address, "host", None)
    return None if host is None else (host, address.port)
