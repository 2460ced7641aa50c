"""Finger, by bytes: what every plugin must do, and what only this one does."""

from __future__ import annotations

import pytest
from gateway.core.plugin import OK
from gateway.testing.rig import Rig

from gateway_finger import FingerPlugin
from gateway_finger.config import FingerConfig
from gateway_finger.conformance import FingerSuite


class TestFinger(FingerSuite):
    """Everything that holds for every plugin."""


@pytest.mark.parametrize(
    ("line", "user", "hosts", "verbose"),
    [
        (b"\r\n", "", [], False),
        (b"/W\r\n", "", [], True),
        (b"/w bob\n", "bob", [], True),
        (b"Bob Hope\r\n", "Bob Hope", [], False),
        (b"bob@a.example@b.example\r\n", "bob", ["a.example", "b.example"], False),
        (b"@b.example\r\n", "", ["b.example"], False),
        (b"J\xc3\xbcrgen\r\n", "Jürgen", [], False),
    ],
)
def test_query(line: bytes, user: str, hosts: list[str], verbose: bool) -> None:
    """A query says about whom, where to ask, and whether at length."""
    with Rig(FingerPlugin) as rig:
        rig.connect().send(line)
        message = rig.hear().message
        assert (message["user"], message["hosts"], message["verbose"]) == (user, hosts, verbose)


def test_one_answer() -> None:
    """The first reply is the answer; what waits for no decision needs none."""
    with Rig(FingerPlugin) as rig:
        client = rig.connect()
        client.send(b"bob\r\nalice\r\n")
        rig.hear().settle(OK, {"accept": True}, {"bytes": b"raw"}, {"text": "too late"})
        assert client.take() == b"raw"
        assert client.ended
        assert rig.hear_any() is None


@pytest.mark.parametrize(("line", "answer"), [(b"", b""), (b"bob\r\n", b"try again later\r\n")])
def test_patience(line: bytes, answer: bytes) -> None:
    """Nobody waits, and nobody is waited for, longer than the setting says."""
    with Rig(FingerPlugin, FingerConfig(timeout=5.0)) as rig:
        client = rig.connect()
        client.send(line)
        if line:
            rig.hear()
        rig.run(4.0)
        assert not client.ended
        rig.run(1.5)
        assert (client.take(), client.ended) == (answer, True)
