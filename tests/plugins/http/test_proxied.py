"""PROXY headers, and limits by address, which they make visible to tests on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest
import uvloop

from gateway.core import arrivals
from gateway.core.errors import ConfigError
from gateway.core.web import Claim, Exchange
from gateway.plugins.http.config import HttpConfig
from tests.certificates import Authority
from tests.core.test_proxy import FOUR, HEADERS, SIGNATURE, block, value
from tests.plugins.http.serving import Client, Served, get, hello, wait_until

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
LISTEN = ("127.0.0.1:0", "tls:127.0.0.1:0")
KINDS = {"plain": 0, "tls": 1}


def line(host: str = "192.0.2.1", port: int = 4711) -> bytes:
    """A header of version 1 that speaks for a client."""
    if ":" in host:
        return f"PROXY TCP6 {host} 2001:db8::2 {port} 443\r\n".encode()
    return f"PROXY TCP4 {host} 198.51.100.1 {port} 443\r\n".encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest, authority: Authority) -> Any:
    """Make a site that trusts loopback's PROXY headers; `HttpConfig` fields as arguments."""

    def make(*, listen: Any = LISTEN, claims: Any = (), tls: Any = (), **more: Any) -> Served:
        more = {"proxy_protocol": True, "trusted_proxies": ("127.0.0.1", "unix")} | more
        return Served(
            {"http.request": hello},
            config=HttpConfig(**more),
            listen=listen,
            claims=claims,
            tls=authority.tls(**dict(tls)),
            loop_factory=LOOPS[request.param],
        )

    return make


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest, authority: Authority) -> Any:
    """Connect to a site as a proxy does: with the header first, then TLS or not."""

    def make(site: Served, header: bytes = b"") -> Client:
        plain = socket.create_connection(site.addresses[KINDS[request.param]], timeout=10)
        if header:
            plain.sendall(header)
        if request.param == "plain":
            return Client(plain)
        try:
            return Client(authority.client().wrap_socket(plain, server_hostname="localhost"))
        except BaseException:
            plain.close()
            raise

    make.kind = request.param
    return make


def peers(site: Served) -> list[tuple[Any, Any]]:
    """Client and server of every request."""
    return [(message["client"], message["server"]) for message in site.messages("http.request")]


def is_over(client: Client) -> bool:
    """Wait for the end of a connection."""
    with contextlib.suppress(OSError):
        while client.sock.recv(65536):
            pass
    return True


