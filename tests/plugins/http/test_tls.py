"""https: with openssl, curl and Python's ssl as clients, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.core.arrivals import STARTS, Arrival
from gateway.core.listen import bind, parse
from gateway.core.tls import WATER
from gateway.plugins.http.config import HttpConfig
from tests.certificates import Authority
from tests.plugins.http.serving import Client, Served, get, hello, wait_until
from tests.plugins.http.test_bodies import Site, post

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer with what the path asks for."""
    match message["path"]:
        case "/silence":
            return []
        case "/who":
            return [{"text": f"{message['scheme']} {message.get('identity')}"}]
        case "/big":
            return [{"status": 200, "headers": [], "content": b"x" * 900_000}]
        case "/echo":
            return [{"status": 200, "headers": [], "content": message["body"]}]
    return hello(message)


@pytest.fixture(params=LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return LOOPS[request.param]


@pytest.fixture
def serve(authority: Authority, loop_factory: Any) -> Any:
    """Make a site with TLS; settings of ``[tls]`` and options of `Served` as arguments."""

    def make(
        *,
        config: HttpConfig | None = None,
        listen: Any = "tls:127.0.0.1:0",
        claims: Any = (),
        **settings: Any,
    ) -> Served:
        return Served(
            {"http.request": answer, "http.disconnect": lambda _: None},
            config=config,
            listen=listen,
            claims=claims,
            tls=authority.tls(**settings),
            loop_factory=loop_factory,
        )

    return make


def connect(
    site: Served,
    authority: Authority,
    certificate: str | None = None,
    *,
    host: str = "localhost",
    alpn: tuple[str, ...] = (),
    narrow: bool = False,
) -> Client:
    """Return a client that has shaken hands, and minds how a connection ends.

    For a ``narrow`` one the system takes little that it does not read.
    """
    context = authority.client(certificate, *alpn)
    plain = socket.socket()
    plain.settimeout(10)
    if narrow:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    plain.connect(site.address[:2])
    try:
        return Client(context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False))
    except BaseException:
        plain.close()
        raise


