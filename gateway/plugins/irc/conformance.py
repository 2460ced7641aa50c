"""What irc sounds like, for `gateway.testing.plugin_suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.plugin import IrcPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn

_TIMES: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|\b1\d{9}\b")
_COUNTS: Final = re.compile(rb":\S+ 2(?:5[1-5]|6[56]) [^\r]*\r\n")
_NICK: Final = "alice"
SERVER: Final = ":irc.gateway"


def said(*lines: str) -> bytes:
    """Return lines as they are sent."""
    return "".join(f"{line}\r\n" for line in lines).encode()


def closing(reason: str) -> bytes:
    """Return how the server ends a connection."""
    return said(f"{SERVER} ERROR :Closing Link: irc.gateway ({reason})")


class IrcSuite(PluginSuite):
    """A client that wants its echo."""

    plugin = IrcPlugin
    config = IrcConfig(line_rate=0, motd="Hello", max_queue=65_536)
    opening: ClassVar = (
        Turn(
            said(
                "CAP REQ :echo-message", "PASS s3cret", "NICK alice", "USER al 0 * :Alice", "CAP END"
            ),
            ("connect", {"nick": "alice", "username": "al", "password": "s3cret"}),
            answer=re.compile(
                rb":irc\.gateway CAP \* ACK echo-message\r\n"
                rb":irc\.gateway 001 alice :Welcome to the Gateway network, alice!~al@irc\.gateway\r\n"
                rb"(?::irc\.gateway (?:00\d|37[256]) alice [^\r]*\r\n)+"
            ),
        ),
        Turn(
            said("JOIN #room"),
            ("join", {"channel": "#room", "nick": "alice"}),
            answer=said(
                ":alice!~al@irc.gateway JOIN #room",
                f"{SERVER} 353 alice = #room :@alice",
                f"{SERVER} 366 alice #room :End of NAMES list",
            ),
        ),
    )
    conversation: ClassVar = (
        Turn(
            said("PRIVMSG #room :good morning"),
            ("receive", {"type": "message", "channel": "#room", "text": "good morning"}),
            replies=({"text": "to you, too"},),
            answer=said(
                ":alice!~al@irc.gateway PRIVMSG #room :good morning",
                ":gateway!gateway@irc.gateway PRIVMSG #room :to you, too",
            ),
        ),
        Turn(said("PING :1234"), answer=said(f"{SERVER} PONG irc.gateway 1234")),
        Turn(
            said("PRIVMSG #room :\x01ACTION waves\x01"),
            ("receive", {"type": "action", "text": "waves"}),
            answer=said(":alice!~al@irc.gateway PRIVMSG #room :\x01ACTION waves\x01"),
        ),
        Turn(
            said("TOPIC #room :tea"),
            ("topic", {"channel": "#room", "text": "tea"}),
            answer=said(":alice!~al@irc.gateway TOPIC #room :tea"),
        ),
        Turn(
            said("MODE #room +k-n sesame"),
            ("mode", {"modes": "+k-n", "params": ["sesame"]}),
            answer=said(":alice!~al@irc.gateway MODE #room +k-n sesame"),
        ),
        Turn(
            said("WHO #room"),
            answer=said(
                f"{SERVER} 352 alice #room ~al irc.gateway irc.gateway alice H@ :0 Alice",
                f"{SERVER} 315 alice #room :End of WHO list",
            ),
        ),
        Turn(said("FROB"), answer=said(f"{SERVER} 421 alice FROB :Unknown command")),
        Turn(
            said("PART #room :bye"),
            ("part", {"channel": "#room", "reason": "bye"}),
            answer=said(":alice!~al@irc.gateway PART #room :bye"),
        ),
        Turn(said("JOIN #room"), ("join", {"channel": "#room"}), answer=opening[1].answer),
    )
    question = said("PRIVMSG #room :are you there?")
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": said(":alice!~al@irc.gateway PRIVMSG #room :are you there?"),
        "rejected": said(f"{SERVER} 404 alice #room :Cannot send to channel"),
        "failed": said(
            f"{SERVER} 404 alice #room :That could not be handled; try again later"
        ),
        "released": said(
            f"{SERVER} 404 alice #room :Nobody can decide on that now; try again later"
        ),
        "unrouted": said(":alice!~al@irc.gateway PRIVMSG #room :are you there?"),
    }
    full = said(f"{SERVER} 404 alice #room :Nobody can decide on that now; try again later")
    unavailable = said(f"{SERVER} 404 alice #room :That could not be handled; try again later")
    too_much = b"PRIVMSG #room :" + b"x" * 600 + b"\r\n"
    too_much_answer = said(f"{SERVER} 417 alice :Input line was too long")
    farewell = closing("The gateway is shutting down")

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without times and counts."""
        return _COUNTS.sub(b"", data)
