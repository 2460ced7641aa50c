"""From an accepted socket to a connection: PROXY header, first byte, TLS handshake.

::

    accept ──► PROXY header, where the peer is one of ``proxies``
           ──► first byte: a handshake, or something that is told to speak TLS
           ──► handshake
           ──► serve(Arrived) ──► an asyncio protocol, connected

All of it together has one deadline, and a place is taken from the accept on: who connects and
says nothing counts. Until its first byte has come a connection costs a socket and no TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from gateway.core import x509
from gateway.core.certificates import SOCKET
from gateway.core.deadlines import Deadline
from gateway.core.metrics import Drop
from gateway.core.networks import Networks
from gateway.core.places import Place, Places
from gateway.core.plugin import Context, Peer
from gateway.core.proxy import Address, Header, ProxyError
from gateway.core.tls import Offer, tune

HANDSHAKE: Final = 0x16
"""The first byte of every TLS connection: a record of type handshake (RFC 8446 section 5.1)."""
LOOK: Final = 4096
"""Bytes looked at before they are taken: a PROXY header, nearly always, and the first line of
who speaks no TLS."""
STARTS: Final = 4
"""Handshakes begun in one turn of the loop: each is half a millisecond or two of arithmetic, and
those that are served get their turn in between."""
TIMEOUT: Final = 10.0
"""Seconds for a PROXY header where there is no TLS: proxies send it with their first packet."""
MOST: Final = 1000
"""PROXY headers that are waited for at once where there is no TLS."""
LINGER: Final = 2.0
"""Seconds in which who spoke no TLS may read that it should: closing with input unread would
take the sentence back."""

_WHY: Final = {
    "UNSUPPORTED_PROTOCOL": "version",
    "UNKNOWN_PROTOCOL": "version",
    "NO_SHARED_CIPHER": "cipher",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "certificate",
    "CERTIFICATE_VERIFY_FAILED": "certificate",
}
"""What OpenSSL says, as the label of a metric; an alert of the client's is ``refused``."""


class Arrived(NamedTuple):
    """A connection that is ready to be served."""

    peer: Peer
    place: Place | None
    """To be left at its end; None where there was none free: then say so and close."""
    alpn: str | None = None
    """The protocol that was agreed on in the handshake."""


Serve = Callable[[Arrived], asyncio.Protocol]
"""Returns the protocol of a connection; ``connection_made`` is called next."""


class Arrivals:
    """The connections of one plugin that are on their way in. One for each listening socket.

    ``tls`` is what handshakes are made with (None: there are none), ``proxies`` whose
    connections begin with a PROXY header (None: nobody's). ``answer`` is asked what to say to
    a peer that speaks no TLS; it is shown the first bytes. ``shutdown_timeout`` is the last
    resort of closing TLS, behind the deadlines that a protocol has of its own.
    """

    def __init__(
        self,
        context: Context,
        serve: Serve,
        places: Places,
        *,
        tls: Offer | None = None,
        proxies: Networks | None = None,
        answer: Callable[[bytes], bytes] = lambda _: b"",
        shutdown_timeout: float = 60.0,
    ) -> None:
        self._context = context
        self.serve = serve
        self.places = places
        self.tls = tls
        self._proxies = proxies
        self.answer = answer
        self.shutdown_timeout = shutdown_timeout
        self.timeout = TIMEOUT if tls is None else tls.handshake_timeout
        self._most = MOST if tls is None else tls.max_handshakes
        self.loop = context.loop
        self.deadlines = context.deadlines
        self._pending: dict[Arrival, None] = {}
        self._ready: deque[Arrival] = deque()
        self._turn: asyncio.Handle | None = None

    def __len__(self) -> int:
        """Return how many are on their way."""
        return len(self._pending)

    def __contains__(self, arrival: Arrival) -> bool:
        """Return whether it is still on its way."""
        return arrival in self._pending

    def take(self, sock: socket.socket, address: Any) -> None:
        """Take a socket that was accepted (`gateway.core.accept.Acceptor`)."""
        place = self.places.take()
        if place is None:
            self.crowded()
            if self.tls is not None:
                # Saying so would take a handshake, of which there are too many as it is.
                sock.close()
                return
        if len(self._pending) >= self._most:
            self.crowded()
            next(iter(self._pending)).end("limited")
        try:
            server = socket_address(sock.getsockname())
        except OSError:
            server = None  # gone already; the first look finds that out
        client = socket_address(address)
        arrival = Arrival(self, sock, place, client, server)
        self._pending[arrival] = None
        host = None if client is None else client[0]
        arrival.begin(proxied=self._proxies is not None and host in self._proxies)

    def crowded(self) -> None:
        """Count a connection for which there is no place."""
        self._context.drop(Drop.LIMITED)

    def queue(self, arrival: Arrival) -> None:
        """Have an arrival connected, a few in each turn of the loop."""
        self._ready.append(arrival)
        if self._turn is None:
            self._turn = self.loop.call_soon(self._next)

    def _next(self) -> None:
        self._turn = None
        for _ in range(min(STARTS, len(self._ready))):
            arrival = self._ready.popleft()
            if arrival in self._pending:
                arrival.connect()
        if self._ready:
            self._turn = self.loop.call_soon(self._next)

    def forget(self, arrival: Arrival) -> None:
        """Count an arrival no more: it has become a connection, or ended."""
        self._pending.pop(arrival, None)

    def spawn(self, arrival: Arrival) -> asyncio.Task[None]:
        """Run what connects an arrival."""
        return self._context.spawn(arrival.shake_hands())

    def shaken(self, version: str) -> None:
        """Count a handshake that is done."""
        self._context.count("tls_handshakes_total", version=version)

    def failed(self, why: str, error: object = "") -> None:
        """Count a handshake that failed."""
        self._context.count("tls_failures_total", why=why)
        self._context.log.debug("a TLS handshake failed: %s (%s)", why, error)

    def unproxied(self, error: object) -> None:
        """Count a connection of a proxy's that does not begin with a header."""
        self._context.count("proxy_errors_total")
        self._context.log.debug("a connection of a proxy: %s", error)

    def broken(self, error: Exception) -> None:
        """Log that the plugin could not serve a connection."""
        self._context.log.error("a connection could not be served", exc_info=error)

    async def stop(self) -> None:
        """Close what is on its way."""
        tasks = [arrival.task for arrival in self._pending if arrival.task is not None]
        for arrival in list(self._pending):
            arrival.end()
        await asyncio.gather(*tasks, return_exceptions=True)


