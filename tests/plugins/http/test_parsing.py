"""What is read, and how: each case at the reader, and through a socket to the application."""

from __future__ import annotations

import socket
import threading

import pytest

from gateway.core.plugin import Peer
from gateway.core.web import Claim, Exchange
from gateway.plugins.http import authority
from gateway.plugins.http.body import ChunkedBody, LengthBody
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import CHUNKED, METHODS, HeadReader, RequestHead
from gateway.plugins.http.refusals import Refused
from tests.plugins.http.driven import Driven, seen
from tests.plugins.http.serving import Served, get, wait_until

HOST = b"Host: localhost\r\n"


def request(line: bytes, *lines: bytes, host: bytes = HOST, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, host + b"".join(each + b"\r\n" for each in lines), body])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return request(b"POST / HTTP/1.1", *lines, body=body)


CHUNKED_LINE = b"Transfer-Encoding: chunked"
FOLLOWING = request(b"GET /next HTTP/1.1")
TRAILERS = (
    b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nConnection: close\r\n"
    b"X-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\n"
)

Case = tuple[str, bytes, list[dict]]
CASES: list[Case] = [
    # ------------------------------------------------ targets (RFC 9112 3.2)
    (
        "absolute-form",
        request(b"GET http://localhost/a/b?c=d HTTP/1.1"),
        [{"path": "/a/b", "raw_path": b"/a/b", "query_string": b"c=d", "scheme": "http"}],
    ),
    (
        "absolute-form in capitals",
        request(b"GET HTTP://LOCALHOST/A HTTP/1.1"),
        [{"path": "/A", "scheme": "http"}],
    ),
    (
        "absolute-form with the default port",
        request(b"GET http://localhost:80 HTTP/1.1"),
        [{"path": "/"}],
    ),
    (
        "absolute-form, the default port in Host",
        request(b"GET http://localhost/ HTTP/1.1", host=b"Host: localhost:80\r\n"),
        [{"path": "/"}],
    ),
    ("absolute-form, an empty port", request(b"GET http://localhost:/ HTTP/1.1"), [{"path": "/"}]),
    (
        "absolute-form of an IPv6 address",
        request(b"GET http://[::1]:8000/a HTTP/1.1", host=b"Host: [::1]:8000\r\n"),
        [{"path": "/a"}],
    ),
    (
        "absolute-form in HTTP/1.0, where the host is the target's",
        request(b"GET http://localhost:8000/a HTTP/1.0", host=b""),
        [{"path": "/a", "headers": [[b"host", b"localhost:8000"]], "http_version": "1.0"}],
    ),
    (
        "OPTIONS *",
        request(b"OPTIONS * HTTP/1.1"),
        [{"path": "*", "raw_path": b"*", "method": "OPTIONS"}],
    ),
    ("OPTIONS of a path", request(b"OPTIONS /a HTTP/1.1"), [{"path": "/a"}]),
    (
        "OPTIONS of a URL without path",
        request(b"OPTIONS http://localhost HTTP/1.1"),
        [{"path": "/"}],
    ),
    (
        "a slash in percent-encoding",
        request(b"GET /a%2Fb%2fc HTTP/1.1"),
        [{"path": "/a/b/c", "raw_path": b"/a%2Fb%2fc"}],
    ),
    (
        "what is not UTF-8",
        request(b"GET /%ff/%C3%28 HTTP/1.1"),
        [{"path": "/\ufffd/\ufffd(", "raw_path": b"/%ff/%C3%28"}],
    ),
    (
        "an overlong slash and dots, and half of a pair",
        request(b"GET /%c0%af/%c0%ae%c0%ae/%ed%a0%80 HTTP/1.1"),
        [{"path": "/\ufffd\ufffd/\ufffd\ufffd\ufffd\ufffd/\ufffd\ufffd\ufffd"}],
    ),
    (
        "percent signs that encode nothing",
        request(b"GET /%/%4/%zz/%u002f/%%2541 HTTP/1.1"),
        [{"path": "/%/%4/%zz/%u002f/%%41"}],
    ),
    (
        "two encodings, of which one is undone",
        request(b"GET /%252e%252e%252f HTTP/1.1"),
        [{"path": "/%2e%2e%2f"}],
    ),
    (
        "control characters in percent-encoding",
        request(b"GET /a%0d%0aSet-Cookie:x%09%7f HTTP/1.1"),
        [{"path": "/a\r\nSet-Cookie:x\t\x7f"}],
    ),
    ("NUL in a query", request(b"GET /?a=%00 HTTP/1.1"), [{"query_string": b"a=%00"}]),
    (
        "two slashes first",
        request(b"GET //evil.example/a HTTP/1.1"),
        [{"path": "//evil.example/a"}],
    ),
    ("slashes alone", request(b"GET /// HTTP/1.1"), [{"path": "///", "raw_path": b"///"}]),
    (
        "dot segments, which are left alone",
        request(b"GET /a/./../../b/.. HTTP/1.1"),
        [{"path": "/a/./../../b/..", "raw_path": b"/a/./../../b/.."}],
    ),
    ("a URL as a path", request(b"GET /http://a/b HTTP/1.1"), [{"path": "/http://a/b"}]),
    ("a backslash in a query", request(b"GET /?a\\b HTTP/1.1"), [{"query_string": b"a\\b"}]),
    ("an encoded backslash", request(b"GET /%5Ca HTTP/1.1"), [{"path": "/\\a"}]),
    (
        "an encoded hash",
        request(b"GET /%23a?%23 HTTP/1.1"),
        [{"path": "/#a", "query_string": b"%23"}],
    ),
    (
        "a question mark twice",
        request(b"GET /a?b?c HTTP/1.1"),
        [{"path": "/a", "query_string": b"b?c"}],
    ),
    # ------------------------------------------------ versions (RFC 9110 2.5)
    ("HTTP/1.2", request(b"GET / HTTP/1.2"), [{"http_version": "1.1"}]),
    ("HTTP/1.9", request(b"GET / HTTP/1.9"), [{"http_version": "1.1"}]),
    # ------------------------------------------------ Host (RFC 9110 7.2)
    ("Host with an empty port", request(b"GET / HTTP/1.1", host=b"Host: a:\r\n"), [{"path": "/"}]),
    ("Host with whitespace around", request(b"GET / HTTP/1.1", host=b"Host:\t a \t\r\n"), [{}]),
    (
        "Host by an IPv6 address that ends in an IPv4 one",
        request(b"GET / HTTP/1.1", host=b"Host: [::ffff:127.0.0.1]:65535\r\n"),
        [{}],
    ),
    ("Host named in Connection", request(b"GET / HTTP/1.1", b"Connection: Host"), [{"path": "/"}]),
    # ------------------------------------------------ framing (RFC 9112 6)
    (
        "a body after GET",
        request(b"GET / HTTP/1.1", b"Content-Length: 5", body=b"hello") + FOLLOWING,
        [{"method": "GET", "body": b"hello"}, {"path": "/next"}],
    ),
    (
        "a body after HEAD, DELETE and OPTIONS",
        request(b"HEAD / HTTP/1.1", b"Content-Length: 5", body=b"hello")
        + request(b"DELETE / HTTP/1.1", b"Content-Length: 2", body=b"ab")
        + request(b"OPTIONS * HTTP/1.1", b"Content-Length: 1", body=b"c"),
        [{"method": "HEAD", "body": b"hello"}, {"body": b"ab"}, {"path": "*", "body": b"c"}],
    ),
    (
        "a request in a body",
        post(b"Content-Length: %d" % len(FOLLOWING), body=FOLLOWING) + FOLLOWING,
        [{"path": "/", "body": FOLLOWING}, {"path": "/next", "body": b""}],
    ),
    (
        "a request behind a body of no length",
        post(b"Content-Length: 0") + FOLLOWING,
        [{"path": "/", "body": b""}, {"path": "/next"}],
    ),
    ("a request without a length", post() + FOLLOWING, [{"path": "/"}, {"path": "/next"}]),
    (
        "leading zeros of a length",
        post(b"Content-Length: 0005", body=b"hello") + FOLLOWING,
        [{"body": b"hello"}, {"path": "/next"}],
    ),
    (
        "the coding in another case",
        post(b"TRANSFER-ENCODING: ChunKed", body=b"5\r\nhello\r\n0\r\n\r\n") + FOLLOWING,
        [{"body": b"hello"}, {"path": "/next"}],
    ),
    (
        "whitespace around the coding",
        post(b"Transfer-Encoding:\t chunked \t", body=b"5\r\nhello\r\n0\r\n\r\n"),
        [{"body": b"hello"}],
    ),
    (
        "framing named in Connection",
        post(
            b"Connection: Transfer-Encoding, Content-Length",
            CHUNKED_LINE,
            body=b"5\r\nhello\r\n0\r\n\r\n",
        )
        + FOLLOWING,
        [{"body": b"hello"}, {"path": "/next"}],
    ),
    (
        "framing by other names",
        post(b"Content_Length: 5", b"X-Content-Length: 5", b"Transfer_Encoding: chunked")
        + FOLLOWING,
        [{"body": b""}, {"path": "/next"}],
    ),
    (
        "an empty line after a body",
        post(b"Content-Length: 2", body=b"ab") + b"\r\n" + FOLLOWING,
        [{"body": b"ab"}, {"path": "/next"}],
    ),
    (
        "extensions of chunks, quoted and with whitespace",
        post(CHUNKED_LINE, body=b'5 ; a="\\"\\\\;\t" ;b = c\r\nhello\r\n0;d;e=""\r\n\r\n'),
        [{"body": b"hello"}],
    ),
    (
        "sizes of chunks in any case and with zeros",
        post(CHUNKED_LINE, body=b"0A\r\n0123456789\r\n000b\r\n0123456789a\r\n000\r\n\r\n"),
        [{"body": b"01234567890123456789a"}],
    ),
    (
        "trailers, which are dropped whatever they say",
        post(CHUNKED_LINE, b"Trailer: X-Sum", body=b"5\r\nhello\r\n0\r\n%b\r\n" % TRAILERS)
        + FOLLOWING,
        [
            {
                "body": b"hello",
                "headers": [
                    [b"host", b"localhost"],
                    [b"transfer-encoding", b"chunked"],
                    [b"trailer", b"X-Sum"],
                ],
            },
            {"path": "/next"},
        ],
    ),
    (
        "a chunk that looks like the last one",
        post(CHUNKED_LINE, body=b"5\r\n0\r\n\r\n\r\n0\r\n\r\n") + FOLLOWING,
        [{"body": b"0\r\n\r\n"}, {"path": "/next"}],
    ),
    # ------------------------------------------------ other fields
    (
        "TE",
        request(b"GET / HTTP/1.1", b"TE: trailers, gzip;q=0.5", b"Connection: TE"),
        [{"path": "/"}],
    ),
    (
        "an upgrade to HTTP/2, which is ignored",
        request(
            b"GET / HTTP/1.1",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            b"Connection: Upgrade, HTTP2-Settings",
        )
        + FOLLOWING,
        [{"path": "/", "http_version": "1.1"}, {"path": "/next"}],
    ),
    (
        "an upgrade with a body",
        post(b"Upgrade: h2c", b"Connection: Upgrade", b"Content-Length: 5", body=b"hello")
        + FOLLOWING,
        [{"body": b"hello"}, {"path": "/next"}],
    ),
    (
        "an upgrade with a body in chunks",
        post(b"Upgrade: x", b"Connection: Upgrade", CHUNKED_LINE, body=b"1\r\na\r\n0\r\n\r\n")
        + FOLLOWING,
        [{"body": b"a"}, {"path": "/next"}],
    ),
    (
        "an upgrade in HTTP/1.0",
        request(b"GET / HTTP/1.0", b"Upgrade: websocket", b"Connection: Upgrade, keep-alive")
        + FOLLOWING,
        [{"http_version": "1.0"}, {"path": "/next"}],
    ),
    (
        "Expect in HTTP/1.0, which is ignored",
        request(b"POST / HTTP/1.0", b"Expect: a-miracle", b"Content-Length: 1", body=b"a"),
        [{"body": b"a"}],
    ),
    ("Expect without a body", request(b"GET / HTTP/1.1", b"Expect: 100-CONTINUE"), [{"body": b""}]),
    (
        "values of other characters",
        request(b"GET / HTTP/1.1", b"A: \xc3\xa4\x80\xff\t|", b"B:", b"C: \t "),
        [
            {
                "headers": [
                    [b"host", b"localhost"],
                    [b"a", b"\xc3\xa4\x80\xff\t|"],
                    [b"b", b""],
                    [b"c", b""],
                ]
            }
        ],
    ),
    (
        "names of every character that may be in one",
        request(b"GET / HTTP/1.1", b"!#$%&'*+.^_`|~09Az-: x"),
        [{"headers": [[b"host", b"localhost"], [b"!#$%&'*+.^_`|~09az-", b"x"]]}],
    ),
    (
        "Proxy-Connection, which says nothing",
        request(b"GET / HTTP/1.1", b"Proxy-Connection: close") + FOLLOWING,
        [{}, {"path": "/next"}],
    ),
    ("an empty line first", b"\r\n" + FOLLOWING, [{"path": "/next"}]),
]
IDS = [name for name, _, _ in CASES]


