"""How fast lines may be sent: a bucket of tokens, and what waits for one. Pure, but for the time
that it is told.

Two lanes: what the gateway itself has to say (a join, a nick) goes before what the application
says. Each line takes a token; ``rate`` come back in a second, up to ``burst``.
"""  # noqa: D205 - one sentence, and what it means

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

OWN: Final = 256
"""Lines of its own that may wait: joins of thousands of channels are a few dozen."""


class Bucket:
    """Tokens. ``rate`` 0: there is always one."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one; False where there is none."""
        if not self._rate:
            return True
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        """Return in how many seconds there is one."""
        if not self._rate:
            return 0.0
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Line(NamedTuple):
    """A line that is to be sent."""

    data: bytes
    """As it is written, with its end."""
    target: str = ""
    """To whom it says something, folded; empty: what it says is no message."""
    token: Any = None
    """Of the reply that it is of, where that has an ``ack``."""
    last: bool = True
    """Whether it is the last one of that."""


class Throttle:
    """What waits to be sent to one network."""

    def __init__(self, bucket: Bucket, most: int, most_bytes: int) -> None:
        self.open = False
        """Whether what the application says may go out; what is of its own always may."""
        self._bucket = bucket
        self._most = most
        self._most_bytes = most_bytes
        self._own: deque[Line] = deque()
        self._said: deque[Line] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._own) + len(self._said)

    def own(self, data: bytes) -> None:
        """Have the gateway's own line sent next."""
        if len(self._own) < OWN:
            self._own.append(Line(data))

    def say(self, lines: list[Line]) -> bool:
        """Take the lines of one reply, all of them or, where there is no room, none."""
        size = sum(len(line.data) for line in lines)
        if len(self._said) + len(lines) > self._most or self._bytes + size > self._most_bytes:
            return False
        self._said += lines
        self._bytes += size
        return True

    def due(self, now: float) -> Iterator[Line]:
        """Take out what may be sent now."""
        while self._own and self._bucket.take(now):
            yield self._own.popleft()
        while self.open and not self._own and self._said and self._bucket.take(now):
            line = self._said.popleft()
            self._bytes -= len(line.data)
            yield line

    def wait(self, now: float) -> float | None:
        """Return in how many seconds the next may be sent; None: nothing waits for that."""
        if self._own or (self.open and self._said):
            return self._bucket.wait(now)
        return None

    def withdraw(self) -> Iterator[Line]:
        """Take out all that the application has said: it is lost."""
        while self._said:
            yield self._said.popleft()
        self._bytes = 0