def openssl(site: Served, *arguments: str, sent: str = "") -> str:
    """Return all that ``openssl s_client`` says."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    host, port = site.address[:2]
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", *arguments],
        input=sent,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    return done.stdout + done.stderr


def descriptors() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def failures(site: Served) -> dict[str, int]:
    """Failed handshakes by reason."""
    found = {}
    for name, value in site.metrics.snapshot().items():
        if name.startswith("gateway_http_tls_failures_total"):
            found[name.partition('why="')[2].partition('"')[0]] = int(value)
    return found


def refused(site: Served, why: str) -> float:
    """How many requests were refused for that reason."""
    return site.metrics.snapshot().get(f'gateway_http_refused_total{{why="{why}"}}', 0)


def is_over(client: Client | socket.socket) -> bool:
    """Wait for the end of a connection, however it comes."""
    sock = client.sock if isinstance(client, Client) else client
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
    return True


# ---------------------------------------------------------------- what is spoken


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(serve, authority):
    """curl gets its answer over https, with HTTP/1.1; the application hears that it was https."""
    with serve() as site:
        url = f"https://localhost:{site.address[1]}"
        command = ["curl", "-sS", "--http1.1", "--cacert", authority.path, f"{url}/who", f"{url}/b"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=True)
        assert done.stdout == "https Nonehello /b"
        assert [m["scheme"] for m in site.messages("http.request")] == ["https"] * 2


@pytest.mark.parametrize(
    ("settings", "arguments", "says", "why"),
    [
        ({}, ["-tls1_3"], "Protocol  : TLSv1.3|New, TLSv1.3", None),
        ({}, ["-tls1_2"], "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ({}, ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version", "version"),
        ({"minimum": "1.3"}, ["-tls1_2"], "alert protocol version", "version"),
        ({}, ["-tls1_2", "-cipher", "AES128-SHA"], "alert handshake failure", "cipher"),
        ({}, ["-tls1_2", "-cipher", "ECDHE+SHA256"], "alert handshake failure", "cipher"),
        (
            {"ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"},
            ["-tls1_2"],
            "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305",
            None,
        ),
    ],
)
def test_versions_and_ciphers(serve, settings, arguments, says, why):
    """What is modern is spoken; what is not is refused with the alert that says why, counted."""
    with serve(**settings) as site:
        text = openssl(site, *arguments)
        assert any(part in text for part in says.split("|")), text
        assert "Compression: NONE" in text or why
        wait_until(lambda: failures(site) == ({why: 1} if why else {}))


def test_the_server_chooses_the_cipher(serve):
    """Of the ciphers that a client takes, ours comes first that we like best."""
    with serve() as site:
        names = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"
        assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in openssl(
            site, "-tls1_2", "-cipher", names
        )


@pytest.mark.parametrize("http2", [True, False])
def test_alpn(serve, http2):
    """h2 is agreed on where HTTP/2 is spoken, else http/1.1; who asks for nothing gets HTTP/1.1."""
    with serve(config=HttpConfig(http2=http2)) as site:
        text = openssl(site, "-alpn", "h2,http/1.1")
        assert f"ALPN protocol: {'h2' if http2 else 'http/1.1'}" in text
        assert "ALPN protocol: http/1.1" in openssl(site, "-alpn", "http/1.1")
        sent = "GET /x HTTP/1.0\r\n\r\n"
        assert "hello /x" in openssl(site, "-quiet", "-ign_eof", sent=sent)


def test_renegotiation_is_refused(serve):
    """A client that renegotiates (TLS 1.2) is refused; others do not notice."""
    with serve() as site:
        text = openssl(site, "-tls1_2", sent="R\n")
        assert "RENEGOTIATING" in text
        assert "no renegotiation" in text or "alert handshake failure" in text, text


def test_sessions_are_resumed(serve, authority):
    """A client that comes back with a session ticket saves half of the handshake."""
    context = authority.client()
    with serve() as site:
        session = None
        for resumed in (False, True):
            plain = socket.create_connection(site.address[:2], timeout=10)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                sock.sendall(get("/x", "Connection: close"))
                Client(sock).response()
                assert sock.session_reused is resumed
                session = sock.session


# ---------------------------------------------------------------- certificates


def test_several_certificates(serve, authority):
    """Of several certificates the client gets the one for the name it asks for, else the first."""
    first = authority.issue("first", "one.example", "localhost")
    second = authority.issue_pair("second", "two.example", "*.two.example")
    settings = {"certificate": (first, second[0]), "key": (first, second[1])}
    with serve(**settings) as site:
        shown = {}
        for name in (
            "one.example",
            "two.example",
            "www.two.example",
            "a.b.two.example",
            "TWO.example",
            "x",
        ):
            text = openssl(
                site, "-servername", name, "-CAfile", authority.path, "-verify_hostname", name
            )
            shown[name] = "Verification: OK" in text
        text = openssl(
            site, "-noservername", "-CAfile", authority.path, "-verify_hostname", "one.example"
        )
        shown["-"] = "Verification: OK" in text
        assert shown == {
            "one.example": True,
            "two.example": True,
            "www.two.example": True,
            "a.b.two.example": False,
            "TWO.example": True,
            "x": False,
            "-": True,
        }
        assert "ALPN protocol: http/1.1" in openssl(
            site, "-servername", "two.example", "-alpn", "http/1.1"
        )


def test_client_certificate(serve, authority):
    """A client's certificate is its identity in every message."""
    alice = authority.issue(
        "alice", "alice@example.org", common_name="alice", organization_name="Example"
    )
    with serve(client_ca=authority.path) as site:
        with connect(site, authority, alice) as client:
            assert client.send(get("/who")).response().content.startswith(b"https CN=alice,OU=")
            client.send(get("/who")).response()
        first, second = site.messages("http.request")
        assert first["identity"] == second["identity"]
        assert first["identity"].endswith(",O=Example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_without_certificate(serve, authority, version):
    """Where certificates are required a client without one is told so, counted."""
    context = authority.client()
    context.maximum_version = version
    with (
        serve(client_ca=authority.path) as site,
        socket.create_connection(site.address[:2], timeout=10) as plain,
    ):
        with (
            pytest.raises(ssl.SSLError, match=r"certificate required|handshake failure"),
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.recv(1)
        wait_until(lambda: failures(site) == {"certificate": 1})
        assert site.connections == 0


def test_client_certificate_of_a_stranger(serve, authority, tmp_path):
    """A certificate that another authority signed is refused, even where none is required."""
    stranger = Authority(tmp_path).issue("alice", common_name="alice")
    settings = {"client_ca": authority.path, "client_certificates": "optional"}
    with serve(**settings) as site:
        with (
            pytest.raises(ssl.SSLError, match="unknown ca"),
            connect(site, authority, stranger) as client,
        ):
            client.send(get("/who")).response()
        wait_until(lambda: failures(site) == {"certificate": 1})
        with connect(site, authority) as client:
            assert client.send(get("/who")).response().content == b"https None"


# ---------------------------------------------------------------- to the last byte


@pytest.mark.parametrize("path", ["/x", "/big"])
def test_the_end_is_said(serve, authority, path):
    """A response with Connection: close is complete, and followed by close_notify."""
    with serve() as site, connect(site, authority) as client:
        client.send(get(path, "Connection: close"))
        response = client.response()
        assert response.content == (b"hello /x" if path == "/x" else b"x" * 900_000)
        assert client.rest() == b""  # without close_notify: SSLEOFError
        client.sock.unwrap()
        wait_until(lambda: site.connections == 0)


def test_openssl_reads_to_the_end(serve):
    """``openssl s_client`` reads a long response whole."""
    with serve() as site:
        sent = "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        text = openssl(site, "-quiet", "-ign_eof", sent=sent)
        assert text.count("x") >= 900_000
        assert "unexpected eof" not in text


def test_idle_end_is_said(serve, authority):
    """An idle connection is ended with close_notify, too; who never answers it is let go."""
    config = HttpConfig(idle_timeout=0.2)
    with serve(config=config) as site, connect(site, authority) as client:
        client.send(get("/x")).response()
        assert client.rest() == b""
        wait_until(lambda: site.connections == 0)  # the client's close_notify never comes
        assert not site.drops


def test_a_slow_client_reads_to_the_end(serve, authority, monkeypatch):
    """The last response is not cut off because the client takes its time, within write_timeout."""
    monkeypatch.setattr("gateway.plugins.http.transport.LINGER", 0.1)
    with serve() as site:
        # What does not fit into the system's buffers waits in ours.
        site.plugin._acceptors[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with connect(site, authority, narrow=True) as client:
            client.send(get("/big", "Connection: close"))
            (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
            wait_until(lambda: protocol._transport.is_closing())
            closed = site.call(site.loop.time)
            wait_until(lambda: site.call(site.loop.time) > closed + 0.5)
            assert client.response().content == b"x" * 900_000
            assert client.rest() == b""


def test_answer_before_the_end_of_a_body(serve, authority):
    """An answer to a body that is too large arrives although the client sends on, and reads late."""
    with serve(config=HttpConfig(max_body=1000)) as site, connect(site, authority) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        wait_until(lambda: refused(site, "body-size"))
        for _ in range(20):
            client.sock.sendall(b"x" * 10_000)
            site.call(lambda: None)  # the gateway has its turn: it drops this, and resets nothing
        assert client.response().status == 413
        assert client.rest() == b""


def test_pipelined_requests(serve, authority):
    """Pipelined requests are answered in order; what follows Connection: close is not read."""
    with serve() as site, connect(site, authority) as client:
        client.send(get("/1") + get("/2", "Connection: close") + get("/3"))
        one, two = client.responses("GET", "GET")
        assert (one.content, two.content) == (b"hello /1", b"hello /2")
        assert client.rest() == b""
        assert len(site.messages("http.request")) == 2


def test_upload(serve, authority):
    """A large body arrives whole, and is read no faster than the application takes it."""
    body = os.urandom(20_000_000)
    with serve(config=HttpConfig(body_inline=65536)) as site, connect(site, authority) as client:
        sender = threading.Thread(
            target=client.send,
            args=(
                b"POST /silence HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body,
            ),
        )
        sender.start()
        message = wait_until(lambda: site.messages("http.request"))[0]
        sender.join(0.3)
        assert sender.is_alive()  # held back: nobody takes the pieces
        received = message["body"]
        intake = site.layer.intake([message["body_channel"]], credit=1)
        from gateway.core.layers.base import OK

        while len(received) < len(body):
            delivery = intake.take(5)
            received += b"".join(piece["content"] for piece in delivery.messages)
            site.layer.settle(delivery, [OK] * len(delivery.messages))
        intake.close()
        sender.join(5)
        assert received == body
        site.layer.send(message["reply_channel"], {"text": "done"})
        assert client.response().content == b"done"


def test_a_worker_streams_at_the_clients_pace(authority, loop_factory):
    """A client that stalls stalls the worker, with no more in memory than a piece or two."""
    listen = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with (
        Site(**listen, loop_factory=loop_factory) as site,
        connect(site, authority, narrow=True) as client,
    ):
        client.send(get("/pace", "Connection: close"))
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        wait_until(lambda: protocol._full)
        assert site.engine.acks < 64
        waiting = site.call(protocol._transport.get_write_buffer_size)
        assert waiting <= WATER + 256 * 1024
        assert client.rest().count(b"x" * 1024) == 64 * 256


def test_a_streaming_worker_hears_that_the_client_left(authority, loop_factory):
    """A client that leaves in the middle is noticed at the next piece."""
    listen = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with Site(**listen, loop_factory=loop_factory) as site:
        client = connect(site, authority, narrow=True)
        client.send(get("/pace"))
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        wait_until(lambda: protocol._full)
        client.sock.close()
        wait_until(lambda: site.errors)
        wait_until(lambda: site.messages("http.disconnect"))


def test_a_client_that_leaves_while_it_is_held_back(authority, loop_factory):
    """A client that is read no further and closes is noticed all the same."""
    listen = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with Site(**listen, loop_factory=loop_factory) as site:
        client = connect(site, authority)
        client.send(post("/wait", 20_000_000))
        client.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            client.sock.sendall(b"x" * 20_000_000)
        (protocol,) = site.plugin._port.connections
        wait_until(lambda: protocol._paused)
        client.sock.close()
        wait_until(lambda: site.connections == 0)
        site.go.set()
        wait_until(lambda: site.messages("http.disconnect"))


@pytest.mark.parametrize("path", ["/gap", "/fail"])
def test_what_is_cut_off_looks_so(authority, loop_factory, path):
    """A response that cannot be completed ends without its last chunk and without close_notify."""
    listen = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with (
        Site(**listen, loop_factory=loop_factory) as site,
        connect(site, authority) as client,
    ):
        client.send(get(path))
        data = []
        with pytest.raises(OSError):  # not b"", which would be a clean end
            data += iter(lambda: client.sock.recv(65536), b"")
        assert b"".join(data).endswith(b"a" * 10 + b"\r\n")


def test_what_cannot_be_served(serve, authority, caplog):
    """A fault of the plugin costs that connection alone, and leaves nothing."""
    with serve() as site:
        (waiting,) = site.plugin._arrivals
        serves = waiting.serve
        waiting.serve = lambda _: 1 / 0
        with connect(site, authority) as client:
            assert is_over(client)
        assert "a connection could not be served" in caplog.text
        wait_until(lambda: site.call(lambda: site.plugin._port.places.open) == 0)
        waiting.serve = serves
        with connect(site, authority) as client:
            assert client.send(get("/x")).response().status == 200


# ---------------------------------------------------------------- what is no TLS


def test_plain_http_is_told(serve):
    """Who speaks plain HTTP to a port with TLS reads that it should use https."""
    with serve() as site, site.connect() as client:
        response = client.send(get("/x") + b"x" * 100_000).response()
        assert response.status == 400
        assert b"https://" in response.content
        assert client.rest() == b""
        assert failures(site) == {"plain": 1}


def test_tls_on_a_plain_port(authority, loop_factory):
    """Who speaks TLS to a plain port is refused at once, counted."""
    with (
        Served({"http.request": hello}, loop_factory=loop_factory) as site,
        socket.create_connection(site.address[:2], timeout=10) as plain,
    ):
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number"):
            authority.client().wrap_socket(plain, server_hostname="localhost")
        assert refused(site, "tls") == 1


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "timeout"),
        (b"\x16", "timeout"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "timeout"),
        (b"\x16\x03\x01\x00\x05hello", "garbage"),
        (b"\x00\x01\x02", "garbage"),
        (b"\x80\x2e\x01\x03\x01", "garbage"),
        (b"\x16" * 5000, "garbage"),
    ],
)
def test_no_handshake(serve, sent, why):
    """A handshake that is none, or never ends, is closed, counted, and served nothing."""
    with serve(handshake_timeout=0.3) as site, site.connect() as client:
        client.sock.sendall(sent)
        assert is_over(client)
        wait_until(lambda: failures(site) == {why: 1})
        assert site.connections == 0


def test_a_byte_at_a_time(serve):
    """A handshake that trickles in has no more time than a silent one."""
    with serve(handshake_timeout=0.5) as site, site.connect() as client:
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
        over = threading.Event()

        def trickle() -> None:
            for byte in hello:
                if over.wait(0.05):
                    return
                try:
                    client.sock.sendall(bytes((byte,)))
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert is_over(client)
        finally:
            over.set()
            thread.join()
        wait_until(lambda: failures(site) == {"timeout": 1})


def test_two_hundred_with_garbage(serve, authority):
    """Hundreds of connections with garbage, or that leave amid the handshake, leave nothing."""
    with serve() as site:
        with connect(site, authority) as client:  # libuv keeps a descriptor from its first on
            client.send(get("/x")).response()
        wait_until(lambda: site.connections == 0)
        before = descriptors()
        clients = [site.connect() for _ in range(200)]
        for number, client in enumerate(clients):
            client.sock.sendall(
                (b"\x16\x03\x01\x00\x05hello", b"\x05\x01\x00", b"\x16")[number % 3]
            )
        for number, client in enumerate(clients):
            if number % 3 < 2:
                assert is_over(client)
            client.sock.close()
        wait_until(lambda: sum(failures(site).values()) == 200)
        assert failures(site) == {"garbage": 134, "closed": 66}
        with connect(site, authority) as client:
            assert client.send(get("/x")).response().content == b"hello /x"
        wait_until(lambda: site.connections == 0)
        (waiting,) = site.plugin._arrivals
        assert len(waiting) == 0
        assert site.call(lambda: site.plugin._port.places.open) == 0
        assert len(site.call(lambda: site.context._tasks)) == 0
        wait_until(lambda: descriptors() <= before)


def test_no_cycle_is_left(authority):
    """What has arrived, or failed to, is gone without the garbage collector's help (uvloop)."""
    listen = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with Served({"http.request": answer}, **listen) as site:
        gc.collect()
        gc.disable()
        try:
            with connect(site, authority) as client, site.connect() as other:
                assert client.send(get("/x")).response().status == 200
                other.sock.sendall(b"\x16\x03\x01\x00\x05hello")
                assert is_over(other)
            wait_until(lambda: not any(type(o) is Arrival for o in gc.get_objects()))
        finally:
            gc.enable()


# ---------------------------------------------------------------- limits


def test_silence_takes_a_place(serve, authority):
    """Who connects and says nothing counts: beyond ``max_connections`` others are closed."""
    config = HttpConfig(max_connections=2)
    with serve(config=config) as site, site.connect() as one, connect(site, authority) as two:
        with site.connect() as three:
            assert is_over(three)
        assert site.drops == {"limited": 1}
        assert two.send(get("/x")).response().status == 200
        one.sock.close()
        wait_until(lambda: failures(site) == {"closed": 1})
        with connect(site, authority) as three:
            assert three.send(get("/x")).response().status == 200


def test_the_oldest_handshake_goes(serve, authority):
    """Beyond ``max_handshakes`` the one that takes longest is closed, and the new one served."""
    with serve(max_handshakes=2) as site, site.connect() as one, site.connect() as two:
        wait_until(lambda: len(site.plugin._arrivals[0]) == 2)
        with connect(site, authority) as three:
            assert three.send(get("/x")).response().status == 200
        assert is_over(one)
        assert failures(site) == {"limited": 1}
        assert site.drops == {"limited": 1}
        assert len(site.plugin._arrivals[0]) == 1
        two.sock.close()


def test_handshakes_begin_a_few_at_a_time(serve):
    """However many are ready at once, a turn of the loop begins a few: the others get theirs."""
    with serve() as site:
        (waiting,) = site.plugin._arrivals
        begun: list[int] = []

        class Ready:
            def connect(self) -> None:
                begun.append(1)
                waiting.forget(self)

        async def turns() -> list[int]:
            for _ in range(10):
                ready = Ready()
                waiting._pending[ready] = None
                waiting.queue(ready)
            counts = []
            while len(begun) < 10:
                await asyncio.sleep(0)
                counts.append(len(begun))
            return counts

        counts = asyncio.run_coroutine_threadsafe(turns(), site.loop).result(5)
        assert counts == [STARTS, 2 * STARTS, 10]


def test_stop_amid_handshakes(serve):
    """A stop closes what is still shaking hands at once."""
    with serve() as site, site.connect() as silent, site.connect() as begun:
        begun.sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        wait_until(lambda: len(site.plugin._arrivals[0]) == 2)
        wait_until(lambda: len(site.call(lambda: site.context._tasks)) == 1)
        site.stop().result(5)
        assert is_over(silent)
        assert is_over(begun)
        assert len(site.plugin._arrivals[0]) == 0
        assert site.call(lambda: site.plugin._port.places.open) == 0


def test_drain(serve, authority):
    """A drain closes idle connections with close_notify, and lets a request finish."""
    with serve() as site, connect(site, authority) as idle, connect(site, authority) as busy:
        idle.send(get("/x")).response()
        busy.send(get("/silence"))
        (_, message) = wait_until(
            lambda: len(site.messages("http.request")) == 2 and site.messages("http.request")
        )
        stopped = site.stop()
        assert idle.rest() == b""
        idle.sock.unwrap()
        site.layer.send(message["reply_channel"], {"text": "late"})
        response = busy.response()
        assert (response.content, response.header(b"connection")) == (b"late", b"close")
        assert busy.rest() == b""
        busy.sock.unwrap()
        stopped.result(5)


# ---------------------------------------------------------------- everywhere at once


def test_every_kind_of_listener(serve, authority, tmp_path):
    """IPv4, IPv6, Unix sockets and inherited descriptors serve at once, with and without TLS."""
    inherited = [bind(parse("127.0.0.1:0")), bind(parse("[::1]:0"))]
    listen = []
    for number, sock in enumerate(inherited):
        prefix = "tls:" * number
        listen += [
            f"{prefix}127.0.0.1:0",
            f"{prefix}[::1]:0",
            f"{prefix}unix:{tmp_path}/{number}.sock",
            f"{prefix}fd:{sock.fileno()}",
        ]
    with serve(listen=listen) as site:
        for number, address in enumerate(site.addresses):
            family = (
                socket.AF_UNIX
                if isinstance(address, str)
                else (socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            )
            with socket.socket(family) as plain:
                plain.settimeout(10)
                plain.connect(address)
                local = plain.getsockname()
                sock = plain
                if number >= 4:
                    sock = authority.client().wrap_socket(plain, server_hostname="localhost")
                with Client(sock) as client:
                    assert (
                        client.send(get(f"/{number}")).response().content == b"hello /%d" % number
                    )
                message = site.messages("http.request")[-1]
                assert message["scheme"] == ("https" if number >= 4 else "http")
                assert message["client"] == (None if family == socket.AF_UNIX else list(local[:2]))
                assert message["server"] == (
                    None if family == socket.AF_UNIX else list(address[:2])
                )
    for sock in inherited:
        sock.close()


# ---------------------------------------------------------------- loaded again


def test_reload_disturbs_nobody(authority, loop_factory, tmp_path):
    """New connections get the new certificate, open ones go on, and none is refused meanwhile."""
    path = tmp_path / "site.pem"
    shutil.copy(authority.issue("old", "localhost"), path)
    tls = authority.tls(str(path))
    sites = Served(
        {"http.request": answer}, listen="tls:127.0.0.1:0", tls=tls, loop_factory=loop_factory
    )
    with sites as site, connect(site, authority) as first:
        old = first.sock.getpeercert(binary_form=True)
        assert first.send(get("/1")).response().content == b"hello /1"
        over = threading.Event()
        seen = []

        def visit() -> None:
            while not over.is_set():
                with connect(site, authority) as client:
                    seen.append(client.sock.getpeercert(binary_form=True))
                    client.send(get("/x")).response()

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            wait_until(lambda: seen)
            shutil.copy(authority.issue("new", "localhost"), path)
            for _ in range(20):
                assert asyncio.run_coroutine_threadsafe(tls.reload(), site.loop).result(5)
            wait_until(lambda: seen[-1] != old)
        finally:
            over.set()
            visitor.join()
        assert len(set(seen)) == 2
        assert not failures(site)
        assert first.send(get("/2")).response().content == b"hello /2"
        assert first.sock.getpeercert(binary_form=True) == old
