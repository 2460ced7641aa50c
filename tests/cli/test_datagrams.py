"""A datagram plugin in real gateway processes: the port, who has which peer, restarts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest

from tests.cli.toy import install_plugin, wait_until

PLUGIN = '''
"""Answers each datagram with its process and how many came of that peer."""
import os
from typing import TypedDict
import msgspec
from gateway.core.datagram import DatagramPlugin
from gateway.core.plugin import Session, Write, hookimpl

class Line(TypedDict):
    text: str

class messages:
    KINDS = {"receive": Line}
    REPLY = Line

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str = "udp:127.0.0.1:0"

class Count(Session):
    seen = 0

    def received(self, data):
        self.seen += 1
        return [Write(b"%d %d" % (os.getpid(), self.seen))]

    def send(self, conversation, reply, token):
        return ()

class CountPlugin(DatagramPlugin):
    name = "count"
    Config = Config
    messages = messages

    def session(self, peer):
        return Count()

@hookimpl
def gateway_plugin():
    return CountPlugin
'''


@pytest.fixture
def count(toys):
    """Install the plugin."""
    install_plugin(toys, "count", PLUGIN)
    return toys


def port_of(gateway):
    found = int(gateway.wait_for(r"count +udp:127\.0\.0\.1:(\d+)")[1])
    gateway.wait_for("again to stop at once\n")
    return found


@contextlib.contextmanager
def peers_of(port, number):
    """So many peers, each at an address of its own."""
    with contextlib.ExitStack() as opened:
        found = []
        for _ in range(number):
            sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(10)
            sock.connect(("127.0.0.1", port))
            found.append(sock)
        yield found


def ask(peer):
    """Say something; return who answers, and how often it has heard us."""
    peer.send(b"x")
    pid, seen = peer.recv(100).split()
    return int(pid), int(seen)


def test_one_process(start, count):
    """The banner says where; a stop says so and frees the port."""
    gateway = start("run", "--plugins", "count", "--workers", "none")
    with peers_of(port_of(gateway), 2) as peers:
        assert [ask(peer) for peer in peers] == [(gateway.process.pid, 1)] * 2
    gateway.signal()
    assert gateway.wait() == 0


def test_several_processes(start, count):
    """A peer always comes to the same of several processes; when that is killed its datagrams wait
    for the next one, and the peers of the others do not notice.
    """
    gateway = start("run", "--plugins", "count", "--workers", "none", "--gateways", "2")
    with peers_of(port_of(gateway), 16) as peers:
        # Either may still be starting: what comes to it waits.
        first = [ask(peer)[0] for peer in peers]
        assert len(set(first)) == 2
        assert [ask(peer) for peer in peers] == [(pid, 2) for pid in first]
        victim = first[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in gateway.children())
        answers = [ask(peer) for peer in peers]
        for pid, (now, seen) in zip(first, answers, strict=True):
            assert (now == pid) == (pid != victim)
            assert seen == (1 if pid == victim else 3)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("127.0.0.1:0", "'count' speaks in datagrams; write 'udp:' before it"),
        ("udp:127.0.0.1", "after 'udp:' comes a port"),
        ("udp:192.0.2.77:5140", "192.0.2.77 is no address of this machine"),
    ],
)
def test_wrong_endpoints(start, count, setting, says):
    """A wrong endpoint stops the start, by its setting."""
    gateway = start("run", "--plugins", "count", "--set", f"count.listen={setting}")
    assert gateway.wait() == 2
    assert says in gateway.text()
    assert "count.listen" in gateway.text()


def test_passed_by_systemd(start, count):
    """A socket that systemd passes is served from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given:
        given.bind(("127.0.0.1", 0))
        gateway = start(
            *("run", "--plugins", "count", "--workers", "none"),
            *("--set", "count.listen=udp:systemd:"),
            sockets=[given],
            LISTEN_FDS="1",
        )
        with peers_of(given.getsockname()[1], 1) as (peer,):
            assert ask(peer)[1] == 1
    gateway.signal()
    assert gateway.wait() == 0