def echo(message: dict) -> list[dict]:
    """Answer with nothing but a status, so that HEAD is no exception."""
    return [{"status": 200, "headers": [], "content": b""}]


@pytest.fixture(scope="module")
def site():
    with Served({"http.request": echo, "http.disconnect": lambda _: None}) as served:
        yield served


def read(data: bytes, cuts: list[int]) -> list[tuple[RequestHead, bytes]]:
    """Return the requests in ``data``, cut into pieces, and their bodies, without any socket."""
    reader = HeadReader(HttpConfig(), Peer())
    found: list[tuple[RequestHead, bytes]] = []
    body = None
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        rest += data[start:end]
        while rest:
            if body is None:
                head = reader.read(rest)
                if head is None:
                    break
                rest = rest[reader.size :]
                found.append((head, b""))
                if not head.length:
                    continue
                body = ChunkedBody(1 << 30) if head.length == CHUNKED else LengthBody(head.length)
            found[-1] = (found[-1][0], found[-1][1] + body.feed(rest))
            rest = b""
            if body.complete:
                rest, body = body.rest, None
    assert (rest, body) == (b"", None), "something is left over"
    return found


@pytest.mark.parametrize(("name", "data", "expected"), CASES, ids=IDS)
def test_read(name, data, expected):
    """Whole, byte by byte or in two, the reader finds the same requests."""
    for cuts in [[], list(range(1, len(data))), *[[cut] for cut in range(1, len(data))]]:
        found = read(data, cuts)
        assert len(found) == len(expected)
        for (head, body), keys in zip(found, expected, strict=True):
            for key, value in keys.items():
                if key == "headers":
                    assert [list(header) for header in head.headers] == value
                else:
                    assert (body if key == "body" else getattr(head, key)) == value, key


