"""Ready I/O for datagram protocols: one `Session` for each peer address at a UDP socket.

A plugin on it is a name, a config, messages and a session::

    class Echo(DatagramPlugin):
        name = "echo"
        Config = EchoConfig
        messages = messages

        def session(self, peer: Peer) -> Session:
            return EchoSession()

Its setting ``listen`` says where, as in ``udp:127.0.0.1:5140``. ``Session.received`` is given one
whole datagram at a time, and each `Write` is one datagram to that peer, by the socket at which
the peer's came. A peer says neither hello nor goodbye, so the first datagram of an address begins
its session, and the session ends by its own `Close`, by a reply that says so, or when nothing has
come for ``idle_timeout`` seconds. Settings of those names, where the plugin has them, say how
much there is of it all: ``max_peers``, ``max_peers_per_address``, ``idle_timeout``,
``max_datagram``.

Nothing is promised of a datagram on its way, and here it is no different: one that cannot be
taken or sent now is dropped, counted by its cause.
"""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gateway.core.deadlines import Deadline
from gateway.core.listen import bind
from gateway.core.metrics import Drop
from gateway.core.places import Place, Places
from gateway.core.plugin import Connection, Context, Peer, ProtocolPlugin, Session

if TYPE_CHECKING:
    import socket

MAX_PEERS: Final = 10_000
"""Peers at once where the plugin's settings say nothing: some 20 MB of sessions. Whoever can
forge addresses can make as many as there is room for."""
IDLE_TIMEOUT: Final = 60.0
"""Seconds without a datagram after which a peer is gone, where the plugin's settings say nothing:
routers that translate addresses forget a peer after 30 to 120 of them (RFC 4787 section 4.3)."""
MAX_DATAGRAM: Final = 65_507
"""Bytes of one datagram where the plugin's settings say nothing: the most that IPv4 carries."""
READS: Final = 64
"""Datagrams read in one turn of the loop, so that everything else gets its turn."""
UNSENT: Final = 1 << 20
"""Bytes that wait for a socket which takes none now: a burst to a large group. What was to follow
is dropped: to be late is mostly worse than to be lost, in what is sent as datagrams."""

_NO_WAY: Final = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED, errno.EHOSTDOWN)
)


class DatagramPlugin(ProtocolPlugin):
    """A protocol over datagrams. A subclass makes the sessions."""

    datagrams: ClassVar[bool] = True

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.idle_timeout: float = getattr(config, "idle_timeout", IDLE_TIMEOUT)
        self.max_datagram: int = getattr(config, "max_datagram", MAX_DATAGRAM)
        self._places = Places(
            getattr(config, "max_peers", MAX_PEERS),
            getattr(config, "max_peers_per_address", None),
        )
        self._endpoints: list[Endpoint] = []
        self._stopping = False

    @abstractmethod
    def session(self, peer: Peer) -> Session:
        """Return the session of a new peer."""

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError that names the setting."""
        for listen in self.context.endpoints():
            if not listen.datagrams:
                raise listen.error(f"{self.name!r} speaks in datagrams; write 'udp:' before it")
            # At a spare the peers are another process's, which has their sessions.
            if not listen.spare:
                self.receive_at(bind(listen))

    def receive_at(self, sock: socket.socket) -> None:
        """Take what comes by a bound socket that does not block, until the stop closes it."""
        self._endpoints.append(Endpoint(self, sock))

    def knows(self, address: tuple[str, int]) -> bool:
        """Return whether there is a session for that peer address."""
        return any(address in endpoint.peers for endpoint in self._endpoints)

    async def stop(self) -> None:
        """Take no new peer; return when the last one's session has ended."""
        self._stopping = True
        await self.context.idle()
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            endpoint.close()

    def health(self) -> Mapping[str, Any]:
        """Return how many peers there are."""
        return {"ok": True, "peers": self._places.open}

    def enter(self, host: str) -> Place | None:
        """Return a place for a new peer; None, counted, where there is none."""
        if self._stopping or self.context.draining:
            self.context.drop(Drop.DRAINED)
            return None
        place = self._places.take()
        if place is not None and place.of(host):
            return place
        self.context.drop(Drop.LIMITED)
        if place is not None:
            place.leave()
        return None


