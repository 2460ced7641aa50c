"""Claims: other plugins answer requests of the http port, or hand them on.

What is the same over HTTP/1.1 and HTTP/2 is one test for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.core.errors import LocalProtocolError
from gateway.core.web import Claim, Exchange, Head
from gateway.plugins.http.config import HttpConfig
from tests.plugins.http.serving import Served, get, hello, wait_until


def matches(path: str) -> Callable[[Head], bool]:
    """Return a match for one path."""
    return lambda head: head.path == path


class Claims:
    """A plugin's claims, one for each path, and what happened to them."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.gone = 0
        self.writable: list[bool] = []
        self.errors: list[Exception] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def list(self) -> list[Claim]:
        paths = ["whole", "stream", "hold", "echo", "decline", "late", "upgrade", "wrong", "raise"]
        paths += ["empty", "abort", "read"]
        return [Claim(matches(f"/{path}"), getattr(self, path)) for path in paths]

    def spawn(self, coro) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(coro))

    def whole(self, exchange: Exchange) -> None:
        exchange.respond(403, [(b"content-type", b"text/plain")])
        exchange.write(b"no ")
        exchange.write(exchange.head.header(b"host") or b"")
        exchange.end()
        exchange.write(b"ignored")

    def empty(self, exchange: Exchange) -> None:
        exchange.respond(204)
        exchange.end()

    def stream(self, exchange: Exchange) -> None:
        async def run() -> None:
            exchange.respond(200, [(b"content-type", b"text/event-stream")])
            for number in range(3):
                await asyncio.sleep(0.01)
                exchange.write(b"data: %d\n\n" % number)
            exchange.end()

        self.spawn(run())

    def hold(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        exchange.on_gone(self.left)
        exchange.on_writable(self.writable.append)

    def left(self) -> None:
        self.gone += 1

    def echo(self, exchange: Exchange) -> None:
        async def run() -> None:
            body = b""
            try:
                async for piece in exchange.body():
                    body += piece
            except ConnectionError as error:
                self.errors.append(error)
                return
            exchange.respond(200)
            exchange.write(b"%d" % len(body))
            exchange.end()

        self.spawn(run())

    def read(self, exchange: Exchange) -> None:
        async def run() -> None:
            async for _ in exchange.body():
                break
            for verb in (exchange.decline, lambda: exchange.upgrade(b"echo")):
                try:
                    verb()
                except RuntimeError as error:
                    self.errors.append(error)
            exchange.respond(200)
            exchange.end()

        self.spawn(run())

    def decline(self, exchange: Exchange) -> None:
        exchange.decline()
        exchange.decline()  # of no effect

    def late(self, exchange: Exchange) -> None:
        asyncio.get_running_loop().call_later(0.05, exchange.decline)

    def upgrade(self, exchange: Exchange) -> None:
        try:
            transport, rest = exchange.upgrade(b"echo", [(b"x-said", b"yes")])
        except RuntimeError as error:
            self.errors.append(error)
            exchange.respond(400)
            exchange.end()
            return
        transport.set_protocol(Echo(transport))
        transport.write(rest)

    def wrong(self, exchange: Exchange) -> None:
        for status, headers in [(101, []), (200, [(b"a", b"b\r\nc: d")])]:
            try:
                exchange.respond(status, headers)
            except LocalProtocolError as error:
                self.errors.append(error)
        exchange.respond(200)
        for verb in (
            exchange.decline,
            lambda: exchange.upgrade(b"echo"),
            lambda: exchange.respond(200),
        ):
            try:
                verb()
            except RuntimeError as error:
                self.errors.append(error)
        exchange.end()

    def abort(self, exchange: Exchange) -> None:
        exchange.respond(200)
        exchange.write(b"half")
        asyncio.get_running_loop().call_later(0.05, exchange.abort)

    def raise_(self, exchange: Exchange) -> None:
        raise ValueError("a plugin's fault")


setattr(Claims, "raise", Claims.raise_)


class Echo(asyncio.Protocol):
    """What a claim puts in http's place."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


@pytest.fixture
def claims():
    return Claims()


@pytest.fixture
def site(claims):
    consumers = {"http.request": hello, "http.disconnect": lambda _: None}
    with Served(consumers, claims=claims.list()) as served:
        yield served


def test_what_nobody_claims_is_a_request(site, talk):
    """A request that no claim matches goes to the application."""
    with talk(site) as client:
        assert client.ask("/other").content == b"hello /other"


def test_a_whole_answer(site, talk):
    """What a claim says at once leaves as one response with a length; the connection stays."""
    with talk(site) as client:
        for _ in range(2):
            response = client.ask("/whole")
            assert (response.status, response.content) == (403, b"no localhost")
            assert response.header(b"content-length") == b"12"
        assert client.ask("/empty").status == 204
        assert client.ask("/other").content == b"hello /other"
    assert len(site.seen) == 1


def test_a_streamed_answer(site, talk):
    """What a claim says bit by bit is one response whose length nobody knows before."""
    with talk(site) as client:
        response = client.ask("/stream")
        assert response.content == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert response.header(b"content-length") is None
        chunked = b"chunked" if client.version == "1.1" else None
        assert response.header(b"transfer-encoding") == chunked
        assert client.ask("/other").content == b"hello /other"


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_a_claim_reads_the_body(site, talk, size):
    """The body comes as it arrives, however large, 100 first where the client waits for it."""
    with talk(site) as client:
        if size:
            number = client.send("/echo", b"", ("Expect", "100-continue"), length=size)
            assert client.continued(number)
            client.more(number, b"x" * size)
        else:
            number = client.send("/echo", b"")
        assert client.answer(number).content == str(size).encode()
        assert client.ask("/other").content == b"hello /other"


def test_a_body_that_nobody_reads_stalls_the_client(site, talk):
    """A claim that does not read is not flooded: the client can send no more."""
    with talk(site) as client:
        number = client.send("/hold", b"", length=100_000_000)
        assert client.stalls(number, 16 * 1024 * 1024) < 16 * 1024 * 1024


def test_a_body_that_is_cut_off(site, talk, claims):
    """Whoever reads the body of a client that left gets ConnectionError."""
    client = talk(site)
    client.send("/echo", b"x" * 50, length=100)
    client.leave()
    (error,) = wait_until(lambda: claims.errors)
    assert isinstance(error, ConnectionError)


def test_a_body_that_is_refused_before_it_is_read(site, claims):
    """Whoever begins to read it too late gets ConnectionError, and the client no 100."""
    with site.connect() as client:
        head = b"POST /hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        client.send(head + b"Expect: 100-continue\r\n\r\nzz\r\n")
        (exchange,) = wait_until(lambda: claims.exchanges)
        response = client.response()
        assert (response.status, response.informational) == (400, [])
        reading = asyncio.run_coroutine_threadsafe(anext(exchange.body()), site.loop)
        with pytest.raises(ConnectionError):
            reading.result(5)
        assert client.rest() == b""


def test_a_claim_hears_that_the_client_left(site, talk, claims):
    """``on_gone`` calls back once; what is written afterwards is ignored."""
    client = talk(site)
    client.send("/hold")
    (exchange,) = wait_until(lambda: claims.exchanges)
    client.leave()
    wait_until(lambda: claims.gone)
    for verb, *args in [(exchange.respond, 200), (exchange.write, b"x"), (exchange.end,)]:
        site.call(verb, *args)
    site.call(exchange.abort)
    site.call(exchange.decline)
    site.call(exchange.on_gone, claims.left)
    assert claims.gone == 2
    assert site.seen == []


def test_a_claim_hears_when_the_client_stops_reading(site, talk, claims):
    """``on_writable`` and ``paused`` follow the client's pace."""
    with talk(site) as client:
        number = client.send("/hold")
        (exchange,) = wait_until(lambda: claims.exchanges)
        size = 16 * 1024 * 1024

        def begin() -> None:
            exchange.respond(200, [(b"content-length", str(size).encode())])
            exchange.write(b"x" * size)
            exchange.on_writable(lambda yes: yes and exchange.end())

        site.call(begin)
        wait_until(lambda: claims.writable == [False])
        assert exchange.paused
        assert len(client.answer(number).content) == size
        wait_until(lambda: claims.writable == [False, True])
        assert not exchange.paused
        assert client.ask("/other").content == b"hello /other"


@pytest.mark.parametrize("path", ["/decline", "/late"])
@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_declined_request_goes_on(site, talk, path, size):
    """At once or later, what a claim declines is an ``http.request``, with its whole body."""
    with talk(site) as client:
        assert client.ask(path, b"x" * size).content == b"hello " + path.encode()
    (message,) = site.messages("http.request")
    assert message["http_version"] == client.version
    assert message["body"] == b"x" * min(size, 65536)
    assert (message["body_channel"] is not None) is (size > 65536)


def test_the_next_claim_is_asked(talk):
    """Claims are asked by priority, highest first, and after a decline the next."""
    asked = []

    def claim(name: str, priority: int, *, answers: bool) -> Claim:
        def answer(exchange: Exchange) -> None:
            asked.append(name)
            if answers:
                exchange.respond(200)
                exchange.end()
            else:
                exchange.decline()

        return Claim(lambda head: True, answer, priority)

    claims = [
        claim("last", -10, answers=True),
        claim("first", 5, answers=False),
        claim("second", 0, answers=False),
    ]
    with Served({"http.request": hello}, claims=claims) as site, talk(site) as client:
        assert client.ask("/").status == 200
        assert asked == ["first", "second", "last"]
        assert site.seen == []


def test_upgrade(site):
    """A claim takes the connection over, with the bytes that came after the head."""
    with site.connect() as client:
        client.send(get("/upgrade", "Connection: Upgrade", "Upgrade: echo") + b"early")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.take(1)
        status, *lines = head.lower().split(b"\r\n")[:-2]
        assert status == b"http/1.1 101 switching protocols"
        assert {line.partition(b":")[0] for line in lines if line} == {
            *(b"upgrade", b"connection", b"x-said", b"date", b"server"),
        }
        assert b"upgrade: echo" in lines
        assert client.take(5) == b"early"
        assert client.send(b"and on").take(6) == b"AND ON"
        wait_until(lambda: not site.connections)


def test_what_cannot_be_upgraded(site, talk, claims):
    """A request with a body, or of HTTP/1.0, or an ordinary one of HTTP/2, keeps its protocol."""
    with talk(site) as client:
        assert client.ask("/upgrade", b"body").status == 400
    with site.connect() as client:
        assert client.send(b"GET /upgrade HTTP/1.0\r\n\r\n").response().status == 400
    assert [type(error) for error in claims.errors] == [RuntimeError] * 2


def test_verbs_at_the_wrong_time(site, talk, claims):
    """A status or header that cannot be sent, and verbs after ``respond``, raise."""
    with talk(site) as client:
        response = client.ask("/wrong")
    assert (response.status, response.content) == (200, b"")
    kinds = [type(error) for error in claims.errors]
    assert kinds == [LocalProtocolError] * 2 + [RuntimeError] * 3


def test_a_body_that_was_begun_is_the_claims(site, talk, claims):
    """After reading of the body neither decline nor upgrade is possible."""
    with talk(site) as client:
        assert client.ask("/read", b"body").status == 200
    assert [type(error) for error in claims.errors] == [RuntimeError] * 2


def test_abort(site, talk):
    """An aborted response is seen to be incomplete."""
    with talk(site) as client:
        assert client.cut(client.send("/abort")) == b"half"


def test_a_claim_that_raises(site, talk, caplog):
    """It costs that request 500, and nobody else anything."""
    with talk(site) as client:
        assert client.ask("/raise").status == 500
        if client.version == "2":
            assert client.ask("/other").content == b"hello /other"
        else:
            assert client.client.rest() == b""
    with talk(site) as client:
        assert client.ask("/other").content == b"hello /other"
    assert "a plugin's fault" in caplog.text


def test_body_timeout_of_a_claim(talk, claims):
    """A client that stalls in its body gets 408; the claim hears that it left."""
    config = HttpConfig(body_timeout=0.1)
    with Served({}, config=config, claims=claims.list()) as site, talk(site) as client:
        number = client.send("/echo", b"x" * 50, length=100)
        assert client.answer(number).status == 408
        wait_until(lambda: claims.errors)


def test_stop_lets_a_claim_finish(site, talk, claims):
    """An exchange in flight at shutdown is answered, then its connection ends."""
    with talk(site) as client:
        number = client.send("/hold")
        (exchange,) = wait_until(lambda: claims.exchanges)
        stopping = site.stop()
        wait_until(lambda: site.plugin._port.draining)
        site.call(exchange.respond, 200)
        site.call(exchange.end)
        response = client.answer(number)
        assert response.status == 200
        if client.version == "2":
            assert client.client.end() == 0
        else:
            assert response.header(b"connection") == b"close"
            assert client.client.rest() == b""
        stopping.result(5)
