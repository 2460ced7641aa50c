"""`MqttPlugin`: both roles, what is published to either, start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from gateway.core.plugin import Context, Message, ProtocolPlugin
from gateway.plugins.mqtt import messages
from gateway.plugins.mqtt.config import MqttConfig

PUBLISH = "mqtt.publish"
"""The normal channel; with a ``!`` behind it the addresses."""


class Role(Protocol):
    """One of the two roles, as the plugin drives it."""

    async def start(self) -> None:
        """Return once traffic can flow."""

    async def stop(self) -> None:
        """Refuse new work, tell peers, let what runs finish."""

    def health(self) -> Mapping[str, Any]:
        """Return facts; ``ok`` False marks the gateway unhealthy."""

    def publish(self, channel: str, message: Message) -> None:
        """Publish what was sent to ``mqtt.publish`` or an address (``channel``)."""


class MqttPlugin(ProtocolPlugin):
    """The plugin: a role is there where the settings have something for it."""

    name: ClassVar[str] = "mqtt"
    Config = MqttConfig
    messages = messages
    reads: ClassVar[tuple[str, ...]] = (PUBLISH, f"{PUBLISH}!")

    def __init__(self, config: MqttConfig, context: Context) -> None:
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
        """Return the facts of both roles."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}