def turned_away(site: Served, kind: str, header: bytes | None = None) -> bool:
    """Whether a connection is told that it is one too many, or closed where TLS comes first."""
    with socket.create_connection(site.addresses[KINDS[kind]], timeout=10) as plain:
        plain.sendall(header or line())
        if kind == "tls":
            return is_over(Client(plain))
        plain.sendall(get("/x"))
        response = Client(plain).response()
        told = response.header(b"retry-after"), response.header(b"connection")
        return (response.status, *told) == (503, b"1", b"close")


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_addresses(serve, connect, name):
    """A header's addresses are those of the request; where it has none, the connection's are."""
    header, said = HEADERS[name]
    with serve() as site, connect(site, header) as client:
        own = client.sock.getsockname(), client.sock.getpeername()
        assert client.send(get("/x")).response().content == b"hello /x"
        client.send(get("/y")).response()
        expected = tuple(list(address) if address else None for address in said or own)
        assert peers(site) == [expected] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_byte_by_byte(serve, authority, kind, monkeypatch):
    """A header may come in pieces: nobody looks in vain, and what follows it is left alone."""
    looks = []
    look = arrivals.Arrival._look
    monkeypatch.setattr(arrivals.Arrival, "_look", lambda self: looks.append(self) or look(self))
    header = block(0x11, FOUR + value(4, bytes(100)))
    with serve() as site:
        waiting = site.plugin._arrivals[KINDS[kind]]
        with socket.create_connection(site.addresses[KINDS[kind]], timeout=10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header[:-1]:
                sock.sendall(bytes((byte,)))
            wait_until(lambda: waiting._pending)
            for _ in range(20):
                site.call(lambda: None)
            assert len(looks) <= len(header)
            sock.sendall(header[-1:])
            if kind == "tls":
                sock = authority.client().wrap_socket(sock, server_hostname="localhost")
            with Client(sock) as client:
                assert client.send(get("/x")).response().status == 200
        assert peers(site) == [(["192.0.2.1", 56324], ["198.51.100.1", 443])]


def test_with_what_follows(serve, authority):
    """Header and first bytes may come together: no more than the header is taken."""
    with serve() as site:
        with socket.create_connection(site.addresses[0], timeout=10) as plain:
            plain.sendall(line() + get("/x"))
            assert Client(plain).response().content == b"hello /x"
        with socket.create_connection(site.addresses[1], timeout=10) as plain:
            come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = authority.client().wrap_bio(come, go, server_hostname="localhost")
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            plain.sendall(line() + go.read())
            while True:
                come.write(plain.recv(65536))
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(go.read())
            tls.write(get("/y"))
            plain.sendall(go.read())
            wait_until(lambda: len(peers(site)) == 2)
        assert [client for client, _ in peers(site)] == [["192.0.2.1", 4711]] * 2


@pytest.mark.parametrize(
    "sent",
    [
        get("/x"),
        b"\x16\x03\x01\x00\x05hello",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 99999\r\n",
        SIGNATURE + b"\x31\x11\x00\x00",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_header(serve, sent, kind):
    """A proxy's connection that does not begin with a header is closed, counted, and not served."""
    with (
        serve() as site,
        socket.create_connection(site.addresses[KINDS[kind]], timeout=10) as plain,
    ):
        plain.sendall(sent)
        assert is_over(Client(plain))
        assert site.metrics.snapshot()["gateway_http_proxy_errors_total"] == 1
        assert not peers(site)
        assert site.call(lambda: site.plugin._port.places.open) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_slow_header(serve, kind, monkeypatch):
    """A header that does not come in time ends the connection, counted."""
    monkeypatch.setattr(arrivals, "TIMEOUT", 0.3)
    with (
        serve(tls={"handshake_timeout": 0.3}) as site,
        socket.create_connection(site.addresses[KINDS[kind]], timeout=10) as plain,
    ):
        plain.sendall(b"PROXY TCP4 ")
        assert is_over(Client(plain))
        assert site.metrics.snapshot()["gateway_http_proxy_errors_total"] == 1


def test_a_check_of_the_proxy(serve, connect):
    """A proxy that connects and leaves, as checks of health do, is no error."""
    with serve() as site:
        for _ in range(3):
            socket.create_connection(site.addresses[KINDS[connect.kind]], timeout=10).close()
        with connect(site, b"PROXY UNKNOWN\r\n") as client:
            assert client.send(get("/x")).response().status == 200
        wait_until(lambda: site.call(lambda: site.plugin._port.places.open) == 0)
        assert "gateway_http_proxy_errors_total" not in site.metrics.snapshot()


def test_others_need_no_header(serve, connect):
    """Who is no trusted proxy is served without a header, and not believed if it sends one."""
    with serve(trusted_proxies=("10.0.0.0/8",)) as site:
        with connect(site) as client:
            own = list(client.sock.getsockname())
            assert client.send(get("/x")).response().status == 200
            assert peers(site) == [(own, list(client.sock.getpeername()))]
        if connect.kind == "plain":
            with connect(site, line()) as client:
                assert client.response().status == 400
        assert len(peers(site)) == 1


def test_over_a_unix_socket(serve, tmp_path):
    """A proxy on a Unix socket speaks for clients with addresses."""
    with serve(listen=f"unix:{tmp_path}/site.sock") as site, site.connect() as client:
        client.send(line() + get("/x")).response()
        assert peers(site) == [(["192.0.2.1", 4711], ["198.51.100.1", 443])]


def test_forwarded_headers_are_the_clients(serve, connect):
    """The header's client is no trusted proxy itself: what it says of others is taken away."""
    with serve() as site, connect(site, line()) as client:
        client.send(get("/x", "X-Forwarded-For: 6.6.6.6")).response()
        (message,) = site.messages("http.request")
        assert message["client"] == ["192.0.2.1", 4711]
        assert b"x-forwarded-for" not in dict(message["headers"])


def test_nobody_to_believe():
    """PROXY headers without trusted proxies are a mistake, told with the remedy."""
    with pytest.raises(ConfigError, match="name the balancers in trusted_proxies"):
        HttpConfig(proxy_protocol=True)


# ---------------------------------------------------------------- limits by address


def test_connections_of_one_address(serve, connect):
    """Beyond ``max_connections_per_address`` an address is told, or closed where TLS is first."""
    with (
        serve(max_connections_per_address=2) as site,
        connect(site, line()) as one,
        connect(site, line(port=4712)) as two,
        connect(site, line("192.0.2.2")) as other,
    ):
        assert turned_away(site, connect.kind)
        assert site.drops == {"limited": 1}
        for client in (one, two, other):
            assert client.send(get("/x")).response().status == 200
        one.sock.close()
        wait_until(lambda: site.connections == 2)
        with connect(site, line()) as three:
            assert three.send(get("/x")).response().status == 200


def test_connections_of_one_network(serve, connect):
    """Of IPv6 addresses all in one /64 are one."""
    with (
        serve(max_connections_per_address=1) as site,
        connect(site, line("2001:db8::1")) as one,
        connect(site, line("2001:db8:0:1::1")) as other,
    ):
        assert turned_away(site, connect.kind, line("2001:db8::2"))
        assert site.drops == {"limited": 1}
        for client in (one, other):
            assert client.send(get("/x")).response().status == 200


def test_proxies_have_no_bound(serve, connect):
    """A proxy's own connections, and this machine's, are not counted by address."""
    header = b"PROXY UNKNOWN\r\n"
    with serve(max_connections_per_address=1) as site, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(site, header)) for _ in range(5)]
        assert all(client.send(get("/x")).response().status == 200 for client in clients)


def test_without_acceptor(monkeypatch):
    """Listeners without TLS and PROXY headers have the same bounds."""
    monkeypatch.setattr("gateway.core.places.address_key", str)
    config = HttpConfig(max_connections_per_address=1)
    with Served({"http.request": hello}, config=config) as site, site.connect() as one:
        assert one.send(get("/x")).response().status == 200
        with site.connect() as two:
            response = two.send(get("/x")).response()
            assert (response.status, response.header(b"retry-after")) == (503, b"1")
        assert site.drops == {"limited": 1}
        one.sock.close()
        wait_until(lambda: site.connections == 0)
        with site.connect() as two:
            assert two.send(get("/x")).response().status == 200


class Taker(asyncio.Protocol):
    """Takes a connection over; gives its place back at its end."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def connection_lost(self, exc: Exception | None) -> None:
        self.exchange.release()


def test_what_was_taken_over_counts(serve, connect):
    """A connection that a claim has taken over holds its place until it ends."""

    def take(exchange: Exchange) -> None:
        transport, _ = exchange.upgrade(b"other")
        transport.set_protocol(Taker(exchange))

    claims = [Claim(lambda head: head.path == "/take", take)]
    with serve(max_connections=1, claims=claims) as site:
        with connect(site, line()) as client:
            client.send(get("/take", "Connection: upgrade", "Upgrade: other"))
            assert b"101" in client.sock.recv(1000)
            wait_until(lambda: site.connections == 0)
            assert turned_away(site, connect.kind)
            assert site.drops == {"limited": 1}
        wait_until(lambda: site.call(lambda: site.plugin._port.places.open) == 0)
        with connect(site, line()) as other:
            assert other.send(get("/x")).response().status == 200
