"""`MqttPlugin`: both roles, what is published to either, start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from gateway.core.errors import PluginError
from gateway.core.plugin import Context, LayerOptions, Message, ProtocolPlugin
from gateway.plugins.mqtt import messages
from gateway.plugins.mqtt.client.check import check as check_brokers
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
    reads: ClassVar[tuple[str, ...]] = (PUBLISH, f"{PUBLISH}!", "mqtt.at!")

    def __init__(self, config: MqttConfig, context: Context) -> None:
        super().__init__(config, context)
        self._roles: dict[str, Role] = {}
        if config.brokers:
            self._roles["client"] = _client_role(config, context)

    @classmethod
    def check(cls, config: MqttConfig, layer: LayerOptions) -> None:  # noqa: ARG003 - the contract's
        """Raise ConfigError where the settings do not fit each other."""
        check_brokers(config)

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


def _client_role(config: MqttConfig, context: Context) -> Role:
    try:
        from gateway.plugins.mqtt.client.role import ClientRole  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name != "paho":
            raise
        raise PluginError(
            "mqtt.brokers: to join brokers takes paho-mqtt; run: pip install 'gateway[mqtt]'"
        ) from None
    return ClientRole(config, context)
