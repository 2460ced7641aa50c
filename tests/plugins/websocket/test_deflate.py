"""permessage-deflate: what is agreed on, what is sent, what is made of what comes."""

from __future__ import annotations

import itertools
import random
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

from gateway.core.errors import RemoteProtocolError
from gateway.core.websockets import frames, handshake
from gateway.core.websockets.frames import Event, Fault, Ping
from gateway.plugins.websocket import deflate
from gateway.plugins.websocket.deflate import FINALS, Agreed, ContextDeflater, Deflater, Inflater
from tests.plugins.websocket.peers import HANDSHAKE, Line, deflated, frame, head

NONE = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""What is answered where neither side goes on with its window."""


def agree(offer: bytes, window: int = 15, *, context: bool = False) -> Agreed | None:
    """Return what is agreed on for a handshake with that header."""
    request = head([*HANDSHAKE, (b"sec-websocket-extensions", offer)])
    return deflate.agree(handshake.check(request).extensions, window, context=context)


# ---------------------------------------------------------------- negotiation


@pytest.mark.parametrize(
    ("offer", "window", "context", "answer"),
    [
        (b"", 15, False, NONE),
        (b"", 15, True, b"permessage-deflate"),
        (b"", 12, True, b"permessage-deflate; server_max_window_bits=12"),
        (b"; client_max_window_bits", 15, False, NONE),
        (
            b"; client_max_window_bits",
            12,
            False,
            NONE + b"; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            b"; client_max_window_bits=10",
            15,
            True,
            b"permessage-deflate; client_max_window_bits=10",
        ),
        (b"; client_max_window_bits=8", 15, True, b"permessage-deflate; client_max_window_bits=8"),
        (
            b"; client_max_window_bits=15",
            9,
            True,
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        ),
        (
            b"; server_max_window_bits=10",
            15,
            True,
            b"permessage-deflate; server_max_window_bits=10",
        ),
        (
            b"; server_max_window_bits=15",
            15,
            True,
            b"permessage-deflate; server_max_window_bits=15",
        ),
        (
            b"; server_max_window_bits=15",
            12,
            True,
            b"permessage-deflate; server_max_window_bits=12",
        ),
        (
            b'; server_max_window_bits="10"',
            15,
            True,
            b"permessage-deflate; server_max_window_bits=10",
        ),
        (
            b"; server_no_context_takeover",
            15,
            True,
            b"permessage-deflate; server_no_context_takeover",
        ),
        (
            b"; client_no_context_takeover",
            15,
            True,
            b"permessage-deflate; client_no_context_takeover",
        ),
        (
            b" ; server_no_context_takeover;client_no_context_takeover ;server_max_window_bits = 9",
            15,
            True,
            NONE + b"; server_max_window_bits=9",
        ),
    ],
)
def test_accepted(offer: bytes, window: int, context: bool, answer: bytes) -> None:
    """What an offer asks for is met, and what it allows is used (RFC 7692 section 7.1)."""
    agreed = agree(b"permessage-deflate" + offer, window, context=context)
    assert agreed is not None
    assert agreed.answer == answer
    # What was answered is what is done.
    assert agreed.context == (b"server_no_context_takeover" not in answer)
    assert agreed.their_context == (b"client_no_context_takeover" not in answer)
    for name, bits in ((b"server", agreed.window), (b"client", agreed.their_window)):
        assert (name + b"_max_window_bits=%d" % bits in answer) == (
            name + b"_max_window_bits" in answer
        )
        assert bits == 15 or name + b"_max_window_bits" in answer


DECLINED = [
    b"; server_no_context_takeover=1",
    b"; client_no_context_takeover=x",
    b"; server_no_context_takeover; server_no_context_takeover",
    b"; client_no_context_takeover; client_no_context_takeover",
    b"; client_max_window_bits; client_max_window_bits=10",
    b"; server_max_window_bits=10; server_max_window_bits=10",
    b"; server_max_window_bits",
    b"; server_max_window_bits=7",
    b"; server_max_window_bits=16",
    b"; server_max_window_bits=010",
    b"; server_max_window_bits=+9",
    b"; server_max_window_bits=ten",
    b"; client_max_window_bits=7",
    b"; client_max_window_bits=16",
    b"; client_max_window_bits=08",
    b"; Server_No_Context_Takeover",
    b"; unknown",
    b"; unknown=1",
    # zlib makes no raw stream with a window of 256 bytes.
    b"; server_max_window_bits=8",
]


@pytest.mark.parametrize("parameters", DECLINED)
def test_declined(parameters: bytes) -> None:
    """An illegal offer is declined, and so is what cannot be met; the next one counts."""
    offer = b"permessage-deflate" + parameters
    assert agree(offer) is None
    agreed = agree(offer + b", permessage-deflate")
    assert agreed is not None
    assert agreed.answer == NONE


@pytest.mark.parametrize("offer", [b"x-webkit-deflate-frame", b"permessage-bzip2; x=1", b",,"])
def test_other_extensions(offer: bytes) -> None:
    """What we do not know is not answered."""
    assert agree(offer) is None


def test_order_of_preference() -> None:
    """The first offer that can be met is: the client puts first what it likes best."""
    agreed = agree(
        b"x-other, permessage-deflate; server_max_window_bits=9, "
        b"permessage-deflate; server_max_window_bits=10"
    )
    assert agreed is not None
    assert agreed.window == 9


@pytest.mark.parametrize("window", range(9, 16))
@pytest.mark.parametrize("context", [False, True])
def test_wsproto_accepts_what_we_answer(window: int, context: bool) -> None:
    """An independent client takes our answer to its offer, and both read each other."""
    client = PerMessageDeflate()
    offered = client.offer()
    assert isinstance(offered, str)
    agreed = agree(f"permessage-deflate; {offered}".encode(), window, context=context)
    assert agreed is not None
    client.finalize(agreed.answer.decode())
    assert (client.server_max_window_bits, client.client_max_window_bits) == (window, window)
    talk(client, agreed)


def talk(client: PerMessageDeflate, agreed: Agreed) -> None:
    """Have wsproto's client and us talk, with what was agreed on."""
    kind = ContextDeflater if agreed.context else Deflater
    ours = kind(agreed.window, 6, 1)
    reader = FrameProtocol(client=True, extensions=[client])
    line = Line(agreed=agreed)
    noise = random.Random(1)
    for number in range(6):
        text = "".join(noise.choices("ab \u00e4\u20ac", k=10 ** (number % 5)))
        reader.receive_bytes(ours.text_frame(text))
        assert "".join(f.payload for f in reader.received_frames()) == text
        writer = FrameProtocol(client=True, extensions=[client])
        line.feed(writer.send_data(text, fin=False), writer.send_data(text[:99], fin=True))
        assert line.events[-1] == text + text[:99]


