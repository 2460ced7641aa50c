"""`Reunion`: another process tells what it has, after we could not hear it. Pure.

What it does not name is gone: its users quit, or left their channels, and nobody could tell us.
"""

from __future__ import annotations

from typing import Final

from gateway.plugins.irc.server.network import Change, Channel, Network

UNHEARD: Final = "Connection closed"
"""What is said of who has left unheard."""


class Reunion:
    """What a process is to tell again: until the last piece of what it has."""

    def __init__(self, network: Network, process: str) -> None:
        self._network = network
        self._rest: dict[str, dict[Channel, None]] = {
            user.uid: dict(user.channels) for user in network.users.values() if user.home == process
        }
        """The users that are not named yet, and the channels in which they are not."""
        self._named: set[str] = set()

    def heard(self, change: Change) -> None:
        """Hear a change that it tells, once that is applied."""
        if change["do"] == "user":
            self._named.add(change["uid"])
        elif change["do"] == "channel":
            channel = self._network.channel(change["channel"])
            if channel is None:
                return
            for uid, status in change["members"].items():
                self._rest.get(uid, {}).pop(channel, None)
                if change["since"] == channel.since:
                    self._network.restate(uid, channel, status, change["at"])

    def ended(self, at: float) -> None:
        """Hear that it has told all."""
        for uid, channels in self._rest.items():
            if uid not in self._named:
                self._network.apply({"do": "quit", "uid": uid, "reason": UNHEARD, "at": at})
                continue
            for channel in channels:
                part = {"do": "part", "uid": uid, "channel": channel.name}
                self._network.apply({**part, "reason": "", "at": at})
