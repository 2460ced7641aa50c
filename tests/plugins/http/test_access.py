"""One record in the access log for each request, whoever answered it and however it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct

import pytest
from h2.errors import ErrorCodes

from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings, LogSettings
from gateway.core.layers.base import FAILED, REJECTED, Outcome
from gateway.core.web import Claim
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import glimpse
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.http.serving import Served, get, wait_until

LARGE = b"x" * 200_000


def answer(message: dict) -> list[dict] | Outcome:
    """Do what the path says."""
    match message["path"]:
        case "/silence":
            return []
        case "/reject":
            return Outcome(REJECTED, code=409, reason="not now")
        case "/fail":
            return Outcome(FAILED)
        case "/invalid":
            return [{"status": 200, "headers": [(b"a", b"b\r\nc: d")], "content": b""}]
        case "/empty":
            return [{"status": 304, "headers": [], "content": b""}]
        case "/begin":
            return [{"status": 200, "headers": [], "content": b"half", "more_content": True}]
        case "/stream":
            return [
                {"status": 200, "headers": [], "content": b"half", "more_content": True},
                {"offset": 4, "content": b"whole", "more_content": False},
            ]
        case "/gap":
            return [
                {"status": 200, "headers": [], "content": b"half", "more_content": True},
                {"offset": 5, "content": b"whole", "more_content": False},
            ]
        case "/large":
            return [
                {"status": 200, "headers": [], "content": LARGE, "more_content": True},
                *(
                    {"offset": len(LARGE) * n, "content": LARGE, "more_content": True}
                    for n in range(1, 60)
                ),
            ]
    return [{"status": 200, "headers": [], "content": b"hello"}]


class Claims:
    """A plugin that answers for itself, a path for each way."""

    def __init__(self):
        self.held = []

    def list(self) -> list[Claim]:
        return [
            Claim(lambda head, path=f"/claim/{name}": head.path == path, getattr(self, name))
            for name in ("whole", "hold", "cut", "fault", "decline", "switch", "echo")
        ]

    def whole(self, exchange):
        exchange.respond(403)
        exchange.write(b"no")
        exchange.end()

    def hold(self, exchange):
        self.held.append(exchange)

    def cut(self, exchange):
        exchange.respond(200)
        exchange.write(b"half")
        asyncio.get_running_loop().call_later(0.02, exchange.abort)

    def fault(self, exchange):
        raise ValueError("a plugin's fault")

    def decline(self, exchange):
        exchange.decline()

    def switch(self, exchange):
        transport, _ = exchange.upgrade(b"other")
        transport.set_protocol(asyncio.Protocol())
        transport.close()

    def echo(self, exchange):
        async def run():
            size = 0
            with contextlib.suppress(ConnectionError):
                async for piece in exchange.body():
                    size += len(piece)
                exchange.respond(200)
                exchange.write(b"%d" % size)
                exchange.end()

        self.task = asyncio.get_running_loop().create_task(run())


class Logged:
    """A site with an access log, and its records."""

    def __init__(self, style="json", routed=("http.request", "http.disconnect"), **config):
        self.lines: list[bytes] = []
        self.claims = Claims()
        consumers = {"http.request": answer, "http.disconnect": lambda _: None}
        self.site = Served(
            {name: consumers[name] for name in routed},
            config=HttpConfig(**config),
            claims=self.claims.list(),
            gateway=GatewaySettings(start_timeout=0),
            access=AccessLog(LogSettings(access="-", access_format=style), self.lines.append),
        )

    def __enter__(self):
        self.site.__enter__()
        return self

    def __exit__(self, *args):
        self.site.__exit__(*args)

    def records(self, count=1):
        """The records, once there are so many; there are no more."""
        wait_until(lambda: len(self.lines) >= count)
        assert len(self.lines) == count
        return [json.loads(line) for line in self.lines]

    def said(self, *keys):
        """What the one record says."""
        [record] = self.records()
        return tuple(record.get(key) for key in keys)


@pytest.fixture
def logged():
    with Logged() as started:
        yield started


def test_a_request(logged):
    """A record says who asked for what, what was answered, how much and how long it took."""
    headers = "User-Agent: browser", "Referer: https://a.example/b?c=secret"
    with logged.site.connect() as client:
        client.send(get("/a%20b?token=secret", *headers)).response()
        [record] = logged.records()
        assert record.pop("time").endswith("Z")
        assert 0 <= record.pop("seconds") < 5
        [message] = logged.site.messages("http.request")
        assert record == {
            "protocol": "http",
            "client": list(client.sock.getsockname()),
            "method": "GET",
            "path": "/a%20b",
            "http_version": "1.1",
            "code": 200,
            "end": "application",
            "received": 0,
            "sent": 5,
            "reply_channel": message["reply_channel"],
            "user_agent": "browser",
            "referer": "https://a.example/b",
        }


def test_requests_of_one_connection(logged):
    """Each request of a connection has its record, in the order of their answers."""
    with logged.site.connect() as client:
        client.send(get("/a") + get("/b", version="1.0"))
        list(client.responses("GET", "GET"))
    assert [(r["path"], r["http_version"]) for r in logged.records(2)] == [
        ("/a", "1.1"),
        ("/b", "1.0"),
    ]


@pytest.mark.parametrize(
    ("path", "code", "end", "sent"),
    [
        ("/stream", 200, "application", 9),
        ("/reject", 409, "application", len("not now\n")),
        ("/fail", 500, "application", len("500 Internal Server Error\n")),
        ("/invalid", 500, "application", len("500 Internal Server Error\n")),
        ("/empty", 304, "application", 0),
        ("/claim/whole", 403, "gateway", 2),
        ("/claim/fault", 500, "gateway", len("the gateway failed\n")),
        ("/claim/decline", 200, "application", 5),
    ],
)
def test_answers(logged, path, code, end, sent):
    """A record tells the status, who answered, and the bytes of content."""
    with logged.site.connect() as client:
        client.send(get(path)).response()
        assert logged.said("path", "code", "end", "sent") == (path, code, end, sent)


def test_head(logged):
    """The answer to HEAD has no content."""
    for path in ("/", "/claim/whole", "/claim/fault"):
        with logged.site.connect() as client:
            client.send(get(path).replace(b"GET", b"HEAD")).response("HEAD")
    assert [(r["method"], r["sent"]) for r in logged.records(3)] == [("HEAD", 0)] * 3


def test_bodies(logged):
    """The bytes received are those of the request's content, without its framing."""
    for path in ("/", "/claim/echo"):
        with logged.site.connect() as client:
            client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode())
            client.send(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
            client.response("POST")
            client.send(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
            )
            client.send(b"x" * 100_000).response("POST")
    assert [r["received"] for r in logged.records(4)] == [6, 100_000] * 2


def test_nobody_routes():
    """What the gateway answers because nobody is there is the gateway's answer."""
    with Logged(routed=["http.disconnect"]) as logged, logged.site.connect() as client:
        client.send(get()).response()
        assert logged.said("code", "end") == (404, "gateway")
    with Logged(routed=[], queue_timeout=0.05) as logged, logged.site.connect() as client:
        client.send(get()).response()
        assert logged.said("code", "end") == (503, "gateway")


def test_no_response_in_time():
    """A response that does not begin in time is the gateway's 504."""
    with Logged(timeout=0.1) as logged, logged.site.connect() as client:
        client.send(get("/silence")).response()
        assert logged.said("code", "end") == (504, "gateway")
        assert logged.said("seconds") >= (0.1,)


@pytest.mark.parametrize("path", ["/silence", "/claim/hold"])
def test_client_leaves_before_the_answer(logged, path):
    """A client that leaves before its answer has 499, as in nginx's logs."""
    with logged.site.connect() as client:
        client.send(get(path))
        wait_until(lambda: logged.site.seen or logged.claims.held)
        client.sock.shutdown(socket.SHUT_WR)
        assert logged.said("path", "code", "end", "sent") == (path, 499, "client", 0)


def test_client_leaves_in_the_middle(logged):
    """A client that leaves in the middle of its answer has the status that it was told."""
    with logged.site.connect() as client:
        client.send(get("/begin")).take(10)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert logged.said("code", "end", "sent") == (200, "client", 4)


@pytest.mark.parametrize("path", ["/gap", "/claim/cut"])
def test_cut_off(logged, path):
    """An answer that breaks off is cut, and has the bytes that were sent."""
    with logged.site.connect() as client:
        client.send(get(path)).rest()
        assert logged.said("code", "end", "sent") == (200, "cut", 4)


def test_slow_client():
    """A client that takes nothing for too long is cut off."""
    with Logged(write_timeout=0.2) as logged, logged.site.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(get("/large"))
        assert logged.said("path", "code", "end") == ("/large", 200, "cut")


def test_drained(logged):
    """What does not end within the grace is cut off."""
    with logged.site.connect() as client:
        client.send(get("/begin")).take(10)
        drained = asyncio.run_coroutine_threadsafe(logged.site.engine.drain(0.05), logged.site.loop)
        drained.result(5)
        assert logged.said("code", "end") == (200, "cut")


REFUSED = [
    (b"GET /a?b=secret HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n", 400, "GET", "/a", "1.1"),
    (b"GET /a?b=secret HTTP/1.1\r\n\r\n", 400, "GET", "/a", "1.1"),
    (b"\r\nPOST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "POST", "/a", "1.0"),
    (b"GET /" + b"a" * 9000, 414, "GET", "/" + "a" * 1023 + "...", None),
    (b"GET http://me:secret@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "GET", None, "1.1"),
    (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501, "CONNECT", None, "1.1"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, None, None, None),
    (b"GET /a" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "GET", "/a" + "a" * 1022 + "...", None),
    (b"GET / HTTP/9.9\r\n\r\n", 505, "GET", "/", None),
    (b"nonsense\r\n\r\n", 400, None, None, None),
]


@pytest.mark.parametrize(("sent", "code", "method", "path", "version"), REFUSED)
def test_refused(logged, sent, code, method, path, version):
    """A refused request has its status, and what could be read of it; never its query."""
    with logged.site.connect() as client:
        content = client.send(sent).rest().partition(b"\r\n\r\n")[2]
    found = logged.said("code", "end", "method", "path", "http_version", "sent", "protocol")
    assert found == (code, "gateway", method, path, version, len(content), "http")
    assert b"secret" not in b"".join(logged.lines)


def test_refused_head_has_no_content(logged):
    """The refusal of a HEAD request has no content either (RFC 9110 9.3.2)."""
    with logged.site.connect() as client:
        said = client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n").rest()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.endswith(b"\r\n\r\n")
    assert logged.said("code", "method", "sent") == (400, "HEAD", 0)


@pytest.mark.parametrize(
    ("config", "sent", "code", "path"),
    [
        ({"header_timeout": 0.1}, b"GET /slow HTTP/1.1\r\n", 408, "/slow"),
        (
            {"body_timeout": 0.1},
            b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nx",
            408,
            "/b",
        ),
        ({"max_body": 4}, b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 413, "/b"),
        (
            {"max_body": 4},
            b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nxxxxxxxxx\r\n",
            413,
            "/b",
        ),
        (
            {},
            b"POST /claim/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            400,
            "/claim/echo",
        ),
    ],
)
def test_refused_by_a_limit(config, sent, code, path):
    """What goes beyond a limit, in head or body, is one record, with the status it was told."""
    with Logged(**config) as logged, logged.site.connect() as client:
        content = client.send(sent).rest().partition(b"\r\n\r\n")[2]
        assert logged.said("code", "end", "path", "sent") == (code, "gateway", path, len(content))


def test_too_many_connections():
    """A connection too many is a record without a request."""
    with (
        Logged(max_connections=1) as logged,
        logged.site.connect(),
        logged.site.connect() as client,
    ):
        client.rest()
        assert logged.said("code", "end", "method", "client") == (
            503,
            "gateway",
            None,
            list(client.sock.getsockname()),
        )


def test_a_connection_without_a_request(logged):
    """A connection that asks for nothing is no record."""
    with logged.site.connect():
        wait_until(lambda: logged.site.connections == 1)
    wait_until(lambda: logged.site.connections == 0)
    assert logged.lines == []


def test_taken_over_without_a_session(logged):
    """A claim that takes the connection over and has no session is a record of its own."""
    with logged.site.connect() as client:
        client.send(get("/claim/switch")).rest()
        assert logged.said("code", "end", "path") == (101, "gateway", "/claim/switch")


def test_text_cannot_be_forged():
    """Whatever bytes a target may hold, text is one line of printable ASCII, without a query."""
    path = '/"200" %0d%0a2026 %E2%80%A8%1b[2J'.replace(" ", "%20")
    with Logged("text") as logged, logged.site.connect() as client:
        client.send(get(path + "?q=secret")).response()
        [line] = wait_until(lambda: logged.lines)
    text = line.decode()
    assert text.isascii()
    assert text[:-1].isprintable()
    shown = path.replace('"', '\\"')
    assert f' "GET {shown} HTTP/1.1" 200 application 0 5 ' in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"GET", b"GET ", b"\xff\xfe", b"G\x00T / HTTP/1.1", b"\n/ HTTP/1.1\r\n"]
)
def test_glimpse_of_little(data):
    """Of what is no request line nothing is said but, at most, its method."""
    head = glimpse(data, HttpConfig())
    assert head is None or (head.method, head.raw_path, head.http_version) == ("GET", b"", "")


@pytest.mark.parametrize("path", ["/", "/claim/whole", "/claim/fault"])
def test_behind_a_proxy(path):
    """Behind a trusted proxy the client is whom that speaks for, whoever answers."""
    with Logged(trusted_proxies=("127.0.0.1",)) as logged, logged.site.connect() as client:
        client.send(get(path, "X-Forwarded-For: 192.0.2.7")).response()
        assert logged.said("path", "client") == (path, ["192.0.2.7", 0])


# ---------------------------------------------------------------- HTTP/2


def test_http2(logged):
    """Over HTTP/2 each request has its record likewise."""
    with Http2Client(logged.site) as client:
        client.ask(request("/a?b=secret", (b"user-agent", b"browser")))
        client.ask(request("/c", method=b"POST"), b"12345")
        client.ask(request("/stream"))
        client.ask(request("/claim/whole", method=b"HEAD"))
        peer = list(client.sock.getsockname())
    records = logged.records(4)
    assert [(r["path"], r["code"], r["received"], r["sent"], r["end"]) for r in records] == [
        ("/a", 200, 0, 5, "application"),
        ("/c", 200, 5, 5, "application"),
        ("/stream", 200, 0, 9, "application"),
        ("/claim/whole", 403, 0, 0, "gateway"),
    ]
    assert {(r["http_version"], *r["client"]) for r in records} == {("2", *peer)}
    assert records[0]["user_agent"] == "browser"


def test_http2_refused(logged):
    """A request that HTTP/2 refuses is one record, with what could be read of it."""
    with Http2Client(logged.site) as client:
        answer = client.ask(request("/a?b=secret", (b"a", b"b\nc")))
        assert logged.said("code", "end", "method", "path", "sent", "http_version") == (
            400,
            "gateway",
            "GET",
            "/a",
            len(answer.content),
            "2",
        )


def test_http2_refused_head(logged):
    """The refusal of HEAD has no content over HTTP/2 either."""
    with Http2Client(logged.site) as client:
        answer = client.ask(request("/a", (b"a", b"b\nc"), method=b"HEAD"))
        assert (answer.status, answer.content) == (400, b"")
        assert logged.said("method", "sent") == ("HEAD", 0)


def test_http2_body_refused():
    """A body that is too large is one record of the request in hand."""
    with Logged(max_body=4) as logged, Http2Client(logged.site) as client:
        answer = client.ask(request("/b", method=b"POST"), b"12345")
        found = logged.said("code", "end", "path", "sent")
        assert found == (413, "gateway", "/b", len(answer.content))


@pytest.mark.parametrize("path", ["/silence", "/claim/hold"])
def test_http2_reset(logged, path):
    """A request that its client resets has 499."""
    with Http2Client(logged.site) as client:
        number = client.send(request(path))
        wait_until(lambda: logged.site.seen or logged.claims.held)
        client.h2.reset_stream(number, ErrorCodes.CANCEL)
        client.flush()
        assert logged.said("path", "code", "end") == (path, 499, "client")


def test_http2_slow_client():
    """A stream whose client opens no window is cut off."""
    with Logged(write_timeout=0.2) as logged, Http2Client(logged.site, greedy=False) as client:
        client.answer(client.send(request("/large")))
        assert logged.said("path", "code", "end") == ("/large", 200, "cut")


def test_http2_fault(logged):
    """Requests in hand of a connection that is ended for a fault are cut off."""
    with Http2Client(logged.site) as client:
        client.send(request("/silence"))
        wait_until(lambda: logged.site.messages("http.request"))
        client.raw(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # WINDOW_UPDATE of 0
        client.end()
        assert logged.said("path", "code", "end") == ("/silence", None, "cut")
