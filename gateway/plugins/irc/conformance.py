"""What irc sounds like, for `gateway.testing.plugin_suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from typing import Any, ClassVar, Final

from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.plugin import IrcPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn
from gateway.testing.rig import Client, Rig

_TIMES: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|\b1\d{9}\b")
_COUNTS: Final = re.compile(rb":\S+ 2(?:5[1-5]|6[56]) [^\r]*\r\n")
_numbers = count(1)
SERVER: Final = ":irc.gateway"


def said(*lines: str) -> bytes:
    """Return lines as they are sent."""
    return "".join(f"{line}\r\n" for line in lines).encode()


def closing(reason: str) -> bytes:
    """Return how the server ends a connection."""
    return said(f"{SERVER} ERROR :Closing Link: irc.gateway ({reason})")


def refused(why: str) -> bytes:
    """Return how what somebody says is refused."""
    return said(f"{SERVER} 404 alice gateway :{why}")


class Namesake:
    """A client beside another that has the nick: it has one of its own, and a channel, too."""

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        self._own = b"%04x" % number

    def send(self, data: bytes) -> None:
        """Say something, under its own names."""
        data = data.replace(b"#room", b"#" + self._own)
        self._client.send(data.replace(b"alice", b"a" + self._own))

    def take(self) -> bytes:
        """Return what came, as if it had the names of all."""
        data = self._client.take().replace(b"#" + self._own, b"#room")
        return data.replace(b"a" + self._own, b"alice")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class IrcSuite(PluginSuite):
    """A client that wants its echo."""

    plugin = IrcPlugin
    config = IrcConfig(line_rate=0, motd="Hello", max_queue=65_536)
    opening: ClassVar = (
        Turn(
            said(
                "CAP REQ :echo-message",
                "PASS s3cret",
                "NICK alice",
                "USER al 0 * :Alice",
                "CAP END",
            ),
            ("connect", {"username": "al", "password": "s3cret"}),
            answer=re.compile(
                rb":irc\.gateway CAP \* ACK echo-message\r\n"
                rb":irc\.gateway 001 alice :Welcome to [^\r]*, alice!~al@irc\.gateway\r\n"
                rb"(?::irc\.gateway (?:00\d|37[256]) alice [^\r]*\r\n)+"
            ),
        ),
        Turn(
            said("JOIN #room"),
            ("join", {"account": None}),
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
            ("receive", {"type": "message", "text": "good morning"}),
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
            ("topic", {"text": "tea"}),
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
            ("part", {"reason": "bye"}),
            answer=said(":alice!~al@irc.gateway PART #room :bye"),
        ),
        Turn(said("JOIN #room"), ("join", {"key": None}), answer=opening[1].answer),
    )
    question = said("PRIVMSG gateway :are you there?")
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": said(":alice!~al@irc.gateway PRIVMSG gateway :are you there?"),
        "rejected": refused("Cannot send to channel"),
        "failed": refused("That could not be handled; try again later"),
        "released": refused("Nobody can decide on that now; try again later"),
        "unrouted": refused("Nobody is there to hear that"),
    }
    full = refused("Nobody can decide on that now; try again later")
    lost = refused("Nobody can decide on that now; try again later")
    unavailable = lost
    too_much = b"PRIVMSG #room :" + b"x" * 600 + b"\r\n"
    too_much_answer = said(f"{SERVER} 417 alice :Input line was too long")
    farewell = closing("The gateway is shutting down")

    def connect(self, rig: Rig) -> Client:
        """Return a new client, with names of its own where another has them."""
        network = rig.plugin.health()["server"]
        client = rig.connect()
        return Namesake(client, next(_numbers)) if network["users"] else client

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without times and counts."""
        return _COUNTS.sub(b"", data)
