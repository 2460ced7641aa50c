"""What the gateway is called on a network: first choice, other choices, and back. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.plugins.irc.client.config import Network

SHORT = 6
"""Characters of a nick that are kept before a number: many networks cut nicks at nine."""
NUMBERS = 99
"""Numbers that are tried; then it is not the nicks that the network minds."""


class Nicks:
    """The nick on one connection."""

    def __init__(self, network: Network) -> None:
        self.wanted = network.nick
        self.now = network.nick
        """What it is called, or asks to be."""
        self._others = _others(network)

    def next(self) -> str | None:
        """Return what to ask for as the last one cannot be had; None: there is nothing left."""
        found = next(self._others, None)
        if found is not None:
            self.now = found
        return found

    def welcome(self, nick: str) -> None:
        """Hear what it is called, which may be less than it asked for: some cut long nicks."""
        if self.now == self.wanted and nick and self.wanted.startswith(nick):
            self.wanted = nick
        self.now = nick


def _others(network: Network) -> Iterator[str]:
    yield from network.alternatives
    yield f"{network.nick}_"
    for number in range(1, NUMBERS + 1):
        yield f"{network.nick[:SHORT]}{number}"
