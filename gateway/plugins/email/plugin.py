"""`EmailPlugin`: both directions, what is sent by either, start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from gateway.core.plugin import Context, ProtocolPlugin
from gateway.plugins.email import messages
from gateway.plugins.email.config import EmailConfig

SEND: Final = "email.send"
"""The normal channel; with a ``!`` behind it the addresses."""


class Role(Protocol):
    """One of the two directions, as the plugin drives it."""

    async def start(self) -> None:
        """Return once traffic can flow."""

    async def stop(self) -> None:
        """Refuse new work, tell peers, let what runs finish."""

    def health(self) -> Mapping[str, Any]:
        """Return facts; ``ok`` False marks the gateway unhealthy."""


class EmailPlugin(ProtocolPlugin):
    """The plugin."""

    name: ClassVar[str] = "email"
    Config = EmailConfig
    messages = messages
    reads: ClassVar[tuple[str, ...]] = (SEND, f"{SEND}!")
    listens: ClassVar[tuple[str, ...]] = ("listen", "lmtp")

    def __init__(self, config: EmailConfig, context: Context) -> None:
        super().__init__(config, context)
        self._roles: dict[str, Role] = {}

    async def start(self) -> None:
        """Start the roles that the settings name."""
        for role in self._roles.values():
            await role.start()

    async def stop(self) -> None:
        """Stop them, those that take connections first."""
        for role in self._roles.values():
            await role.stop()

    def health(self) -> Mapping[str, Any]:
        """Return the facts of both directions."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}
