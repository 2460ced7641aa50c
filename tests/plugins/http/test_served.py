"""The started plugin, spoken to over sockets."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import struct
import subprocess
import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.config import GatewaySettings
from gateway.core.errors import ConfigError
from gateway.core.layers.base import REJECTED, Outcome
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import HeadReader
from gateway.plugins.http.translate import HttpSession
from gateway.plugins.http.transport import HttpProtocol
from tests.plugins.http.serving import Client, Served, get, hello, wait_until


def echo(message: dict) -> list[dict]:
    """Answer with the request's body, or do what the path says."""
    match message["path"]:
        case "/silence":
            return []
        case "/reject":
            return Outcome(REJECTED, code=409, reason="not now")
        case "/fail":
            raise ValueError("a consumer's fault")
        case "/inject":
            return [{"status": 200, "headers": [(b"a", b"b\r\nc: d")], "content": b""}]
        case "/unknown-key":
            return [{"status": 200, "colour": "red"}, {"text": "second try"}]
        case "/text":
            return [{"text": "hi"}]
    return [{"status": 200, "headers": [], "content": message["body"]}]


@pytest.fixture(scope="module")
def site():
    with Served({"http.request": echo, "http.disconnect": lambda _: None}) as served:
        yield served


def test_answers_a_request():
    """A request becomes a message, its reply the response."""
    with Served({"http.request": hello}) as site, site.connect() as client:
        response = client.send(get("/a%20b?c=d")).response()
        assert response.status == 200
        assert response.content == b"hello /a b"
        assert response.header(b"content-length") == b"10"
        assert response.header(b"date")
        assert response.header(b"server") == b"gateway"
        (message,) = site.messages("http.request")
        assert message["order"] == 0
        assert message["client"] == list(client.sock.getsockname())
        assert message["server"] == list(client.sock.getpeername())
        assert message["reply_channel"].startswith(f"http.send.{site.engine.process}!")


def test_keeps_the_connection(site):
    """Requests follow each other on one connection, bodies of any kind between them."""
    with site.connect() as client:
        assert client.send(get()).response().content == b""
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert client.response().content == b"hello"
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n")
        client.send(b'3;a="b c";d\r\nhel\r\n02\r\nlo\r\n000;x=y\r\nTrailer: dropped\r\n\r\n')
        assert client.response().content == b"hello"
        assert client.send(get("/text")).response().content == b"hi"


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/reject", 409, b"not now\n"),
        ("/fail", 500, b"500 Internal Server Error\n"),
        ("/inject", 500, b"500 Internal Server Error\n"),
        ("/unknown-key", 200, b"second try"),
    ],
)
def test_answers_for_the_application(site, path, status, content):
    """What the consumer did not answer, or not validly, the gateway does; the client stays."""
    with site.connect() as client:
        response = client.send(get(path)).response()
        assert (response.status, response.content) == (status, content)
        assert client.send(get("/text")).response().content == b"hi"


def test_an_invalid_reply_is_counted(site):
    """It is dropped with its cause."""
    before = site.drops.get("invalid", 0)
    with site.connect() as client:
        assert client.send(get("/inject")).response().status == 500
    assert site.drops["invalid"] == before + 1


def test_the_response_may_come_later(site):
    """Whoever knows the reply channel answers, at any time."""
    with site.connect() as client:
        before = len(site.messages("http.request"))
        client.send(get("/silence"))
        message = wait_until(lambda: site.messages("http.request")[before:])[0]
        site.layer.send(message["reply_channel"], {"text": "later"})
        assert client.response().content == b"later"


def test_a_group_reaches_waiting_requests(site):
    """One group message answers every request that waits in the group."""
    with site.connect() as one, site.connect() as two:
        before = len(site.messages("http.request"))
        one.send(get("/silence"))
        two.send(get("/silence"))
        wait_until(lambda: len(site.messages("http.request")) == before + 2)
        for message in site.messages("http.request")[before:]:
            site.layer.group_add("waiting", message["reply_channel"])
        site.layer.send_group("waiting", {"text": "news"})
        assert one.response().content == b"news"
        assert two.response().content == b"news"


