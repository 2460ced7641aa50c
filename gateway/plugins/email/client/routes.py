"""Which servers a destination has: smarthosts of the settings, those that DNS names, an address."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.target import target
from gateway.plugins.email.client.config import Outgoing, Smarthost, TlsPolicy
from gateway.plugins.email.client.destinations import Destination, is_public
from gateway.plugins.email.client.mx import NoRoute, Resolver


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server to connect to."""

    name: str
    """Whose certificate it shows, and what people call it."""
    address: str = ""
    """What to connect to: a name or an IP address."""
    port: int = 25
    path: str = ""
    """Of a Unix socket, instead."""
    implicit: bool = False
    """Whether TLS begins at once."""
    tls: TlsPolicy = "opportunistic"
    ssl: Callable[[], ssl.SSLContext] = ssl.create_default_context
    username: str = ""
    password: str = ""
    auth: str = "auto"


class Routes:
    """The way to every destination. Raises ConfigError that names a setting."""

    def __init__(self, config: Outgoing, resolver: Resolver) -> None:
        self._delivery = config.delivery
        self._resolver = resolver
        self._smarthosts = {name: _server(name, one) for name, one in config.smarthosts.items()}
        self._ssl = tls_of("email.delivery", config.delivery.tls, config.delivery.ca)

    async def servers(self, destination: Destination) -> list[Server]:
        """Return the servers to ask, the best first. Raises `NoRoute`."""
        if destination.smarthosts:
            return [self._smarthosts[name] for name in destination.smarthosts]
        domain, delivery = destination.domain, self._delivery
        if ":" in domain or domain.replace(".", "").isdigit():
            return [self._public(self._literal(domain), domain)]
        hosts = await self._resolver.hosts(domain, private=delivery.private)
        return [self._public(one.name, one.address) for one in hosts]

    def _literal(self, address: str) -> str:
        if not self._delivery.literals:
            raise NoRoute(
                "mail is not delivered to address literals (email.delivery.literals)", "5.1.2"
            )
        if not (self._delivery.private or is_public(address)):
            raise NoRoute(
                f"{address} is a private address, where mail is not delivered to "
                "(email.delivery.private)",
                "5.4.4",
            )
        return address

    def _public(self, name: str, address: str) -> Server:
        delivery = self._delivery
        return Server(
            name=name, address=address, port=delivery.port, tls=delivery.tls, ssl=self._ssl
        )


def _server(name: str, one: Smarthost) -> Server:
    where = f"email.smarthosts.{name}"
    to = target(one.connect, f"{where}.connect", name)
    if one.password and not one.username:
        raise ConfigError(f"{where}.password: there is no 'username' for it")
    if one.key and not one.certificate:
        raise ConfigError(f"{where}.key: there is no 'certificate' for it")
    for domain in one.domains:
        if not domain.strip("."):
            raise ConfigError(f"{where}.domains: {domain!r} is no domain")
    return Server(
        name=to.host or to.path,
        address=to.host,
        port=to.port,
        path=to.path,
        implicit=to.tls,
        tls=one.tls,
        ssl=tls_of(where, one.tls, one.ca, one.certificate, one.key),
        username=one.username,
        password=one.password,
        auth=one.auth,
    )


def tls_of(
    where: str, policy: TlsPolicy, ca: str, certificate: str = "", key: str = ""
) -> Callable[[], ssl.SSLContext]:
    """Return what gives what TLS is spoken with. Raises ConfigError."""

    @cache
    def made() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if ca:
            try:
                context.load_verify_locations(Path(ca))
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{where}.ca: {ca!r}: {error}") from None
        if certificate:
            try:
                # Without a password a key that has one fails, and asks nobody at a terminal.
                context.load_cert_chain(certificate, key or None, password="")
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{where}.certificate: {certificate!r}: {error}") from None
        if policy != "verify":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    if ca or certificate:
        made()  # what is wrong is said at the start
    return made
