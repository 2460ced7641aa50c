"""The plugins of examples, installed from their own distributions, with the programs people use."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.toy import wait_until
from tests.examples.prosody import Prosody, missing
from tests.examples.site import Site
from tests.house.serving import free_port

# Several processes are started, on a machine that does more.
pytestmark = pytest.mark.timeout(90)


def program(name: str) -> str:
    """The path of a program; skips the test where it is not there."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


# ---------------------------------------------------------------- udp


def test_udp(tmp_path):
    """What nc sends is answered as the README says."""
    nc = program("nc")
    port = free_port()
    with Site(tmp_path, "udp", f"udp.listen=udp:127.0.0.1:{port}"):
        # Nobody repeats a lost datagram: the worker is there, since the gateway says so.
        done = subprocess.run(
            [nc, "-u", "-W", "1", "-w", "20", "127.0.0.1", str(port)],
            input=b"hello",
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert done.stdout == b"you sent hello"


# ---------------------------------------------------------------- telnet


class Terminal:
    """A telnet client at a terminal."""

    def __init__(self, *where: str) -> None:
        self._main, end = pty.openpty()
        attributes = termios.tcgetattr(end)
        attributes[6][termios.VERASE] = b"\x7f"
        termios.tcsetattr(end, termios.TCSANOW, attributes)
        self._process = subprocess.Popen(
            [program("telnet"), *where],
            stdin=end,
            stdout=end,
            stderr=end,
            env=os.environ | {"TERM": "vt100"},
            start_new_session=True,
        )
        os.close(end)
        self._screen = b""

    def types(self, text: str) -> None:
        """Press keys."""
        os.write(self._main, text.encode())

    def shows(self, text: str, seconds: float = 20.0) -> None:
        """Wait until it is on the screen; what is before it is forgotten."""
        deadline = time.monotonic() + seconds
        wanted = text.encode()
        while wanted not in self._screen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self._screen!r}"
            if select.select([self._main], [], [], left)[0]:
                try:
                    self._screen += os.read(self._main, 4096)
                except OSError:  # EIO: nobody has the other end any more
                    pytest.fail(f"it ended, with no {text!r} in {self._screen!r}")
        self._screen = self._screen.partition(wanted)[2]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._main)


@pytest.fixture(scope="module")
def hall(tmp_path_factory) -> Iterator[int]:
    """A hall where people talk by telnet; its port."""
    program("telnet")
    port = free_port()
    with Site(tmp_path_factory.mktemp("hall"), "telnet", f"telnet.listen=127.0.0.1:{port}"):
        yield port


@pytest.mark.parametrize("sign", ["", "-"], ids=["plain", "negotiates"])
def test_telnet(hall, sign):
    """Two people talk; each edits lines at home, whether the client offers options or not."""
    with contextlib.ExitStack() as stack:
        people = []
        for _ in range(2):
            one = Terminal("--", "127.0.0.1", f"{sign}{hall}")
            stack.callback(one.close)
            one.shows("welcome\r\n")
            people.append(one)
        alice, bob = people
        alice.types("hellx\x7fo\n")
        bob.shows("hello\r\n")
        alice.shows("hello\r\n")
        bob.types("schöne Grüße\n")
        alice.shows("schöne Grüße\r\n")
        alice.types("bye\n")
        alice.shows("Connection closed by foreign host")
        bob.types("gone?\n")
        bob.shows("gone?\r\n")


# ---------------------------------------------------------------- finger

FINGER = ("127.0.0.79", 79)
"""Where clients look, at an address of our own."""


def test_finger(tmp_path):
    """The client that Debian has hears who somebody is, and that nothing is forwarded."""
    finger = program("finger")
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(FINGER)
        except OSError as error:
            pytest.skip(f"finger clients know port 79 alone, and here: {error.strerror}")
    host, port = FINGER
    with Site(tmp_path, "finger", f"finger.listen={host}:{port}"):
        for query, says in (
            (f"alice@{host}", "alice: Alice Liddell\n"),
            (f"bob@{host}", "no such user\n"),
            (f"bob@elsewhere@{host}", "we forward nothing\n"),
        ):
            done = subprocess.run(
                [finger, "-l", query], capture_output=True, text=True, timeout=30, check=False
            )
            assert done.stdout.replace("\r", "").endswith(says), (query, done)


# ---------------------------------------------------------------- xmpp


@pytest.fixture
def prosody(tmp_path: Path) -> Iterator[Prosody]:
    """A chat server with two people and a bot's domain."""
    if why := missing():
        pytest.skip(why)
    with Prosody(tmp_path) as server:
        yield server


def test_xmpp(prosody, tmp_path):
    """People write to the bot at a real server, and hear it: its answer, and what it passes on."""
    site = tmp_path / "site"
    site.mkdir(mode=0o700)
    settings = (
        f"xmpp.connect=127.0.0.1:{prosody.components}",
        "xmpp.domain=bot.localhost",
        f"xmpp.secret={prosody.secret}",
    )
    with Site(site, "xmpp", *settings) as running, prosody.listening("bob") as heard:
        wait_until(lambda: "connected" in running.said(), 20, running.said)
        prosody.says("bob", "bot@bot.localhost", "hello <b>")
        heard("you wrote hello <b>")
        prosody.says("alice", "bot@bot.localhost", "tell bob@localhost lunch?")
        heard("alice@localhost: lunch?")