def test_head_has_no_content(site):
    """HEAD is answered as GET, without the content; the connection stays in step."""
    with site.connect() as client:
        client.send(b"HEAD /text HTTP/1.1\r\nHost: x\r\n\r\n" + get("/text"))
        head, following = client.responses("HEAD", "GET")
    assert (head.content, head.header(b"content-length")) == (b"", b"2")
    assert following.content == b"hi"


def test_http_10(site):
    """An HTTP/1.0 client gets its answer and the end of the connection."""
    with site.connect() as client:
        client.send(b"GET /text HTTP/1.0\r\n\r\n")
        assert client.response().header(b"connection") == b"close"
        assert client.rest() == b""


def test_pipelined_requests_are_answered_in_order(site):
    """Of pipelined requests the next waits for the previous response."""
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d"
    with site.connect() as client:
        client.send(b"".join(body % number for number in range(50)))
        contents = [r.content for r in client.responses(*["POST"] * 50)]
    assert contents == [b"%02d" % number for number in range(50)]


def test_thousands_of_pipelined_refusals_need_no_stack():
    """Answers that come at once do not nest, however many requests one read brings."""
    with Served({"http.disconnect": lambda _: None}) as site, site.connect() as client:
        count = 1500
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        assert [r.status for r in client.responses(*["GET"] * count)] == [404] * count


def test_pipelining_is_bounded():
    """Beyond ``max_pipelined`` bytes the socket is read no further; nothing is lost."""
    config = HttpConfig(max_pipelined=1000)
    with Served({"http.request": echo}, config=config) as site, site.connect() as client:
        client.send(get("/silence"))
        (message,) = wait_until(lambda: site.messages("http.request"))
        client.send(get("/text") * 100)
        (protocol,) = site.plugin._port.connections
        wait_until(lambda: protocol._paused)
        assert len(site.messages("http.request")) == 1
        site.layer.send(message["reply_channel"], {"text": "first"})
        contents = [r.content for r in client.responses(*["GET"] * 101)]
        assert contents == [b"first"] + [b"hi"] * 100


REQUESTS = [
    get("/a") + get("/b"),
    b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world" + get("/d"),
    b"POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;a\r\n world\r\n0\r\nT: u\r\n\r\n" + get("/f"),
]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(which=st.sampled_from(REQUESTS), cuts=st.lists(st.integers(1, 150), max_size=6))
def test_any_cutting_gives_the_same_messages(site, which, cuts):
    """However the bytes arrive, the application sees the same requests."""
    before = len(site.messages("http.request"))
    marks = sorted({0, len(which), *(cut for cut in cuts if cut < len(which))})
    with site.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise(marks):
            client.send(which[start:end])
        contents = [response.content for response in client.responses("POST", "GET")]
    with site.connect() as client:
        client.send(which)
        assert contents == [response.content for response in client.responses("POST", "GET")]
    found = site.messages("http.request")[before:]
    keys = ("method", "path", "headers", "body")
    shown = [[message[key] for key in keys] for message in found]
    assert shown[:2] == shown[2:]


# ---------------------------------------------------------------- who leaves


def reset(client: Client) -> None:
    """Close so that the server sees a reset connection."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


@pytest.mark.parametrize("leave", [lambda c: c.sock.close(), reset], ids=["closed", "reset"])
def test_a_client_that_leaves_is_noticed(site, leave):
    """The application hears ``http.disconnect`` once, after the request; replies are dropped."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    gone = site.drops.get("gone", 0)
    client = site.connect()
    client.send(get("/silence"))
    request = wait_until(lambda: site.messages("http.request")[before[0] :])[0]
    leave(client)
    disconnect = wait_until(lambda: site.messages("http.disconnect")[before[1] :])[0]
    assert disconnect["path"] == "/silence"
    assert disconnect["reply_channel"] == request["reply_channel"]
    assert disconnect["order"] == 1
    site.layer.send(request["reply_channel"], {"text": "too late"})
    wait_until(lambda: site.drops.get("gone", 0) > gone)
    wait_until(lambda: not site.engine.by_channel)
    assert len(site.messages("http.disconnect")) == before[1] + 1