@pytest.mark.parametrize(("name", "data", "expected"), CASES, ids=IDS)
def test_served(site, name, data, expected):
    """The application gets just these requests, and the client as many answers."""
    before = len(site.messages("http.request"))
    methods = [head.method for head, _ in read(data, [])]
    with site.connect() as client:
        assert [r.status for r in client.send(data).responses(*methods)] == [200] * len(expected)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
    messages = site.messages("http.request")[before:]
    assert len(messages) == len(expected)
    for message, keys in zip(messages, expected, strict=True):
        assert {key: message[key] for key in keys} == keys


def test_methods(site):
    """Every method that is said to be served is, as it is written; TRACE and CONNECT are not."""
    before = len(site.messages("http.request"))
    with site.connect() as client:
        for method in sorted(METHODS):
            client.send(request(method + b" / HTTP/1.1"))
            assert client.response(method.decode()).status == 200
    assert [m["method"].encode() for m in site.messages("http.request")[before:]] == sorted(METHODS)
    assert not METHODS & {b"TRACE", b"CONNECT", b"PRI"}


def test_a_target_behind_tls():
    """Over TLS an absolute target is an https one (RFC 9110 7.4)."""
    reader = HeadReader(HttpConfig(), Peer(tls=True))
    head = reader.read(request(b"GET https://localhost:443/a HTTP/1.1"))
    assert head is not None
    assert (head.path, head.scheme) == ("/a", "https")
    with pytest.raises(Refused, match="target-scheme"):
        reader.read(request(b"GET http://localhost/a HTTP/1.1"))


