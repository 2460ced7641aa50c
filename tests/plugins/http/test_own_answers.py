"""What the gateway answers itself is plain, gives nothing away, and looks the same everywhere."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from gateway.core.config import GatewaySettings
from gateway.core.layers.base import REJECTED, Outcome
from gateway.core.web import Claim, plain
from gateway.plugins.http.config import HttpConfig
from tests.plugins.http import own
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request as fields
from tests.plugins.http.own import MARK
from tests.plugins.http.serving import Served, wait_until

M = MARK.encode()


def answer(message: dict) -> list[dict] | Outcome:
    """Do what the path says, badly."""
    match message["path"].rpartition("/")[2]:
        case "silence":
            return []
        case "raise":
            raise ValueError(MARK)
        case "reject":
            return Outcome(REJECTED)
        case "foreign":
            return Outcome(REJECTED, code=4001)
        case "invalid":
            return [{"status": 200, "headers": [(b"a", b"b\r\n" + M)], "content": b""}]
        case "both":
            return [{"status": 200, "text": MARK}]
        case "fine":
            return [{"status": 200, "headers": [], "content": b"fine"}]
        case "begin":
            return [{"status": 200, "headers": [], "content": b"half", "more_content": True}]
        case "text":
            return [{"text": "hello"}]
    return [{"status": 200, "headers": [(M, M)], "content": M * 3, "offset": 7}]


def fault(exchange: Any) -> None:
    raise ValueError(f"{MARK} {exchange.head.path}")


def site(routed: tuple[str, ...] = ("http.request",), **config: Any) -> Served:
    """A site whose application answers as above, with a claim that raises."""
    return Served(
        dict.fromkeys(routed, answer),
        config=HttpConfig(**config),
        claims=[Claim(lambda head: head.path.endswith("/claim"), fault)],
        gateway=GatewaySettings(start_timeout=0),
    )


@pytest.fixture(scope="module")
def served():
    with site() as started:
        yield started


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    head = [f"{method} /{MARK}{path}?{MARK} HTTP/{version}", "Host: localhost"]
    head += [f"Cookie: {MARK}", f"X-{MARK}: {MARK}", f"User-Agent: {MARK}"]
    return "\r\n".join([*head, *lines, "", ""]).encode()


class Way(NamedTuple):
    """A way to an answer of the gateway's own: what is sent, with which status it is answered."""

    path: str
    status: int
    closes: bool = False
    config: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default
    routed: tuple[str, ...] = ("http.request",)


WAYS = [
    Way("/raise", 500),
    Way("/reject", 403),
    Way("/foreign", 403),
    Way("/invalid", 500),
    Way("/both", 500),
    Way("/offset", 500),
    Way("/claim", 500, closes=True),
    Way("/silence", 504, config={"timeout": 0.1}),
    Way("/any", 404, routed=("other.channel",)),
    Way("/any", 503, routed=(), config={"queue_timeout": 0.05}),
]
IDS = [f"{way.path}-{way.status}" for way in WAYS]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_answers(way, method):
    """Whatever goes wrong, the answer tells its status and a sentence, and nothing else."""
    with site(way.routed, **way.config) as served, served.connect() as client:
        lines = ("Content-Length: 0",) if method == "POST" else ()
        found = client.send(request(way.path, *lines, method=method)).response(method)
        assert found.status == way.status
        own.check(found.status, found.headers, found.content, method=method)
        assert found.header(b"connection") == (b"close" if way.closes else None)
        if way.closes:
            assert client.rest() == b""
        elif way.routed == ("http.request",):
            assert client.send(get_fine()).response().content == b"fine"


def get_fine() -> bytes:
    return b"GET /fine HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_answers_over_http2(way, method):
    """Over HTTP/2 they are the same, and no answer ends the connection."""
    with site(way.routed, **way.config) as served, Http2Client(served) as client:
        found = client.ask(
            fields(f"/{MARK}{way.path}?{MARK}", (b"cookie", M), method=method.encode())
        )
        assert found.status == way.status
        own.check(found.status, found.headers, found.content, method=method)
        assert found.header(b"connection") is None
        assert client.goaway is None


