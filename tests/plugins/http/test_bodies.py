"""Bodies that stream, both ways, over sockets.

What is the same over HTTP/1.1 and HTTP/2 is one test for both.
"""

from __future__ import annotations

import threading

import pytest

from gateway.core.layers.base import FAILED, OK, Layer, Outcome
from gateway.plugins.http.config import HttpConfig
from tests.plugins.http.serving import Served, get, wait_until

MIB = 1024 * 1024


def read_body(layer: Layer, message: dict, seconds: float = 5.0) -> bytearray:
    """Return the whole body of a request; ConnectionError if it is cut off."""
    body = bytearray(message["body"])
    while message["body_channel"] is not None:
        _, piece = layer.receive([message["body_channel"]], block=seconds)
        if piece is None or piece.get("closed"):
            raise ConnectionError("cut off")
        assert piece["offset"] == len(body)
        body += piece["content"]
        if not piece["more_content"]:
            break
    return body


class Site(Served):
    """A site whose consumer does what the path says."""

    def __init__(self, **kwargs) -> None:
        self.errors: list[Exception] = []
        self.begun: list[str] = []
        self.go = threading.Event()
        consumers = {"http.request": self.consume, "http.disconnect": lambda _: None}
        super().__init__(consumers, **kwargs)

    def consume(self, message: dict):
        path = message["path"]
        reply = message["reply_channel"]
        self.begun.append(path)
        if path == "/sum":
            try:
                body = read_body(self.layer, message)
            except ConnectionError as error:
                self.errors.append(error)
                raise
            return [{"text": f"{len(body)} {sum(body)}"}]
        if path == "/early":
            return [{"status": 413, "content": b"too much"}]
        if path == "/wait":
            assert self.go.wait(10)
            return [{"text": f"{len(read_body(self.layer, message))}"}]
        if path == "/stream":
            self.layer.send(reply, {"status": 200, "content": b"a" * 10, "more_content": True})
            assert self.go.wait(10)
            return [{"offset": 10, "content": b"b" * 10}]
        if path == "/gap":
            first = {"status": 200, "content": b"a" * 10, "more_content": True}
            return [first, {"offset": 11, "content": b"b"}]
        if path == "/fail":
            self.layer.send(reply, {"status": 200, "content": b"a" * 10, "more_content": True})
            return Outcome(FAILED)
        if path == "/pace":
            return self.pace(reply)
        raise AssertionError(path)

    def pace(self, reply: str):
        """Stream 64 pieces, each after the previous one's ack; stop when the client left."""
        acks = self.layer.new_channel("test.ack?")
        piece = b"x" * 256 * 1024
        for number in range(64):
            message = {"content": piece, "more_content": number < 63}
            message |= {"offset": number * len(piece)} if number else {"status": 200}
            self.layer.send(reply, {**message, "ack": number, "ack_channel": acks})
            _, ack = self.layer.receive([acks], block=10)
            assert ack["ack"] == number
            if ack["outcome"] != "accepted":
                self.errors.append(ConnectionError(ack["reason"]))
                return OK
        return OK


@pytest.fixture(scope="module")
def site():
    with Site() as served:
        yield served