@pytest.mark.parametrize(
    ("one", "other", "scheme", "same"),
    [
        (b"a", b"A", "http", True),
        (b"a", b"a:80", "http", True),
        (b"a:", b"a:80", "http", True),
        (b"a:443", b"a", "https", True),
        (b"a:443", b"a", "http", False),
        (b"a:8080", b"a", "http", False),
        (b"a:80", b"a:8080", "http", False),
        (b"[::1]:80", b"[::1]", "http", True),
        (b"a", b"a.", "http", False),
        (b"a80", b"a", "http", False),
    ],
)
def test_same_authority(one, other, scheme, same):
    """Case and default port make no difference (RFC 9110 4.2.3), anything else does."""
    assert authority.same(one, other, scheme) is same
    assert authority.same(other, one, scheme) is same


def test_a_connection_may_not_be_reused_where_the_client_says_so(site):
    """What follows ``Connection: close`` is not read (RFC 9112 9.6)."""
    before = len(site.messages("http.request"))
    with site.connect() as client:
        client.send(get("/a", "Connection: close") + get("/b"))
        assert client.response().header(b"connection") == b"close"
        assert client.rest() == b""
    assert [m["path"] for m in site.messages("http.request")[before:]] == ["/a"]


def test_a_hundred_requests_byte_by_byte(site):
    """However slowly they come, pipelined requests are answered in order."""
    before = len(site.messages("http.request"))
    paths = [f"/{number}" for number in range(100)]
    data = b"".join(
        post(b"Content-Length: 1", body=b"x").replace(b" / ", f" {path} ".encode())
        for path in paths
    )
    with site.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 1):
            client.send(data[start : start + 1])
        assert {r.status for r in client.responses(*["POST"] * 100)} == {200}
    found = site.messages("http.request")[before:]
    assert [message["path"] for message in found] == paths


