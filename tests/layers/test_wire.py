"""The wire protocol between hub and clients."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ChannelFull, Fenced, LayerError, MessageTooLarge
from gateway.core.layers import wire
from gateway.core.layers.base import OK, Outcome
from gateway.core.layers.edge import ANNOUNCED, GROUP, HANDLED, MESSAGE, OUTCOME

values = st.none() | st.integers(0, 2**32) | st.binary(max_size=50) | st.text(max_size=10)
commands = st.lists(st.lists(values, min_size=1, max_size=4), max_size=4)


@settings(deadline=None)
@given(st.lists(commands, max_size=5), st.data())
def test_any_cutting(frames, data):
    """However the bytes are cut: the commands come out whole, in order."""
    stream = b"".join(wire.pack(frame) for frame in frames)
    expected = [command for frame in frames for command in frame]
    found = []
    reader = wire.Frames()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found == expected


def test_byte_by_byte():
    """One byte after the other is one such cutting."""
    reader = wire.Frames()
    stream = wire.pack([[1, b"x" * 300], [2]]) + wire.pack([[3]])
    found = [command for n in range(len(stream)) for command in reader.feed(stream[n : n + 1])]
    assert found == [[1, b"x" * 300], [2], [3]]


def test_a_large_frame():
    """A large frame is put together once, when it is whole, not anew at every read."""
    reader = wire.Frames()
    stream = wire.pack([[1, bytes(1_000_000)]]) + wire.pack([[2]])
    for start in range(0, 900_000, 100_000):
        assert not reader.feed(stream[start : start + 100_000])
    assert len(reader._pieces) == 9
    assert reader.feed(stream[900_000:]) == [[1, bytes(1_000_000)], [2]]
    assert not reader._pieces


def test_too_long():
    """A frame over 1 GiB is a ValueError, from its length alone."""
    with pytest.raises(ValueError, match="1 GiB"):
        wire.Frames().feed(b"\xff\xff\xff\xff")


def test_no_frame():
    """What is no array of arrays raises; it is never taken for a command."""
    for body in (b"\x01", b"\x91\x01", b"\xc1", b"\xa1x"):
        with pytest.raises(ValueError):
            wire.Frames().feed(len(body).to_bytes(4, "little") + body)


OUTCOMES = [
    OK,
    Outcome("accepted"),
    Outcome("rejected", 403, "no", ""),
    Outcome("released", delay=2.5),
    Outcome("failed", cause="lost"),
]


def travel(value):
    """Return a value as it comes out on the other side."""
    return wire.Frames().feed(wire.pack([[value]]))[0][0]


def test_outcomes():
    """Outcomes survive the way."""
    assert wire.unpack_outcomes(travel(wire.pack_outcomes(OUTCOMES))) == OUTCOMES


def test_settlements_together():
    """What is accepted without a word is counted in the settlement before it, of one delivery."""
    commands = []
    for tag in (7, 7, 7, 8):
        wire.add_settle(commands, tag, (OK,), [])
    assert commands == [[wire.SETTLE, 0, 7, 3, []], [wire.SETTLE, 0, 8, 1, []]]


def test_settlements_apart():
    """A send is told before the outcome of its own message, and behind those before it."""
    commands = []
    said = [(1, "a", b"")]
    wire.add_settle(commands, 7, (OK,), [])
    wire.add_settle(commands, 7, (OK,), said)
    wire.add_settle(commands, 7, (OK,), [])
    wire.add_settle(commands, 7, (Outcome("rejected"),), [])
    wire.add_settle(commands, 7, (OK,), [])
    assert [command[3] for command in commands] == [1, 1, 1, [Outcome("rejected")], 1]
    assert [command[4] for command in commands] == [[], said, [], [], []]


def test_items():
    """An edge's items arrive as the contract has them: tuples, outcomes, frozensets."""
    items = [
        (MESSAGE, "x.p_a!b", b"\x80"),
        (GROUP, "g", b"\x80", ["x"]),
        *[(OUTCOME, 1, n, outcome) for n, outcome in enumerate(OUTCOMES)],
        (HANDLED, 1, 5, 3),
        (ANNOUNCED, frozenset({"x", "y"})),
        (ANNOUNCED, None),
    ]
    found = wire.unpack_items(travel(wire.pack_items(items)))
    assert found == items
    assert [type(item) for item in found] == [tuple] * len(items)


@pytest.mark.parametrize(
    "error",
    [
        ChannelFull("x"),
        Fenced("gone"),
        MessageTooLarge("big"),
        ValueError("bad"),
        TypeError("odd"),
        LayerError("other"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors(error):
    """Errors arrive with their type and text."""
    found = wire.unpack_error(*travel(wire.pack_error(error)))
    assert type(found) is type(error)
    assert str(found) == str(error)


def test_an_error_of_another_kind():
    """Any other error arrives as a LayerError with its text."""
    assert str(wire.unpack_error(*wire.pack_error(KeyError("what")))) == "'what'"
    assert type(wire.unpack_error("KeyError", "what")) is LayerError
