"""Sets of peers by address: what settings such as ``trusted_proxies`` name. Pure.

======================  ==============================================================
written                 meaning
======================  ==============================================================
``10.1.2.3``, ``::1``   that address
``10.0.0.0/8``          every address of that network
``unix``                peers on Unix sockets, which have no address
``*``                   everybody, peers on Unix sockets too
======================  ==============================================================

An IPv4 address in IPv6's notation (``::ffff:10.1.2.3``, RFC 4291 2.5.5.2) is that IPv4
address, in a setting as in a peer's name: one machine cannot be two. Host names are not
looked up: who answers for a name would decide who is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gateway.core.errors import ConfigError

EVERYBODY: Final = "*"
UNIX: Final = "unix"

_MOST_CACHED: Final = 4096
"""Hosts whose answer is remembered: a busy hour's clients, some 500 KB at most."""
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class Networks:
    """A set of peers. ``host in networks`` is asked once per connection, and cached.

    Raises ConfigError that names ``setting`` and the text that is none of the above.
    """

    __slots__ = ("_known", "_networks", "_unix", "_world")

    def __init__(self, texts: Iterable[str], setting: str) -> None:
        self._world = False
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        self._known: dict[str, bool] = {}
        for text in texts:
            word = text.strip()
            if word == EVERYBODY:
                self._world = True
            elif word == UNIX:
                self._unix = True
            else:
                self._networks.append(_network(word, text, setting))

    def __bool__(self) -> bool:
        """Whether there can be anybody in it."""
        return self._world or self._unix or bool(self._networks)

    def __contains__(self, host: str | None) -> bool:
        """Whether a peer belongs to it; ``host`` is its address, None on a Unix socket.

        What is no address belongs to no network.
        """
        if self._world:
            return True
        if host is None:
            return self._unix
        found = self._known.get(host)
        if found is None:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            found = self._known[host] = self._look_up(host)
        return found

    def _look_up(self, host: str) -> bool:
        try:
            address = plain(host)
        except ValueError:
            return False
        return any(
            address in network for network in self._networks if network.version == address.version
        )


def plain(host: str) -> IPv4Address | IPv6Address:
    """Return an address without its zone, IPv4 as such. Raises ValueError for anything else."""
    address = ip_address(host.partition("%")[0])
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network(word: str, text: str, setting: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(word)
    except ValueError:
        raise ConfigError(f"{setting}: {text!r}: {_remedy(word)}") from None
    if network.version == 6 and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((low, network.prefixlen - 96))
    return network


def _remedy(word: str) -> str:
    try:
        whole = ip_network(word, strict=False)
    except ValueError:
        return (
            "expected an address ('10.1.2.3', '::1'), a network ('10.0.0.0/8'), 'unix' or '*'; "
            "host names are not looked up"
        )
    return f"a network begins with its first address: write '{whole}', or the address alone"
