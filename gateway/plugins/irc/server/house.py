"""What a session asks of the server that it is in: `House`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gateway.core.plugin import Drop, Message
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.server.network import Change, Channel, Network, User

Kept = tuple[str, Message]
"""A message of the history: its position, and what was sent."""


class House(Protocol):
    """The server, as its sessions see it."""

    config: IrcConfig
    network: Network
    started: float
    """When it was."""
    service: User
    """Who says what the application says."""

    def now(self) -> float:
        """Return the time."""

    def routed(self, kind: str) -> bool | None:
        """Return whether the application hears of such things; None while no worker lives."""

    def drop(self, cause: Drop, n: int = 1) -> None:
        """Count what is dropped."""

    def refuse_notice(self) -> None:
        """Count a notice that was not accepted."""

    def change(self, **change: Any) -> None:
        """Apply a change here, and tell the other processes."""

    def claim(self, session: Any, nick: str) -> None:
        """Have ``session.claimed(nick, yes)`` called once it is known whose nick that is."""

    def release(self, session: Any, nick: str) -> None:
        """Let go of a nick, where that session has it."""

    def admit(self, session: Any, user: Change) -> User:
        """Let a client in."""

    def leave(self, session: Any, reason: str) -> None:
        """Have a client be gone. Idempotent."""

    def say(self, channel: Channel, message: Message, speaker: User | None = None) -> None:
        """Have all in a channel hear a message but who says it, and keep it where that is set.

        May raise MessageTooLarge, and LocalProtocolError for what no line can carry.
        """

    def whisper(self, user: User, message: Message) -> None:
        """Send to one user, wherever it is."""

    def recall(self, channel: Channel, told: Callable[[list[Kept] | None], None]) -> None:
        """Have ``told`` called with what is kept of a channel, the oldest first."""

    def motd(self) -> list[str]:
        """Return the lines of the message of the day."""
