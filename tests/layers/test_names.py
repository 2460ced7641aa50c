"""Channel names, group names and addresses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.core import names

PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
plain = st.text(PLAIN, min_size=1, max_size=60)
public = st.text(min_size=1, max_size=12)


@given(plain)
def test_plain_names(name):
    """ASCII letters, digits, ``.``, ``-``, ``_`` make a name of a channel and of a group."""
    assert names.check_channel(name) == names.check_group(name) == name


@given(plain, st.sampled_from("!?"), st.text(PLAIN, max_size=60))
def test_names_with_a_mark(head, mark, tail):
    """A channel's name may have one ``?`` or ``!``, which is not first; a group's has none."""
    name = head + mark + tail
    assert names.check_channel(name) == name
    with pytest.raises(ValueError):
        names.check_group(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "!",
        "?",
        "!a",
        "?a",
        "a b",
        "a\n",
        "a\x00",
        "a/b",
        "ä",
        "a!b!c",
        "a?b?c",
        "a!b?c",
        "a" * 201,
    ],
)
def test_bad_names(name):
    """Anything else is a ValueError that says why."""
    with pytest.raises(ValueError, match="channel name"):
        names.check_channel(name)
    with pytest.raises(ValueError, match="group name"):
        names.check_group(name)


def test_the_longest_name():
    """A name has at most 200 characters."""
    assert names.check_channel("a" * 200)
    assert names.check_group("a" * 200)


@pytest.mark.parametrize("name", [None, 1, b"a", ["a"]])
def test_names_are_str(name):
    """What is no str is a TypeError."""
    for check in (names.check_channel, names.check_group):
        with pytest.raises(TypeError):
            check(name)


@given(st.text(max_size=30))
def test_a_name_is_valid_or_refused(name):
    """Whatever the text: it is returned as it is, or refused with a ValueError."""
    valid = re.fullmatch(r"[A-Za-z0-9._-]+([!?][A-Za-z0-9._-]*)?", name)
    try:
        assert names.check_channel(name) == name
    except ValueError:
        assert valid is None
    else:
        assert valid is not None


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("websocket.send.p_k3J9!x7", "p_k3J9"),
        ("p_k3J9!", "p_k3J9"),
        ("a.p_x!b.c", "p_x"),
        ("http.request", None),
        ("http.request.body?p_x", None),
        ("mqtt.publish!p_x", None),
        ("ap_x!b", None),
        ("a.p_x.b!c", None),
        ("p_x", None),
    ],
)
def test_process_of(name, process):
    """A process-specific name has its process just before the ``!``."""
    assert names.process_of(name) == process


def test_new_process():
    """A new process name is unlike all others, and is recognised."""
    found = {names.new_process() for _ in range(200)}
    assert len(found) == 200
    for name in found:
        assert names.process_of(f"x.{name}!1") == name
        names.check_group(name)


@pytest.mark.parametrize("name", ["x", "x?a", "x!", "x.p_a!b", "p_a!"])
def test_receivable(name):
    """Channels, prefixes and names of processes can be received from."""
    assert names.check_receivable(name) == name


@pytest.mark.parametrize(
    ("name", "prefix"), [("x!a", "'x!'"), ("mqtt.publish!a_2fb", "'mqtt.publish!'"), ("a b", "a b")]
)
def test_not_receivable(name, prefix):
    """One address cannot: the error names its prefix; nor can what is no name."""
    with pytest.raises(ValueError, match=prefix):
        names.check_receivable(name)


@given(public)
def test_address_round_trip(name):
    """Any public name survives as an address, which is a valid channel name."""
    address = names.address("mqtt.publish", name)  # 12 characters escape to 144 at most
    assert names.check_channel(address) == address
    assert names.parse_address(address) == ("mqtt.publish", name)


@given(st.lists(public, min_size=2, max_size=3))
def test_address_of_parts_round_trip(parts):
    """So do several parts, dots in them included."""
    try:
        address = names.address("irc.say", *parts)
    except ValueError:
        return
    assert names.parse_address(address, parts=len(parts)) == ("irc.say", *parts)


@given(st.lists(public, min_size=2, max_size=2), st.lists(public, min_size=2, max_size=2))
def test_addresses_differ(one, other):
    """Different names have different addresses."""
    try:
        same = names.address("v", *one) == names.address("v", *other)
    except ValueError:
        return
    assert same == (one == other)


def test_addresses_as_written():
    """Bytes other than letters, digits, ``.`` and ``-`` are written ``_hh``."""
    assert gateway.address("mqtt.publish", "sensors/alerts") == "mqtt.publish!sensors_2falerts"
    assert gateway.address("irc.say", "libera.chat", "#django") == "irc.say!libera_2echat._23django"
    assert gateway.address("mqtt.publish", "a_b.c-d") == "mqtt.publish!a_5fb.c-d"
    assert gateway.address("email.send", "ä") == "email.send!_c3_a4"
    assert gateway.parse_address("mqtt.publish!sensors_2falerts") == (
        "mqtt.publish",
        "sensors/alerts",
    )


def test_a_long_address():
    """An address over 200 characters is a ValueError that names the normal channel to use."""
    with pytest.raises(ValueError, match=r"'mqtt\.publish'"):
        names.address("mqtt.publish", "x" * 200)


@pytest.mark.parametrize("parts", [(), ("",), ("a", "")])
def test_an_address_has_a_name(parts):
    """An address of nothing is a ValueError."""
    with pytest.raises(ValueError):
        names.address("mqtt.publish", *parts)


@pytest.mark.parametrize("verb", ["", "a!", "a b"])
def test_an_address_has_a_verb(verb):
    """A verb that is no name is a ValueError."""
    with pytest.raises(ValueError):
        names.address(verb, "x")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mqtt.publish", 1),
        ("mqtt.publish!", 1),
        ("mqtt.publish?x", 1),
        ("x.p_abc!y", 1),
        ("irc.say!one", 2),
        ("irc.say!one.two.three", 2),
        ("v!a_", 1),
        ("v!a_2", 1),
        ("v!a_zz", 1),
        ("v!_ff", 1),
        ("v!a_ 2", 1),
    ],
)
def test_no_address(name, parts):
    """What `address` cannot have made is a ValueError."""
    with pytest.raises(ValueError):
        names.parse_address(name, parts)


@given(st.text(PLAIN, max_size=20))
def test_unescape(text):
    """`unescape` undoes `escape`, or raises ValueError; nothing else."""
    try:
        found = names.unescape(text)
    except ValueError:
        return
    assert names.unescape(names.escape(found)) == found


def test_fill():
    """A pattern that ends in ``?`` is filled with a random rest; any other is a ValueError."""
    assert re.fullmatch(r"x\.y\?[A-Za-z0-9]{12}", names.fill("x.y?"))
    for pattern in ("x", "x!", "x?y", "", "?", "x" * 190 + "?"):
        with pytest.raises(ValueError):
            names.fill(pattern)
