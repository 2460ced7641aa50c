r"""What clients ask each other within messages (CTCP). Pure.

``PRIVMSG nick :\x01PING 7\x01`` is asked, and ``NOTICE nick :\x01PING 7\x01`` the answer. A
message of ``\x01ACTION waves\x01`` is no question: somebody waves.
"""

from __future__ import annotations

from typing import Final

from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.throttle import Bucket

MARK: Final = "\x01"
RATE: Final = 0.2
BURST: Final = 3
"""Answers at once, and one each five seconds after that: who asks more often is no person."""
ARGUMENT: Final = 64
"""Characters of a PING that are given back: a time takes some twenty."""


def asked(text: str) -> tuple[str, str]:
    r"""Return what is asked, and with what.

    >>> asked("\x01PING 7\x01"), asked("\x01version")
    (('PING', '7'), ('VERSION', ''))
    """
    command, _, rest = text[1:].removesuffix(MARK).partition(" ")
    return command.upper(), rest


class Answers:
    """What is answered, and how often. ``time`` returns what clock and calendar say."""

    def __init__(self, network: Network, now: float) -> None:
        self._network = network
        self._bucket = Bucket(RATE, BURST, now)

    def answer(self, command: str, rest: str, now: float, time: str) -> str | None:
        """Return what to answer; None: nothing, as it is not known, or asked too often."""
        if command not in self._network.ctcp or not self._bucket.take(now):
            return None
        found = {
            "VERSION": self._network.version,
            "PING": rest[:ARGUMENT].replace(MARK, ""),
            "TIME": time,
            "CLIENTINFO": " ".join(("ACTION", *sorted(self._network.ctcp))),
        }[command]
        return f"{MARK}{command} {found}{MARK}" if found else f"{MARK}{command}{MARK}"
