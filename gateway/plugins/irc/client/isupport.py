"""What a network says of itself after the welcome (numeric 005). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, get_args

from gateway.plugins.irc.lines import CaseMapping

_MAPPINGS: Final[Mapping[str, CaseMapping]] = {name: name for name in get_args(CaseMapping)}
"""Those that are known; of any other (``rfc7613``) too much rather than too little is the same."""


class Support:
    """The tokens that make a difference here; what a network does not say is as in RFC 1459."""

    def __init__(self) -> None:
        self.casemapping: CaseMapping = "rfc1459"
        self.chantypes = "#&"
        self.statusmsg = ""
        """Prefixes of a target that is only some of a channel: ``@#room``, its operators."""
        self.monitor = False
        """Whether the network tells who comes and goes."""
        self.bot = ""
        """The mode by which a bot says that it is one."""
        self.joins = 0
        """Channels of one JOIN at most; 0: any number."""
        self.network = ""

    def take(self, tokens: Sequence[str]) -> None:
        """Take the tokens of one line."""
        for token in tokens:
            name, _, value = token.partition("=")
            if name == "CASEMAPPING":
                self.casemapping = _MAPPINGS.get(value.lower(), "rfc1459")
            elif name == "CHANTYPES":
                self.chantypes = value
            elif name == "STATUSMSG":
                self.statusmsg = value
            elif name == "MONITOR":
                self.monitor = True
            elif name == "BOT":
                self.bot = value
            elif name == "NETWORK":
                self.network = value
            elif name == "TARGMAX":
                self._targets(value)

    def _targets(self, value: str) -> None:
        for one in value.split(","):
            command, _, most = one.partition(":")
            if command.upper() == "JOIN":
                with suppress(ValueError):
                    self.joins = int(most or 0)
