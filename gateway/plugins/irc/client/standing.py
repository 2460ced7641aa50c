"""What is known of the gateway on one connection to a network, and of that network. Pure."""

from __future__ import annotations

from typing import Final

from gateway.plugins.irc.client.batches import Batches
from gateway.plugins.irc.client.capabilities import Capabilities
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.isupport import Support
from gateway.plugins.irc.client.nicks import Nicks
from gateway.plugins.irc.lines import MAX_REST, fold

USER: Final = 11
HOST: Final = 63
"""Characters of user and host at most, while it is not known what the network calls us."""


class Standing:
    """How the gateway stands there."""

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        """Of the network, as the settings call it."""
        self.network = network
        wanted = network.capabilities
        if network.sasl is not None and "sasl" not in wanted:
            wanted = (*wanted, "sasl")
        self.capabilities = Capabilities(wanted)
        self.support = Support()
        self.batches = Batches()
        self.nicks = Nicks(network)
        self.user_host = ""
        """``user@host`` as others see it, once the network has said it."""
        self.account = ""
        """As whom the gateway is logged in; empty: as nobody."""
        self.reason = ""
        """Why the connection ended, or is about to."""
        self.unwelcome = False
        """Whether the network does not want it: it is to come back late."""

    def fold(self, name: str) -> str:
        """Return a nick or channel so that those that are the same there are equal."""
        return fold(name, self.support.casemapping)

    def is_me(self, nick: str) -> bool:
        """Whether a nick is the gateway's."""
        mine = self.nicks.now
        return nick == mine or (len(nick) == len(mine) and self.fold(nick) == self.fold(mine))

    def is_channel(self, target: str) -> bool:
        """Whether a target is a channel."""
        return target[:1] != "" and target[0] in self.support.chantypes

    def channel_of(self, target: str) -> str | None:
        """Return the channel that a target is, or is some of (``@#room``); None: it is a nick."""
        if self.is_channel(target):
            return target
        rest = target.lstrip(self.support.statusmsg) if self.support.statusmsg else target
        return rest if rest != target and self.is_channel(rest) else None

    def room_for(self, command: str, target: str) -> int:
        """Return the bytes that a text may have, so that others get all of it.

        They get it with our mask before it, which the network adds.
        """
        mask = len(self.nicks.now.encode()) + 1
        mask += len(self.user_host.encode()) if self.user_host else USER + 1 + HOST
        return MAX_REST - len(f": {command}  :\r\n") - mask - len(target.encode())

    def hear_mask(self, mask: str) -> None:
        """Hear what the network calls us: ``nick!user@host``."""
        _, bang, user_host = mask.partition("!")
        if bang and "@" in user_host:
            self.user_host = user_host

    def hear_host(self, host: str) -> None:
        """Hear by what host others see us, or by what ``user@host``."""
        if "@" in host:
            self.user_host = host
        elif self.user_host:
            self.user_host = f"{self.user_host.partition('@')[0]}@{host}"
