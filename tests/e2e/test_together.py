"""Every protocol at once: one gateway, one consumer, one routing table, one group.

Each client speaks to the same consumer and is answered by the uniform reply; then one message to
one group reaches all of them, and addresses of a topic, a room and a mailbox, too.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import smtplib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from websockets.sync.client import connect

from tests.e2e.serving import Served, wait_until
from tests.house.serving import free_port
from tests.plugins.irc.client.servers import Ngircd

PROJECT = Path(__file__).parent / "together"
NEEDED = ("curl", "mosquitto_sub", "mosquitto_rr", "ngircd")
MISSING = [program for program in NEEDED if shutil.which(program) is None]

SETTINGS = """
[mqtt]
listen = "127.0.0.1:{mqtt}"

[irc]
listen = "127.0.0.1:{irc}"

[irc.networks.world]
connect = "{net}"
nick = "bot"
channels = ["#news"]

[email]
listen = "127.0.0.1:{smtp}"
replies = "anyone"
sender = "room@localhost"
spool = "{tmp}/spool"

[email.smarthosts.world]
connect = "127.0.0.1:{relay}"
tls = "none"
"""

pytestmark = [
    pytest.mark.timeout(60),  # a gateway, a network and a dozen clients start
    pytest.mark.skipif(bool(MISSING), reason=f"there is no {', '.join(MISSING)}"),
]


class Mailboxes(Message):
    """A mail server elsewhere: what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[tuple[str, str, str]] = []

    def handle_message(self, message: EmailMessage) -> None:  # type: ignore[override]
        text = message.get_payload(decode=True).decode().strip()  # type: ignore[union-attr]
        self.mails.append((str(message["To"]), str(message["Subject"]), text))


