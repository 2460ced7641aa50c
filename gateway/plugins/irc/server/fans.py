"""`Fans`: what many are told, in slices, so that a large channel does not stop the loop. Pure.

Whatever is told to many comes in its order. Who is told, or answered, something alone is first told
what is on its way to it; and who does something hears at once what comes of that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.plugins.irc.server.event import Event

SLICE: Final = 500
"""Clients that are told in one turn of the loop: about 5 ms."""


class Link(Protocol):
    """The connection of a client of this process, as others push to it."""

    caps: int
    busy: bool
    """Whether it is doing something: what it hears meanwhile is before or behind its answers."""

    def push(self, event: Event, *, answer: bool = True) -> None:
        """Tell it; ``answer``: it may be what answers a command of its own."""


class Fans:
    """What is on its way; ``later`` has something called in the next turn of the loop."""

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._later = later
        self._fans: deque[tuple[Event, dict[Link, None]]] = deque()
        self.busy = False
        """Whether something is on its way."""

    def tell(self, links: Sequence[Link], event: Event) -> None:
        """Tell many; those that are left, a few at a time."""
        if not self.busy and len(links) <= SLICE:
            for link in links:
                link.push(event)
            return
        left = dict.fromkeys(links)
        for link in [one for one in links if one.busy]:
            self.catch_up(link)
            del left[link]
            link.push(event)
        self._fans.append((event, left))
        if not self.busy:
            self.busy = True
            self._slice()

    def catch_up(self, link: Link) -> None:
        """Tell one what is on its way to it, before something else."""
        for event, left in self._fans:
            if link in left:
                del left[link]
                link.push(event)

    def _slice(self) -> None:
        told = 0
        try:
            while self._fans and told < SLICE:
                event, left = self._fans[0]
                while left and told < SLICE:
                    told += 1
                    left.popitem()[0].push(event)
                if not left:
                    self._fans.popleft()
        finally:  # a fault costs one its line, and not the rest
            if self._fans:
                self._later(self._slice)
            else:
                self.busy = False
