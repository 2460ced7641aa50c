"""Whole gateways that are killed while people talk to them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.serving import Served
from tests.plugins.irc.client.servers import Ngircd, Person

pytestmark = [
    pytest.mark.timeout(90),  # five processes start, and one twice
    pytest.mark.skipif(bool(Ngircd.missing()), reason=Ngircd.missing() or "there is one"),
]
PROJECT = Path(__file__).parent / "project"


def test_a_gateway_that_is_killed(tmp_path):
    """Another one is on the network within seconds, in the same channels, and answers there."""
    with Ngircd(tmp_path) as server:
        network = f'{{connect = "{server.where}", nick = "gw", channels = ["#room"], rate = 0}}'
        options = ("--plugins", "http,irc", "--set", "irc.listen=[]")
        with (
            Person(server.port, "alice", "#room") as alice,
            Served(
                tmp_path,
                *options,
                "--set",
                f"irc.networks={{net = {network}}}",
                project=PROJECT,
                gateways=2,
            ) as served,
        ):
            alice.wait("join", "gw")
            alice.say("#room", "!first")
            assert alice.wait("pubmsg") == ["you said !first"]
            os.kill(holder(served, server), signal.SIGKILL)
            alice.wait("quit", "gw")
            alice.wait("join")  # as gw, or as gw_ where the server has not noticed yet
            alice.say("#room", "!end")
            assert alice.wait("pubmsg") == ["you said !end"]


def holder(served, server):
    """The process that has a connection to the server."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    end = f"0100007F:{server.port:04X}"
    inodes = {f"socket:[{row[9]}]" for row in rows if row[2] == end}
    [found] = [p for p in served.processes()["gateway"] if inodes.intersection(served.files(p))]
    return found
