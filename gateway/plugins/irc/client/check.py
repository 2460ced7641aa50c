"""What the settings of networks must be, beyond their types. Pure, but for reading certificates."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.core.errors import ConfigError, LocalProtocolError
from gateway.core.target import client_tls, target
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.lines import encode

NICK: Final = re.compile(r"[^\s\d#&@+%~!:,*?-][^\s@!:,*?]*")
"""What might be a nick on some network: many take more than RFC 2812 lets them."""


def check(networks: Mapping[str, Network]) -> None:
    """Raise ConfigError that names the setting where something cannot be."""
    for name, network in networks.items():
        _check(f"irc.networks.{name}", network)


def _check(where: str, network: Network) -> None:
    to = target(network.connect, f"{where}.connect")
    for setting, nicks in {"nick": (network.nick,), "alternatives": network.alternatives}.items():
        for nick in nicks:
            if NICK.fullmatch(nick) is None:
                raise ConfigError(f"{where}.{setting}: {nick!r} cannot be a nick")
    for setting, channels in {"channels": network.channels, "keys": network.keys}.items():
        for channel in channels:
            if not re.fullmatch(r"[^\w\s,:][^\s,\x07]*", channel):
                raise ConfigError(f"{where}.{setting}: {channel!r} is no channel, such as '#room'")
    for channel, key in network.keys.items():
        if not key or re.search(r"[\s,:]", key):
            raise ConfigError(f"{where}.keys: the key of {channel!r} cannot be one")
    _sayable(where, network)
    try:
        codecs.lookup(network.encoding)
    except LookupError:
        raise ConfigError(f"{where}.encoding: there is no {network.encoding!r}") from None
    sasl = network.sasl
    if sasl is not None and sasl.mechanism == "EXTERNAL":
        if not (to.tls and network.certificate):
            raise ConfigError(
                f"{where}.sasl: EXTERNAL says who we are by a certificate; connect with 'tls:' and "
                f"set {where}.certificate"
            )
    elif sasl is not None and not sasl.password:
        raise ConfigError(f"{where}.sasl: {sasl.mechanism} needs a password")
    if network.key and not network.certificate:
        raise ConfigError(f"{where}.key: there is no 'certificate' for it")
    if not to.tls:
        for setting in ("ca", "certificate", "key"):
            if getattr(network, setting):
                raise ConfigError(
                    f"{where}.{setting}: the connection has no TLS; write "
                    f"connect = 'tls:{network.connect}'"
                )
    else:
        client_tls(where, network)


def _sayable(where: str, network: Network) -> None:
    """Raise ConfigError for what no line can carry."""
    service = network.nickserv
    words = {
        "username": ("USER", network.username or "gateway", "0"),
        "realname": ("USER", "gateway", "0", "*", network.realname or network.nick),
        "password": ("PASS", network.password or "-"),
        "modes": ("MODE", network.nick, network.modes or "+i"),
        "version": ("NOTICE", network.nick, network.version),
        "quit": ("QUIT", network.quit),
    }
    if service is not None:
        identify = f"IDENTIFY {service.account} {service.password}"
        words["nickserv"] = ("PRIVMSG", service.service, identify)
    for setting, (command, *params) in words.items():
        try:
            encode(command, *params)
        except LocalProtocolError as error:
            raise ConfigError(f"{where}.{setting}: no line of IRC can say it: {error}") from None


def warnings(networks: Mapping[str, Network]) -> Iterator[str]:
    """Return what an operator should know of networks."""
    for name, network in networks.items():
        to = target(network.connect)
        secret = network.password or network.sasl or network.nickserv or network.keys
        local = to.path or to.host in {"127.0.0.1", "::1", "localhost"}
        if secret and not to.tls and not local:
            yield (
                f"irc.networks.{name}: passwords go to {to.host} for everybody on the way to read; "
                f"write connect = 'tls:{to.host}:6697'"
            )
        if to.tls and not network.verify:
            yield (
                f"irc.networks.{name}: its certificate is not verified, so anybody on the way may "
                "be the network; set 'ca' to whoever signed it"
            )