# ---------------------------------------------------------------- what we send


def inflated(payload: bytes, window: int = 15) -> bytes:
    """Return what zlib makes of a payload without context."""
    return zlib.decompressobj(-window).decompress(payload + b"\x00\x00\xff\xff")


def payload_of(sent: bytes) -> tuple[int, bytes]:
    """Return the first byte and the payload of a frame that we send."""
    start = {126: 4, 127: 10}.get(sent[1], 2)
    return sent[0], sent[start:]


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=3000), st.integers(9, 15), st.integers(1, 9))
def test_what_we_send_is_inflated(payload: bytes, window: int, level: int) -> None:
    """zlib inflates what we compress with the window that was agreed on; it is never larger."""
    first, found = payload_of(Deflater(window, level, 1).binary_frame(payload))
    if first == frames.BINARY:
        assert found == payload
    else:
        assert first == frames.BINARY | frames.RSV1
        assert len(found) < len(payload)
        assert inflated(found, window) == payload


def test_small_messages_are_left_alone() -> None:
    """Messages under the bound are not compressed, and none that would grow."""
    deflater = Deflater(12, 6, 100)
    assert deflater.text_frame("a" * 99) == frames.text_frame("a" * 99)
    assert payload_of(deflater.text_frame("a" * 100))[0] == frames.TEXT | frames.RSV1
    noise = random.Random(1).randbytes(5000)
    assert deflater.binary_frame(noise) == frames.binary_frame(noise)


