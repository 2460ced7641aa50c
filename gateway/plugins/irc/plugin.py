"""`IrcPlugin`: both roles, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from gateway.core.arrivals import Arrived
from gateway.core.errors import ConfigError
from gateway.core.plugin import Context, LayerOptions, Message, ProtocolPlugin
from gateway.core.web import Claim
from gateway.plugins.irc import messages
from gateway.plugins.irc.client.check import check as check_networks
from gateway.plugins.irc.client.check import warnings as network_warnings
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.places import SAY, destination
from gateway.plugins.irc.server.service import Server


class Role(Protocol):
    """One of the two roles, as the plugin drives it."""

    async def start(self) -> None:
        """Return once traffic can flow."""

    async def stop(self) -> None:
        """Refuse new work, tell peers, let what runs finish."""

    def health(self) -> Mapping[str, Any]:
        """Return facts; ``ok`` False marks the gateway unhealthy."""


class IrcPlugin(ProtocolPlugin):
    """The plugin: a role is there where the settings have something for it."""

    name: ClassVar[str] = "irc"
    Config = IrcConfig
    messages = messages
    reads: ClassVar[tuple[str, ...]] = (SAY, f"{SAY}!")

    def __init__(self, config: IrcConfig, context: Context) -> None:
        super().__init__(config, context)
        self._server = _servers[context] = Server(config, context)
        self._roles: dict[str, Role] = {}
        if config.listen:
            self._roles["server"] = self._server
        if config.networks:
            from gateway.plugins.irc.client.role import ClientRole  # noqa: PLC0415 - only then

            own = self._address if config.listen else None
            self._roles["client"] = ClientRole(config.networks, context, own)

    @classmethod
    def check(cls, config: IrcConfig, layer: LayerOptions) -> None:  # noqa: ARG003 - it fits any
        """Raise ConfigError where the settings do not fit each other."""
        check_networks(config.networks)
        if config.listen and config.network in config.networks:
            raise ConfigError(
                f"irc.network is {config.network!r}, and [irc.networks.{config.network}] is "
                "another: an address (irc.say!NETWORK.TARGET) could mean either; rename one"
            )

    @classmethod
    def warnings(cls, config: IrcConfig) -> Iterable[str]:
        """Return what an operator should know of this installation."""
        return network_warnings(config.networks)

    async def start(self) -> None:
        """Start the roles that the settings name."""
        for role in self._roles.values():
            await role.start()
        if "client" not in self._roles:
            self.context.listen(SAY, self._say)
            self.context.listen(f"{SAY}!", self._say)

    def _say(self, channel: str, message: Message) -> None:
        """Say what was sent to ``irc.say``, or to an address, where no networks are joined."""
        network, target = destination(channel, message)
        if not self._address(network, target, channel, message):
            self.context.log.warning("%s: there is no network %r here", channel, network)
            self.context.undelivered(channel, message)

    def _address(
        self, network: str | None, target: str | None, channel: str, message: Message
    ) -> bool:
        """Have the own network say it; return whether it is for that."""
        if network != self.config.network:
            return False
        self._server.address(channel, target, message)
        return True

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a client's connection that is there, whoever accepted it."""
        return self._server.serve(arrived)

    async def stop(self) -> None:
        """Stop them, those that take connections first."""
        await asyncio.gather(*(role.stop() for role in self._roles.values()))

    def health(self) -> Mapping[str, Any]:
        """Return the facts of both roles."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}


_servers: WeakKeyDictionary[Context, Server] = WeakKeyDictionary()


def http_claims(config: IrcConfig, context: Context) -> list[Claim]:
    """Return the claim on IRC over WebSocket, where that is wanted and can be spoken."""
    server = _servers.get(context)
    if server is None or not config.websocket or not config.listen:
        return []
    try:
        from gateway.plugins.irc.server.tunnel import Door  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name != "autobahn":
            raise
        context.log.info("IRC over WebSocket takes autobahn: pip install 'gateway[websocket]'")
        return []
    return [Door(server).claim()]
