"""RFC 6455 against an echo consumer through the bus, by the sections of Autobahn's suite.

The suite itself runs where there is a Python 2.7 (`test_autobahn`); this set runs everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import ECHO, Serving, on_loop

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GREEK = "\u03ba\u1f79\u03c3\u03bc\u03b5".encode()


class Case(NamedTuple):
    """What is sent, in frames; what comes back; the code of the close that follows, if any."""

    sent: bytes
    echoed: list[tuple[int, bytes]]
    code: int | None = None
    chop: int = 0
    """Bytes of one write; 0: all in one."""


def fragments(opcode: int, *pieces: bytes) -> bytes:
    """Return a message in fragments."""
    last = len(pieces) - 1
    return b"".join(
        frame(0 if number else opcode, piece, fin=number == last)
        for number, piece in enumerate(pieces)
    )


def code(number: int, reason: bytes = b"") -> bytes:
    """Return the payload of a close frame."""
    return number.to_bytes(2, "big") + reason


def framing() -> Iterator[tuple[str, Case]]:
    """1: payload sizes, text and binary, whole and chopped."""
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            payload = b"*" * size if opcode == TEXT else b"\xfe" * size
            for chop in (0, 1, 997):
                if chop == 1 and size > 1000:
                    continue
                yield (
                    f"1-{name}-{size}-{chop}",
                    Case(frame(opcode, payload), [(opcode, payload)], chop=chop),
                )


def pings() -> Iterator[tuple[str, Case]]:
    """2: pings and pongs."""
    for name, payload in (
        ("empty", b""),
        ("words", b"hi"),
        ("binary", b"\x00\xff\xfe"),
        ("125", bytes(125)),
    ):
        yield f"2-ping-{name}", Case(frame(PING, payload), [(PONG, payload)])
        yield f"2-ping-{name}-chopped", Case(frame(PING, payload), [(PONG, payload)], chop=1)
    yield "2-ping-126", Case(frame(PING, bytes(126)), [], 1002)
    yield "2-pong", Case(frame(PONG) + frame(PONG, b"hi") + frame(PING), [(PONG, b"")])
    ten = [b"payload %d" % number for number in range(10)]
    sent = b"".join(frame(PING, payload) for payload in ten)
    yield "2-ten", Case(sent, [(PONG, payload) for payload in ten])
    yield "2-ten-chopped", Case(sent, [(PONG, payload) for payload in ten], chop=1)


def reserved() -> Iterator[tuple[str, Case]]:
    """3: reserved bits; 4: reserved opcodes."""
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            yield f"3-rsv{rsv}-{opcode}", Case(frame(opcode, b"", rsv=rsv), [], 1002)
    for opcode in (*range(3, 8), *range(11, 16)):
        yield f"4-opcode{opcode}", Case(frame(opcode), [], 1002)
        yield f"4-opcode{opcode}-payload", Case(frame(opcode, b"x"), [], 1002, chop=1)


def fragmentation() -> Iterator[tuple[str, Case]]:
    """5: fragments, with control frames between them."""
    both = [(TEXT, b"fragment1fragment2")]
    first, second = frame(TEXT, b"fragment1", fin=False), frame(0, b"fragment2")
    for chop in (0, 1):
        yield f"5-two-{chop}", Case(first + second, both, chop=chop)
        yield (
            f"5-ping-between-{chop}",
            Case(first + frame(PING, b"p") + second, [(PONG, b"p"), *both], chop=chop),
        )
        yield (
            f"5-five-{chop}",
            Case(fragments(TEXT, b"a", b"", b"b", b"c", b""), [(TEXT, b"abc")], chop=chop),
        )
        yield f"5-empty-{chop}", Case(fragments(BINARY, b"", b"", b""), [(BINARY, b"")], chop=chop)
    yield "5-ping-in-fragments", Case(frame(PING, b"a", fin=False) + frame(0, b"b"), [], 1002)
    yield "5-pong-in-fragments", Case(frame(PONG, b"a", fin=False) + frame(0, b"b"), [], 1002)
    yield "5-close-in-fragments", Case(frame(CLOSE, b"", fin=False), [], 1002)
    yield "5-continuation-of-nothing", Case(frame(0, b"x"), [], 1002)
    yield "5-continuation-of-nothing-unfinished", Case(frame(0, b"x", fin=False), [], 1002)
    yield "5-text-within", Case(first + frame(TEXT, b"x"), [], 1002)
    yield "5-binary-within", Case(first + frame(BINARY, b"x", fin=False), [], 1002)
    yield "5-text-within-chopped", Case(first + frame(TEXT, b"x"), [], 1002, chop=1)


VALID = {
    "greek": GREEK,
    "ascii-nul": b"a\x00b",
    "first-2": b"\xc2\x80",
    "last-2": b"\xdf\xbf",
    "first-3": b"\xe0\xa0\x80",
    "below-surrogates": b"\xed\x9f\xbf",
    "above-surrogates": b"\xee\x80\x80",
    "replacement": b"\xef\xbf\xbd",
    "non-character-3": b"\xef\xbf\xbf",
    "first-4": b"\xf0\x90\x80\x80",
    "last": b"\xf4\x8f\xbf\xbf",
    "non-character-4": b"\xf0\x9f\xbf\xbe",
}
INVALID = {
    "continuation": b"\x80",
    "continuations": b"\x80\xbf\x80",
    "lonely-starts": b"\xc3 \xc4 ",
    "missing-last-3": b"\xe2\x82 ",
    "overlong-slash-2": b"\xc0\xaf",
    "overlong-slash-3": b"\xe0\x80\xaf",
    "overlong-slash-4": b"\xf0\x80\x80\xaf",
    "overlong-nul": b"\xc0\x80",
    "overlong-max-2": b"\xc1\xbf",
    "overlong-max-3": b"\xe0\x9f\xbf",
    "surrogate-high": b"\xed\xa0\x80",
    "surrogate-low": b"\xed\xbf\xbf",
    "surrogate-pair": b"\xed\xa0\x80\xed\xb0\x80",
    "over": b"\xf4\x90\x80\x80",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "six-bytes": b"\xfc\x84\x80\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
}


def utf8() -> Iterator[tuple[str, Case]]:
    """6: UTF-8, valid and not, whole, in fragments, byte by byte."""
    for name, payload in VALID.items():
        echoed = [(TEXT, payload)]
        yield f"6-{name}", Case(frame(TEXT, payload), echoed)
        yield f"6-{name}-chopped", Case(frame(TEXT, payload), echoed, chop=1)
        bytewise = fragments(TEXT, *(payload[i : i + 1] for i in range(len(payload))))
        yield f"6-{name}-bytewise", Case(bytewise, echoed)
    for name, bad in INVALID.items():
        payload = GREEK + bad + b"edited"
        yield f"6-not-{name}", Case(frame(TEXT, payload), [], 1007)
        yield f"6-not-{name}-chopped", Case(frame(TEXT, payload), [], 1007, chop=1)
        yield f"6-not-{name}-fast", Case(fragments(TEXT, GREEK, bad, b"")[:-6], [], 1007)
        yield f"6-binary-{name}", Case(frame(BINARY, payload), [(BINARY, payload)])
    for size in range(1, 4):
        cut_off = b"\xf0\x9f\x98\x80"[:size]
        yield f"6-cut-off-{size}", Case(frame(TEXT, cut_off), [], 1007)
        yield f"6-cut-off-{size}-fragments", Case(fragments(TEXT, b"x", cut_off), [], 1007)


def closing() -> Iterator[tuple[str, Case]]:
    """7: close frames of all kinds, and what comes after them."""
    yield "7-empty", Case(frame(CLOSE), [], 1005)
    yield "7-one-byte", Case(frame(CLOSE, b"x"), [], 1002)
    yield "7-code", Case(frame(CLOSE, code(1000)), [], 1000)
    yield "7-reason", Case(frame(CLOSE, code(1000, b"Hello")), [], 1000)
    yield "7-reason-123", Case(frame(CLOSE, code(1000, b"x" * 123)), [], 1000)
    yield "7-reason-124", Case(frame(CLOSE, code(1000, b"x" * 124)), [], 1002)
    yield "7-reason-not-utf8", Case(frame(CLOSE, code(1000, GREEK + b"\xed\xa0\x80")), [], 1007)
    yield "7-close-twice", Case(frame(CLOSE, code(1000)) * 2, [], 1000)
    yield "7-text-after", Case(frame(CLOSE, code(1000)) + frame(TEXT, b"x"), [], 1000)
    yield "7-ping-after", Case(frame(CLOSE, code(1000)) + frame(PING), [], 1000)
    yield "7-garbage-after", Case(frame(CLOSE, code(1000)) + b"\xff" * 100, [], 1000)
    yield (
        "7-within-a-message",
        Case(frame(TEXT, b"x", fin=False) + frame(CLOSE, code(1000)), [], 1000),
    )
    yield "7-chopped", Case(frame(CLOSE, code(1000, b"Hello")), [], 1000, chop=1)
    for number in (1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"7-{number}", Case(frame(CLOSE, code(number)), [], number)
    for number in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7-{number}", Case(frame(CLOSE, code(number)), [], 1002)


def limits() -> Iterator[tuple[str, Case]]:
    """9: large messages, whole and in fragments; 10: writes of one message in many."""
    large = b"x" * 900_000
    yield "9-large-text", Case(frame(TEXT, large), [(TEXT, large)])
    yield "9-large-binary", Case(frame(BINARY, large), [(BINARY, large)])
    pieces = [large[i : i + 4096] for i in range(0, len(large), 4096)]
    yield "9-large-fragments", Case(fragments(BINARY, *pieces), [(BINARY, large)])
    yield "9-too-large-frame", Case(frame(BINARY, bytes(1_000_001)), [], 1009)
    yield "9-too-large-message", Case(fragments(BINARY, bytes(600_000), bytes(600_000)), [], 1009)
    yield "9-too-many-fragments", Case(fragments(TEXT, *[b""] * 5000), [], 1009)
    yield "9-many", Case(frame(TEXT, b"x") * 1000, [(TEXT, b"x")] * 1000)
    yield (
        "10-auto-fragment",
        Case(fragments(TEXT, *[b"*" * 1300] * 50), [(TEXT, b"*" * 65000)], chop=1000),
    )
    yield "5-unmasked", Case(b"\x81\x01x", [], 1002)


CASES = [
    pytest.param(case, id=name)
    for section in (framing, pings, reserved, fragmentation, utf8, closing, limits)
    for name, case in section()
]


@pytest.mark.parametrize("case", CASES)
@on_loop
async def test_case(case: Case) -> None:
    """What is sent comes back, or is refused with the code that the RFC names."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.open()
        step = case.chop or len(case.sent)
        for start in range(0, len(case.sent), step):
            peer.writer.write(case.sent[start : start + step])
            await peer.writer.drain()
        for expected in case.echoed:
            assert await peer.frame() == expected
        if case.code is not None:
            found, _ = await peer.closed()
            assert found == case.code
        else:
            peer.send(CLOSE, code(1000))
            assert await peer.closed() == (1000, "")


@on_loop
async def test_unfinished_messages_are_refused_fast() -> None:
    """What can never become UTF-8 is refused before its message is whole."""
    async with Serving(ECHO) as gateway:
        for sent in (
            frame(TEXT, GREEK + b"\xf4\x90", fin=False),
            frame(TEXT, GREEK + b"\xed\xa0" + bytes(50))[: 6 + len(GREEK) + 2],
        ):
            peer = await gateway.open()
            peer.writer.write(sent)
            assert (await peer.closed())[0] == 1007


@on_loop
async def test_no_extension_is_negotiated() -> None:
    """An offered extension is not answered."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw("/", "Sec-WebSocket-Extensions: permessage-deflate")
        _, headers, _ = await peer.response()
        assert "sec-websocket-extensions" not in headers


def test_the_set_has_no_doubles() -> None:
    """Every case has a name of its own."""
    names: list[Any] = [param.id for param in CASES]
    assert len(names) == len(set(names)) > 200
