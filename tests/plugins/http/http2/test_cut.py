"""Any cutting of any bytes: the same messages and responses, and never a fault of our own."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.web import Claim, Exchange
from gateway.plugins.http.port import PREFACE
from tests.plugins.http.http2 import cases
from tests.plugins.http.http2.memory import Heard, Room, Transport, is_http2
from tests.plugins.http.http2.wire import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PROTOCOL_ERROR,
    data,
    frame,
    goaway,
    headers,
    ping,
    priority,
    request,
    reset,
    window,
)
from tests.plugins.http.http2.wire import settings as set_to

HELLO = PREFACE + set_to()
WIDE = PREFACE + set_to((4, 1 << 24)) + window(0, 1 << 24)

FIELDS = st.lists(
    st.tuples(st.sampled_from([b"x-a", b"accept", b"cookie", b"x-long"]), st.binary(max_size=3)),
    max_size=4,
).map(lambda found: [(name, value.hex().encode()) for name, value in found])
BODY = st.lists(st.binary(max_size=40), min_size=1, max_size=4) | st.just([b"x" * 16384] * 5)


class Ask:
    """One request: what it says, and how its frames are made."""

    def __init__(
        self,
        path: str,
        fields: Any,
        body: list[bytes] | None,
        blocks: int,
        padding: int,
        *,
        trailers: bool,
    ) -> None:
        self.path = path
        self.fields = fields
        self.body = body
        self.blocks = blocks
        self.padding = padding
        self.trailers = trailers

    def parts(self) -> int:
        """Return of how many pieces it consists that others may come between."""
        return 1 + (0 if self.body is None else len(self.body) + self.trailers)

    def part(self, number: int, stream: int, encoder: Encoder) -> bytes:
        """Return a piece."""
        if not number:
            method = b"GET" if self.body is None else b"POST"
            block = encoder.encode(request(self.path, *self.fields, method=method))
            flags = [0] * (self.blocks - 1) + [END_HEADERS]
            end = END_STREAM if self.body is None else 0
            return cases.split(block, *flags, stream=stream, first=end)
        assert self.body is not None
        last = number == self.parts() - 1
        if number > len(self.body):
            block = encoder.encode([(b"x-sum", b"1")])
            return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
        content = self.body[number - 1]
        flags = END_STREAM if last else 0
        if self.padding and len(content) < 16000:
            content = bytes((self.padding,)) + content + bytes(self.padding)
            flags |= PADDED
        return frame(DATA, flags, stream, content)


ASKS = st.lists(
    st.builds(
        Ask,
        st.sampled_from(["/", "/a?b", "/silence", "/%20"]),
        FIELDS,
        st.none() | BODY,
        st.integers(1, 4),
        st.sampled_from([0, 0, 3]),
        trailers=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
NOISE = st.sampled_from(
    [b"", b"", b"", ping(), priority(9, 1), frame(0x77, 1, 3, b"x"), window(0, 9), set_to((9, 1))]
)


@st.composite
def conversations(draw) -> bytes:
    """Return the bytes of requests whose frames come between each other's."""
    asks = draw(ASKS)
    left = {2 * place + 1: (ask, 0) for place, ask in enumerate(asks)}
    encoder = Encoder()
    encoder.huffman = draw(st.booleans())
    sent = WIDE
    begun = 0
    while left:
        # Streams are opened in order.
        ready = [
            stream for stream, (_, number) in left.items() if number or stream == begun * 2 + 1
        ]
        stream = draw(st.sampled_from(ready))
        ask, number = left[stream]
        begun += not number
        sent += ask.part(number, stream, encoder) + draw(NOISE)
        if number + 1 < ask.parts():
            left[stream] = (ask, number + 1)
        else:
            del left[stream]
    return sent


def shown(room: Room) -> list[Any]:
    """Return the messages, less what differs from one connection to another."""
    return [
        (channel.partition("?")[0], {k: v for k, v in message.items() if "channel" not in k})
        for channel, message in room.messages
    ]


def run(pieces: list[bytes]) -> tuple[list[Any], dict[int, Any], list[int]]:
    room = Room()
    transport = room.connect()
    for piece in pieces:
        room.feed(transport, piece)
    heard = Heard(transport.written)
    return shown(room), heard.responses(), [found.code for found in heard.goaway]


