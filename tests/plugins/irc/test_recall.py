"""CHATHISTORY: what was said, from what the layer keeps."""

from __future__ import annotations

import pytest

from gateway.plugins.irc.messages import channel_group
from gateway.plugins.irc.server.recall import Bad, choose, dated
from tests.plugins.irc.net import Net

CAPS = "draft/chathistory batch server-time message-tags"


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000Z"


KEPT = dated([(str(n), {"text": str(n), "id": f"m{n}", "time": at(n)}) for n in range(10)])


@pytest.mark.parametrize(
    ("word", "points", "most", "found"),
    [
        ("LATEST", ["*"], 3, "789"),
        ("LATEST", ["*"], 0, ""),
        ("LATEST", ["msgid=m7"], 5, "89"),
        ("LATEST", ["msgid=m1"], 3, "789"),
        ("LATEST", [f"timestamp={at(6)}"], 9, "789"),
        ("BEFORE", ["msgid=m5"], 2, "34"),
        ("BEFORE", [f"timestamp={at(2)}"], 9, "01"),
        ("AFTER", ["msgid=m5"], 2, "67"),
        ("AFTER", [f"timestamp={at(8)}"], 9, "9"),
        ("AROUND", ["msgid=m5"], 3, "456"),
        ("AROUND", ["msgid=m0"], 4, "0123"),
        ("BETWEEN", ["msgid=m2", "msgid=m6"], 9, "345"),
        ("BETWEEN", ["msgid=m6", "msgid=m2"], 2, "45"),
        ("BETWEEN", [f"timestamp={at(2)}", f"timestamp={at(5)}"], 1, "3"),
    ],
)
def test_choose(word, points, most, found):
    """Each subcommand finds what its specification says, the oldest first."""
    assert "".join(message["text"] for _, message in choose(word, points, most, KEPT)) == found


@pytest.mark.parametrize(
    "point", ["msgid=x", "x", "", "*", "timestamp=", "timestamp=2026-13-01T00:00:00.000Z"]
)
def test_no_point(point):
    """What is no point in time, or not known, is said to be none."""
    with pytest.raises(Bad):
        choose("BEFORE", [point], 5, KEPT)


def test_undated():
    """What was said without a time has that of what was before it, and its position as id."""
    found = dated([("1-1", {"time": at(3)}), ("1-2", {}), ("1-3", {"time": "soon"})])
    assert [message["time"] for _, message in found] == [at(3)] * 3
    assert [message["id"] for _, message in found] == ["1-1", "1-2", "1-3"]


def test_rejoin():
    """Who comes back reads what was said meanwhile, in a batch, with ids and times as told."""
    with Net(history=50) as net:
        alice = net.join("alice", "#r", caps=CAPS + " echo-message")
        alice.lines()
        alice.say("PRIVMSG #r :one", "PRIVMSG #r :\x01ACTION two\x01", "NOTICE #r :three")
        told = alice.lines()
        net.rig.worker.send_group(
            channel_group("#r"), {"text": "four", "irc": {"nick": "web"}}, history=50
        )
        bob = net.join("bob", "#r", caps=CAPS)
        bob.say("CHATHISTORY LATEST #r * 10")
        lines = bob.lines()
        assert lines[0].params[1:] == ("chathistory", "#r")
        batch = lines[0].params[0][1:]
        assert all(line.tags["batch"] == batch for line in lines[1:-1])
        assert lines[-1].params == (f"-{batch}",)
        assert [(one.command, one.params[1]) for one in lines[1:-1]] == [
            ("PRIVMSG", "one"),
            ("PRIVMSG", "\x01ACTION two\x01"),
            ("NOTICE", "three"),
            ("PRIVMSG", "four"),
        ]
        for line, before in zip(lines[1:4], told, strict=True):
            assert line.tags["msgid"] == before.tags["msgid"]
            assert line.tags["time"] == before.tags["time"]
        assert lines[4].source.startswith("web!")
        bob.say(f"CHATHISTORY BEFORE #r msgid={told[1].tags['msgid']} 1")
        assert [one.params[1] for one in bob.lines()[1:-1]] == ["one"]
        alice.say("PART #r")
        bob.say("PART #r")
        carol = net.join("carol", "#r", caps=CAPS)
        carol.say("CHATHISTORY LATEST #R * 1", "PING x")
        assert [one.params[1] for one in carol.lines()[2:-1]] == ["four"]


def test_refused():
    """What cannot be read is said to be so, by standard replies; without history it is unknown."""
    with Net(history=5) as net:
        alice, bob = net.join("alice", "#r", caps=CAPS), net.join("bob", caps=CAPS)
        head = ":irc.gateway FAIL CHATHISTORY "
        assert bob.asks("CHATHISTORY LATEST #r * 5")[0].startswith(head + "INVALID_TARGET")
        assert alice.asks("CHATHISTORY FROB #r * 5")[0].startswith(head + "INVALID_PARAMS")
        assert alice.asks("CHATHISTORY LATEST #r")[0].startswith(head + "NEED_MORE_PARAMS")
        assert alice.asks("CHATHISTORY BETWEEN #r * 5")[0].startswith(head + "NEED_MORE_PARAMS")
        assert alice.asks("CHATHISTORY LATEST #r * x")[0].startswith(head + "INVALID_PARAMS")
        assert alice.asks("CHATHISTORY AFTER #r :a b 5")[0].startswith(head + "NEED_MORE")
        assert alice.asks("CHATHISTORY AFTER #r x 5")[0].startswith(head + "INVALID_PARAMS")
        assert alice.asks("CHATHISTORY")[0].startswith(head + "INVALID_PARAMS")
    with Net() as net:
        alice = net.join("alice", "#r")
        assert alice.asks("CHATHISTORY LATEST #r * 5") == ["421 CHATHISTORY :Unknown command"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "x", "irc": None},
        {"text": "x", "irc": {"nick": 5}},
        {"text": "x", "irc": {"mask": "a b"}},
        {"text": "x", "irc": {"tags": {"+x": "\0"}}},
        {"text": "x", "irc": {"type": "topic"}},
        {"text": 7},
        {"irc": {"time": 8, "text": "x"}},
    ],
)
def test_what_was_not_told(wrong):
    """What nobody was told, since it is not allowed, hides nothing from who asks later."""
    with Net(history=50) as net:
        alice = net.join("alice", "#r", caps=CAPS)
        for message in (wrong, {"text": "hi"}):
            net.rig.worker.send_group(channel_group("#r"), message, history=50)
        alice.lines()
        alice.say("CHATHISTORY LATEST #r * 10")
        assert [line.command for line in alice.lines()] == ["BATCH", "PRIVMSG", "BATCH"]
