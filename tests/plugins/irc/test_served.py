"""A Django project served to IRC clients, over TCP, TLS and WebSocket, beside pages of its own."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway.plugins.irc import IrcPlugin
from gateway.plugins.irc.config import IrcConfig
from gateway.testing.stage import Staged
from tests.certificates import Authority
from tests.e2e.serving import Served

PROJECT = Path(__file__).parent / "project"
HELLO = ["NICK {0}", "USER {0} 0 * :{0}"]


class Talkers(Served):
    """A served project whose gateway speaks IRC."""

    @property
    def irc(self) -> int:
        """The port that clients connect to."""
        found = re.search(r"irc\D+127\.0\.0\.1:(\d+)", self.text())
        assert found is not None, self.text()
        return int(found[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talkers]:
    with Talkers(
        tmp_path_factory.mktemp("served"),
        "--plugins",
        "http,websocket,irc",
        "--set",
        "irc.listen='127.0.0.1:0'",
        project=PROJECT,
    ) as running:
        yield running


class Raw:
    """A client over a socket."""

    def __init__(self, sock: socket.socket, nick: str) -> None:
        self._file = sock.makefile("rwb", buffering=0)
        self.say(*(line.format(nick) for line in HELLO))

    def say(self, *lines: str) -> None:
        self._file.write("".join(f"{line}\r\n" for line in lines).encode())

    def until(self, what: str) -> str:
        """Return the first line that has this in it."""
        while (line := self._file.readline().decode()) and what not in line:
            pass
        return line.strip()


def test_room(served: Talkers) -> None:
    """IRC clients over TCP and WebSocket and a page are in one room, which the application minds."""
    url = f"ws://127.0.0.1:{served.port}"
    with (
        socket.create_connection(("127.0.0.1", served.irc), 10) as sock,
        connect(f"{url}/irc", subprotocols=["text.ircv3.net"]) as text,
        connect(f"{url}/irc", subprotocols=["foo", "binary.ircv3.net"]) as binary,
        connect(f"{url}/elsewhere") as page,
    ):
        alice = Raw(sock, "alice")
        alice.until(" 422 ")
        alice.say("JOIN #room")
        alice.until(" 366 ")
        assert text.subprotocol == "text.ircv3.net"
        assert binary.subprotocol == "binary.ircv3.net"

        def until(client: Any, what: Any) -> Any:
            while what not in (line := client.recv(10)):
                pass
            return line

        for line in HELLO:
            text.send(line.format("bob"))
            binary.send(line.format("carol").encode())
        until(text, " 422 ")
        until(binary, b" 422 ")
        text.send("JOIN #room")
        binary.send(b"JOIN #room")
        until(text, " 366 ")
        until(binary, b" 366 ")
        page.send("hello from a page")
        assert alice.until("PRIVMSG") == ":page!websocket@guest PRIVMSG #room :hello from a page"
        assert until(text, "PRIVMSG").endswith(":hello from a page")
        assert page.recv(10) == "hello from a page"
        alice.say("PRIVMSG #room :buy my spam", "PRIVMSG #room :!ping")
        assert alice.until(" 404 ").endswith(" 404 alice #room :no spam")
        assert alice.until("PRIVMSG") == ":gateway!gateway@irc.gateway PRIVMSG #room :pong"
        assert until(text, "PRIVMSG") == ":alice!~alice@irc.gateway PRIVMSG #room :!ping"
        assert until(binary, b"pong") == b":gateway!gateway@irc.gateway PRIVMSG #room :pong"
        assert [page.recv(10), page.recv(10)] == ["<alice> !ping", "<gateway> pong"]
        text.send("NAMES #room")
        names = until(text, " 353 ").partition(" :")[2].split()
        assert {name.lstrip("@") for name in names} == {"alice", "bob", "carol", "page"}
        text.send("QUIT :bye")
        assert until(text, "ERROR").endswith("(Quit: bye)")
        assert alice.until("QUIT") == ":bob!~bob@irc.gateway QUIT :Quit: bye"


def test_refused(served: Talkers) -> None:
    """Whom the application does not let in is told; a page of another site is not let in at all."""
    with socket.create_connection(("127.0.0.1", served.irc), 10) as sock:
        assert Raw(sock, "troll").until(" 465 ").endswith(":not again")
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            f"ws://127.0.0.1:{served.port}/irc",
            subprotocols=["text.ircv3.net"],
            origin="https://evil.example",
        )


def test_certificate(tmp_path: Path) -> None:
    """Over TLS a certificate is who a client is: SASL EXTERNAL says so."""
    authority = Authority(tmp_path)
    tls = authority.tls(client_ca=authority.path, client_certificates="optional")
    own = authority.issue("alice", "alice.example", common_name="alice")
    with Staged(
        IrcPlugin, IrcConfig(), listen="tls:127.0.0.1:0", tls=tls, announced=("quit",)
    ) as staged:
        context = ssl.create_default_context(cafile=authority.path)
        context.load_cert_chain(own)
        with context.wrap_socket(staged.connect(), server_hostname="localhost") as sock:
            client = Raw(sock, "al")
            client.until(" 422 ")
            client.say("CAP REQ :sasl", "AUTHENTICATE EXTERNAL", "AUTHENTICATE +")
            assert " 900 al al!~al@irc.gateway alice " in client.until(" 900 ")
        with context.wrap_socket(staged.connect(), server_hostname="localhost") as sock:
            client = Raw(sock, "bo")
            client.until(" 422 ")
            wrong = base64.b64encode(b"somebody").decode()
            client.say("CAP REQ :sasl", "AUTHENTICATE EXTERNAL", f"AUTHENTICATE {wrong}")
            assert client.until(" 904 ")