@settings(max_examples=60, deadline=None)
@given(sent=conversations(), cuts=st.lists(st.integers(1, 3000), max_size=8))
def test_any_cutting_gives_the_same(sent, cuts):
    """However the bytes arrive, the application hears the same, and so do the clients."""
    marks = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    whole = run([sent])
    assert whole[2] == []
    assert run([sent[start:stop] for start, stop in pairwise(marks)]) == whole
    if len(sent) < 2000:
        assert run([sent[place : place + 1] for place in range(len(sent))]) == whole


# ---------------------------------------------------------------- fuzz


def odd(dice: random.Random, stream: int, some: int) -> bytes:
    """Return a frame on a stream that is begun with it, or on some other, right or wrong."""
    upload = request("/", (b"content-length", b"3"), method=b"POST")
    return dice.choice(
        [
            headers(stream),
            headers(stream, request("/silence")),
            headers(stream, request("/", method=b"POST"), flags=END_HEADERS),
            headers(stream, upload, flags=END_HEADERS),
            headers(stream, request(method=b"CONNECT", protocol=b"x"), flags=END_HEADERS),
            headers(some, cases.TRAILERS),
            data(some, dice.randbytes(dice.randint(0, 30)), end=dice.random() < 0.5),
            data(some, b"x" * 16384),
            reset(some, dice.randint(0, 15)),
            window(some, dice.choice([0, 1, 1000, 2**31 - 1])),
            priority(some, dice.randint(0, 5)),
            set_to((dice.randint(0, 9), dice.choice([0, 1, 100, 20000, 2**31]))),
            ping(),
            goaway(some),
            cases.split(cases.GET, 0, END_HEADERS, stream=stream),
            frame(HEADERS, END_STREAM, stream, cases.GET[:20]),
            frame(dice.randint(0, 20), dice.randint(0, 255), some, dice.randbytes(9)),
        ]
    )


def session(dice: random.Random) -> bytes:
    """Return what a client says that is not quite right in the head."""
    sent = dice.choice([HELLO, WIDE])
    stream = 1
    for _ in range(dice.randint(1, 25)):
        some = max(1, stream - dice.choice([2, 2, 2, 4, 6]))
        if dice.random() < 0.03:
            some = dice.choice([0, 2, stream + 2])
        sent += odd(dice, stream, some)
        if dice.random() < 0.6:
            stream += 2
    return sent


def mutated(dice: random.Random, sent: bytes) -> bytes:
    """Return bytes with some of them changed, left out or put in."""
    found = bytearray(sent)
    for _ in range(dice.choice([0, 0, 1, 1, 2, 5])):
        place = dice.randrange(len(PREFACE), len(found))
        match dice.randint(0, 3):
            case 0:
                found[place] = dice.randint(0, 255)
            case 1:
                found[place] ^= 1 << dice.randint(0, 7)
            case 2:
                del found[place : place + dice.randint(1, 9)]
            case 3:
                found[place:place] = dice.randbytes(dice.randint(1, 9))
        if len(found) <= len(PREFACE) + 1:
            break
    return bytes(found)


def torment(room: Room, transport: Transport, dice: random.Random) -> None:
    """Send a session in pieces, pausing and waiting at times; leave it as it comes out."""
    sent = mutated(dice, session(dice))
    while sent and not transport.closing:
        step = dice.choice([1, 5, 50, 500, 5000])
        piece, sent = sent[:step], sent[step:]
        room.feed(transport, piece)
        chance = dice.random()
        if chance < 0.05:
            transport.protocol.pause_writing()
            room.work()
            transport.protocol.resume_writing()
        elif chance < 0.1:
            room.clock.advance(dice.choice([0.1, 1.5, 3.0]))
        elif chance < 0.12 and not transport.ended:
            transport.protocol.drain()
        room.work()