class Endpoint:
    """One UDP socket and the peers that have come by it."""

    def __init__(self, plugin: DatagramPlugin, sock: socket.socket) -> None:
        self.plugin = plugin
        self.context = plugin.context
        self.peers: dict[Any, PeerWire] = {}
        """By address, as the socket says it."""
        self._socket = sock
        host, port = sock.getsockname()[:2]
        self._server = (host, port)
        self._most = plugin.max_datagram
        self._unsent: deque[tuple[bytes, Any]] = deque()
        self._unsent_bytes = 0
        self.context.loop.add_reader(sock.fileno(), self._read)

    def close(self) -> None:
        """Read no more; send what waits, as far as the socket takes it now."""
        loop = self.context.loop
        loop.remove_reader(self._socket.fileno())
        if self._unsent:
            loop.remove_writer(self._socket.fileno())
            self._flush()
            self.context.drop(Drop.SLOW, len(self._unsent))
        self._socket.close()

    # ------------------------------------------------ inwards

    def _read(self) -> None:
        for _ in range(READS):
            try:
                # A byte more than the bound shows that it was over it.
                data, address = self._socket.recvfrom(self._most + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # What a router or host said of a datagram of ours (ICMP): the socket is sound.
                self.context.count("socket_errors_total")
                self.context.log.debug("%s:%d: %s", *self._server, error)
                continue
            if len(data) > self._most:
                self.context.drop(Drop.TOO_BIG)
                continue
            peer = self.peers.get(address)
            if peer is None:
                peer = self._welcome(address)
            if peer is not None:
                peer.received(data)

    def _welcome(self, address: Any) -> PeerWire | None:
        plugin = self.plugin
        place = plugin.enter(address[0])
        if place is None:
            return None
        peer = Peer((address[0], address[1]), self._server)
        try:
            session = plugin.session(peer)
        except Exception:
            self.context.count("session_errors_total")
            self.context.log.exception("the plugin could not make a session")
            place.leave()
            return None
        wire = self.peers[address] = PeerWire(self, address, place)
        wire.begin(session, peer)
        return wire

    # ------------------------------------------------ outwards

    def send(self, data: bytes, address: Any) -> None:
        """Send a datagram, after those that wait."""
        if self._unsent or not self._sent(data, address):
            self._wait(data, address)

    def _sent(self, data: bytes, address: Any) -> bool:
        """Send a datagram, or drop it where it cannot be sent; False: not now."""
        try:
            self._socket.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self.context.drop(Drop.SLOW)
            elif error.errno == errno.EMSGSIZE:
                self.context.drop(Drop.TOO_BIG)
            else:
                self.context.drop(Drop.GONE)
                if error.errno not in _NO_WAY:
                    self.context.log.warning("cannot send to %s:%d: %s", *address[:2], error)
        return True

    def _wait(self, data: bytes, address: Any) -> None:
        if self._unsent_bytes + len(data) > UNSENT:
            self.context.drop(Drop.SLOW)
            return
        if not self._unsent:
            self.context.loop.add_writer(self._socket.fileno(), self._go_on)
        self._unsent.append((data, address))
        self._unsent_bytes += len(data)

    def _go_on(self) -> None:
        self._flush()
        if not self._unsent:
            self.context.loop.remove_writer(self._socket.fileno())

    def _flush(self) -> None:
        while self._unsent and self._sent(*self._unsent[0]):
            data, _ = self._unsent.popleft()
            self._unsent_bytes -= len(data)


class PeerWire:
    """One peer: the wire of its session."""

    __slots__ = ("_address", "_closing", "_connection", "_endpoint", "_idle", "_paused", "_place")

    def __init__(self, endpoint: Endpoint, address: Any, place: Place) -> None:
        self._endpoint = endpoint
        self._address = address
        self._place = place
        self._connection: Connection | None = None
        self._closing = False
        self._paused = False
        self._idle = Deadline(self._silent)

    def begin(self, session: Session, peer: Peer) -> None:
        """Begin its session. That may end it, too."""
        self._connection = self._endpoint.context.attach(session, self, peer)

    def received(self, data: bytes) -> None:
        """Take a datagram. While the application is behind it is dropped: none can be held back."""
        endpoint = self._endpoint
        if self._closing or self._connection is None:
            endpoint.context.drop(Drop.CLOSED)
            return
        endpoint.context.deadlines.set(self._idle, endpoint.plugin.idle_timeout)
        if self._paused:
            endpoint.context.drop(Drop.FULL)
        else:
            self._connection.received(data)

    def _silent(self) -> None:
        """End it: nothing came for so long. What an answer is still awaited for is waited for."""
        if self._connection is None or self._closing:
            return
        if self._connection.unsettled:
            endpoint = self._endpoint
            endpoint.context.deadlines.set(self._idle, endpoint.plugin.idle_timeout)
            return
        self._leave()
        self._connection.lost()

    # ------------------------------------------------ what the core calls

    def write(self, output: bytes) -> None:
        """Send one datagram."""
        if not self._closing:
            self._endpoint.send(output, self._address)

    def close(self, data: bytes, *, abort: bool) -> None:
        """End it. What comes from that address after this begins a new session."""
        if data and not abort and not self._closing:
            self._endpoint.send(data, self._address)
        self._leave()
        # Not before the session has returned: what it emits after a Close counts.
        self._endpoint.context.loop.call_soon(self._gone)

    def _leave(self) -> None:
        if not self._closing:
            self._closing = True
            del self._endpoint.peers[self._address]
            self._endpoint.context.deadlines.forget(self._idle)
            self._place.leave()

    def _gone(self) -> None:
        if self._connection is not None:
            self._connection.lost()

    def pause(self) -> None:
        """Take no datagram for now: the inbox is full."""
        self._paused = True

    def resume(self) -> None:
        """Take them again."""
        self._paused = False