def test_a_client_that_sends_on_reads_its_last_answer():
    """What it sends behind the last response is read past, so that nothing resets the connection."""
    config = HttpConfig(max_requests=1)
    with Served({"http.request": echo}, config=config) as site, site.connect() as client:
        client.send(get("/a"))
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        wait_until(lambda: protocol._closing)
        for _ in range(10):
            client.send(get("/b") * 1000)
        assert client.response().header(b"connection") == b"close"
        assert client.rest() == b""
        assert [message["path"] for message in site.messages("http.request")] == ["/a"]


def test_what_comes_behind_a_close_is_not_read():
    """Over TLS a closed connection still brings what was under way: it is no request."""
    driven = Driven(seen)
    driven.feed([get("/a", "Connection: close"), get("/b"), b"\0"])
    assert [message["path"] for message in driven.requests] == ["/a"]
    assert driven.transport.written.count(b"HTTP/1.1") == 1
    driven.close()


def test_a_refused_head_request_has_no_content(site):
    """Where HEAD was read and its body is malformed, the refusal has no content either."""
    with site.connect() as client:
        client.send(request(b"HEAD / HTTP/1.1", CHUNKED_LINE, body=b"zz\r\n"))
        response = client.response("HEAD")
        assert (response.status, response.content) == (400, b"")
        assert int(response.header(b"content-length")) > 0
        assert client.rest() == b""


