"""`EmailPlugin`: both directions, what is sent by either, start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from gateway.core.errors import PluginError
from gateway.core.plugin import Context, LayerOptions, ProtocolPlugin
from gateway.plugins.email import messages
from gateway.plugins.email.client.check import check as check_outgoing
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
        self._roles["client"] = _client_role(config, context)

    @classmethod
    def check(cls, config: EmailConfig, layer: LayerOptions) -> None:  # noqa: ARG003 - the contract
        """Raise ConfigError where the settings do not fit each other."""
        check_outgoing(config)

    async def start(self) -> None:
        """Start both, the way out first: what comes in may be answered."""
        for role in reversed(self._roles.values()):
            await role.start()

    async def stop(self) -> None:
        """Stop them, those that take connections first."""
        for role in self._roles.values():
            await role.stop()

    def health(self) -> Mapping[str, Any]:
        """Return the facts of both directions."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}


def _client_role(config: EmailConfig, context: Context) -> Role:
    try:
        from gateway.plugins.email.client.role import ClientRole  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name != "aiosmtplib":
            raise
        raise PluginError(
            "email: to deliver mail takes aiosmtplib; run: pip install 'gateway[email]'"
        ) from None
    return ClientRole(config, context, config.hostname)
