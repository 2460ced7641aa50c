"""What RFC 9113 says of right and wrong frames, section by section: the cases of the tests.

The sections are those of RFC 9113, or of RFC 7541, 7540 and 8441 where that is said. Much of it
is what h2spec asks for, under the same numbers; where h2spec is content with several answers,
the one that is given here is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.plugins.http.port import PREFACE
from tests.plugins.http.http2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    data,
    frame,
    headers,
    ping,
    post,
    priority,
    request,
    reset,
    settings,
    window,
)

Step = bytes | int
"""Bytes to send, or the number of a stream whose response is to be waited for."""
ALL = END_STREAM | END_HEADERS
SILENCE = request("/silence")
"""A request that is never answered."""
TRAILERS = [(b"x-checksum", b"1")]
GET = block(request())
REST = block(request()[1:])
"""The same but for its method."""
XTEST = b"\0\x85\xf2\xb2\x4a\x84\xff"
"""A literal with the name x-test in Huffman's code, less its value."""
TOP = 2**31 - 1
RESERVED = 1 << 31
"""The bit before a stream's number."""


class Case(NamedTuple):
    """What is sent, behind the preface, and what comes of it."""

    section: str
    what: str
    steps: tuple[Step, ...]
    fault: str = ""
    """Id of the fault or refusal."""
    stream: int = 0
    """The stream that it costs; 0: the connection."""
    answers: tuple[tuple[int, bytes], ...] = ()
    """Content of the responses that have to come, by stream."""
    raw: bool = False
    """Whether the preface is among the steps."""

    @property
    def id(self) -> str:
        return f"{self.section}: {self.what}"


def fine(section: str, what: str, *steps: Step, **answers: bytes) -> Case:
    """Return a case that harms nobody; ``answers`` by stream: s1=b"content"."""
    found = tuple((int(name[1:]), content) for name, content in answers.items())
    return Case(section, what, steps, answers=found)


def ends(fault: str, section: str, what: str, *steps: Step, raw: bool = False) -> Case:
    """Return a case that ends the connection."""
    return Case(section, what, steps, fault, raw=raw)


def costs(stream: int, fault: str, section: str, what: str, *steps: Step) -> Case:
    """Return a case that costs a stream, and nothing else."""
    return Case(section, what, steps, fault, stream)


def split(fields: bytes, *flags: int, stream: int = 1, first: int = END_STREAM) -> bytes:
    """Return a header block in as many frames as there are flags."""
    size = len(fields) // len(flags) + 1
    pieces = [fields[n * size : (n + 1) * size] for n in range(len(flags))]
    found = frame(HEADERS, first | flags[0], stream, pieces[0])
    for flag, piece in zip(flags[1:], pieces[1:], strict=True):
        found += frame(CONTINUATION, flag, stream, piece)
    return found