# ---------------------------------------------------------------- half-close


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHo",
        post(b"Content-Length: 5", body=b"he"),
        post(CHUNKED_LINE, body=b"5\r\nhe"),
        post(CHUNKED_LINE, body=b"5\r\nhello\r\n0\r\nTr"),
    ],
    ids=["idle", "request line", "header", "body", "chunk", "trailer"],
)
def test_a_half_close_in_the_middle_of_a_request(site, sent):
    """Without the rest there is nothing to answer: the connection ends, nobody hears of it."""
    before = len(site.seen)
    with site.connect() as client:
        client.send(sent)
        wait_until(lambda: site.connections)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
    wait_until(lambda: not site.connections)
    assert site.seen[before:] == []


@pytest.mark.parametrize("count", [1, 5])
def test_a_half_close_behind_complete_requests(site, count):
    """A client may close its sending side and read: all that is complete is answered."""
    before = len(site.seen)
    with site.connect() as client:
        client.send(post(b"Content-Length: 2", body=b"ab") * count)
        client.sock.shutdown(socket.SHUT_WR)
        assert [r.status for r in client.responses(*["POST"] * count)] == [200] * count
        assert client.rest() == b""
    wait_until(lambda: not site.connections)
    assert [channel for channel, _ in site.seen[before:]] == ["http.request"] * count


def test_a_half_close_behind_what_is_not_complete(site):
    """What follows is not answered, and does not keep the connection."""
    with site.connect() as client:
        client.send(get("/a") + b"GET /b HTTP/1.1\r\nHo")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.response().status == 200
        assert client.rest() == b""
    wait_until(lambda: not site.connections)


def test_a_half_close_before_a_late_answer():
    """An answer that does not begin within a second has nobody: the application hears so."""
    consumers = {"http.request": lambda _: [], "http.disconnect": lambda _: None}
    with Served(consumers) as site, site.connect() as client:
        client.send(get("/a"))
        (message,) = wait_until(lambda: site.messages("http.request"))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
        assert wait_until(lambda: site.messages("http.disconnect"))[0]["path"] == "/a"
        site.layer.send(message["reply_channel"], {"text": "late"})
        wait_until(lambda: site.drops.get("gone"))


def test_a_half_close_before_a_long_answer():
    """An answer that has begun in time may take its time; one that had begun before is over."""
    go = threading.Event()

    def answer(message: dict) -> list[dict]:
        first = {"status": 200, "content": b"a", "more_content": True}
        site.layer.send(message["reply_channel"], first)
        assert go.wait(10)
        return [{"offset": 1, "content": b"b"}]

    consumers = {"http.request": answer, "http.disconnect": lambda _: None}
    with Served(consumers) as site:
        with site.connect() as client:
            client.send(get("/a", version="1.0"))
            client.sock.shutdown(socket.SHUT_WR)
            (protocol,) = wait_until(lambda: [p for p in site.plugin._port.connections if p.begun])
            assert protocol._ended
            site.call(protocol._due)  # the second is over
            go.set()
            assert client.rest().endswith(b"\r\n\r\nab")
        go.clear()
        with site.connect() as client:
            client.send(get("/b"))
            wait_until(lambda: [p for p in site.plugin._port.connections if p.begun])
            client.sock.shutdown(socket.SHUT_WR)
            wait_until(lambda: not site.connections)
            go.set()
            assert wait_until(lambda: site.messages("http.disconnect"))[0]["path"] == "/b"
            assert b"b\r\n0\r\n" not in client.rest()