def test_each_message_stands_alone() -> None:
    """Without context takeover equal messages make equal frames, and nothing is kept."""
    deflater = Deflater(12, 6, 1)
    assert deflater.text_frame("hello" * 50) == deflater.text_frame("hello" * 50)
    assert not hasattr(deflater, "_kept")


def test_context() -> None:
    """With it the second of two equal messages is hardly more than a reference to the first."""
    deflater = ContextDeflater(12, 6, 1)
    text = "".join(random.Random(1).choices("abcdefgh", k=500))
    first, second = (payload_of(deflater.text_frame(text))[1] for _ in range(2))
    assert len(second) < len(first) / 4
    reader = zlib.decompressobj(-12)
    for sent in (first, second):
        assert reader.decompress(sent + b"\x00\x00\xff\xff").decode() == text


def test_context_of_what_grows() -> None:
    """With context takeover even what grows is sent compressed: the window has moved on."""
    deflater = ContextDeflater(12, 6, 1)
    noise = random.Random(1).randbytes(1000)
    first, sent = payload_of(deflater.binary_frame(noise))
    assert first == frames.BINARY | frames.RSV1
    assert len(sent) > len(noise)


# ---------------------------------------------------------------- what we read

NO_CONTEXT = Agreed(NONE, 15, False, 15, False)
CONTEXT = Agreed(b"permessage-deflate", 15, True, 15, True)


def read(*pieces: bytes, agreed: Agreed | None = NO_CONTEXT, **limits: int) -> list[Event]:
    """Return what a connection that agreed on compression hands over."""
    return Line(agreed=agreed, **limits).feed(*pieces)


EXAMPLES = {
    "7.2.3.1": "f248cdc9c90700",
    "7.2.3.3-no-compression": "000500faff48656c6c6f00",
    "7.2.3.4-final-block": "f348cdc9c9070000",
    "7.2.3.5-two-blocks": "f24805000000ffffcac9c90700",
    "final-block-alone": "f348cdc9c90700",
    "final-empty-block-at-the-end": "f248cdc9c907000000ffff01",
}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("chop", [1, 2, 3, 1000])
def test_examples(name: str, chop: int) -> None:
    """The examples of RFC 7692, and final blocks where encoders put them, in frames of any size."""
    payload = bytes.fromhex(EXAMPLES[name])
    parts = [payload[start : start + chop] for start in range(0, len(payload), chop)]
    wire = b"".join(
        frame(0 if number else 1, part, fin=number == len(parts) - 1, rsv=0 if number else 4)
        for number, part in enumerate(parts)
    )
    assert read(wire) == ["Hello"]
    assert read(*(wire[i : i + 1] for i in range(len(wire)))) == ["Hello"]


def test_context_example() -> None:
    """The example of RFC 7692 section 7.2.3.2: the second message refers to the first."""
    wire = [frame(1, bytes.fromhex(text), rsv=4) for text in ("f248cdc9c90700", "f200110000")]
    assert read(*wire, agreed=CONTEXT) == ["Hello", "Hello"]
    fault = read(*wire)[1]
    assert isinstance(fault, Fault)
    assert fault.code == 1007


