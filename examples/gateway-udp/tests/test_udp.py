"""Udp, by datagrams: what every plugin must do, and what only this one does."""

from __future__ import annotations

from gateway.core.plugin import OK
from gateway.testing.rig import Rig
from gateway.testing.stage import Staged

from gateway_udp import UdpPlugin
from gateway_udp.config import UdpConfig
from gateway_udp.conformance import UdpSuite


class TestUdp(UdpSuite):
    """Everything that holds for every plugin."""


def test_addresses() -> None:
    """Each address is a conversation, and hears what is for it."""
    with Staged(UdpPlugin, listen="udp:127.0.0.1:0") as staged:
        clients = [staged.connect() for _ in range(2)]
        for client in clients:
            client.send(b"who am I")
        for _ in clients:
            heard = staged.hear()
            heard.settle(OK, {"data": repr(tuple(heard.message["client"])).encode()})
        assert [client.recv(100) for client in clients] == [
            repr(client.getsockname()).encode() for client in clients
        ]


def test_empty() -> None:
    """A datagram may be empty, in both directions."""
    with Staged(UdpPlugin, listen="udp:127.0.0.1:0") as staged:
        client = staged.connect()
        client.send(b"")
        heard = staged.hear()
        assert heard.message["data"] == b""
        heard.settle(OK, {"data": b""}, {"text": "end"})
        assert [client.recv(100) for _ in range(2)] == [b"", b"end"]


def test_close() -> None:
    """A reply may forget the peer; its next datagram begins anew."""
    with Rig(UdpPlugin) as rig:
        client = rig.connect()
        channels = []
        for _ in range(2):
            client.send(b"hello")
            heard = rig.hear()
            assert heard.message["order"] == 0
            channels.append(heard.message["reply_channel"])
            heard.settle(OK, {"text": "bye", "close": True})
            assert client.take() == b"bye"
            assert client.ended
        assert channels[0] != channels[1]


def test_silence() -> None:
    """A peer that says nothing for so long is forgotten."""
    with Rig(UdpPlugin, UdpConfig(idle_timeout=5.0)) as rig:
        client = rig.connect()
        client.send(b"hello")
        rig.hear().settle()
        rig.run(4.0)
        assert not client.ended
        rig.run(1.5)
        assert client.ended
        assert not rig.left_over()
