"""Requests made by chance: such as RFC 9110 and 9112 allow, and such as they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

from tests.plugins.http.refused import CASES

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"QUERY"]
PATHS = [b"/", b"/a", b"/a/b", b"//a", b"/a%2Fb", b"/%ff", b"/%c0%af", b"/a;b=c", b"/~a!$&'()*+,:@"]
QUERIES = [b"", b"", b"?", b"?a=b", b"?a=%00&b[]=\\", b"?/?"]
HOSTS = [b"localhost", b"a.b:8000", b"[::1]", b"[2001:db8::1]:80", b"a_b", b"127.0.0.1:", b"A-b."]
NAMES = [b"A", b"x-b", b"!#$%&'*+-.^_`|~", b"Cookie", b"TE", b"Content_Length", b"Upgrade", b"Via"]
VALUES = [b"", b"a", b"a\tb c", b"\xc3\xa4\xff", b'"a, b"', b"chunked", b"close", b"0", b"h2c"]
SPACE = [b"", b" ", b"  ", b"\t", b" \t "]
EXTENSIONS = [b"", b"", b";a", b";a=b", b';a="b;\\"c\\\\"', b" ; a = b;c"]
TRAILERS = [b"", b"", b"A: b\r\n", b"Content-Length: 5\r\nHost: evil\r\n", b"a:\t \r\nb:\r\n"]


class Made(NamedTuple):
    """A request that is allowed, and what it says."""

    data: bytes
    method: bytes
    target: bytes
    content: bytes
    last: bool
    """Whether the connection ends after it."""


def cased(rng: Random, name: bytes) -> bytes:
    """Return a name in capitals, small letters or as it is."""
    return rng.choice([name, name.upper(), name.lower()])


def field(rng: Random, name: bytes, value: bytes) -> bytes:
    """Return a header line with whitespace around the value."""
    return cased(rng, name) + b":" + rng.choice(SPACE) + value + rng.choice(SPACE) + b"\r\n"


def content(rng: Random, most: int) -> bytes:
    """Return some bytes, often such as look like a request or a chunk."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(most))
    if kind == 1:
        return b"0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[: rng.randrange(most)]
    return rng.choice([b"", b"a", b"hello", b"\r\n", b"\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"])


def chunked(rng: Random, body: bytes) -> bytes:
    """Return content in chunks."""
    pieces = []
    while body:
        size = rng.randint(1, len(body))
        line = b"0" * rng.randrange(3) + (b"%x" % size if rng.random() < 0.5 else b"%X" % size)
        pieces.append(line + rng.choice(EXTENSIONS) + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    pieces.append(b"0" * rng.randint(1, 3) + rng.choice(EXTENSIONS) + b"\r\n")
    return b"".join([*pieces, rng.choice(TRAILERS), b"\r\n"])


def request(rng: Random, *, most: int = 60) -> Made:
    """Return a request that is allowed, with at most so much content."""
    method = rng.choice(METHODS)
    host = rng.choice(HOSTS)
    target = rng.choice(PATHS) + rng.choice(QUERIES)
    form = rng.randrange(10)
    if form == 0:
        target = b"http://" + host + target
    elif form == 1 and method == b"OPTIONS":
        target = b"*"
    minor = rng.choice([b"1", b"1", b"1", b"0", b"2"])
    modern = minor != b"0"
    fields = [field(rng, rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(5))]
    if modern or rng.random() < 0.5:
        fields.append(field(rng, b"Host", host))
    options = [option for option in (b"close", b"keep-alive", b"X") if rng.random() < 0.15]
    if options:
        fields.append(field(rng, b"Connection", rng.choice([b",", b" , "]).join(options)))
    body = b""
    framing = rng.randrange(4)
    if framing == 0:
        body = content(rng, most)
        fields.append(field(rng, b"Content-Length", b"0" * rng.randrange(3) + b"%d" % len(body)))
    elif framing == 1 and modern:
        body = content(rng, most)
        fields.append(field(rng, b"Transfer-Encoding", cased(rng, b"Chunked")))
    if body and rng.random() < 0.2:
        fields.append(field(rng, b"Expect", cased(rng, b"100-continue")))
    rng.shuffle(fields)
    written = chunked(rng, body) if framing == 1 and modern else body
    data = b"".join(
        [
            rng.choice([b"", b"", b"\r\n"]),
            b"%b %b HTTP/1.%b\r\n" % (method, target, minor),
            *fields,
            b"\r\n",
            written,
        ]
    )
    last = b"close" in options or not (modern or b"keep-alive" in options)
    return Made(data, method, target, body, last)


def pipeline(rng: Random, most: int) -> list[Made]:
    """Return requests of one connection: all but the last leave it open."""
    found = []
    for _ in range(rng.randint(1, most)):
        found.append(request(rng))
        if found[-1].last:
            break
    return found


WORDS = [
    *[bytes([byte]) for byte in b'\r\n\t :,;="\\/?#%0x5-+\0\x80\xff\x0b\x7f'],
    *(b"\r\n", b"\n\n", b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"chunked"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"Host:\r\n"),
    *(b"Connection: close\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"HTTP/1.1"),
    *(b"Expect: 100-continue\r\n", b"GET / HTTP/1.1\r\n", b"HTTP/2.0", b"ffffffffffffffff", b"*"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"X-Forwarded-For: a\r\n", b"A" * 9000, b"http://"),
]
REFUSED = [data for _, _, data in CASES if len(data) < 2000]


def mutate(rng: Random, data: bytes) -> bytes:
    """Return some bytes with a few put in, taken out, exchanged, doubled or cut off."""
    changes: Sequence[Callable[[bytes, int], bytes]] = (
        lambda d, at: d[:at] + rng.choice(WORDS) + d[at:],
        lambda d, at: d[:at] + rng.choice(WORDS) + d[at + rng.randint(1, 4) :],
        lambda d, at: d[:at] + d[at + rng.randint(1, 3) :],
        lambda d, at: d[:at] + bytes([rng.randrange(256)]) + d[at + 1 :],
        lambda d, at: d[:at] + d[at : at + rng.randrange(40)] + d[at:],
        lambda d, at: d[:at],
        lambda d, at: d.replace(b"\r\n", b"\n", 1) if at % 2 else d.replace(b": ", b":", 1),
    )
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        data = rng.choice(changes)(data, rng.randint(0, len(data)))
    return data


def stream(rng: Random) -> bytes:
    """Return what a client may send in its life: allowed, refused, or beyond all rules."""
    pieces = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(10)
        if kind < 4:
            pieces.append(request(rng).data)
        elif kind < 6:
            pieces.append(rng.choice(REFUSED))
        elif kind < 9:
            pieces.append(mutate(rng, request(rng).data))
        else:
            pieces.append(rng.randbytes(rng.randrange(200)))
    data = b"".join(pieces)
    return mutate(rng, data) if rng.random() < 0.3 else data


def cuts(rng: Random, data: bytes) -> list[bytes]:
    """Return the bytes in pieces: whole, in a few, or each alone."""
    kind = rng.randrange(4)
    if kind == 0 or len(data) < 2:
        return [data]
    if kind == 1 and len(data) < 400:
        return [data[at : at + 1] for at in range(len(data))]
    marks = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randint(1, 8)))})
    return [data[start:end] for start, end in pairwise(marks)]
