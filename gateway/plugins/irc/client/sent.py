"""The lines that the network has not judged yet, and whose ``ack`` says how it judges. Pure.

What it judges a line by, the best that it has:

``labeled-response``
    The line has a label, and so has what it is answered by: an error, its echo, or just ACK.
else
    Errors name whom the line was to. What has none once a PING that was sent behind it is
    answered was taken: a server works on what it hears in its order.

So `OK` says that the network took it, not that anybody has read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from gateway.core.layers.base import OK, Outcome
from gateway.plugins.irc.client.throttle import Line

MOST: Final = 1000
"""Lines that may be unjudged; of more the oldest count as taken. A network lets far fewer wait."""
PING: Final = "gateway-"
"""How the word of a PING begins, so that it is no other's."""

Judged = tuple[Any, Outcome]


class Unjudged(NamedTuple):
    """One line."""

    token: Any
    target: str
    ping: int
    """The number of the PING that will have followed it."""


class Sent:
    """Those of one connection."""

    def __init__(self) -> None:
        self._lines: dict[str, Unjudged] = {}
        """By label, in order; where the network knows no labels, by one that is not sent."""
        self._left: dict[Any, int] = {}
        """By token: how many of its lines are not judged yet."""
        self._labels = 0
        self._ping = 0
        """The number of the last PING."""
        self._pinged = 0
        """The number of the last one that was answered."""
        self._unmarked = False
        """Whether there are lines without a label that no PING has followed."""

    def expect(self, token: Any, lines: int) -> None:
        """Hear that a reply will be so many lines."""
        self._left[token] = lines

    def written(self, line: Line, *, labels: bool) -> bytes:
        """Note a line as it is written; return it with its label, if it has one."""
        if line.token is None:
            return line.data
        self._labels += 1
        label = f"g{self._labels:x}"
        self._lines[label] = Unjudged(line.token, line.target, self._ping + 1)
        if not labels:
            self._unmarked = True
            return line.data
        if line.data[:1] == b"@":
            return b"@label=%b;%b" % (label.encode(), line.data[1:])
        return b"@label=%b %b" % (label.encode(), line.data)

    def ping(self) -> str:
        """Return the word of a PING that is sent now."""
        self._ping += 1
        self._unmarked = False
        return f"{PING}{self._ping}"

    def mark(self) -> str | None:
        """Return the word of a PING, if one is to follow what was written; one is on its way at a
        time.
        """  # noqa: D205 - one sentence
        return self.ping() if self._unmarked and self._pinged == self._ping else None

    # ------------------------------------------------ how they are judged

    def ponged(self, word: str) -> Iterator[Judged]:
        """Hear that a PING was answered: what stood before it was taken."""
        number = word.removeprefix(PING)
        if number == word or not number.isdecimal() or not self._pinged < int(number) <= self._ping:
            return
        self._pinged = int(number)
        for label, line in list(self._lines.items()):
            if line.ping > self._pinged:
                break
            yield from self.taken(label)

    def taken(self, label: str) -> Iterator[Judged]:
        """Hear that the line of a label was taken."""
        line = self._lines.pop(label, None)
        if line is None or line.token not in self._left:
            return
        self._left[line.token] -= 1
        if not self._left[line.token]:
            del self._left[line.token]
            yield line.token, OK

    def refused(self, label: str, targets: tuple[str, ...], outcome: Outcome) -> Iterator[Judged]:
        """Hear that the line of a label was not, or else the oldest one to one of the targets."""
        if label not in self._lines:
            found = (key for key, line in self._lines.items() if line.target in targets)
            label = next(found, "")
        line = self._lines.pop(label, None)
        if line is not None and self._left.pop(line.token, None) is not None:
            yield line.token, outcome

    def bound(self) -> Iterator[Judged]:
        """Forget the oldest where there are too many."""
        while len(self._lines) > MOST:
            yield from self.taken(next(iter(self._lines)))
