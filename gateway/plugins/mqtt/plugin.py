"""`MqttPlugin`: both roles, what is published to either, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol
from weakref import WeakKeyDictionary

from gateway.core.arrivals import Arrived
from gateway.core.errors import ConfigError, PluginError
from gateway.core.plugin import Context, LayerOptions, Message, ProtocolPlugin
from gateway.core.web import Claim
from gateway.plugins.mqtt import messages
from gateway.plugins.mqtt.client.check import check as check_brokers
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.server.service import Server

PUBLISH: Final = "mqtt.publish"
"""The normal channel; with a ``!`` behind it the addresses."""
ENVELOPE: Final = 16_384
"""Bytes of a message beside its payload: topic, properties, addresses."""


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
        self._server = Server(config, context)
        _servers[context] = self._server
        self._roles: dict[str, Role] = {}
        if config.listen:
            self._roles["server"] = self._server
        if config.brokers:
            self._roles["client"] = _client_role(config, context)

    @classmethod
    def check(cls, config: MqttConfig, layer: LayerOptions) -> None:
        """Raise ConfigError where the settings do not fit each other, or those of the layer."""
        check_brokers(config)
        if config.max_packet + ENVELOPE > layer.message_bytes:
            raise ConfigError(
                f"mqtt.max_packet is {config.max_packet}, and the layer lets "
                f"{layer.message_bytes} bytes through, of which {ENVELOPE} are for topic and "
                f"addresses: set layer.message_bytes to {config.max_packet + ENVELOPE} or more "
                "(and layer.channel_bytes to several times that), or max_packet lower"
            )

    async def start(self) -> None:
        """Start the roles that the settings name."""
        self._check_layer()
        for role in self._roles.values():
            await role.start()
        if "server" in self._roles and not self.config.default:
            self.context.listen(PUBLISH, self._publish)
            self.context.listen(f"{PUBLISH}!", self._publish)

    def _check_layer(self) -> None:
        """Raise PluginError where QoS 1 is promised, and the layer cannot keep that."""
        if self.context.settles:
            return
        config = self.config
        who = ["mqtt.listen: devices publish with QoS 1 and 2"] if config.listen else []
        who += [
            f"mqtt.brokers.{name}: qos is {broker.qos}"
            for name, broker in config.brokers.items()
            if broker.qos
        ]
        if who:
            raise PluginError(
                f"{who[0]}, and this channel layer cannot say what became of a message (it has no "
                "extension 'deliveries'), so nothing could be acknowledged truthfully; set "
                "layer.url to unix:///path or memory://, or only join brokers (listen = []), with "
                "qos = 0 and mode = 'shared'"
            )

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a device's connection that is there, whoever accepted it."""
        return self._server.serve(arrived)

    def _publish(self, channel: str, message: Message) -> None:
        """Hand what came to ``mqtt.publish``, or an address of it, to the role that it is for."""
        client = self._roles.get("client")
        if client is not None and message.get("broker"):
            client.publish(channel, message)
        else:
            self._server.publish(channel, message)

    async def stop(self) -> None:
        """Stop them, those that take connections first."""
        for role in self._roles.values():
            await role.stop()

    def health(self) -> Mapping[str, Any]:
        """Return the facts of both roles."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}


_servers: WeakKeyDictionary[Context, Server] = WeakKeyDictionary()


def http_claims(config: MqttConfig, context: Context) -> list[Claim]:
    """Return the claim on MQTT over WebSocket, where that is wanted and can be spoken."""
    server = _servers.get(context)
    if server is None or not config.websocket or not config.listen:
        return []
    try:
        from gateway.plugins.mqtt.server.tunnel import Door  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name != "autobahn":
            raise
        context.log.info("MQTT over WebSocket takes autobahn: pip install 'gateway[websocket]'")
        return []
    return [Door(server).claim()]


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