REFUSED = {
    "a header line": (400, request("/", f"{MARK} {MARK}")),
    "no host": (400, f"GET /{MARK}?{MARK} HTTP/1.1\r\n\r\n".encode()),
    "a control character": (400, request("/", f"A: {MARK}\x1b[31m")),
    "no version": (400, f"GET /{MARK} HTTP/{MARK}\r\n\r\n".encode()),
    "a version": (505, f"GET /{MARK} HTTP/7.0\r\n\r\n".encode()),
    "CONNECT": (501, f"CONNECT {MARK}:443 HTTP/1.1\r\nHost: {MARK}:443\r\n\r\n".encode()),
    "a method": (501, f"{MARK.upper()} / HTTP/1.1\r\nHost: {MARK}\r\n\r\n".encode()),
    "a long line": (414, f"GET /{MARK * 1000} HTTP/1.1\r\n".encode()),
    "a large head": (431, request("/", *[f"{MARK}: {MARK * 100}"] * 90)),
    "an expectation": (417, request("/", f"Expect: {MARK}")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + M + b"\r\n\r\n"),
    "a body too large": (413, request("/", "Content-Length: 99999999999", method="POST")),
    "a chunk": (
        400,
        request("/claims-not", "Transfer-Encoding: chunked", method="POST") + M + b"\r\n",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(served, case):
    """What cannot be read is answered likewise, and then the connection ends."""
    status, data = REFUSED[case]
    with served.connect() as client:
        found = client.send(data).response()
        assert found.status == status
        own.check(found.status, found.headers, found.content)
        assert found.header(b"connection") == b"close"
        assert client.rest() == b""


def test_refused_over_http2(served):
    """So is what cannot be read over HTTP/2."""
    with Http2Client(served) as client:
        found = client.ask(fields(f"/{MARK}", (M.upper(), M)))
        assert found.status == 400
        own.check(found.status, found.headers, found.content)


TOO_LATE = [
    ({"header_timeout": 0.1}, f"GET /{MARK} HTTP/1.1\r\n".encode()),
    ({"body_timeout": 0.1}, request("/", "Content-Length: 5", method="POST") + b"x"),
]


@pytest.mark.parametrize(("config", "data"), TOO_LATE, ids=["head", "body"])
def test_too_late(config, data):
    """What does not come in time is answered 408."""
    with site(**config) as served, served.connect() as client:
        found = client.send(data).response()
        assert found.status == 408
        own.check(found.status, found.headers, found.content)
        assert found.header(b"connection") == b"close"


def test_too_many():
    """A connection too many is answered 503 although it asked for nothing."""
    with site(max_connections=1) as served, served.connect(), served.connect() as client:
        found = client.response()
        assert found.status == 503
        own.check(found.status, found.headers, found.content)
        assert found.header(b"connection") == b"close"


def test_reasons_of_the_application():
    """The words of a `Reject` are the application's own and are shown, as text and no more."""
    words = "<script>&\r\nSet-Cookie: a=b"
    consumers = {"http.request": lambda _: Outcome(REJECTED, code=429, reason=words)}
    with Served(consumers) as served, served.connect() as client:
        found = client.send(get_fine()).response()
        assert (found.status, found.content) == (429, f"{words}\n".encode())
        assert found.header(b"set-cookie") is None
        assert found.header(b"x-content-type-options") == b"nosniff"
        assert found.header(b"content-type") == b"text/plain; charset=utf-8"


@pytest.mark.parametrize("server", ["gateway", "", "shop"])
def test_date_and_server(server):
    """Every response says Date and Server, and none says Server where that is set empty."""
    expected = server.encode() or None
    with site(server_header=server) as served:
        for path, status in [("/fine", 200), ("/text", 200), ("/begin", 200), ("/raise", 500)]:
            with served.connect() as client:
                said = client.send(request(path)).head()
                assert said.startswith(b"HTTP/1.1 %d " % status)
                assert said.count(b"\r\ndate: ") == 1
                assert said.count(b"\r\nserver: ") == (1 if server else 0)
        with served.connect() as client:
            found = client.send(b"\0\r\n\r\n").response()
            own.check(found.status, found.headers, found.content, server=expected)
        with Http2Client(served) as client:
            for path in ("/fine", "/raise", "/\x00"):
                found = client.ask(fields(path))
                assert found.header(b"date")
                assert found.header(b"server") == expected


def test_100_says_neither_date_nor_server(served):
    """100 Continue is no response: it has no fields at all (RFC 9110 15.2)."""
    with served.connect() as client:
        client.send(request("/fine", "Expect: 100-continue", "Content-Length: 1", method="POST"))
        assert client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_clients(served, version):
    """A client of HTTP/1.0 gets the same, and its connection as it asked for it."""
    with served.connect() as client:
        found = client.send(request("/raise", version=version)).response()
        own.check(found.status, found.headers, found.content)
        assert found.header(b"connection") == (b"close" if version == "1.0" else None)


def test_an_early_answer_to_a_body_closes(served):
    """An answer that does not wait for the body ends the connection, and says so."""
    with served.connect() as client:
        client.send(request("/raise", "Content-Length: 100000", method="POST") + b"x" * 70_000)
        found = client.response("POST")
        own.check(found.status, found.headers, found.content)
        assert found.header(b"connection") == b"close"


def test_plain():
    """The text, or the status's phrase; 503 asks to come back in a second."""
    headers, content = plain(404)
    assert content == b"404 Not Found\n"
    assert b"retry-after" not in dict(headers)
    headers, content = plain(503, "busy")
    assert (dict(headers)[b"retry-after"], content) == (b"1", b"busy\n")
    assert plain(599)[1] == b"599\n"
    assert plain(400, "half \ud800")[1] == b"half ?\n"


@pytest.mark.parametrize(
    "path", ["/claim%0a2026-01-01%20forged%1b[31m/claim", "/raise", "/invalid"]
)
def test_what_is_logged_of_requests(served, path, caplog):
    """What the gateway logs of a request has no query, no header's value, no line break of its."""
    with served.connect() as client:
        client.send(
            f"GET {path}?q={MARK} HTTP/1.1\r\nHost: x\r\nCookie: {MARK}\r\n\r\n".encode()
        ).response()
    if path != "/raise":
        wait_until(lambda: caplog.records)
    for record in caplog.records:
        said = record.getMessage()
        assert MARK not in said
        assert said.isprintable()
