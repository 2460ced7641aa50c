"""Messages as bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import MessageTooLarge
from gateway.core.layers import base, codec

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=20)
    | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
)
messages = st.dictionaries(text, values, max_size=5)


def tupled(value):
    """Return the value with tuples for lists."""
    if isinstance(value, list):
        return tuple(map(tupled, value))
    if isinstance(value, dict):
        return {key: tupled(inner) for key, inner in value.items()}
    return value


def same(one, other):
    """Return whether two values are equal, types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(messages)
def test_round_trip(message):
    """Every message comes back as it was, with the same types."""
    assert same(codec.decode(codec.encode(message)), message)


@given(messages)
def test_tuples_arrive_as_lists(message):
    """Tuples arrive as lists."""
    assert same(codec.decode(codec.encode(tupled(message))), message)


def test_nan():
    """A float that is not a number arrives as such."""
    assert math.isnan(codec.decode(codec.encode({"x": math.nan}))["x"])


@pytest.mark.parametrize("message", [None, [], "x", b"x", 1, [("a", 1)]], ids=repr)
def test_a_message_is_a_dict(message):
    """What is no dict is a TypeError."""
    with pytest.raises(TypeError, match="a message is a dict"):
        codec.encode(message)


@pytest.mark.parametrize("key", [1, b"a", None, (1,)], ids=repr)
def test_keys_are_str(key):
    """A key that is no str is a TypeError that shows it."""
    with pytest.raises(TypeError, match="keys are str"):
        codec.encode({"a": 1, key: 2})


@pytest.mark.parametrize(
    "value", [..., 1j, range(3), 2**64, -(2**63) - 1, "\ud800", ["\ud800"], len], ids=repr
)
def test_other_values(value):
    """A value that messages cannot hold is a TypeError."""
    with pytest.raises(TypeError):
        codec.encode({"a": value})
    with pytest.raises(TypeError):
        codec.encode({"a": [{"b": value}]})


def test_size():
    """One MiB encoded is the most; one byte more is MessageTooLarge, which says what to do."""
    overhead = len(codec.encode({"a": b"x" * 70_000})) - 70_000
    most = codec.MAX_MESSAGE - overhead
    assert len(codec.encode({"a": b"x" * most})) == codec.MAX_MESSAGE
    with pytest.raises(MessageTooLarge, match="chunks"):
        codec.encode({"a": b"x" * (most + 1)})


def test_payloads_are_deterministic():
    """Equal messages, keys in the same order, have equal payloads."""
    assert codec.encode({"a": 1, "b": [2]}) == codec.encode({"a": 1, "b": (2,)})


@pytest.mark.parametrize("keys", [0, 1, 14, 15, 16, 65534, 65535, 65536])
def test_unpinned(keys):
    """A payload is marked without being decoded, whatever the size of its map."""
    message = {f"k{n}": n for n in range(keys)}
    assert codec.decode(codec.unpinned(codec.encode(message))) == {**message, "unpinned": True}


def test_meta():
    """The meta of a member is a dict of 64 KiB at most; the error says whose it is."""
    assert codec.encode_meta({"a": 1}) == codec.encode({"a": 1})
    with pytest.raises(TypeError, match="the meta of a member is a dict, not str"):
        codec.encode_meta("ann")
    with pytest.raises(MessageTooLarge, match="the meta of a member is 70008 bytes encoded, over"):
        codec.encode_meta({"a": b"x" * 70_000})


def test_actions_are_checked_when_made():
    """A consumer's actions check names and values, and encode, when they are made."""
    assert base.send("x", {"a": 1}) == (base.SEND, "x", codec.encode({"a": 1}))
    assert base.group_send("g", {}, {"x"}) == (base.GROUP_SEND, "g", codec.encode({}), ["x"])
    assert base.group_add("g", "x") == (base.GROUP_ADD, "g", "x", None, False)
    assert base.group_discard("g", "x") == (base.GROUP_DISCARD, "g", "x")
    bad = [
        lambda: base.send("a b", {}),
        lambda: base.group_add("g!", "x"),
        lambda: base.group_add("g", "a b"),
        lambda: base.group_discard("g?", "x"),
        lambda: base.group_send("", {}),
    ]
    for make in bad:
        with pytest.raises(ValueError):
            make()
    for make in (lambda: base.send("x", {"a": object()}), lambda: base.group_add("g", "x", [])):
        with pytest.raises(TypeError):
            make()
