"""What every process knows of users and channels: it comes to the same in all."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest

from gateway.plugins.irc.lines import MAX_REST
from gateway.plugins.irc.server.event import Event, in_lines
from gateway.plugins.irc.server.fans import SLICE, Fans
from gateway.plugins.irc.server.network import Network
from gateway.plugins.irc.server.reunion import Reunion


class Ear:
    """A client that hears all."""

    caps = 0
    busy = False

    def __init__(self) -> None:
        self.heard: list[str] = []

    def push(self, event: Event, *, answer: bool = True) -> None:
        self.heard.append(event.frame(0).decode().strip())


def user(nick: str, home: str, **more: Any) -> dict[str, Any]:
    """Return the change that introduces somebody."""
    kept = {"username": "u", "host": "h", "realname": nick, "account": None, "away": ""}
    flags = {"guest": False, "invisible": False, "at": 1.0}
    return {"do": "user", "uid": f"irc.send.{home}!{nick}", "home": home, "nick": nick} | {
        **kept,
        **flags,
        **more,
    }


def join(nick: str, home: str, at: float, *, first: bool) -> dict[str, Any]:
    uid, status = f"irc.send.{home}!{nick}", "o" if first else ""
    found = {"do": "join", "uid": uid, "channel": "#r", "status": status, "first": first}
    return {**found, "modes": {"n": ""}, "at": at}


def network(name: str, *changes: dict[str, Any]) -> Network:
    found = Network(name, "irc.gateway", lambda *_: None, Fans(None))
    for change in changes:
        found.apply(change)
    return found


def members(found: Network) -> dict[str, str]:
    return {user.nick: status for user, status in found.channels["#r"].members.items()}


def link(found: Network, uid: str) -> Ear:
    user = found.users[uid]
    user.link = ear = Ear()
    for channel in user.channels:
        channel.here[user] = ear
    return ear


@pytest.mark.parametrize("late", [False, True])
def test_made_at_once(late):
    """Of two that make a channel at once in two processes the first is its operator, in both."""
    users = [user("al", "p-a"), user("bob", "p-b")]
    al, bob = join("al", "p-a", 5.0, first=True), join("bob", "p-b", 6.0, first=True)
    one, other = network("p-a", *users, al), network("p-b", *users, bob)
    ear = link(other, "irc.send.p-b!bob")
    told = [list(one.burst(7.0)), list(other.burst(7.0))] if late else [[al], [bob]]
    for change in told[1]:
        one.apply(change)
    for change in told[0]:
        other.apply(change)
    assert members(one) == members(other) == {"al": "o", "bob": ""}
    assert one.channels["#r"].since == other.channels["#r"].since == 5.0
    assert ear.heard[0] == ":irc.gateway MODE #r -o bob"


def test_reunion():
    """What a process does not name, when it tells what it has, is gone; the rest is as it says."""
    names = ["al", "bob", "carl", "dora", "eve"]
    begun = [user("here", "p-a"), *(user(nick, "p-b") for nick in names)]
    begun += [join("here", "p-a", 2.0, first=True)]
    begun += [join(nick, "p-b", 3.0, first=False) for nick in names]
    one, other = network("p-a", *begun), network("p-b", *begun)
    ear = link(one, "irc.send.p-a!here")
    at = {"at": 4.0, "channel": "#r", "reason": "", "by": "x!y@z"}
    unheard: list[dict[str, Any]] = [
        {"do": "quit", "uid": "irc.send.p-b!al", **at},
        {"do": "part", "uid": "irc.send.p-b!bob", **at},
        {"do": "nick", "uid": "irc.send.p-b!carl", "nick": "carla", **at},
        {"do": "away", "uid": "irc.send.p-b!carl", "text": "out", **at},
        {"do": "account", "uid": "irc.send.p-b!carl", "account": "c", **at},
        {"do": "setname", "uid": "irc.send.p-b!carl", "text": "Carla", **at},
        {"do": "invisible", "uid": "irc.send.p-b!carl", "on": True, **at},
        {"do": "mode", "changes": [("+", "v", "irc.send.p-b!dora")], **at},
        user("fay", "p-b"),
        join("fay", "p-b", 5.0, first=False),
    ]
    for change in unheard:
        other.apply(change)
    reunion = Reunion(one, "p-b")
    for change in other.burst(6.0):
        one.apply(change)
        reunion.heard(change)
    reunion.ended(6.0)
    assert members(one) == members(other)
    assert [found.introduced() for found in one.users.values()] == [
        found.introduced() for found in other.users.values()
    ]
    assert one.nick("al") is None
    assert [line.partition(" ")[2] for line in ear.heard] == [
        "NICK carla",
        "JOIN #r",
        "MODE #r +v dora",
        "QUIT :Connection closed",
        "PART #r",
    ]


def test_double():
    """Of two with one nick the other is found by it once the first has gone."""
    found = network("p-a", user("al", "p-a"), user("AL", "p-b"))
    assert found.nick("al").home == "p-a"
    found.apply({"do": "quit", "uid": "irc.send.p-a!al", "reason": "", "at": 2.0})
    assert found.nick("al").home == "p-b"
    assert not found.doubles


def test_modes_in_lines():
    """Changes that do not fit a line are in several, none of them lost."""
    masks = [f"{number}{'é' * 45}!*@*" for number in range(12)]
    changes = [("+", "b", mask) for mask in masks] + [("-+"[n % 2], "n", "") for n in range(300)]
    lines = in_lines(changes, 300)
    assert [param for _, *params in lines for param in params] == masks
    assert all(len(" ".join(words).encode()) <= 300 for words in lines)
    letters = itertools.chain.from_iterable(words[0] for words in lines)
    assert sum(1 for one in letters if one.isalpha()) == len(changes)
    assert in_lines([], MAX_REST) == []


def test_invited():
    """Who was invited and has left is forgotten."""
    found = network("p-a", user("al", "p-a"), join("al", "p-a", 2.0, first=True))
    for _ in range(3):
        uid = "irc.send.p-a!bob"
        found.apply(user("bob", "p-a"))
        found.apply({"do": "invite", "uid": uid, "channel": "#r", "by": "al!u@h", "at": 3.0})
        assert len(found.channels["#r"].invited) == 1
        found.apply({"do": "quit", "uid": uid, "reason": "", "at": 4.0})
        found.were.clear()
        gc.collect()
    assert not found.channels["#r"].invited


def test_fans():
    """Many are told in slices and in order; one that has a fault costs nobody else a line."""
    turns: list[Any] = []
    told = Fans(turns.append)
    ears = [Ear() for _ in range(2 * SLICE + 10)]
    lines = [Event("PRIVMSG", "#r", text, source="al", at=1.0) for text in "abc"]
    ears[-1].push = lambda *_: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        told.tell(ears, lines[0])
    assert sum(len(ear.heard) for ear in ears) == 0
    turns.pop()()
    assert sum(len(ear.heard) for ear in ears) == SLICE
    ears[0].busy = True
    told.tell(ears[:5], lines[1])
    assert [line[-1] for line in ears[0].heard] == ["a", "b"]
    told.catch_up(ears[1])
    assert [line[-1] for line in ears[1].heard] == ["a", "b"]
    told.tell(ears[:3], lines[2])
    while turns:
        assert told.busy
        turns.pop()()
    assert not told.busy
    assert [[line[-1] for line in ear.heard] for ear in ears[:5]] == [["a", "b", "c"]] * 3 + [
        ["a", "b"]
    ] * 2
    assert all(len(ear.heard) == 1 for ear in ears[5:-1])