class Arrival:
    """One connection on its way in. It owns the socket until `connect`, then a transport does."""

    __slots__ = (
        "_answered",
        "_arrivals",
        "_client",
        "_deadline",
        "_header",
        "_place",
        "_served",
        "_server",
        "_socket",
        "_watched",
        "task",
    )

    def __init__(
        self,
        arrivals: Arrivals,
        sock: socket.socket,
        place: Place | None,
        client: Address | None,
        server: Address | None,
    ) -> None:
        self._arrivals = arrivals
        self._socket = sock
        self._place = place
        self._client = client
        self._server = server
        self._header: Header | None = None
        self._deadline: Deadline | None = Deadline(self._due)
        self._watched = False
        self._answered = False
        """Whether it was told that it should speak TLS."""
        self._served = False
        self.task: asyncio.Task[None] | None = None

    def begin(self, *, proxied: bool) -> None:
        """Begin, with what has come already."""
        arrivals = self._arrivals
        self._wait(arrivals.timeout)
        if proxied:
            self._header = Header()
            self._look()
        elif self._is_known():
            if arrivals.tls is None:
                arrivals.queue(self)
            else:
                self._look()

    def _is_known(self) -> bool:
        """Take the place in the client's name; False where that was the end of it."""
        place = self._place
        host = None if self._client is None else self._client[0]
        if place is None or place.of(host):
            return True
        self._arrivals.crowded()
        if self._arrivals.tls is not None:
            self.end()
            return False
        self._place = None
        place.leave()
        return True

    def end(self, why: str = "") -> None:
        """Close it where it stands; count a handshake as failed for that reason."""
        if self not in self._arrivals:
            return
        self._over()
        if why and self._arrivals.tls is not None:
            self._arrivals.failed(why)
        if self.task is None:
            self._close()
        else:
            self.task.cancel()

    def _over(self) -> None:
        """Be on the way no more; let go of the deadline, which points back here. Idempotent."""
        self._unwatch()
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            self._arrivals.deadlines.forget(deadline)
        self._arrivals.forget(self)

    def _close(self) -> None:
        self._socket.close()
        if self._place is not None:
            self._place.leave()

    def _wait(self, seconds: float) -> None:
        if self._deadline is not None:
            self._arrivals.deadlines.set(self._deadline, seconds)

    def _due(self) -> None:
        if self._header is not None:
            self._arrivals.unproxied("no header in time")
            self.end()
        else:
            self.end("" if self._answered else "timeout")

    # ------------------------------------------------ the first bytes

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._arrivals.loop.add_reader(self._socket.fileno(), self._look)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._arrivals.loop.remove_reader(self._socket.fileno())

    def _look(self) -> None:
        """Look at what has come, and take it or leave it to the transport."""
        data = self._peek()
        if data is not None and self._header is not None:
            data = self._read_header(self._header, data)
        if data is None:
            return
        arrivals = self._arrivals
        if arrivals.tls is not None and data[0] != HANDSHAKE:
            self._tell(data)
        else:
            self._unwatch()
            arrivals.queue(self)

    def _peek(self) -> bytes | None:
        """Return what has come; None for nothing yet, and for the end."""
        try:
            data = self._socket.recv(LOOK, 0 if self._answered else socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._watch()
            return None
        except OSError:
            data = b""
        if self._answered and data:
            return None
        if not data:
            self.end("" if self._answered or self._header is not None else "closed")
            return None
        return data

    def _read_header(self, header: Header, data: bytes) -> bytes | None:
        """Take the PROXY header, as far as it has come; return what follows it, None for nothing.

        What is the header's is taken at once, whole or not: with bytes left in it a socket would
        be readable again and again until the rest has come.
        """
        arrivals = self._arrivals
        try:
            size = header.feed(data)
        except ProxyError as error:
            arrivals.unproxied(error)
            self.end()
            return None
        self._socket.recv(size)
        if not header.complete:
            self._watch()
            return None
        self._header = None
        if not header.own:
            self._client, self._server = header.client, header.server
        if not self._is_known():
            return None
        if arrivals.tls is None:
            return data  # whatever follows, it is the protocol's
        return data[size:] or self._peek()

    def _tell(self, data: bytes) -> None:
        """Tell a peer that speaks no TLS that it should, and let it read that."""
        arrivals = self._arrivals
        answer = arrivals.answer(data)
        arrivals.failed("plain" if answer else "garbage", data[:16])
        if not answer:
            self.end()
            return
        with contextlib.suppress(OSError):
            self._socket.send(answer)
            self._socket.shutdown(socket.SHUT_WR)
        self._answered = True
        self._wait(LINGER)
        self._watch()

    # ------------------------------------------------ the connection

    def connect(self) -> None:
        """Make a transport of the socket, which owns it from now on."""
        self.task = self._arrivals.spawn(self)
        self.task.add_done_callback(self._connected)

    async def shake_hands(self) -> None:
        """Connect, with a handshake where there is TLS."""
        arrivals = self._arrivals
        loop = arrivals.loop
        try:
            if arrivals.tls is None:
                SOCKET.set(self._socket)  # uvloop hands it on to a handshake that may come later
                await loop.connect_accepted_socket(self._threshold, self._socket)
            else:
                await arrivals.tls.accept(
                    self._threshold, self._socket, loop, arrivals.shutdown_timeout
                )
        except OSError as error:
            if arrivals.tls is not None:
                arrivals.failed(why_failed(error), error)

    def _threshold(self) -> _Threshold:
        return _Threshold(self)

    def _connected(self, task: asyncio.Task[None]) -> None:
        """Close what did not become a connection; the task may never have begun."""
        if not self._served:
            self._over()
            self._close()

    def arrived(self, transport: asyncio.Transport) -> None:
        """Hand the connection over to who serves it."""
        try:
            protocol = self._arrivals.serve(self._arrived(transport))
            transport.set_protocol(protocol)
            self._served = True
            self._over()
            protocol.connection_made(transport)
        except Exception as error:  # noqa: BLE001 - logged; it costs this connection
            self._arrivals.broken(error)
            transport.abort()
            if self._place is not None:
                self._place.leave()

    def _arrived(self, transport: asyncio.Transport) -> Arrived:
        if self._arrivals.tls is None:
            return Arrived(Peer(self._client, self._server), self._place)
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        tune(transport)
        self._arrivals.shaken(tls.version() or "")
        certificate = tls.getpeercert(binary_form=True)
        identity = None if certificate is None else x509.read(certificate).identity
        peer = Peer(self._client, self._server, tls=True, identity=identity)
        return Arrived(peer, self._place, tls.selected_alpn_protocol())


class _Threshold(asyncio.Protocol):
    """Stands in for the protocol that serves a connection: it is chosen once that is ready."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make room."""
        self._arrival.arrived(cast("asyncio.Transport", transport))


def why_failed(error: OSError) -> str:
    """Return the label for a handshake that failed."""
    if not isinstance(error, ssl.SSLError):
        return "closed"
    reason = error.reason or ""
    if "ALERT" in reason:
        return "refused"
    if "EOF" in reason:
        return "closed"
    return _WHY.get(reason, "garbage")


def socket_address(name: Any) -> Address | None:
    """Return (host, port) of a socket's name, None for a Unix socket.

    A socket of both families, as systemd makes them, has IPv4 peers in IPv6's notation.
    """
    if not isinstance(name, tuple):
        return None
    host = name[0]
    return (host.removeprefix("::ffff:") if "." in host else host, name[1])