def test_a_client_that_has_its_answer_leaves_in_silence(site):
    """After a complete response there is no ``http.disconnect``."""
    before = len(site.messages("http.disconnect"))
    with site.connect() as client:
        assert client.send(get("/text")).response().content == b"hi"
    wait_until(lambda: not site.connections)
    with site.connect() as client:
        assert client.send(get("/text")).response().content == b"hi"
    assert len(site.messages("http.disconnect")) == before


def test_a_client_that_leaves_while_paused_is_noticed():
    """A paused socket shows no end of file: it is looked for."""
    config = HttpConfig(max_pipelined=1000)
    consumers = {"http.request": echo, "http.disconnect": lambda _: None}
    with Served(consumers, config=config) as site:
        client = site.connect()
        client.send(get("/silence"))
        wait_until(lambda: site.messages("http.request"))
        client.send(get("/text") * 100)
        (protocol,) = site.plugin._port.connections
        wait_until(lambda: protocol._paused)
        client.sock.close()
        assert wait_until(lambda: site.messages("http.disconnect"))
        wait_until(lambda: not site.connections)


def test_a_reply_to_a_closed_transport_harms_nobody(site):
    """Writing after the client is gone raises nothing, and others are served."""
    with site.connect() as client:
        before = len(site.messages("http.request"))
        client.send(get("/silence"))
        message = wait_until(lambda: site.messages("http.request")[before:])[0]
        (protocol,) = [p for p in site.plugin._port.connections if p._session is not None]

        def close_and_reply() -> None:
            protocol._transport.abort()
            connection = site.engine.by_channel[message["reply_channel"]]
            connection.run(connection.session.send(None, {"text": "x"}, None))
            protocol.write(b"more")

        site.call(close_and_reply)
        assert client.rest() == b""
    with site.connect() as client:
        assert client.send(get("/text")).response().content == b"hi"


# ---------------------------------------------------------------- start and stop


def test_unix_socket(tmp_path):
    """A Unix socket serves as a port does, for its owner alone; addresses are unknown."""
    path = tmp_path / "http.sock"
    with Served({"http.request": echo}, listen=f"unix:{path}") as site:
        assert path.stat().st_mode & 0o777 == 0o600
        with site.connect() as client:
            assert client.send(get("/text")).response().content == b"hi"
        (message,) = site.messages("http.request")
        assert (message["client"], message["server"]) == (None, None)