def test_the_window_outlives_final_blocks() -> None:
    """What follows a final block may refer to what came before it, in this message and the last."""
    codec = zlib.compressobj(wbits=-15)
    first = codec.compress(b"Hello, hello") + codec.flush(zlib.Z_FINISH)
    for context, pieces in (
        (NO_CONTEXT, [frame(1, first, fin=False, rsv=4)]),
        (CONTEXT, [frame(1, first, rsv=4)]),
    ):
        again = zlib.compressobj(wbits=-15, zdict=b"Hello, hello")
        second = (again.compress(b"Hello, hello") + again.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert len(second) < 8
        last = frame(0, second) if context is NO_CONTEXT else frame(1, second, rsv=4)
        assert "".join(read(*pieces, last, agreed=context)) == "Hello, hello" * 2  # type: ignore[arg-type]


@pytest.mark.parametrize("opcode", [1, 2])
def test_empty(opcode: int) -> None:
    """An empty message is empty, with the byte that stands for it and without."""
    expected: Any = "" if opcode == 1 else b""
    for payload in (b"\x00", b"\x02\x00", b"\x03\x00", b""):
        assert read(frame(opcode, payload, rsv=4)) == [expected]


def test_mixed_with_uncompressed() -> None:
    """On a connection that agreed on compression each message may do without."""
    wire = frame(1, b"plain") + frame(2, deflated(b"x" * 500), rsv=4) + frame(1, b"again")
    assert read(wire) == ["plain", b"x" * 500, "again"]


def test_control_frames_between() -> None:
    """Control frames between the fragments of a compressed message are not compressed."""
    payload = deflated(b"Hello, hello, hello")
    wire = (
        frame(1, payload[:3], fin=False, rsv=4)
        + frame(9, b"ping")
        + frame(0, b"", fin=False)
        + frame(9, b"pong")
        + frame(0, payload[3:])
    )
    expected = [Ping(b"ping"), Ping(b"pong"), "Hello, hello, hello"]
    assert read(wire) == expected
    assert read(*(wire[i : i + 1] for i in range(len(wire)))) == expected


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(frame(9, deflated(b"x"), rsv=4), id="ping"),
        pytest.param(frame(10, b"", rsv=4), id="pong"),
        pytest.param(frame(8, b"\x03\xe8", rsv=4), id="close"),
        pytest.param(
            frame(1, deflated(b"x"), fin=False, rsv=4) + frame(0, b"", rsv=4), id="continuation"
        ),
        pytest.param(frame(1, b"x", fin=False) + frame(0, b"", rsv=4), id="late"),
        pytest.param(frame(1, deflated(b"x"), rsv=5), id="rsv3"),
        pytest.param(frame(1, deflated(b"x"), rsv=6), id="rsv2"),
        pytest.param(frame(1, deflated(b"x"), rsv=2), id="rsv2-alone"),
    ],
)
def test_reserved_bits(wire: bytes) -> None:
    """RSV1 stands in the first frame of a message and nowhere else (RFC 7692 section 6): 1002."""
    *_, fault = read(wire)
    assert isinstance(fault, Fault)
    assert fault.code == 1002


def test_nothing_was_agreed_on() -> None:
    """Without an agreement RSV1 is a fault as any reserved bit is: 1002."""
    (fault,) = read(frame(1, deflated(b"x"), rsv=4), agreed=None)
    assert isinstance(fault, Fault)
    assert fault.code == 1002