RIGHT = [
    # ------------------------------------------------ the connection, frames
    fine("3.4", "preface and SETTINGS"),
    fine("4.1", "a frame of an unknown type", frame(0x16, 0, 0, b"12345678")),
    fine("4.1", "an unknown type on a stream", frame(0xF0, 0xFF, 3, b"1"), headers(1), s1=b"/"),
    fine("4.1", "flags that are not defined", frame(PING, 0x16, 0, b"abcdefgh")),
    fine("4.1", "the reserved bit", frame(PING, 0, RESERVED, b"abcdefgh")),
    fine("4.1", "the reserved bit of a request", frame(HEADERS, ALL, RESERVED | 1, GET), s1=b"/"),
    fine("4.2", "a full frame", post(1), data(1, b"x" * 16384, end=True), s1=b"x" * 16384),
    # ------------------------------------------------ streams
    fine("5.1", "PRIORITY on an idle stream", priority(1), headers(1), s1=b"/"),
    fine("5.1", "PRIORITY on a half-closed stream", headers(1), priority(1), s1=b"/"),
    fine("5.1", "PRIORITY on a closed stream", headers(1), 1, priority(1), headers(3), s3=b"/"),
    fine("5.1", "WINDOW_UPDATE on a half-closed stream", headers(1), window(1, 100), s1=b"/"),
    fine("5.1", "WINDOW_UPDATE on a closed stream", headers(1), 1, window(1, 100), s1=b"/"),
    fine("5.1", "WINDOW_UPDATE by nothing on a closed stream", headers(1), 1, window(1, 0)),
    fine("5.1", "RST_STREAM on a half-closed stream", headers(1, SILENCE), reset(1)),
    fine("5.1", "RST_STREAM on a closed stream", headers(1), 1, reset(1), headers(3), s3=b"/"),
    fine("5.1", "RST_STREAM twice", headers(1, SILENCE), reset(1), reset(1), headers(3), s3=b"/"),
    fine("5.1.1", "numbers that are left out", headers(5), headers(77), s5=b"/", s77=b"/"),
    fine("5.1.1", "the highest number", headers(TOP), s2147483647=b"/"),
    fine("5.3", "PRIORITY of weight 1", priority(1, 0, 0), headers(1), s1=b"/"),
    fine("5.3", "PRIORITY of weight 256", priority(1, 0, 255), headers(1), s1=b"/"),
    fine("5.3", "an exclusive dependency", priority(3, RESERVED | 1), headers(3), s3=b"/"),
    fine("5.3", "PRIORITY on a higher stream", priority(9, 7), headers(1), s1=b"/"),
    fine(
        "5.3",
        "HEADERS with a priority",
        headers(1, b"\0\0\0\0\x0f" + GET, flags=ALL | PRIORITIZED),
        s1=b"/",
    ),
    fine(
        "5.5",
        "an unknown frame before the content",
        *(post(1), frame(99, 1, 1), data(1, b"a", end=True)),
        s1=b"a",
    ),
    # ------------------------------------------------ types of frames
    fine("6.1", "two frames", post(1), data(1, b"a") + data(1, b"b", end=True), s1=b"ab"),
    fine("6.1", "an empty frame at the end", post(1), data(1, b"a") + data(1, end=True), s1=b"a"),
    fine(
        "6.1",
        "padding",
        *(post(1), frame(DATA, PADDED | END_STREAM, 1, b"\x03a\0\0\0")),
        s1=b"a",
    ),
    fine("6.1", "no padding", post(1), frame(DATA, PADDED | END_STREAM, 1, b"\0a"), s1=b"a"),
    fine(
        "6.1",
        "nothing but padding",
        *(post(1), frame(DATA, PADDED, 1, b"\x03\0\0\0") + data(1, b"a", end=True)),
        s1=b"a",
    ),
    fine("6.2", "padding", headers(1, b"\x02" + GET + b"\0\0", flags=ALL | PADDED), s1=b"/"),
    fine(
        "6.2",
        "padding and a priority",
        headers(1, b"\x02\0\0\0\0\x0f" + GET + b"\0\0", flags=ALL | PADDED | PRIORITIZED),
        s1=b"/",
    ),
    fine("6.5", "no settings", settings()),
    fine(
        "6.5",
        "all settings",
        settings((1, 100), (2, 0), (3, 0), (4, 65535), (5, 16384), (6, 1), (8, 1)),
        headers(1),
        s1=b"/",
    ),
    fine("6.5.2", "unknown settings", settings((9, 1), (65535, 2**32 - 1)), headers(1), s1=b"/"),
    fine("6.5.2", "the largest frames", settings((5, 2**24 - 1)), headers(1), s1=b"/"),
    fine(
        "6.5.2",
        "a table of nothing",
        *(settings((1, 0)), headers(1), 1, headers(3)),
        s1=b"/",
        s3=b"/",
    ),
    fine(
        "6.5.2",
        "a table of 4 GiB",
        *(settings((1, 2**32 - 1)), headers(1), 1, headers(3)),
        s1=b"/",
        s3=b"/",
    ),
    fine("6.5.3", "an ACK that nobody asked for", frame(SETTINGS, ACK)),
    fine("6.7", "PING with ACK", ping(ack=True)),
    fine("6.9", "WINDOW_UPDATE on stream 0", window(0, 1), headers(1), s1=b"/"),
    fine("6.9", "WINDOW_UPDATE on a stream", post(1), window(1, 1), data(1, end=True), s1=b""),
    fine("6.9", "the reserved bit", window(0, RESERVED | 1), headers(1), s1=b"/"),
    fine("6.9.1", "the largest window", window(0, TOP - 65535), headers(1), s1=b"/"),
    fine("6.9.2", "a window that becomes negative", post(1), settings((4, 0)), data(1, end=True)),
    fine("6.10", "one CONTINUATION", split(GET, 0, END_HEADERS), s1=b"/"),
    fine("6.10", "three CONTINUATION frames", split(GET, 0, 0, 0, END_HEADERS), s1=b"/"),
    fine(
        "6.10",
        "an empty CONTINUATION",
        split(GET, 0, 0) + frame(CONTINUATION, END_HEADERS, 1),
        s1=b"/",
    ),
    fine("7", "an unknown code", headers(1, SILENCE), reset(1, 0xFF), headers(3), s3=b"/"),
    # ------------------------------------------------ messages
    fine("8.1", "trailers", post(1), data(1, b"a"), headers(1, TRAILERS), s1=b"a"),
    fine("8.1", "trailers without content", post(1), headers(1, TRAILERS), s1=b""),
    fine("8.1", "trailers in two frames", post(1), split(block(TRAILERS), 0, END_HEADERS), s1=b""),
    fine(
        "8.1.1",
        "Content-Length",
        *(post(1, "/", (b"content-length", b"2")), data(1, b"a"), data(1, b"b", end=True)),
        s1=b"ab",
    ),
    fine(
        "8.1.1",
        "Content-Length: 0, and an empty frame",
        *(post(1, "/", (b"content-length", b"0")), data(1, end=True)),
        s1=b"",
    ),
    fine("8.2.1", "an empty value", headers(1, request("/", (b"a", b""))), s1=b"/"),
    fine("8.2.1", "bytes beyond ASCII", headers(1, request("/", (b"a", b"\xe4\xff"))), s1=b"/"),
    fine("8.2.2", "TE: trailers", headers(1, request("/", (b"te", b"trailers"))), s1=b"/"),
    fine("8.3.1", "OPTIONS *", headers(1, request("*", method=b"OPTIONS")), s1=b"*"),
    fine("8.3.1", "no :authority", headers(1, request("/", (b"host", b"a"), authority=None))),
    # ------------------------------------------------ RFC 7541
    fine("RFC 7541 6.1", "a field of the table", headers(1, b"\x82" + REST), s1=b"/"),
    fine("RFC 7541 6.2.1", "a name of the table", headers(1, b"\x42\x03GET" + REST), s1=b"/"),
    fine(
        "RFC 7541 6.2.1",
        "a field remembered, and used",
        headers(1, GET + b"\x40\x01a\x01b") + headers(3, GET + b"\xbe"),
        s1=b"/",
        s3=b"/",
    ),
    fine("RFC 7541 6.2.2", "not to remember", headers(1, b"\x02\x03GET" + REST), s1=b"/"),
    fine("RFC 7541 6.2.3", "never to remember", headers(1, b"\x12\x03GET" + REST), s1=b"/"),
    fine(
        "RFC 7541 5.2",
        "Huffman's code",
        headers(1, bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")),
        s1=b"/",
    ),
    fine("RFC 7541 5.2", "both", headers(1, GET + XTEST + b"\x83\x49\x50\x9f"), s1=b"/"),
    fine("RFC 7541 6.3", "one change of the table's size", headers(1, b"\x20" + GET), s1=b"/"),
    fine("RFC 7541 6.3", "two changes", headers(1, b"\x20\x3f\xe1\x1f" + GET), s1=b"/"),
]
"""Everybody is served, and nobody hears of an error."""

ENDING = [
    # ------------------------------------------------ the connection, frames
    ends("preface", "3.4", "HEADERS before SETTINGS", PREFACE, headers(1), raw=True),
    ends("preface", "3.4", "PING before SETTINGS", PREFACE, ping(), raw=True),
    ends("preface", "3.4", "ACK before SETTINGS", PREFACE, frame(SETTINGS, ACK), raw=True),
    ends("frame-size", "4.2", "DATA", post(1), frame(DATA, 0, 1, b"x" * 16385)),
    ends("frame-size", "4.2", "HEADERS", frame(HEADERS, 0, 1, b"x" * 16385)),
    ends("frame-size", "4.2", "SETTINGS", frame(SETTINGS, 0, 0, bytes(16386))),
    ends("frame-size", "4.2", "an unknown type", frame(99, 0, 0, bytes(16385))),
    ends("frame-size", "4.2", "the head alone, of 16 MiB", b"\xff\xff\xff\0\0\0\0\0\1"),
    ends("compression", "4.3", "no header block", headers(1, b"\x00\x01\x81")),
    ends("header-block", "4.3", "PRIORITY inside", frame(HEADERS, 1, 1, GET), priority(1)),
    ends("header-block", "4.3", "HEADERS inside", frame(HEADERS, 1, 1, GET), headers(3)),
    # ------------------------------------------------ streams
    ends("stream-idle", "5.1", "DATA", data(1, b"a", end=True)),
    ends("stream-idle", "5.1", "RST_STREAM", reset(1)),
    ends("stream-idle", "5.1", "WINDOW_UPDATE", window(1, 100)),
    ends("stream-idle", "5.1", "DATA on an even stream", headers(3), data(2, b"a")),
    ends("header-block", "5.1", "idle: CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, GET)),
    ends(
        "header-block",
        "5.1",
        "half-closed: CONTINUATION",
        *(headers(1, SILENCE), frame(CONTINUATION, END_HEADERS, 1, GET)),
    ),
    ends(
        "header-block",
        "5.1",
        "closed by RST_STREAM: CONTINUATION",
        *(headers(1, SILENCE), reset(1), frame(CONTINUATION, END_HEADERS, 1, GET)),
    ),
    ends(
        "header-block",
        "5.1",
        "closed: CONTINUATION",
        *(headers(1), 1, frame(CONTINUATION, END_HEADERS, 1, GET)),
    ),
    ends("stream-closed", "5.1", "HEADERS behind RST_STREAM", post(1), reset(1), headers(1)),
    ends("stream-closed", "5.1", "closed: HEADERS", headers(1), 1, headers(1)),
    ends("stream-number", "5.1.1", "an even number", headers(2)),
    ends("stream-number", "5.1.1", "a lower number", headers(5), headers(3)),
    ends("dependency", "RFC 7540 5.3.1", "PRIORITY", priority(2, 2)),
    ends(
        "header-block",
        "5.5",
        "an unknown frame inside a header block",
        *(frame(HEADERS, 1, 1, GET[:9]), frame(99, 0, 1), frame(CONTINUATION, 4, 1, GET[9:])),
    ),
    # ------------------------------------------------ types of frames
    ends("frame-stream", "6.1", "DATA on stream 0", frame(DATA, 0, 0, b"a")),
    ends("padding", "6.1", "as long as the frame", post(1), frame(DATA, PADDED, 1, b"\x02a")),
    ends("padding", "6.1", "far longer", post(1), frame(DATA, PADDED, 1, b"\xffa")),
    ends("frame-length", "6.1", "no length of padding", post(1), frame(DATA, PADDED, 1)),
    ends("frame-stream", "6.2", "HEADERS on stream 0", frame(HEADERS, ALL, 0, GET)),
    ends("padding", "6.2", "HEADERS", headers(1, b"\xff" + GET, flags=ALL | PADDED)),
    ends(
        "padding",
        "6.2",
        "HEADERS with a priority",
        headers(1, b"\x05\0\0\0\0\x0f\0\0\0\0", flags=ALL | PADDED | PRIORITIZED),
    ),
    ends("frame-length", "6.2", "half a priority", headers(1, b"\0\0", flags=ALL | PRIORITIZED)),
    ends(
        "frame-length", "6.2", "HEADERS, no length of padding", headers(1, b"", flags=ALL | PADDED)
    ),
    ends("frame-stream", "6.3", "PRIORITY on stream 0", priority(0)),
    ends("frame-length", "6.3", "PRIORITY on an idle stream", frame(PRIORITY, 0, 1, bytes(4))),
    ends("frame-stream", "6.4", "RST_STREAM on stream 0", reset(0)),
    ends("frame-length", "6.4", "RST_STREAM", headers(1, SILENCE), frame(RST_STREAM, 0, 1, b"123")),
    ends("frame-length", "6.5", "ACK with settings", frame(SETTINGS, ACK, 0, bytes(6))),
    ends("frame-length", "6.5", "half a setting", frame(SETTINGS, 0, 0, b"123")),
    ends("frame-stream", "6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, bytes(6))),
    ends("settings", "6.5.2", "ENABLE_PUSH of 2", settings((2, 2))),
    ends("settings", "6.5.2", "MAX_FRAME_SIZE of 16383", settings((5, 16383))),
    ends("settings", "6.5.2", "MAX_FRAME_SIZE of 2^24", settings((5, 2**24))),
    ends("settings", "RFC 8441 3", "ENABLE_CONNECT_PROTOCOL of 2", settings((8, 2))),
    ends("settings-window", "6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings((4, 2**31))),
    ends("settings-window", "6.5.2", "followed by a right one", settings((4, 2**31), (4, 65535))),
    ends("settings-count", "10.5", "33 settings", settings(*[(9, 1)] * 33)),
    ends(
        "push", "6.6", "PUSH_PROMISE", headers(1), frame(PUSH_PROMISE, 4, 1, bytes(3) + b"\2" + GET)
    ),
    ends("frame-stream", "6.7", "PING on a stream", frame(PING, 0, 1, bytes(8))),
    ends("frame-length", "6.7", "PING", frame(PING, 0, 0, bytes(6))),
    ends("frame-stream", "6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8))),
    ends("frame-length", "6.8", "GOAWAY", frame(GOAWAY, 0, 0, bytes(7))),
    ends("window-increment", "6.9", "stream 0", window(0, 0)),
    ends("frame-length", "6.9", "WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    ends(
        "frame-length", "6.9", "on a stream", headers(1, SILENCE), frame(WINDOW_UPDATE, 0, 1, b"1")
    ),
    ends(
        "window-exceeded", "6.9", "a stream's", post(1, "/silence"), *[data(1, b"x" * 16384)] * 60
    ),
    ends("window-overflow", "6.9.1", "the connection's", window(0, TOP - 65535), window(0, 1)),
    ends(
        "window-overflow",
        "6.9.2",
        "by SETTINGS",
        *(headers(1, SILENCE), window(1, TOP - 65535), settings((4, 65536))),
    ),
    ends("header-block", "6.10", "DATA inside", post(1), frame(HEADERS, 0, 3, GET), data(1, b"a")),
    ends(
        "header-block", "6.10", "on another stream", frame(HEADERS, 0, 1), frame(CONTINUATION, 4, 3)
    ),
    ends(
        "header-block", "6.10", "on stream 0", frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 4, 0)
    ),
    ends(
        "header-block", "6.10", "behind a whole block", headers(1), frame(CONTINUATION, 4, 1, GET)
    ),
    ends(
        "header-block",
        "6.10",
        "behind another's end",
        *(split(GET, 0, END_HEADERS), frame(CONTINUATION, 4, 1, GET)),
    ),
    ends(
        "header-block",
        "6.10",
        "behind DATA",
        post(1),
        data(1, b"a"),
        frame(CONTINUATION, 4, 1, GET),
    ),
    ends("header-block-size", "10.5.1", "200 KB", split(b"\0\1a\1b" * 40_000, *[0] * 13, 4)),
    ends("header-block-size", "10.5.1", "100 frames", split(GET, *[0] * 100, 4)),
    # ------------------------------------------------ RFC 7541
    ends("compression", "RFC 7541 2.3.3", "no such field", headers(1, GET + b"\xc6")),
    ends("compression", "RFC 7541 2.3.3", "no such name", headers(1, GET + b"\x7f\x07\1a")),
    ends("compression", "RFC 7541 4.2", "a size behind a field", headers(1, GET + b"\x20")),
    ends("compression", "RFC 7541 4.2", "20 sizes", headers(1, b"\x20" * 20 + GET)),
    ends("compression", "RFC 7541 5.1", "an endless integer", headers(1, b"\xff" + b"\xff" * 20)),
    ends("compression", "RFC 7541 5.2", "a string's end is missing", headers(1, b"\0\1a\x05b")),
    ends(
        "compression", "RFC 7541 5.2", "long padding", headers(1, XTEST + b"\x84\x49\x50\x9f\xff")
    ),
    ends(
        "compression", "RFC 7541 5.2", "padding of zeros", headers(1, XTEST + b"\x83\x49\x50\x90")
    ),
    ends("compression", "RFC 7541 5.2", "EOS", headers(1, XTEST + b"\x86\x49\x50\x9f\xff\xff\xff")),
    ends("compression", "RFC 7541 6.1", "field 0", headers(1, b"\x80")),
    ends("compression", "RFC 7541 6.3", "a table of 4097", headers(1, b"\x3f\xe2\x1f" + GET)),
]
"""The connection ends with GOAWAY, and says why."""

COSTING = [
    costs(1, "stream-closed", "5.1", "half-closed: DATA", headers(1, SILENCE), data(1, b"a")),
    costs(1, "stream-closed", "5.1", "half-closed: HEADERS", headers(1, SILENCE), headers(1)),
    costs(1, "stream-closed", "5.1", "RST_STREAM, then DATA", post(1), reset(1), data(1, b"a")),
    costs(1, "stream-closed", "5.1", "closed: DATA", headers(1), 1, data(1, b"a")),
    costs(
        1,
        "dependency",
        "RFC 7540 5.3.1",
        "HEADERS",
        headers(1, b"\0\0\0\1\x0f" + GET, flags=ALL | PRIORITIZED),
    ),
    costs(1, "dependency", "RFC 7540 5.3.1", "of an open one", headers(1, SILENCE), priority(1, 1)),
    costs(1, "frame-length", "6.3", "PRIORITY", post(1), frame(PRIORITY, 0, 1, bytes(4))),
    costs(1, "window-increment", "6.9", "a stream", headers(1, SILENCE), window(1, 0)),
    costs(1, "window-overflow", "6.9.1", "a stream's", headers(1, SILENCE), window(1, TOP)),
    costs(1, "trailers", "8.1", "not the end", post(1), headers(1, TRAILERS, flags=END_HEADERS)),
    costs(1, "trailers", "8.1", "a second request", post(1), post(1)),
]
"""The stream is reset, its neighbours are served."""

MALFORMED = [
    costs(1, "header-case", "8.2.1", "in trailers", post(1), headers(1, [(b"A", b"b")])),
    costs(1, "header-value", "8.2.1", "in trailers", post(1), headers(1, [(b"a", b"b\n")])),
    costs(
        1, "connection-header", "8.2.2", "in trailers", post(1), headers(1, [(b"upgrade", b"a")])
    ),
    costs(1, "pseudo-header-late", "8.1", "in trailers", post(1), headers(1, [(b":path", b"/")])),
    costs(
        1,
        "body-length",
        "8.1.1",
        "less",
        *(post(1, "/", (b"content-length", b"2")), data(1, b"a", end=True)),
    ),
    costs(
        1,
        "body-length",
        "8.1.1",
        "more than none",
        *(post(1, "/", (b"content-length", b"0")), data(1, b"a", end=True)),
    ),
    costs(
        1,
        "body-length",
        "8.1.1",
        "more",
        *(post(1, "/", (b"content-length", b"2")), data(1, b"ab"), data(1, b"c", end=True)),
    ),
    costs(
        1,
        "body-length",
        "8.1.1",
        "less, and trailers",
        *(post(1, "/", (b"content-length", b"2")), data(1, b"a"), headers(1, TRAILERS)),
    ),
    costs(1, "body-length", "8.1.1", "none", headers(1, request("/", (b"content-length", b"2")))),
    costs(1, "content-length", "8.1.1", "no number", post(1, "/", (b"content-length", b"a"))),
    costs(1, "pseudo-header", "8.3.1", ":status", headers(1, request(status=b"100"))),
    costs(1, "pseudo-header", "8.5", "CONNECT with a path", headers(1, request(method=b"CONNECT"))),
]
"""The stream is answered 400, and reset: beside `tests.plugins.http.http2.refused`."""

ELSEWHERE = {
    "header-block-time": ("a byte now and then",),
    "stream-refused": ("one more than allowed",),
    "stream-late": ("a request during a shutdown",),
    "control-frames": (
        *("PING", "SETTINGS", "ACK", "PRIORITY", "WINDOW_UPDATE", "GOAWAY", "unknown types"),
        *("empty DATA", "padding", "requests reset at once", "requests made to be reset"),
        "malformed requests",
    ),
    "protocol": ("what nothing but the library finds",),
}
"""Faults that need a time, a limit or a shutdown, with their cases, in other tests."""
