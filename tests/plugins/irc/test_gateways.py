"""Several gateway processes are one network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.layers import open_layer
from gateway.core.layers.codec import encode
from gateway.plugins.irc import IrcPlugin
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.lines import parse
from gateway.plugins.irc.server.network import User
from gateway.testing.stage import Staged, wait_until

CONFIG = IrcConfig(line_rate=0, history=20)


class Client:
    """A client over a socket."""

    def __init__(self, staged: Staged, nick: str, *channels: str) -> None:
        self._socket = staged.connect()
        self._data = b""
        self.got: list[str] = []
        self.say(f"NICK {nick}", f"USER {nick} 0 * :N")
        self.until("422")
        for channel in channels:
            self.say(f"JOIN {channel}")
            self.until("366")

    def say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def until(self, what: str) -> list[str]:
        """Read until a line has this command or these words in it; return what came."""
        while True:
            while b"\n" not in self._data:
                piece = self._socket.recv(65536)
                assert piece, f"ended before {what!r}: {self.got[-3:]}"
                self._data += piece
            line, _, self._data = self._data.partition(b"\n")
            text = line.decode().strip()
            self.got.append(text)
            if parse(line).command == what or (not what.isdecimal() and what in text):
                got, self.got = self.got, []
                return got

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def two() -> Iterator[tuple[Staged, Staged]]:
    """Two gateway processes on one layer, and a worker that routes nothing of this."""
    with (
        Staged(IrcPlugin, CONFIG, announced=("quit",)) as one,
        Staged(IrcPlugin, CONFIG, announced=None, beside=one) as other,
    ):
        yield one, other


def network(staged: Staged) -> Any:
    return staged.plugin._server.network


def test_one_network(two):
    """Who is at one process is seen, heard and found at the other, with all that changes."""
    one, other = two
    alice, bob = Client(one, "alice", "#r"), Client(other, "bob", "#R")
    assert alice.until("JOIN")[-1] == ":bob!~bob@irc.gateway JOIN #r"
    bob.say("NAMES #r", "PRIVMSG #r :hi", "PRIVMSG alice :psst", "TOPIC #r :no")
    assert "353 bob = #r :@alice bob" in bob.until("366")[0]
    assert alice.until("psst") == [
        ":bob!~bob@irc.gateway PRIVMSG #r :hi",
        ":bob!~bob@irc.gateway PRIVMSG alice :psst",
    ]
    alice.say("TOPIC #r :tea", "MODE #r +o bob", "PRIVMSG #r :1", "NICK al", "PRIVMSG #r :2")
    heard = bob.until(":2")
    assert heard[-5:] == [
        ":alice!~alice@irc.gateway TOPIC #r :tea",
        ":alice!~alice@irc.gateway MODE #r +o bob",
        ":alice!~alice@irc.gateway PRIVMSG #r :1",
        ":alice!~alice@irc.gateway NICK al",
        ":al!~alice@irc.gateway PRIVMSG #r :2",
    ]
    bob.say("WHOIS al", "KICK #r al :out", "AWAY :x", "INVITE al #r")
    assert any("311 bob al" in line for line in bob.until("318"))
    assert alice.until("INVITE")[-2:] == [
        ":bob!~bob@irc.gateway KICK #r al :out",
        ":bob!~bob@irc.gateway INVITE al #r",
    ]
    alice.say("JOIN #r", "PRIVMSG bob :?")
    assert "301" in alice.until("301")[-1]
    bob.say("QUIT :bye")
    assert alice.until("QUIT")[-1] == ":bob!~bob@irc.gateway QUIT :Quit: bye"
    wait_until(lambda: len(network(one).users) == len(network(other).users) == 2)


def test_nick_across(two):
    """A nick is one client's among all processes, even of two that ask at once."""
    one, other = two
    alice = Client(one, "alice")
    late = other.connect()
    wait_until(lambda: network(other).nick("alice"))
    late.sendall(b"NICK ALICE\r\n")
    assert b" 433 * ALICE " in late.recv(4096)
    clients = [staged.connect() for staged in (one, other)]
    for client in clients:
        client.sendall(b"NICK same\r\nUSER a 0 * :A\r\n")
    answers = [client.recv(200) for client in clients]
    assert sorted(b" 001 same " in answer for answer in answers) == [False, True]
    assert any(b" 433 * same " in answer for answer in answers)
    alice.close()


def test_late_process():
    """A process that starts later knows all that is there."""
    with Staged(IrcPlugin, CONFIG, announced=("quit",)) as one:
        alice = Client(one, "alice", "#r")
        alice.say("TOPIC #r :tea", "MODE #r +kb key *!*@x", "AWAY :out", "PING x")
        alice.until("PONG")
        with Staged(IrcPlugin, CONFIG, announced=None, beside=one) as other:
            wait_until(lambda: network(other).channel("#r"))
            bob = Client(other, "bob")
            bob.say("JOIN #r", "JOIN #r key")
            heard = bob.until("366")
            assert " 475 " in heard[0]
            assert heard[2].endswith(" 332 bob #r :tea")
            assert heard[4].endswith(":@alice bob")
            bob.say("MODE #r b", "WHOIS alice")
            assert "367 bob #r *!*@x alice!~alice@irc.gateway" in bob.until("367")[-1]
            assert ":out" in bob.until("301")[-1]
            bob.close()
            alice.until("QUIT")


def test_split():
    """When a process dies its users are gone, and its nicks are free."""
    with Staged(IrcPlugin, CONFIG, announced=("quit",)) as one:
        alice = Client(one, "alice", "#r")
        layer = open_layer(one.url)
        edge = one.call(lambda: layer.edge(lambda _: None))
        name = edge.process
        bob = User({**network(one).nick("alice").introduced(), "uid": "irc.send.x!1"})
        bob.nick, bob.home = "bob", name
        changes = [
            bob.introduced(),
            {
                "do": "join",
                "uid": bob.uid,
                "channel": "#r",
                "first": False,
                "status": "",
                "modes": {},
                "at": 1.0,
            },
        ]
        for message in ({"hello": name}, {"from": name, "changes": changes}):
            one.call(edge.group_send, "irc.gateways", encode(message))
        assert alice.until("JOIN")[-1] == ":bob!~alice@irc.gateway JOIN #r"
        one.call(layer.close)
        said = alice.until("QUIT")[-1]
        assert said.startswith(":bob!~alice@irc.gateway QUIT :irc.gateway p-")
        again = Client(one, "bob", "#r")
        again.say("NAMES #r")
        assert again.until("366")[0].endswith(":@alice bob")


def test_history_across(two):
    """What was said at one process is read at the other."""
    one, other = two
    alice = Client(one, "alice", "#r")
    alice.say("PRIVMSG #r :before", "PING x")
    alice.until("PONG")
    bob = Client(other, "bob")
    bob.say("CAP REQ :draft/chathistory", "JOIN #r", "CHATHISTORY LATEST #r * 5")
    assert bob.until("PRIVMSG")[-1] == ":alice!~alice@irc.gateway PRIVMSG #r :before"


def test_drain():
    """A shutdown says so to every client."""
    with Staged(IrcPlugin, CONFIG, announced=("quit",)) as one:
        alice = Client(one, "alice", "#r")
        one.drain()
        assert alice.until("ERROR")[-1].endswith("(The gateway is shutting down)")
