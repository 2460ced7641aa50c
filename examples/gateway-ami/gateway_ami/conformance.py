"""What ami sounds like: the rest of its tests is `PluginSuite`'s."""

from gateway.core.plugin import REJECTED, Outcome
from gateway.testing.plugin_suite import PluginSuite, Turn

from gateway_ami import AmiPlugin

GREETING = b"Asterisk Call Manager/9.0.0\r\n"
LOGIN = b"Action: Login\r\nActionID: 1\r\nUsername: ann\r\nSecret: x\r\n\r\n"
WELCOME = b"Response: Success\r\nActionID: 1\r\nMessage: Authentication accepted\r\n\r\n"
DIAL = b"action: Originate\r\nACTIONID: 2\r\nChannel: SIP/7\r\n\r\n"
DIALLED = ("action", {"action": "Originate", "headers": {"actionid": "2", "channel": "SIP/7"}})
SUCCESS = b"Response: Success\r\nActionID: 2\r\n\r\n"


def error(message: str) -> bytes:
    """Return what is heard of a DIAL that is not accepted."""
    return f"Response: Error\r\nActionID: 2\r\nMessage: {message}\r\n\r\n".encode()


class AmiSuite(PluginSuite):
    """A manager that logs in and dials."""

    plugin = AmiPlugin
    opening = (
        Turn(
            LOGIN,
            ("connect", {"username": "ann", "secret": "x"}),
            answer=GREETING + WELCOME,
        ),
    )
    conversation = (
        Turn(DIAL, DIALLED, answer=SUCCESS),
        Turn(
            DIAL,
            DIALLED,
            replies=({"text": "Newchannel", "headers": {"Channel": "SIP/7"}},),
            answer=b"Event: Newchannel\r\nChannel: SIP/7\r\n\r\n" + SUCCESS,
        ),
        Turn(DIAL, DIALLED, Outcome(REJECTED, reason="no\nSIP"), answer=error("no SIP")),
        Turn(b"Action: Ping\r\n\r\n", answer=b"Response: Success\r\nPing: Pong\r\n\r\n"),
        Turn(
            b"ActionID: 2\r\nChannel: SIP/7\r\n\r\n",
            answer=error("Missing action in request"),
        ),
    )
    question = DIAL
    answers = {
        "accepted": SUCCESS,
        "rejected": error("Permission denied"),
        "failed": error("Action failed"),
        "released": error("Busy, try again later"),
        "unrouted": error("Invalid/unknown command"),
    }
    full = error("Busy, try again later")
    too_much = b"x" * 5_000 + b"\r\n\r\n"
    too_much_answer = b"Response: Error\r\nMessage: Failed to parse message: line too long\r\n\r\n"
    farewell = b"Event: Shutdown\r\nShutdown: Cleanly\r\nRestart: True\r\n\r\n"