def test_a_socket_of_both_families():
    """Where one socket serves IPv4 and IPv6, a client's address is the one that it has."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        with Served({"http.request": echo}, listen=f"fd:{both.fileno()}") as site:
            for host in ("127.0.0.1", "::1"):
                sock = socket.create_connection((host, both.getsockname()[1]))
                with Client(sock) as client:
                    assert client.send(get("/text")).response().content == b"hi"
            found = [message["client"][0] for message in site.messages("http.request")]
        assert found == ["127.0.0.1", "::1"]


def test_an_endpoint_that_is_not_http(tmp_path):
    """What http cannot listen at stops the start with a sentence that names it."""
    with (
        pytest.raises(ConfigError, match=r"ssl:8443.*http listens at"),
        Served({}, listen="ssl:8443:interface=127.0.0.1"),
    ):
        pass


def test_stop_closes_what_is_idle_and_finishes_what_runs():
    """Idle connections end at once; a running request is answered, then its connection ends."""
    with Served({"http.request": echo}) as site:
        with site.connect() as earlier:
            assert earlier.send(get("/text")).response().content == b"hi"
        wait_until(lambda: not site.connections)
        with site.connect() as idle, site.connect() as running:
            assert idle.send(get("/text")).response().content == b"hi"
            running.send(get("/silence"))
            message = wait_until(lambda: site.messages("http.request")[2:])[0]
            stopping = site.stop()
            assert idle.rest() == b""
            with pytest.raises(OSError):
                site.connect()
            assert not stopping.done()
            site.layer.send(message["reply_channel"], {"text": "last"})
            response = running.response()
            assert (response.content, response.header(b"connection")) == (b"last", b"close")
            assert running.rest() == b""
            stopping.result(5)
        assert site.connections == 0


def test_stop_that_is_cancelled_cuts_off_what_runs():
    """When the grace is over, what still runs is cut off."""
    with Served({"http.request": echo}) as site, site.connect() as client:
        client.send(get("/silence"))
        wait_until(lambda: site.messages("http.request"))
        stopping = site.stop()
        stopping.cancel()
        assert client.sock.recv(1) == b""
        wait_until(lambda: not site.connections)


def test_stop_after_a_failed_start():
    """A plugin that never started stops without a word."""
    with pytest.raises(ConfigError), Served({}, listen="ssl:1:interface=127.0.0.1") as site:
        site.stop().result(5)


def test_no_connection_is_left():
    """After many connections of every fate nothing of them is held."""
    config = HttpConfig(header_timeout=0.1)
    with Served({"http.request": echo, "http.disconnect": lambda _: None}, config=config) as site:
        for number in range(60):
            client = site.connect()
            client.send([get("/text"), get("/silence"), b"GET / HT", b"\0\r\n"][number % 4])
            if number % 3:
                client.sock.recv(100) if number % 4 != 1 else None
            client.sock.close()
        wait_until(lambda: not site.connections)
        wait_until(lambda: not site.engine.by_channel)
        wait_until(lambda: not site.engine.flow.flights)
        assert site.plugin.health() == {"ok": True, "connections": 0}


def test_an_ended_connection_is_freed_at_once():
    """Nothing of a connection that ended waits for the garbage collector."""
    consumers = {"http.request": echo, "http.disconnect": lambda _: None}

    def alive() -> int:
        kinds = {HttpProtocol, HttpSession, HeadReader}  # isinstance() would wake lazy objects
        return sum(type(found) in kinds for found in gc.get_objects())

    with Served(consumers) as site:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for data in [get("/text"), get("/silence"), b"\0\r\n", b"GET / HT", get("/fail")]:
                with site.connect() as client:
                    client.send(data)
                    if data != get("/silence") and data != b"GET / HT":
                        client.response()
            wait_until(lambda: not site.connections)
            wait_until(lambda: not site.engine.flow.flights)
            wait_until(lambda: alive() <= before)
        finally:
            gc.enable()


def test_without_uvloop():
    """On asyncio's own loop everything is the same, a paused client's leaving included."""
    config = HttpConfig(max_pipelined=1000)
    consumers = {"http.request": echo, "http.disconnect": lambda _: None}
    with Served(consumers, config=config, loop_factory=asyncio.new_event_loop) as site:
        with site.connect() as client:
            assert client.send(get("/text")).response().content == b"hi"
            assert client.send(b"\0\r\n").response().status == 400
            assert client.rest() == b""
        client = site.connect()
        client.send(get("/silence"))
        wait_until(lambda: site.messages("http.request")[1:])
        client.send(get("/text") * 100)
        (protocol,) = site.plugin._port.connections
        wait_until(lambda: protocol._paused)
        client.sock.close()
        assert wait_until(lambda: site.messages("http.disconnect"))
        wait_until(lambda: not site.connections)


# ---------------------------------------------------------------- limits


def test_too_many_connections():
    """Beyond ``max_connections`` the answer is 503, counted; a place that becomes free serves."""
    with Served({"http.request": echo}, config=HttpConfig(max_connections=1)) as site:
        with site.connect() as first:
            assert first.send(get("/text")).response().content == b"hi"
            with site.connect() as second:
                assert second.response().status == 503
                assert second.rest() == b""
            assert site.drops["limited"] == 1
        wait_until(lambda: not site.connections)
        with site.connect() as third:
            assert third.send(get("/text")).response().content == b"hi"


def test_an_idle_connection_is_closed():
    """After ``idle_timeout`` without a request the connection ends, in silence."""
    with Served({"http.request": echo}, config=HttpConfig(idle_timeout=0.1)) as site:
        with site.connect() as fresh:
            assert fresh.rest() == b""
        with site.connect() as used:
            assert used.send(get("/text")).response().content == b"hi"
            assert used.rest() == b""


def test_a_response_that_does_not_come():
    """Without a response in ``timeout`` the client gets 504, and may go on."""
    config = HttpConfig(timeout=0.1)
    with Served({"http.request": echo}, config=config) as site, site.connect() as client:
        assert client.send(get("/silence")).response().status == 504
        assert client.send(get("/text")).response().content == b"hi"


def test_a_queued_request_that_was_answered_is_not_run():
    """What got its 504 before a worker took it is withdrawn."""
    release = threading.Event()

    def slow(message: dict) -> list[dict]:
        release.wait(10)
        return [{"text": "done"}]

    config = HttpConfig(timeout=0.2)
    with Served({"http.request": slow}, config=config, threads=1) as site:
        clients = [site.connect() for _ in range(40)]
        for client in clients:
            client.send(get())
        try:
            assert {client.response().status for client in clients} == {504}
        finally:
            release.set()
        wait_until(lambda: not site.engine.flow.flights)
        assert 1 <= len(site.seen) < 40
        for client in clients:
            client.sock.close()


def test_a_fault_in_a_session(monkeypatch):
    """An exception of our own costs that request 500 and its connection, and no other."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with Served({"http.request": echo}) as site:
        with monkeypatch.context() as patch, site.connect() as client:
            patch.setattr(HttpSession, "_respond", broken)
            assert client.send(get("/text")).response().status == 500
            assert client.rest() == b""
        with site.connect() as client:
            assert client.send(get("/text")).response().content == b"hi"


