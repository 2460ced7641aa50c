"""A plugin that connects out, in real gateway processes: one holder, and who takes over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from gateway.core.layers import open_layer
from tests.cli.toy import install_plugin, wait_until

PLUGIN = '''
"""Connects out and says which process it is."""
import os
from typing import TypedDict
import msgspec
from gateway.core.client import ClientPlugin
from gateway.core.plugin import LineSession, Write, hookimpl

class Line(TypedDict):
    text: str

class messages:
    KINDS = {"receive": Line}
    REPLY = Line

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    connect: str = ""
    retry_longest: float = 0.2

class Caller(LineSession):
    def __init__(self, process):
        self.process = process

    def opened(self, peer):
        return [Write(f"{os.getpid()}\\n{self.process}\\n".encode())]

    def line(self, line):
        return ()

    def send(self, conversation, reply, token):
        return [Write(f"{os.getpid()} {conversation} {reply['text']}\\n".encode())]

class CallerPlugin(ClientPlugin):
    name = "caller"
    Config = Config
    messages = messages

    def session(self, target):
        return Caller(self.context.engine.process)

@hookimpl
def gateway_plugin():
    return CallerPlugin
'''


@pytest.fixture
def caller(toys):
    """Install the plugin."""
    install_plugin(toys, "caller", PLUGIN)
    return toys


class Switchboard:
    """The peer: it takes calls, and knows who is on the line."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(12)
        self.port = self.listener.getsockname()[1]

    def call(self):
        sock, _ = self.listener.accept()
        sock.settimeout(12)
        lines = sock.makefile("r")
        pid = int(lines.readline())
        self.process = lines.readline().strip()
        return pid, lines, sock

    def nobody(self, seconds=0.7):
        """Assert that no further call comes: a second holder would try again by then."""
        self.listener.settimeout(seconds)
        with pytest.raises(TimeoutError):
            self.listener.accept()
        self.listener.settimeout(12)


def is_hub(pid):
    return b'"role":"hub"' in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.fixture
def board():
    made = Switchboard()
    yield made
    made.listener.close()


def test_take_over(start, caller, board):
    """Of two gateway processes one has the connection; killed, the other has it in seconds, and
    what was sent to an address meanwhile comes by that.
    """
    url = f"unix://{caller}/hub.sock"
    gateway = start(
        *("run", "--plugins", "caller", "--workers", "none", "--gateways", "2", "--layer", url),
        *("--set", f"caller.connect=127.0.0.1:{board.port}"),
    )
    with contextlib.ExitStack() as opened:
        first, lines, sock = board.call()
        opened.enter_context(sock)
        opened.enter_context(lines)
        assert first in gateway.children()
        board.nobody()
        layer = opened.enter_context(contextlib.closing(open_layer(url)))
        layer.send("caller.send!room", {"text": "one"})
        assert lines.readline() == f"{first} room one\n"
        began = time.monotonic()
        os.kill(first, signal.SIGKILL)
        assert lines.readline() == ""
        layer.watch("gone?first", board.process)
        assert layer.receive(["gone?first"], block=5) == ("gone?first", {"closed": True})
        layer.send("caller.send!room", {"text": "two"})
        second, lines, sock = board.call()
        opened.enter_context(sock)
        opened.enter_context(lines)
        assert time.monotonic() - began < 5
        assert second != first
        assert lines.readline() == f"{second} room two\n"
        wait_until(lambda: len(gateway.children()) == 3)
        board.nobody()
        gateway.signal()
        assert gateway.wait() == 0
        assert "Traceback" not in gateway.text()


def test_hub_lost(start, caller, board):
    """A hub that is killed costs no connection: its holder says so to the next hub."""
    url = f"unix://{caller}/hub.sock"
    gateway = start(
        *("run", "--plugins", "caller", "--workers", "none", "--gateways", "2", "--layer", url),
        *("--set", f"caller.connect=127.0.0.1:{board.port}"),
    )
    with contextlib.ExitStack() as opened:
        holder, lines, sock = board.call()
        opened.enter_context(sock)
        opened.enter_context(lines)
        (hub,) = [pid for pid in gateway.children() if is_hub(pid)]
        os.kill(hub, signal.SIGKILL)
        gateway.wait_for("reconnecting")
        board.nobody(3.5)
        layer = opened.enter_context(contextlib.closing(open_layer(url)))
        layer.send("caller.send!room", {"text": "still"})
        assert lines.readline() == f"{holder} room still\n"


def test_alone(start, caller, board):
    """In one process, with its own hub or none, nothing is waited for."""
    began = time.monotonic()
    gateway = start(
        *("run", "--plugins", "caller", "--workers", "none"),
        *("--set", f"caller.connect=127.0.0.1:{board.port}"),
    )
    pid, lines, sock = board.call()
    with sock, lines:
        assert pid == gateway.process.pid
        gateway.wait_for("again to stop at once\n")
        assert time.monotonic() - began < 10
        gateway.signal()
        assert gateway.wait() == 0
