"""Two independent readers: what http accepts, h11 reads in the same way."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.plugin import Peer
from gateway.plugins.http.body import ChunkedBody, LengthBody
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import CHUNKED, HeadReader
from gateway.plugins.http.refusals import Refused
from tests.plugins.http import grammar
from tests.plugins.http.driven import Driven, seen
from tests.plugins.http.refused import CASES

CHUNKS = b'5;x="y"\r\nhello\r\n0\r\nT: u\r\n\r\nGET'
SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b" % CHUNKS,
    *[data for _, _, data in CASES if len(data) < 300],
]
PIECES = st.sampled_from(
    [
        *[bytes([byte]) for byte in b"\r\n \t:,;0x5-#\0\x80"],
        b"\r\n",
        b"chunked",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: b\r\n",
    ]
)
Read = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes | None, bytes]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a request with a few bytes put in, taken out or exchanged."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(PIECES | st.just(b"")) + data[start + draw(st.integers(0, 2)) :]
    return data


def ours(data: bytes) -> Read | None:
    """Return head, body (None while it is not complete) and what is left; None if refused."""
    reader = HeadReader(HttpConfig(), Peer())
    try:
        head = reader.read(data)
        if head is None:
            return None
        rest = data[reader.size :]
        body: bytes | None = b""
        if head.length:
            chunked = head.length == CHUNKED
            bodies = ChunkedBody(1 << 20) if chunked else LengthBody(head.length)
            content = bodies.feed(rest)
            body, rest = (content, bodies.rest) if bodies.complete else (None, b"")
    except Refused:
        return None
    version = head.http_version.encode()
    return head.method.encode(), head.target, version, head.headers, body, rest


def theirs(data: bytes) -> Read:
    """Return the same as h11 reads it; raises where h11 refuses."""
    reader = h11.Connection(h11.SERVER)
    # h11 ignores no empty line before the request; RFC 9112 2.2 asks for it.
    reader.receive_data(data.removeprefix(b"\r\n"))
    head = reader.next_event()
    assert isinstance(head, h11.Request)
    body: bytes | None = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += bytes(event.data)
    if event is h11.NEED_DATA:
        body = None
    headers = [(bytes(name), bytes(value)) for name, value in head.headers]
    rest = reader.trailing_data[0] if body is not None else b""
    return head.method, head.target, head.http_version, headers, body, rest


@settings(max_examples=600, deadline=None)
@given(mutated())
@example(SEEDS[3])
@example(SEEDS[4])
def test_what_is_accepted_means_the_same_to_h11(data):
    """Head, headers, body and where the next request begins: no two readings."""
    read = ours(data)
    if read is not None:
        assert read == theirs(data)


# ---------------------------------------------------------------- whole connections

SPACED = re.compile(rb"[0-9A-Fa-f][\t ]+;").search
"""Whitespace before a chunk's extension, which RFC 9112 7.1.1 has read and h11 does not."""


def their_requests(data: bytes, count: int) -> list[tuple[Any, ...]]:
    """Return the first requests that h11 reads, ``count`` of them; it raises where it refuses.

    Fewer, where one has trailers that h11 takes for framing.
    """
    found: list[tuple[Any, ...]] = []
    while len(found) < count:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        # h11 ignores no empty line before a request; RFC 9112 2.2 asks for it.
        server.receive_data(data.removeprefix(b"\r\n"))
        head = server.next_event()
        assert isinstance(head, h11.Request)
        body = b""
        try:
            while isinstance(event := server.next_event(), h11.Data):
                body += bytes(event.data)
        except h11.RemoteProtocolError as error:
            # h11 believes framing in trailers; RFC 9110 6.5.1 has it ignored.
            if "Content-Length" not in str(error) and "Transfer-Encoding" not in str(error):
                raise
            return found
        assert isinstance(event, h11.EndOfMessage)
        headers = [(bytes(name), bytes(value)) for name, value in head.headers]
        if head.target[:1] not in {b"/", b"*"} and b"host" not in dict(headers):
            # RFC 9112 3.2.2, which is not h11's business.
            headers.append((b"host", re.split(rb"[/?]", head.target)[2]))
        found.append((head.method.decode(), path_of(head.target), headers, body))
        data = server.trailing_data[0]
    return found


def path_of(target: bytes) -> bytes:
    """Return path and query of a target in any form, a question mark between them."""
    if target[:1] not in {b"/", b"*"}:
        target = re.sub(rb"^[^:]*://[^/?]*", b"", target)
        target = target if target[:1] == b"/" else b"/" + target
    path, _, query = target.partition(b"?")
    return path + b"?" + query


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_a_pipeline_means_the_same_to_h11(rng):
    """Where each request ends and the next begins, and what it says: no two readings."""
    data = b"".join(each.data for each in grammar.pipeline(rng, 5))
    if rng.random() < 0.7:
        data = grammar.mutate(rng, data)
    if SPACED(data):
        return
    driven = Driven(seen, http2=False)
    driven.feed([data])
    ours = []
    for message in driven.requests:
        # h11 writes the coding in small letters.
        headers = [
            (name, value.lower() if name == b"transfer-encoding" else value)
            for name, value in map(tuple, message["headers"])
        ]
        target = message["raw_path"] + b"?" + message["query_string"]
        ours.append((message["method"], target, headers, bytes(message["body"])))
    other = their_requests(data, len(ours))
    assert ours[: len(other)] == other
    driven.close()
