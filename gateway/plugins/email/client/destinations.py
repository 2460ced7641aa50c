"""Where a recipient's mail goes: to smarthosts, to the servers of a domain, to an address. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.plugins.email.addresses import literal
from gateway.plugins.email.client.config import Smarthost
from gateway.plugins.email.client.envelope import Entry, Recipient


class Destination(NamedTuple):
    """What mails go to over the same connections."""

    smarthosts: tuple[str, ...] = ()
    """Their names in the settings, in the order in which they are asked."""
    domain: str = ""
    """Where there are none: the domain, or the IP address of an address literal."""

    def __str__(self) -> str:
        """Return what people call it."""
        return f"smarthost {', '.join(self.smarthosts)}" if self.smarthosts else self.domain


def destination(address: str, smarthosts: Mapping[str, Smarthost]) -> Destination:
    """Return where a recipient's mail goes.

    >>> hosts = {"own": Smarthost(connect="h:25", domains=(".example.org",))}
    >>> destination("ann@a.example.org", hosts).smarthosts, destination("bob@b.net", hosts).domain
    (('own',), 'b.net')
    """
    domain = address.rpartition("@")[2].lower()
    named = [name for name, host in smarthosts.items() if within(domain, host.domains)]
    if not named:
        named = [name for name, host in smarthosts.items() if not host.domains]
    if named:
        return Destination(tuple(named))
    return Destination(domain=literal(domain) or domain)


def within(domain: str, domains: Iterable[str]) -> bool:
    """Return whether a domain is one of some, or below one that begins with a dot."""
    return any(
        domain.endswith(one.lower()) if one.startswith(".") else domain == one.lower()
        for one in domains
    )


def parted(entry: Entry, smarthosts: Mapping[str, Smarthost]) -> dict[Destination, list[Recipient]]:
    """Return the waiting recipients of a mail by where they are."""
    found: dict[Destination, list[Recipient]] = {}
    for one in entry.waiting():
        found.setdefault(destination(one.address, smarthosts), []).append(one)
    return found


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the Internet's.

    >>> is_public("127.0.0.1"), is_public("10.1.2.3"), is_public("::ffff:10.0.0.1")
    (False, False, False)
    >>> is_public("198.41.0.4")
    True
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        # What stands for an IPv4 address reaches that one (RFC 4291, RFC 6052, RFC 3056).
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast
