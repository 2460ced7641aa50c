"""Frames: ours against wsproto's, and any cutting of them gives the same events."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from gateway.core.websockets import frames
from gateway.core.websockets.engine import SLICE, Engine
from gateway.core.websockets.frames import Closed, Event, Fault, Ping, Pong
from gateway.plugins.websocket.config import WebsocketConfig
from tests.plugins.websocket.peers import Line, frame

SETTINGS = {"max_message": 5000, "max_frame": 4000, "max_fragments": 20}
LONGEST = 4000


def read(pieces: list[bytes]) -> list[Event]:
    """Return what a connection hands over of the bytes that arrive."""
    return Line(**SETTINGS).feed(*pieces)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


text = st.text(max_size=200) | st.text(min_size=126, max_size=600)
data = st.binary(max_size=200) | st.integers(126, 3000).map(bytes)
masks = st.binary(min_size=4, max_size=4)


@st.composite
def messages(draw: Any) -> tuple[bytes, list[Event]]:
    """Return one message or control frame, and the events that it means."""
    kind = draw(st.sampled_from(["text", "bytes", "ping", "pong", "fragments"]))
    mask = draw(masks)
    if kind == "text":
        words = draw(text)
        return frame(1, words.encode(), mask=mask), [words]
    if kind == "bytes":
        payload = draw(data)
        return frame(2, payload, mask=mask), [payload]
    if kind == "ping":
        payload = draw(st.binary(max_size=125))
        return frame(9, payload, mask=mask), [Ping(payload)]
    if kind == "pong":
        return frame(10, draw(st.binary(max_size=125)), mask=mask), [Pong()]
    words = draw(text)
    pieces = cut(words.encode(), draw(st.lists(st.integers(0, 2000), max_size=4)))
    pieces = pieces or [b""]
    wire, events = b"", []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        wire += frame(0 if number else 1, piece, fin=last, mask=mask)
        if not last and draw(st.booleans()):
            wire += frame(9, b"between", mask=mask)
            events.append(Ping(b"between"))
    return wire, [*events, words]


ENDS: list[tuple[bytes, Event | None]] = [
    (b"", None),
    (frame(8), Closed(1005, "")),
    (frame(8, b"\x03\xe8bye"), Closed(1000, "bye")),
    (frame(8, b"\x03\xedx"), Fault(1002, "close code 1005 may not be sent")),
]


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(messages(), max_size=8),
    st.sampled_from(ENDS),
    st.lists(st.integers(0, 20000), max_size=30),
)
def test_any_cutting(sent: Any, end: Any, places: list[int]) -> None:
    """However the bytes are cut, the events are the same."""
    wire = b"".join(piece for piece, _ in sent) + end[0]
    expected = [event for _, events in sent for event in events]
    if end[1] is not None:
        expected.append(end[1])
    assert read(cut(wire, places)) == expected
    if len(wire) < 1000:
        assert read([wire[i : i + 1] for i in range(len(wire))]) == expected


invalid = st.sampled_from([b"\xed\xa0", b"\xf4\x90", b"\xe2\x82a", b"\x80", b"\xf5", b"\xe2\x82"])


@settings(deadline=None)  # the machine may be busy
@given(text, invalid, text, st.booleans(), st.lists(st.integers(0, 3000), max_size=8))
def test_any_cutting_of_what_is_not_utf8(
    before: str, bad: bytes, after: str, fin: bool, places: list[int]
) -> None:
    """However the bytes are cut, the same fault is found at the same place."""
    wire = frame(1, before.encode() + bad + after.encode(), fin=fin)
    assert read(cut(wire, places)) == read([wire]) == read([bytes((b,)) for b in wire])


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes(garbage: bytes, places: list[int]) -> None:
    """Whatever comes is events, and the same ones however it is cut; nothing raises."""
    assert read(cut(garbage, places)) == read([garbage])


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=100), masks)
def test_agrees_with_wsproto(payload: bytes, mask: bytes) -> None:
    """What wsproto's reader takes for a message we do, and what it refuses we refuse, same code."""
    for first in (0x81, 0x82, 0x88, 0x89, 0x8A, 0x83, 0x01, 0x09, 0xC1, 0x80):
        wire = bytes((first, 0x80 | len(payload))) + mask + payload
        reader = FrameProtocol(client=False, extensions=[])
        reader.receive_bytes(wire)
        try:
            theirs = [
                (found.opcode, found.payload)
                for found in reader.received_frames()
                if found.message_finished and found.frame_finished
            ]
        except ParseFailed as error:
            code = int(error.code)
            (fault,) = read([wire])
            assert isinstance(fault, Fault)
            assert fault.code == code
            continue
        ours: list[Any] = []
        for event in read([wire]):
            if isinstance(event, str):
                ours.append((Opcode.TEXT, event))
            elif isinstance(event, bytes):
                ours.append((Opcode.BINARY, event))
            elif isinstance(event, Ping):
                ours.append((Opcode.PING, event.payload))
            elif isinstance(event, Closed):
                code = CloseReason.NO_STATUS_RCVD if event.code == 1005 else event.code
                ours.append((Opcode.CLOSE, (code, event.reason or None)))
            elif isinstance(event, Fault):
                # wsproto lets some close codes pass that may not be sent.
                assert first == 0x88
                ours = theirs
        if first != 0x8A:
            assert [(op, _plain(p)) for op, p in ours] == [(op, _plain(p)) for op, p in theirs]


def _plain(payload: Any) -> Any:
    if isinstance(payload, tuple):
        return int(payload[0]), payload[1] or None
    return bytes(payload) if isinstance(payload, bytearray) else payload


@settings(deadline=None)  # the machine may be busy
@given(text, data)
def test_what_we_send(words: str, payload: bytes) -> None:
    """wsproto's client reads our frames for what they are."""
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(
        frames.text_frame(words)
        + frames.binary_frame(payload)
        + frames.control_frame(frames.PING, payload[:125])
        + frames.close_frame(4000, words[:30])
    )
    found = [(item.opcode, _plain(item.payload)) for item in reader.received_frames()]
    assert found == [
        (Opcode.TEXT, words),
        (Opcode.BINARY, payload),
        (Opcode.PING, payload[:125]),
        (Opcode.CLOSE, (4000, words[:30] or None)),
    ]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 2047, 2048, 2049, 4000])
@pytest.mark.parametrize("opcode", [1, 2])
def test_sizes(size: int, opcode: int) -> None:
    """Every form of the length is read, by the short road and by the long one."""
    payload = b"x" * size
    expected = payload.decode() if opcode == 1 else payload
    assert read([frame(opcode, payload)]) == [expected]


def test_the_short_road() -> None:
    """A whole short frame costs no engine, many of them cost none either."""
    events: list[Event] = []
    wire = frame(1, b"a") + frame(2, b"b" * 130) + frame(9, b"c") + frame(10)
    assert frames.split(wire, 0, 64, LONGEST, events) == len(wire)
    assert events == ["a", b"b" * 130, Ping(b"c"), Pong()]


def test_most() -> None:
    """It stops after as many events as are wanted, and goes on from there."""
    events: list[Event] = []
    wire = frame(1, b"a") * 5
    pos = frames.split(wire, 0, 2, LONGEST, events)
    assert (pos, events) == (14, ["a", "a"])


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(frame(1, b"a", fin=False), id="fragment"),
        pytest.param(frame(0, b"a"), id="continuation"),
        pytest.param(frame(8), id="close"),
        pytest.param(frame(1, b"a", rsv=4), id="reserved-bit"),
        pytest.param(frame(3), id="opcode"),
        pytest.param(frame(1, b"a")[:-1], id="partial"),
        pytest.param(b"\x81\x01a" + bytes(9), id="unmasked"),
        pytest.param(frame(1, b"\xff"), id="utf-8"),
        pytest.param(frame(9, bytes(126)), id="long-ping"),
        pytest.param(frame(2, bytes(2049)), id="long"),
        pytest.param(b"\x82\xfe\x00\x05" + bytes(9), id="not-minimal"),
        pytest.param(b"\x82\xff" + bytes(8) + bytes(4), id="64-bit"),
    ],
)
def test_the_long_road(wire: bytes) -> None:
    """Whatever is not simple is left where it stands."""
    events: list[Event] = []
    assert frames.split(frame(1, b"ok") + wire, 0, 64, LONGEST, events) == 8
    assert events == ["ok"]


def test_back_on_the_short_road() -> None:
    """After a message in fragments the engine may be dropped, and has read nothing beyond."""
    engine = Engine(WebsocketConfig(**SETTINGS))
    events: list[Event] = []
    wire = frame(1, b"a", fin=False) + frame(0, b"b")
    assert engine.feed(wire + frame(1, b"next"), 0, events) == len(wire)
    assert events == ["ab"]
    assert engine.idle


def test_slices() -> None:
    """An engine is fed a slice at a time, since it copies the rest for every frame."""
    engine = Engine(WebsocketConfig())
    assert engine.feed(frame(2, bytes(5 * SLICE)), 0, []) == SLICE
    assert not engine.idle


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(frame(2, bytes(4001)), 1009, id="frame"),
        pytest.param(frame(2, bytes(3000), fin=False) + frame(0, bytes(2001)), 1009, id="message"),
        pytest.param(frame(2, fin=False) + frame(0, fin=False) * 20, 1009, id="fragments"),
        pytest.param(struct.pack("!BBQ", 0x82, 0xFF, 1 << 62) + b"mask", 1009, id="enormous"),
        pytest.param(struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + b"mask", 1002, id="negative"),
        pytest.param(struct.pack("!BBQ", 0x82, 0xFF, 5) + b"mask.....", 1002, id="not-minimal-64"),
        pytest.param(struct.pack("!BBH", 0x82, 0xFE, 5) + b"mask.....", 1002, id="not-minimal-16"),
    ],
)
def test_limits(wire: bytes, code: int) -> None:
    """Too much is refused by what the head says, before it has come."""
    for pieces in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        *_, fault = read(pieces)
        assert isinstance(fault, Fault)
        assert fault.code == code


def test_limits_are_told_by_the_head_alone() -> None:
    """A frame over the limit is refused before any of its payload is there."""
    (fault,) = read([struct.pack("!BBH", 0x82, 0xFE, 4001) + b"mask"])
    assert isinstance(fault, Fault)
    assert fault.code == 1009


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"\xff", id="never"),
        pytest.param(b"\xc0", id="overlong-2"),
        pytest.param(b"\xe0\x80", id="overlong-3"),
        pytest.param(b"\xf0\x80", id="overlong-4"),
        pytest.param(b"\xed\xa0", id="surrogate"),
        pytest.param(b"\xf4\x90", id="over-10ffff"),
        pytest.param(b"\xf5", id="over-13ffff"),
        pytest.param(b"\xcea", id="interrupted"),
    ],
)
def test_utf8_fails_fast(part: bytes) -> None:
    """What cannot become UTF-8 any more is refused at once, in a fragment or in part of a frame."""
    whole = b"\xce\xba" + part + bytes(5)
    partial = frame(1, whole)[: 6 + 2 + len(part)]
    for wire in (frame(1, b"\xce\xba" + part, fin=False), partial):
        (fault,) = read([wire])
        assert isinstance(fault, Fault)
        assert fault.code == 1007


def test_characters_over_fragments() -> None:
    """A character may be cut by fragments, but not by the end of the message."""
    assert read([frame(1, b"\xe2\x82", fin=False) + frame(0, b"\xac")]) == ["\u20ac"]
    (fault,) = read([frame(1, b"\xe2\x82", fin=False) + frame(0, b"")])
    assert isinstance(fault, Fault)
    assert fault.code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_good_close_codes(code: int) -> None:
    """What a close frame may carry (RFC 6455 section 7.4, IANA's registry)."""
    assert read([frame(8, code.to_bytes(2, "big") + b"x")]) == [Closed(code, "x")]


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_bad_close_codes(code: int) -> None:
    """What it may not."""
    (fault,) = read([frame(8, code.to_bytes(2, "big"))])
    assert isinstance(fault, Fault)
    assert fault.code == 1002


def test_small_frames_in_one_read() -> None:
    """Many small frames behind one that is not simple cost no more than their number."""
    events = read(
        [frame(8)[:0] + frame(1, b"a", fin=False) + frame(0, b"b") + frame(1, b"c") * 5000]
    )
    assert len(events) == 5001


def test_nothing_after_the_close() -> None:
    """What comes after a close frame is not read (RFC 6455 section 5.5.1)."""
    assert read([frame(8) + frame(1, b"x")]) == [Closed(1005, "")]
