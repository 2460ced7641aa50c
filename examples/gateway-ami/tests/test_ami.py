"""ami, by bytes: what every plugin must do, and what only this one does."""

from gateway.core.plugin import REJECTED, Outcome
from gateway.testing.rig import Rig

from gateway_ami import AmiPlugin
from gateway_ami.conformance import DIAL, GREETING, LOGIN, WELCOME, AmiSuite, error
from gateway_ami.translate import AmiSession


class TestAmi(AmiSuite):
    """Everything that holds for every plugin."""


def test_before_login() -> None:
    """Who has not logged in may do nothing, and is ended in the end."""
    with Rig(AmiPlugin) as rig:
        client = rig.connect()
        client.send(DIAL)
        rig.run()
        assert client.take() == GREETING + error("Permission denied")
        rig.run(31)
        assert client.ended


def test_refused() -> None:
    """A wrong password is said so, and is the end; no disconnect follows."""
    with Rig(AmiPlugin) as rig:
        client = rig.connect()
        client.send(LOGIN)
        rig.hear().settle(Outcome(REJECTED))
        assert client.take().endswith(b"Message: Authentication failed\r\n\r\n")
        assert client.ended
        assert rig.hear_any() is None


def test_what_is_no_event() -> None:
    """An event that would be two, or has no name, is not sent."""
    with Rig(AmiPlugin) as rig:
        client = rig.connect()
        client.send(LOGIN)
        rig.hear().settle(Outcome("accepted"), {"text": "A\r\nB"}, {"headers": {"A": "1"}})
        assert client.take() == GREETING + WELCOME
        assert rig.metrics.dropped() == {"invalid": 2}


def test_a_group_is_closed() -> None:
    """The last event of a group has no frame: `send` says it to each, and ends it."""
    assert AmiSession.frame({"text": "Bye", "close": True}) is None
    assert AmiSession.frame({"text": "Hi"}) == b"Event: Hi\r\n\r\n"


def test_lines() -> None:
    """What is too long, or of too many lines, is an action that failed; the next one is heard."""
    with Rig(AmiPlugin) as rig:
        client = rig.connect()
        client.send(LOGIN)
        rig.hear().settle()
        client.take()
        client.send(b"a: " + b"x" * 2000 + b"\r\n\r\n")
        rig.run()
        assert client.take().startswith(b"Response: Error\r\nMessage: Failed to parse message")
        client.send(b"".join(b"%d: x\r\n" % n for n in range(200)) + b"\r\n")
        rig.run()
        assert client.take().startswith(b"Response: Error\r\nMessage: Too many lines")
        client.send(DIAL)
        assert rig.hear().message["headers"] == {"actionid": "2", "channel": "SIP/7"}


def test_login_is_decided_by_a_reply() -> None:
    """A consumer may accept before it returns; a second Login is refused here."""
    with Rig(AmiPlugin) as rig:
        client = rig.connect()
        client.send(LOGIN)
        rig.hear().settle(Outcome(REJECTED), {"accept": True}, {"text": "Hi", "close": False})
        assert client.take() == GREETING + WELCOME + b"Event: Hi\r\n\r\n"
        client.send(LOGIN)
        rig.run()
        assert client.take().endswith(b"Message: Permission denied\r\n\r\n")
