"""`EmailPlugin`: both directions, what is sent by either, start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from gateway.core.arrivals import Arrived
from gateway.core.errors import ConfigError, PluginError
from gateway.core.networks import Networks
from gateway.core.plugin import Context, LayerOptions, ProtocolPlugin
from gateway.plugins.email import messages
from gateway.plugins.email.client.check import check as check_outgoing
from gateway.plugins.email.client.check import warnings as warnings_outgoing
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.server.commands import Domains

if TYPE_CHECKING:
    from gateway.plugins.email.client.envelope import Entry
    from gateway.plugins.email.client.role import ClientRole
    from gateway.plugins.email.server.service import Server

SEND: Final = "email.send"
"""The normal channel; with a ``!`` behind it the addresses."""
ENVELOPE: Final = 65_536
"""Bytes of a message beside the mail: a hundred recipients, addresses, the trace."""


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
        self.server: Server | None = None
        """The inward direction."""
        self.client: ClientRole | None = None
        """The outward direction."""
        if config.listen or config.lmtp:
            self.server = self._roles["server"] = _server_role(config, context)
        if config.spool:
            self.client = self._roles["client"] = _client_role(config, context)

    @classmethod
    def warnings(cls, config: EmailConfig) -> Iterable[str]:
        """Return what an operator should know of these settings."""
        if config.replies == "anyone":
            yield (
                "email.replies is 'anyone': who forges a sender has the gateway write to whom it "
                "likes; 'aligned' answers whom SPF or DKIM confirms"
            )
        if config.replies == "aligned" and find_spec("spf") is None:
            yield (
                "email.replies is 'aligned', and nothing checks senders: pip install "
                "'gateway[email-auth]'"
            )
        if (config.listen or config.lmtp) and not config.domains:
            yield "email.domains is empty: mail for everybody is refused"
        yield from warnings_outgoing(config, config.hostname)

    @classmethod
    def check(cls, config: EmailConfig, layer: LayerOptions) -> None:
        """Raise ConfigError where the settings do not fit each other, or those of the layer."""
        check_outgoing(config)
        Domains(config.domains)
        Networks(config.trusted, "email.trusted")
        Networks(config.proxies, "email.proxies")
        # The mail itself, its text once more, and its header decoded.
        needed = 2 * config.inline_bytes + 2 * config.max_header_bytes + ENVELOPE
        if needed > layer.message_bytes:
            raise ConfigError(
                f"email.inline_bytes is {config.inline_bytes} and email.max_header_bytes "
                f"{config.max_header_bytes}: with its text a message may have {needed} bytes, and "
                f"the layer lets {layer.message_bytes} through; set layer.message_bytes to that "
                "(and layer.channel_bytes to several times that), or inline_bytes lower"
            )

    async def start(self) -> None:
        """Start both, the way out first: what comes in may be answered."""
        if self.server is not None and not self.context.settles:
            raise PluginError(
                "email.listen: a mail is answered with what became of it, and this channel layer "
                "cannot say that (it has no extension 'deliveries'); set layer.url to "
                "unix:///path or memory://, or only send (listen = [])"
            )
        if self.client is not None:
            await self.client.start()
        if self.server is not None:
            if self.client is not None:
                self.server.threads.postbox = self.client.outbox
            await self.server.start()

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a client's connection that is there, whoever accepted it.

        It is SMTP, or, where only ``email.lmtp`` names an endpoint, LMTP.
        """
        if self.server is None:
            raise RuntimeError("no mail is taken here: email.listen and email.lmtp are empty")
        serve = self.server.serve if self.config.listen else self.server.serve_lmtp
        return serve(arrived)

    def kept(self) -> list[tuple[Entry, bytes]]:
        """Return what would have gone out, in a test's gateway (`Context.outbound`)."""
        return [] if self.client is None else self.client.kept()

    async def stop(self) -> None:
        """Stop them, those that take connections first."""
        for role in self._roles.values():
            await role.stop()

    def health(self) -> Mapping[str, Any]:
        """Return the facts of both directions."""
        facts = {name: role.health() for name, role in self._roles.items()}
        return {"ok": all(found.get("ok", True) for found in facts.values()), **facts}


def _server_role(config: EmailConfig, context: Context) -> Server:
    try:
        from gateway.plugins.email.server.service import Server  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name not in {"aiosmtpd", "public", "attr"}:
            raise
        raise PluginError(
            "email.listen: to take mail takes aiosmtpd; run: pip install 'gateway[email]'"
        ) from None
    return Server(config, context)


def _client_role(config: EmailConfig, context: Context) -> ClientRole:
    try:
        from gateway.plugins.email.client.role import ClientRole  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name != "aiosmtplib":
            raise
        raise PluginError(
            "email: to deliver mail takes aiosmtplib; run: pip install 'gateway[email]'"
        ) from None
    return ClientRole(config, context, config.hostname)