def post(path: str, length: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def stalled(site: Served) -> None:
    """Wait until a response waits for the client to take it."""
    wait_until(
        lambda: any(not found.owner.ready for found in list(site.engine.by_channel.values()))
    )


@pytest.mark.parametrize("length", [65536, 65537, 3 * MIB + 7])
def test_large_bodies_stream(site, talk, length):
    """A body over 64 KiB arrives in pieces, whole and in order; the connection stays."""
    body = bytes(range(256)) * (length // 256 + 1)
    body = body[:length]
    with talk(site) as client:
        for _ in range(2):
            assert client.ask("/sum", body).content == f"{length} {sum(body)}".encode()


def test_large_chunked_bodies_stream(site):
    """So does one whose length is not known before."""
    body = b"0123456789abcdef" * 20_000
    pieces = [body[n : n + 7001] for n in range(0, len(body), 7001)]
    chunks = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = b"POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with site.connect() as client:
        client.send(head + chunks + b"0\r\n\r\n" + post("/sum", 1) + b"\1")
        one, two = client.responses("POST", "POST")
    assert one.content == f"{len(body)} {sum(body)}".encode()
    assert two.content == b"1 1"


def test_expect_100_continue(site, talk):
    """The client that waits is told to go on, then answered."""
    with talk(site) as client:
        number = client.send("/sum", b"", ("Expect", "100-continue"), length=5)
        assert client.continued(number)
        client.more(number, b"\1\1\1\1\1")
        assert client.answer(number).content == b"5 5"


def test_a_body_is_read_no_faster_than_it_is_consumed(talk):
    """With four pieces on their way the client's own sending stalls."""
    with Site() as site, talk(site) as client:
        length = 32 * MIB
        number = client.send("/wait", b"", length=length)
        sent = client.stalls(number, length)
        assert sent < 16 * MIB
        site.go.set()
        client.more(number, b"x" * (length - sent))
        assert client.answer(number).content == str(length).encode()


def test_an_answer_before_the_body_reaches_the_client(site):
    """Who answers without reading the body is heard, although the client still sends."""
    with site.connect() as client:
        client.send(post("/early", 8 * MIB) + b"x" * 200_000)
        response = client.response()
        assert (response.status, response.content) == (413, b"too much")
        assert response.header(b"connection") == b"close"
        assert client.rest() == b""
    wait_until(lambda: not site.connections)


def test_a_body_that_is_cut_off(site, talk):
    """The reader of the body hears that the rest will not come."""
    errors, begun = len(site.errors), len(site.begun)
    client = talk(site)
    client.send("/sum", b"x" * 0x20000, length=MIB)
    wait_until(lambda: len(site.begun) > begun)
    client.leave()
    wait_until(lambda: len(site.errors) > errors)


def test_chunks_that_are_broken(site):
    """The client that breaks the rules in its body is answered, its reader hears of the end."""
    errors, begun = len(site.errors), len(site.begun)
    with site.connect() as client:
        client.send(b"POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
        wait_until(lambda: len(site.begun) > begun)  # a request that nobody has is withdrawn
        client.send(b"zz\r\n")
        assert client.response().status == 400
        wait_until(lambda: len(site.errors) > errors)


# ---------------------------------------------------------------- responses


def test_a_streamed_response(site):
    """The first piece arrives before the last is made."""
    site.go.clear()
    with site.connect() as client:
        client.send(get("/stream"))
        data = b""
        while not data.endswith(b"a" * 10 + b"\r\n"):
            data += client.take(1)
        assert b"\r\ntransfer-encoding: chunked\r\n" in data
        site.go.set()
        assert client.take(20) == b"a\r\n" + b"b" * 10 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("path", ["/gap", "/fail"])
def test_a_response_that_cannot_be_completed(site, talk, path):
    """A lost piece or a failed consumer ends the response, which is seen to be incomplete."""
    with talk(site) as client:
        assert client.cut(client.send(path)) == b"a" * 10


def test_a_worker_streams_at_the_clients_pace(talk):
    """An ack comes once the client's socket took the piece: a stalled client stalls the worker."""
    with Site() as site, talk(site) as client:
        number = client.send("/pace")
        stalled(site)
        assert site.engine.acks < 64
        assert len(client.answer(number).content) == 64 * 256 * 1024


def test_a_streaming_worker_hears_at_once_that_the_client_left(talk):
    """The next ack says so, and ``http.disconnect`` follows."""
    with Site() as site:
        client = talk(site)
        client.send("/pace")
        stalled(site)
        client.leave()
        wait_until(lambda: site.errors)
        wait_until(lambda: site.messages("http.disconnect"))


def test_body_timeout_while_a_consumer_reads(talk):
    """A client that stalls in its body gets 408, its reader hears ``closed``."""
    with Site(config=HttpConfig(body_timeout=0.2)) as site, talk(site) as client:
        number = client.send("/sum", b"x" * 100_000, length=MIB)
        assert client.answer(number).status == 408
        wait_until(lambda: site.errors)