class Program:
    """A program that goes on: what it prints, line by line."""

    def __init__(self, *command: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", *command], stdout=subprocess.PIPE, text=True
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def heard(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Chatter:
    """A client of IRC, on one channel."""

    def __init__(self, port: int, nick: str, channel: str) -> None:
        self.lines: list[str] = []
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.say(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        wait_until(lambda: self.heard(" 001 "))
        self.say(f"JOIN {channel}")
        wait_until(lambda: self.heard(" 366 "))

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("r", newline="\r\n") as lines:
            for line in lines:
                self.lines.append(line.rstrip())
                if line.startswith("PING"):
                    self.say(line.rstrip().replace("PING", "PONG", 1))

    def say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def heard(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class Poller:
    """A long poll by curl."""

    def __init__(self, served: Served) -> None:
        self.lines: list[str] = []
        self._served = served
        self._cursor = ""
        _, told = self._curl("/", "-X", "POST", "-H", "Prefer: respond-async")
        self._location = json.loads(told)["location"]

    def _curl(self, path: str, *options: str) -> tuple[str, str]:
        command = ["curl", "-sSi", "--max-time", "20", *options, self._served.url(path)]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        head, _, content = done.stdout.partition("\n\n")
        return head, content

    def say(self, text: str) -> None:
        self._curl(self._location, "--data-binary", text)

    def heard(self, text: str) -> bool:
        """Poll once, from where the last poll ended."""
        cursor = ("-H", f"If-None-Match: {self._cursor}") if self._cursor else ()
        head, content = self._curl(self._location, "-H", "Prefer: wait=1", *cursor)
        if found := re.search(r"^etag: (\S+)", head, re.MULTILINE | re.IGNORECASE):
            self._cursor = found[1]
        self.lines += [one["text"] for one in json.loads(content or "[]") if "text" in one]
        return text in self.lines


@pytest.fixture
def elsewhere() -> Iterator[tuple[Mailboxes, int]]:
    """The mail server of the world, and its port."""
    mailboxes, port = Mailboxes(), free_port()
    server = Controller(mailboxes, hostname="127.0.0.1", port=port)
    server.start()
    yield mailboxes, port
    server.stop()


def mail(port: int, text: str) -> None:
    """Send a mail, which is answered 250: its consumer has returned."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ann@x.test", "room@localhost", "Hello"
    message["Message-ID"] = "<1@x.test>"
    message.set_content(text)
    with smtplib.SMTP("127.0.0.1", port) as client:
        assert client.send_message(message) == {}


def test_all_together(tmp_path: Path, elsewhere: tuple[Mailboxes, int]) -> None:
    """One consumer answers every protocol, and one message to a group reaches them all."""
    mailboxes, relay = elsewhere
    mqtt, irc, smtp = (str(free_port()) for _ in range(3))
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(Ngircd(tmp_path))
        config = tmp_path / "gateway.toml"
        config.write_text(
            SETTINGS.format(mqtt=mqtt, irc=irc, smtp=smtp, net=net.where, relay=relay, tmp=tmp_path)
        )
        plugins = ("--plugins", "http,websocket,sse,longpoll,mqtt,irc,email")
        options = (*plugins, "--config", str(config))
        served = stack.enter_context(Served(tmp_path, *options, project=PROJECT))

        def begin(client: Program | Chatter) -> Callable[[str], bool]:
            stack.callback(client.close)
            return client.heard

        # Everybody is answered by the same consumer, in words of their own protocol.
        web = stack.enter_context(connect(served.url("/", "ws")))
        web.send("hello")
        assert web.recv(5) == "websocket: hello"

        stream = Program("curl", "-NsS", "-H", "Accept: text/event-stream", served.url("/"))
        streamed = begin(stream)
        wait_until(lambda: streamed("data: sse: welcome"))

        poller = Poller(served)
        poller.say("hello")
        wait_until(lambda: poller.heard("longpoll: hello"))

        asked = ["mosquitto_rr", "-V", "mqttv5", "-p", mqtt, "-t", "say", "-e", "say/answer"]
        answer = subprocess.run([*asked, "-m", "hello"], capture_output=True, text=True, timeout=20)
        assert answer.stdout == "mqtt: hello\n"
        device = Program("mosquitto_sub", "-V", "mqttv5", "-p", mqtt, "-t", "together", "-d")
        subscribed = begin(device)
        wait_until(lambda: subscribed("Subscribed"))

        alice = Chatter(int(irc), "alice", "#room")
        told = begin(alice)
        alice.say("PRIVMSG #room :hello")
        wait_until(lambda: told("PRIVMSG #room :irc: hello"))

        carol = Chatter(net.port, "carol", "#news")
        informed = begin(carol)
        wait_until(lambda: informed("bot"))
        carol.say("PRIVMSG #news :hello")
        wait_until(lambda: informed("PRIVMSG #news :irc: hello"))

        mail(int(smtp), "hello")
        wait_until(lambda: ("ann@x.test", "Re: Hello", "email: hello") in mailboxes.mails)

        # One message to one group, members of every kind, addresses included.
        for address in (
            ["mqtt.publish", "together"],
            ["irc.say", "world", "#news"],
            ["email.send", "bob@x.test"],
        ):
            form = urlencode({"address": address}, doseq=True)
            assert served.get("/invite/", form.encode())[0] == 204
        status, count = served.get("/shout/", urlencode({"text": "to all"}).encode())
        assert status == 200, count

        assert web.recv(5) == "to all"
        wait_until(lambda: streamed("data: to all"))
        wait_until(lambda: poller.heard("to all"))
        wait_until(lambda: subscribed("to all"))
        wait_until(lambda: told("PRIVMSG #room :to all"))
        wait_until(lambda: informed("PRIVMSG #news :to all"))
        wait_until(lambda: ("bob@x.test", "To all", "to all") in mailboxes.mails)
        # Nobody had it twice, and nothing of it was refused.
        assert stream.lines.count("data: to all") == 1
        assert poller.lines.count("to all") == 1
        assert [one for one in device.lines if one == "to all"] == ["to all"]
        assert sum("PRIVMSG #room :to all" in line for line in alice.lines) == 1
        assert sum("PRIVMSG #news :to all" in line for line in carol.lines) == 1
        assert served.total("gateway_drops_total", cause="invalid") == 0
