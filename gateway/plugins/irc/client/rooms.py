"""The channels of a network that the gateway is to be in, over all its connections. Pure, but for
the time that it is told.

They come from the settings, from the routing tables of living workers, and from the application
(a reply of the type ``join``); what the application asked for is forgotten when the process ends.
"""  # noqa: D205 - one sentence, and where they come from

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.plugins.irc.client.config import Network

GRACE: Final = 60.0
"""Seconds until a channel that no worker wants any more is left: a worker that is restarted has
come back by then."""
ANSWER: Final = 60.0
"""Seconds that the network has to answer a JOIN: a lag that rooms still live with."""

AWAY: Final = "away"
ASKED: Final = "asked"
IN: Final = "in"


class Room:
    """One channel."""

    __slots__ = ("asked_for", "due", "error", "key", "left", "name", "since", "state", "tries")

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self.key = key
        self.state = AWAY
        self.asked_for = False
        """Whether the application has asked for it."""
        self.left = False
        """Whether the application has left it, whoever else wants it."""
        self.tries = 0
        """Refusals and kicks, one after the other."""
        self.due = 0.0
        """When it is to be joined (next)."""
        self.since = 0.0
        """Since when the gateway is in."""
        self.error = ""
        """Why it is not."""


class Rooms:
    """All of one network. ``fold`` says which names are the same there."""

    def __init__(self, network: Network, fold: Callable[[str], str]) -> None:
        self._network = network
        self._fold = fold
        self._routed: frozenset[str] = frozenset()
        self._unwanted: dict[str, float] = {}
        """Since when no worker wants what one did."""
        self._rooms: dict[str, Room] = {}
        for name in network.channels:
            self._room(name)

    def fold_by(self, fold: Callable[[str], str]) -> None:
        """Hear which names are the same on this network."""
        self._fold = fold
        rooms = list(self._rooms.values())
        self._rooms = {fold(room.name): room for room in reversed(rooms)}

    def _room(self, name: str) -> Room:
        found = self._rooms.get(self._fold(name))
        if found is None:
            keys = {self._fold(known): key for known, key in self._network.keys.items()}
            key = keys.get(self._fold(name), "")
            found = self._rooms[self._fold(name)] = Room(name, key)
        return found

    def __getitem__(self, name: str) -> Room | None:
        """Return what is known of a channel."""
        return self._rooms.get(self._fold(name))

    # ------------------------------------------------ what is wanted

    def want(self, wanted: frozenset[str] | None, now: float) -> list[str]:
        """Take what living workers want (None: there is none); return what is to be left."""
        if wanted is None or not self._network.routes:
            return []  # what is said now waits for them
        over = []
        for name in self._routed - wanted:
            if now - self._unwanted.setdefault(name, now) >= GRACE:
                over.append(name)
                del self._unwanted[name]
        for name in wanted:
            self._unwanted.pop(name, None)
            self._room(name)
        self._routed = (self._routed | wanted) - set(over)
        return [name for name in over if self._over(name)]

    def _over(self, name: str) -> bool:
        """Forget a channel that nobody wants; return whether it is to be left."""
        room = self._rooms.get(self._fold(name))
        if room is None or room.asked_for or self._is_said(name):
            return False
        del self._rooms[self._fold(name)]
        return room.state != AWAY

    def _is_said(self, name: str) -> bool:
        key = self._fold(name)
        return any(self._fold(one) == key for one in (*self._network.channels, *self._routed))

    def ask(self, name: str, key: str | None, now: float) -> None:
        """Have the application want a channel, which is joining it just now."""
        room = self._room(name)
        room.asked_for = True
        room.left = False
        if room.state != IN:
            room.state = ASKED
            room.due = now + ANSWER
        if key is not None:
            room.key = key

    def leave(self, name: str) -> None:
        """Have the application not want a channel any more."""
        room = self._rooms.get(self._fold(name))
        if room is None:
            return
        room.asked_for = False
        room.left = True
        if not self._is_said(name):
            del self._rooms[self._fold(name)]

    # ------------------------------------------------ what is done

    def due(self, now: float) -> Iterator[Room]:
        """Return those to be joined now; they count as asked for."""
        for room in self._rooms.values():
            if room.state != IN and not room.left and room.due <= now:
                room.state = ASKED
                room.due = now + ANSWER
                yield room

    def wait(self, now: float) -> float | None:
        """Return in how many seconds the next is to be joined; None: none is."""
        dues = [r.due for r in self._rooms.values() if r.state != IN and not r.left]
        return max(0.0, min(dues) - now) if dues else None

    # ------------------------------------------------ what the network says

    def joined(self, name: str, now: float) -> None:
        """Hear that the gateway is in; in one that nobody wants the network has put it."""
        room = self._rooms.get(self._fold(name))
        if room is not None:
            room.state = IN
            room.since = now
            room.error = ""

    def refused(self, name: str, reason: str, now: float) -> bool:
        """Hear that it is not let in; False where it was not asked for."""
        room = self._rooms.get(self._fold(name))
        if room is None or room.state != ASKED:
            return False
        self._later(room, reason, now)
        return True

    def removed(self, name: str, reason: str, now: float) -> None:
        """Hear that it was kicked, or put out."""
        room = self._rooms.get(self._fold(name))
        if room is not None:
            if room.state == IN and now - room.since >= self._network.rejoin_longest:
                room.tries = 0
            self._later(room, reason, now)

    def _later(self, room: Room, reason: str, now: float) -> None:
        network = self._network
        wait = min(network.rejoin_wait * 2.0 ** min(room.tries, 20), network.rejoin_longest)
        room.state = AWAY
        room.tries += 1
        room.due = now + wait
        room.error = reason

    def invited(self, name: str, now: float) -> bool:
        """Hear of an invitation; return whether it is to be followed."""
        room = self._rooms.get(self._fold(name))
        if room is None or room.state == IN or room.left:
            return False
        room.due = now
        return True

    def lost(self) -> None:
        """Hear that the connection is gone: by the next one all are joined anew."""
        for room in self._rooms.values():
            room.state = AWAY
            room.due = 0.0
            room.error = ""

    def facts(self) -> dict[str, Any]:
        """Return facts for a health check."""
        rooms = sorted(self._rooms.values(), key=lambda room: room.name)
        facts: dict[str, Any] = {"channels": [r.name for r in rooms if r.state == IN]}
        refused = {r.name: r.error for r in rooms if r.error and not r.left}
        return {**facts, "refused": refused} if refused else facts
