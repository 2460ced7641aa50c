"""Clients that people sit at: irssi and WeeChat, each at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Self

import pytest

SECONDS = 15.0
"""Until something is to be shown: these clients wait a second here and there, by themselves."""

IRSSI = """
servers = ( {{ address = "127.0.0.1"; chatnet = "test"; port = "{port}"; autoconnect = "yes"; }} );
chatnets = {{ test = {{ type = "IRC"; nick = "{nick}"; }}; }};
settings = {{
  core = {{ nick = "{nick}"; user_name = "{nick}"; real_name = "{nick} at irssi"; }};
  "irc/core" = {{ cmd_queue_speed = "10msec"; }};
  "fe-text" = {{ term_force_colors = "no"; }};
  "fe-common/core" = {{ hide_colors = "yes"; }};
}};
"""
PLACED = re.compile(rb"\x1b\[[0-9;]*H")
CONTROL = re.compile(rb"\x1b(?:\[[0-9;?>=!]*[A-Za-z]|[()][AB0]|[=>78])|[\x0e\x0f]")
"""What a terminal is told beside text, of which a new place is a new line."""


def program(name: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Sitting:
    """A client that is connected, and whoever sits at it."""

    def types(self, line: str) -> None:
        """Type a line in the window of the channel, or a command."""
        raise NotImplementedError

    def enters(self, channel: str) -> None:
        """Join a channel, once it is let in."""
        raise NotImplementedError

    def text(self) -> str:
        """Return all that it has shown."""
        raise NotImplementedError

    def shows(self, *words: str) -> None:
        """Wait until a line with all of these words was shown."""
        end = time.monotonic() + SECONDS
        while not any(all(word in line for word in words) for line in self.text().split("\n")):
            assert time.monotonic() < end, f"{type(self).__name__}: no {words} in:\n{self.text()}"
            time.sleep(0.02)


class Terminal(Sitting):
    """A client at a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self._main, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._process = subprocess.Popen(
            [program(command[0]), *command[1:]],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        os.close(end)
        self._painted = b""

    def types(self, line: str) -> None:
        os.write(self._main, f"{line}\r".encode())

    def enters(self, channel: str) -> None:
        self.shows("Welcome")
        self.types(f"/join {channel}")

    def text(self) -> str:
        while select.select([self._main], [], [], 0)[0]:
            self._painted += os.read(self._main, 65536)
        lines = CONTROL.sub(b"", PLACED.sub(b"\n", self._painted)).decode(errors="replace")
        return "\n".join(filter(None, map(str.strip, lines.split("\n"))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)


class Irssi(Terminal):
    """irssi; what it shows is what it paints."""

    def __init__(self, home: Path, port: int, nick: str) -> None:
        home.mkdir(parents=True)
        (home / "config").write_text(IRSSI.format(port=port, nick=nick))
        super().__init__("irssi", f"--home={home}")


class Weechat(Terminal):
    """WeeChat; what it shows in any window it logs."""

    def __init__(self, home: Path, port: int, nick: str) -> None:
        home.mkdir(parents=True)
        self._logs = home / "logs"
        commands = [
            "/set logger.file.flush_delay 0",
            f"/set logger.file.path {self._logs}",
            f"/server add test 127.0.0.1/{port} -notls -nicks={nick} -username={nick}",
            "/set irc.server.test.anti_flood_prio_high 0",
            "/set irc.server.test.anti_flood_prio_low 0",
            "/connect test",
        ]
        super().__init__("weechat", "-d", str(home), "-r", ";".join(commands))

    def text(self) -> str:
        super().text()  # so that it can go on painting
        return "\n".join(file.read_text() for file in sorted(self._logs.glob("*")))