class Echo(asyncio.Protocol):
    """Says back what it hears, until it hears x's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if data[:1] == b"x":
            self.transport.close()


def tunnel(exchange: Exchange) -> None:
    """Take a stream over."""
    transport, early = exchange.upgrade(b"x")
    transport.set_protocol(Echo(transport))
    transport.write(early)


CLAIM = Claim(lambda head: head.protocol == "x", tunnel)


@pytest.mark.parametrize("seed", range(15))
def test_fuzz(seed, caplog):
    """Whatever comes: no exception of our own, neighbours are served, and nothing is left."""
    dice = random.Random(seed)
    room = Room(write_timeout=1.0, body_timeout=1.0, timeout=2.0)
    room.port.claims = [CLAIM]
    neighbour = room.connect()
    room.feed(neighbour, WIDE)
    for number in range(80):
        transport = room.connect()
        torment(room, transport, dice)
        if is_http2(transport):
            heard = Heard(transport.written)
            assert not heard.rest
            assert bool(heard.goaway) or not (transport.ended or transport.closing)
        transport.lose()
        room.feed(neighbour, headers(2 * number + 1))
    answers = Heard(neighbour.written)
    assert answers.content == {2 * number + 1: b"/" for number in range(80)}
    neighbour.lose()
    room.work()
    # Nothing has reached the library that it objects to.
    assert 'gateway_http_faults_total{why="protocol"}' not in room.metrics.snapshot()
    assert not caplog.records
    assert room.empty


# ---------------------------------------------------------------- what needs no socket


def test_a_preface_that_tls_did_not_promise():
    """Where TLS negotiated h2, another beginning is a fault of the protocol, in its words."""
    room = Room()
    transport = room.connect(tls=True)
    assert is_http2(transport)
    room.feed(transport, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    (last,) = Heard(transport.written).goaway
    assert last.code == PROTOCOL_ERROR
    assert last.payload.endswith(b"(preface)")
    room.work()
    assert transport.lost
    assert room.empty


def test_goodbye_over_tls():
    """TLS has no halves: the connection closes once GOAWAY is written."""
    room = Room(idle_timeout=1.0)
    transport = room.connect(tls=True)
    room.feed(transport, WIDE + headers(1))
    room.clock.advance(2.0)
    assert Heard(transport.written).goaway
    assert transport.lost


def test_a_client_that_never_closes():
    """After GOAWAY the client has two seconds to close; then it is closed."""
    room = Room()
    transport = room.connect()
    room.feed(transport, HELLO + data(1))
    assert transport.ended
    room.clock.advance(1.0)
    assert not transport.lost
    room.feed(transport, b"whatever it still says")
    room.clock.advance(1.2)
    assert transport.lost
    assert room.empty


def test_a_fault_of_our_own(monkeypatch, caplog):
    """It costs the connection INTERNAL_ERROR, is logged, and harms nobody else."""
    room = Room()
    one, two = room.connect(), room.connect()
    room.feed(one, HELLO + headers(1, request("/silence")))
    room.feed(two, HELLO)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(one.protocol), "_begin", fail)
        room.feed(one, headers(3))
    assert Heard(one.written).goaway[0].code == 2
    assert "an HTTP/2 connection failed" in caplog.text
    assert [channel for channel, _ in room.messages] == ["http.request", "http.disconnect"]
    room.feed(two, headers(1))
    assert Heard(two.written).content == {1: b"/"}


def test_a_connection_that_comes_while_we_leave():
    """Who connects during a shutdown is told so at once, and let go."""
    room = Room()
    room.port.draining = True
    transport = room.connect(tls=True)
    room.feed(transport, HELLO)
    assert Heard(transport.written).goaway[0].code == 0
    assert transport.lost


def test_an_idle_connection_is_small():
    """Between two requests a connection keeps less than 12 KB, half of it the library's."""
    room = Room(max_connections=1000, max_connections_per_address=1000)

    def serve() -> Transport:
        transport = room.connect()
        room.feed(transport, PREFACE + set_to((3, 100), (4, 65535), (9, 1)) + headers(1))
        transport.written.clear()
        room.messages.clear()
        return transport

    kept = [serve()]  # what is made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept += [serve() for _ in range(100)]
        gc.collect()
        assert (tracemalloc.get_traced_memory()[0] - before) / 100 < 12_000
    finally:
        tracemalloc.stop()