def test_a_full_queue():
    """A request that finds no room for ``queue_timeout`` gets 503 and Retry-After."""
    release = threading.Event()

    def slow(message: dict) -> list[dict]:
        release.wait(10)
        return [{"text": "done"}]

    config = HttpConfig(queue_timeout=0.1)
    options = {"capacities": {"http.request": 1}}
    with Served({"http.request": slow}, config=config, threads=1, **options) as site:
        clients = [site.connect() for _ in range(40)]
        for client in clients:
            client.send(get())
        try:
            wait_until(lambda: site.drops.get("full"))
        finally:
            release.set()
        answers = [client.response() for client in clients]
        refused = [answer for answer in answers if answer.status == 503]
        assert refused
        assert all(answer.header(b"retry-after") == b"1" for answer in refused)
        assert {answer.status for answer in answers} == {200, 503}
        for client in clients:
            client.sock.close()


def test_no_worker():
    """With no worker at all the answer is 503 after ``queue_timeout``."""
    config, gateway = HttpConfig(queue_timeout=0.1), GatewaySettings(start_timeout=0)
    with Served({}, config=config, gateway=gateway) as site, site.connect() as client:
        response = client.send(get()).response()
        assert (response.status, response.header(b"retry-after")) == (503, b"1")


def test_nobody_routes_requests():
    """404 where workers live and none routes ``http.request``."""
    with Served({"other.thing": echo}) as site, site.connect() as client:
        assert client.send(get()).response().status == 404


def test_a_slow_reader_is_cut_off():
    """A client that takes nothing for ``write_timeout`` loses its connection, counted."""
    large = b"x" * 900_000

    def answer(message: dict) -> list[dict]:
        first = {"status": 200, "content": large, "more_content": True}
        rest = [
            {"offset": n * 900_000, "content": large, "more_content": True} for n in range(1, 9)
        ]
        return [first, *rest]

    config = HttpConfig(write_timeout=0.2)
    consumers = {"http.request": answer, "http.disconnect": lambda _: None}
    roomy = GatewaySettings(outbox_bytes=64 * 1024 * 1024)
    with Served(consumers, config=config, gateway=roomy) as site, site.connect() as client:
        client.send(get())
        wait_until(lambda: site.drops.get("slow"))
        wait_until(lambda: not site.connections)
        wait_until(lambda: site.messages("http.disconnect"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(site, tmp_path):
    """curl sends a megabyte in chunks, waits for 100, and reads the answer."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * 50_000)
    url = "http://{}:{}/".format(*site.address)
    command = ["curl", "-sS", "--max-time", "10", "-H", "Expect: 100-continue", "-H"]
    command += ["Transfer-Encoding: chunked", "-T", str(body), url, "-w", "%{http_code}"]
    found = subprocess.run(command, capture_output=True, check=True, timeout=15)
    assert found.stdout == b"x" * 50_000 + b"200"