BAD = {
    "reserved-block": b"\x06",
    "garbage": b"\xff\xff\xff",
    "too-far-back": bytes.fromhex("f200110000"),
    "cut-off": deflated(b"Hello, hello, hello")[:-4],
    "in-a-long-stored-block": b"\x00\x64\x00\x9b\xffHe",
    "in-a-stored-block": b"\x00\x05\x00\xfa\xffHe",
    "with-its-tail": deflated(b"Hello") + b"\x00\x00\xff\xff\xff",
    "after-the-final-block": bytes.fromhex("f348cdc9c90700ff"),
    "not-utf-8": deflated(b"\xff\xff"),
    "half-a-character": deflated(b"abc\xe2\x82"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("agreed", [NO_CONTEXT, CONTEXT])
def test_bad_data(name: str, agreed: Agreed) -> None:
    """What cannot be inflated, or is no text then, is refused: 1007. However it is cut."""
    for wire in (
        frame(1, BAD[name], rsv=4),
        frame(1, BAD[name][:1], fin=False, rsv=4) + frame(0, BAD[name][1:]),
    ):
        before = frame(1, b"fine")
        for pieces in ([before + wire], [before, *(wire[i : i + 1] for i in range(len(wire)))]):
            found, fault = read(*pieces, agreed=agreed)
            assert found == "fine"
            assert isinstance(fault, Fault)
            assert fault.code == 1007


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("cut", [1, 3, 10_000])
def test_inflated_size(cut: int) -> None:
    """A message may inflate to max_message bytes and no more: 1009."""
    for size, whole in ((5000, True), (5001, False)):
        payload = deflated(bytes(size))
        parts = [payload[start : start + cut] for start in range(0, len(payload), cut)]
        wire = [
            frame(0 if number else 2, part, fin=number == len(parts) - 1, rsv=0 if number else 4)
            for number, part in enumerate(parts)
        ]
        (found,) = read(*wire, max_message=5000)
        if whole:
            assert found == bytes(5000)
        else:
            assert found == Fault(1009, "a message of over 5000 bytes")


@pytest.mark.parametrize("agreed", [NO_CONTEXT, CONTEXT])
def test_bomb(agreed: Agreed) -> None:
    """A bomb never takes more memory than the largest message, in one frame or in many."""
    payload = deflated(bytes(200_000_000))
    half = len(payload) // 2
    for wire in (
        frame(2, payload, rsv=4),
        frame(2, payload[:half], fin=False, rsv=4) + frame(0, payload[half:]),
    ):
        line = Line(agreed=agreed, max_message=1_000_000)
        tracemalloc.start()
        (fault,) = line.feed(wire)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(fault, Fault)
        assert fault.code == 1009
        assert peak < 4_000_000


def test_what_cannot_be_compressed() -> None:
    """A message of the largest size passes though deflate made it larger; its frame's size counts."""
    noise = random.Random(1).randbytes(4000)
    payload = deflated(noise)
    assert len(payload) > 4000
    limits = {"max_message": 4000, "max_frame": 4000}
    assert read(frame(2, payload, rsv=4), **limits) == [noise]
    (fault,) = read(frame(2, deflated(bytes(100)) + bytes(4200), rsv=4), **limits)
    assert fault == Fault(1009, "a frame of over 4000 bytes")


def test_final_blocks_are_counted() -> None:
    """Each final block costs us far more than its two bytes: a message may have some dozens."""
    assert read(frame(1, b"\x03\x00" * FINALS, rsv=4)) == [""]
    (fault,) = read(frame(1, b"\x03\x00" * (FINALS + 1), rsv=4))
    assert isinstance(fault, Fault)
    assert fault.code == 1009


def test_nothing_is_kept() -> None:
    """Without context takeover nothing of a message is left when it is over, and no zlib object."""
    payload = deflated(b"Hello" * 99)
    for pieces in (
        [frame(1, payload, rsv=4)],
        [frame(1, payload[:9], fin=False, rsv=4), frame(0, payload[9:])],
    ):
        line = Line(agreed=NO_CONTEXT)
        assert line.feed(*pieces) == ["Hello" * 99]
        inflater = line.wire._inflater
        assert inflater is not None
        assert (inflater._codec, inflater._history) == (None, b"")
        assert line.wire._engine is None


def test_what_is_kept() -> None:
    """With context takeover a window is kept, as large as was agreed on, and no zlib object."""
    line = Line(agreed=Agreed(b"", 12, True, 10, True))
    line.feed(*(frame(2, deflated(random.Random(n).randbytes(999), 10), rsv=4) for n in range(5)))
    inflater = line.wire._inflater
    assert inflater is not None
    assert inflater._codec is None
    assert len(inflater._history) == 1 << 10


# ---------------------------------------------------------------- the short road


def test_the_short_road() -> None:
    """Whole short frames, compressed or not, need no engine."""
    events: list[Event] = []
    inflater = Inflater(15, 100_000, context=False)
    wire = frame(1, b"a") + frame(1, deflated(b"b" * 300), rsv=4) + frame(2, deflated(b"c"), rsv=4)
    assert frames.split(wire, 0, 64, 65535, events, inflater) == len(wire)
    assert events == ["a", "b" * 300, b"c"]


@pytest.mark.parametrize("name", [name for name in BAD if name != "too-far-back"])
def test_the_long_road_begins_anew(name: str) -> None:
    """What the short road cannot read is left as if it had not come, for the long one to judge."""
    events: list[Event] = []
    inflater = Inflater(15, 100_000, context=True)
    wire = frame(1, deflated(b"Hello"), rsv=4)
    assert frames.split(wire, 0, 64, 65535, events, inflater) == len(wire)
    assert frames.split(frame(1, BAD[name], rsv=4), 0, 64, 65535, events, inflater) == 0
    assert inflater._history == b"Hello"


texts = st.text(max_size=300) | st.text(min_size=1, max_size=5).map(lambda text: text * 200)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.tuples(texts, st.integers(1, 400), st.booleans()), max_size=6),
    st.lists(st.integers(0, 20000), max_size=20),
    st.booleans(),
)
def test_any_cutting(sent: Any, places: list[int], context: bool) -> None:
    """However messages are cut into fragments, and those into reads, they come out the same."""
    codec = zlib.compressobj(wbits=-15)
    wire = b""
    for text, size, plain in sent:
        payload = text.encode()
        if not plain:
            if not context:
                codec = zlib.compressobj(wbits=-15)
            payload = (codec.compress(payload) + codec.flush(zlib.Z_SYNC_FLUSH))[:-4]
        parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
        for number, part in enumerate(parts):
            rsv = 0 if number or plain else 4
            wire += frame(0 if number else 1, part, fin=number == len(parts) - 1, rsv=rsv)
    ends = sorted({place % (len(wire) + 1) for place in places} | {0, len(wire)})
    pieces = [wire[start:end] for start, end in itertools.pairwise(ends)]
    agreed = CONTEXT if context else NO_CONTEXT
    assert read(*pieces, agreed=agreed) == [text for text, _, _ in sent]


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_any_bytes(payload: bytes, places: list[int], context: bool) -> None:
    """Whatever a compressed frame holds, it is a message or a fault, and the same one in pieces."""
    agreed = CONTEXT if context else NO_CONTEXT
    whole = read(frame(2, payload, rsv=4), agreed=agreed)
    ends = sorted({place % (len(payload) + 1) for place in places} | {0, len(payload)})
    parts = [payload[start:end] for start, end in itertools.pairwise(ends)] or [b""]
    cut = [
        frame(0 if n else 2, part, fin=n == len(parts) - 1, rsv=0 if n else 4)
        for n, part in enumerate(parts)
    ]
    assert read(*cut, agreed=agreed) == whole
    (found,) = whole
    if isinstance(found, bytes):
        reader = zlib.decompressobj(-15)
        assert found.startswith(reader.decompress(payload + b"\x00\x00\xff\xff"))


def test_the_answer_of_an_error() -> None:
    """What the inflater raises carries the fault that the peer hears."""
    inflater = Inflater(15, 10, context=False)
    inflater.begin()
    with pytest.raises(RemoteProtocolError) as caught:
        inflater.feed(deflated(bytes(11)))
    assert caught.value.answer == Fault(1009, "a message of over 10 bytes")
