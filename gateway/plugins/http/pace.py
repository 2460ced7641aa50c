"""How long a request's body may still take: no pause too long, no trickle for ever. Pure."""

from __future__ import annotations

from gateway.plugins.http.config import HttpConfig


class Pace:
    """The time that one body has left: ``body_timeout`` seconds, earned anew by what comes.

    Each byte earns ``1 / body_rate`` seconds, up to ``body_timeout`` in all. So whoever sends
    faster than that may pause now and then, and whoever sends slower is ended, however evenly
    the bytes come. ``now`` is monotonic seconds.
    """

    __slots__ = ("_earns", "_left", "_most", "_since")

    def __init__(self, config: HttpConfig, now: float) -> None:
        self._most = config.body_timeout
        self._earns = 1.0 / config.body_rate if config.body_rate else self._most
        self._left = self._most
        self._since = now

    def read(self, size: int, now: float) -> float:
        """Return the seconds left after ``size`` bytes came."""
        left = self._left - (now - self._since) + size * self._earns
        self._left = left = min(left, self._most)
        self._since = now
        return max(0.0, left)

    def stop(self, now: float) -> None:
        """Let the time stand still: that the body is read no further is not the client's doing."""
        self._left -= now - self._since

    def go(self, now: float) -> float:
        """Let the time pass again; return the seconds left."""
        self._since = now
        return max(0.0, self._left)