def test_a_half_close_behind_a_claimed_request():
    """A claim hears it too; where it answers at once, the client reads the answer."""
    gone: list[str] = []

    def open_(exchange: Exchange) -> None:
        exchange.on_gone(lambda: gone.append(exchange.head.path))
        if exchange.head.path == "/now":
            exchange.respond(200)
            exchange.write(b"now")
            exchange.end()

    claims = [Claim(lambda head: True, open_)]
    with Served({}, claims=claims) as site:
        with site.connect() as client:
            client.send(get("/now"))
            client.sock.shutdown(socket.SHUT_WR)
            assert client.response().content == b"now"
            assert client.rest() == b""
        with site.connect() as client:
            client.send(get("/later"))
            client.sock.shutdown(socket.SHUT_WR)
            assert client.rest() == b""
        wait_until(lambda: gone == ["/later"])


# ---------------------------------------------------------------- smuggling

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = [
    ("CL.TE", post(b"Content-Length: 6", CHUNKED_LINE, body=b"0\r\n\r\nG")),
    ("TE.CL", post(CHUNKED_LINE, b"Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n")),
    ("TE.TE: a misspelt one", post(CHUNKED_LINE, b"Transfer-Encoding: xchunked")),
    ("TE.TE: a space before the colon", post(b"Transfer-Encoding : chunked", CHUNKED_LINE)),
    ("TE.TE: a tab before the value", post(b"Transfer-Encoding:\tchunked", b"Content-Length: 0")),
    ("TE.TE: CR before the name", post(b"A: b\rTransfer-Encoding: chunked", b"Content-Length: 0")),
    ("TE.TE: LF before the name", post(b"A: b\nTransfer-Encoding: chunked", b"Content-Length: 0")),
    ("TE.TE: folded", post(b"Transfer-Encoding:\r\n chunked", b"Content-Length: 0")),
    ("TE.TE: vertical tab", post(b"Transfer-Encoding:\x0bchunked", b"Content-Length: 0")),
    ("TE.TE: quoted", post(b'Transfer-Encoding: "chunked"', b"Content-Length: 0")),
    ("TE.TE: identity", post(b"Transfer-Encoding: identity", b"Content-Length: 0")),
    ("TE.TE: with NUL", post(b"Transfer-Encoding: chunked\0", b"Content-Length: 0")),
    ("TE.0: HTTP/1.0", request(b"POST / HTTP/1.0", CHUNKED_LINE, b"Connection: keep-alive")),
    ("CL.CL", post(b"Content-Length: 0", b"Content-Length: %d" % len(HIDDEN))),
    ("CL.CL in one line", post(b"Content-Length: 0, %d" % len(HIDDEN))),
    ("CL with a plus", post(b"Content-Length: +%d" % len(HIDDEN))),
    ("a chunk that ends late", post(CHUNKED_LINE, body=b"1\r\nZ\r\nQ\r\n\r\n")),
    ("a chunk size behind LF", post(CHUNKED_LINE, body=b"2\r\nxx\n0\r\n\r\n")),
    ("an extension behind LF", post(CHUNKED_LINE, body=b"2;\nxx\r\n0\r\n\r\n")),
    ("a size that overflows", post(CHUNKED_LINE, body=b"10000000000000000\r\n")),
]


@pytest.mark.parametrize(("name", "data"), SMUGGLED, ids=[name for name, _ in SMUGGLED])
def test_a_smuggled_request_is_never_served(site, name, data):
    """Where a message's end can be read in two ways, nothing behind it is read at all."""
    before = len(site.seen)
    with site.connect() as client:
        response = client.send(data + HIDDEN).response("POST")
        assert response.status in {400, 501}
        assert response.header(b"connection") == b"close"
        assert client.rest() == b""
    wait_until(lambda: not site.connections)
    assert site.seen[before:] == []
