"""What the settings of outgoing mail must be, beyond their types. Reads keys and certificates."""

from __future__ import annotations

from gateway.core.errors import ConfigError, LocalProtocolError
from gateway.plugins.email.addresses import mailbox
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.mx import Resolver
from gateway.plugins.email.client.routes import Routes
from gateway.plugins.email.client.sign import Signer


def check(config: Outgoing) -> None:
    """Raise ConfigError that names the setting where something cannot be."""
    if config.sender:
        try:
            mailbox(config.sender, "email.sender")
        except LocalProtocolError as error:
            raise ConfigError(str(error)) from None
    Routes(config, Resolver(config.delivery.resolvers))
    Signer(config.dkim)
