"""What the settings of outgoing mail must be, beyond their types. Reads keys and certificates."""

from __future__ import annotations

from collections.abc import Iterator

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


def warnings(config: Outgoing, hostname: str) -> Iterator[str]:
    """Return what an operator should know of outgoing mail.

    Who says what this machine is called has prepared it to deliver by itself.
    """
    if not config.spool:
        return
    by_dns = all(host.domains for host in config.smarthosts.values())
    if by_dns and config.delivery.enabled and not hostname:
        yield (
            f"email.smarthosts has no server {'for every domain' if config.smarthosts else 'yet'}: "
            "mail goes from this machine straight to the servers that DNS names (MX), to real "
            "people, in development too; set [email.smarthosts.NAME], or email.delivery.enabled "
            "= false to have it wait in the spool, or, if that is meant, email.hostname to "
            "the name that DNS has for this machine"
        )
    if not config.sender:
        yield (
            "email.sender is empty: what is sent without 'mail_from', as to groups, is refused; "
            "set it, or DEFAULT_FROM_EMAIL in Django's settings, to an address"
        )
