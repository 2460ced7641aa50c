"""Telnet, by bytes: what every plugin must do, and what only this one does."""

from __future__ import annotations

from gateway.core.plugin import OK, REJECTED, Outcome
from gateway.testing.rig import Rig

from gateway_telnet import TelnetPlugin
from gateway_telnet.conformance import TelnetSuite
from gateway_telnet.translate import nvt


class TestTelnet(TelnetSuite):
    """Everything that holds for every plugin."""


def test_refused() -> None:
    """Who is not let in reads why, and is gone; no disconnect follows."""
    with Rig(TelnetPlugin) as rig:
        client = rig.connect()
        rig.hear().settle(Outcome(REJECTED, reason="full house"))
        assert client.take() == b"full house\r\n"
        assert client.ended
        assert rig.hear_any() is None


def test_refused_by_a_reply() -> None:
    """A reply decides before its consumer has returned; one that comes later decides nothing."""
    with Rig(TelnetPlugin) as rig:
        client = rig.connect()
        rig.hear().settle(OK, {"text": "not you", "accept": False})
        assert client.take() == b"not you\r\n"
        assert client.ended
        client = rig.connect()
        rig.hear().settle(OK, {"text": "welcome"}, {"accept": False})
        assert client.take() == b"welcome\r\n"
        assert not client.ended


def test_negotiation_that_does_not_end() -> None:
    """An option's parameters of any length are kept nowhere."""
    with Rig(TelnetPlugin) as rig:
        client = rig.connect()
        rig.hear().settle()
        client.send(b"\xff\xfa\x18" + b"x" * 1_000_000 + b"\xff\xf0" + b"hello\r\n")
        assert rig.hear().message["text"] == "hello"


def test_line_ends() -> None:
    """Whatever ends a line of an application, the client sees lines; nothing is a command."""
    assert nvt(b"a\nb\r\nc\rd\xff\xf6") == b"a\r\nb\r\nc\r\0d\xff\xff\xf6"
