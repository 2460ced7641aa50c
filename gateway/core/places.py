"""How many connections one plugin serves at once, in all and from one address. No I/O."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

from gateway.core.networks import Networks, plain

PREFIX: Final = 64
"""Bits of an IPv6 address that count: a household or a server is given a whole /64 at least, and
may choose another address in it for every connection (RFC 6177)."""


class Place:
    """What one connection holds, from its accept to its end."""

    __slots__ = ("_key", "_places")

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places
        self._key: str | None = None

    def of(self, host: str | None) -> bool:
        """Say whose it is, once that is known; return False where that address has too many.

        ``host`` is None for a peer on a Unix socket. Where it is False, `leave` is due.
        """
        places = self._places
        if places is None or places.per_address is None:
            return True
        key = address_key(host)
        if key is None or (places.exempt is not None and host in places.exempt):
            return True
        count = places.addresses.get(key, 0)
        if count >= places.per_address:
            return False
        places.addresses[key] = count + 1
        self._key = key
        return True

    def leave(self) -> None:
        """Have it free again. Idempotent."""
        places, self._places = self._places, None
        if places is None:
            return
        places.open -= 1
        key = self._key
        if key is not None:
            left = places.addresses[key] - 1
            if left:
                places.addresses[key] = left
            else:
                del places.addresses[key]


class Places:
    """The places of one plugin: ``most`` in all, ``per_address`` for one address (None: all).

    Who connects over loopback or a Unix socket has no bound of its own: it is a proxy, or a
    check of health, on this machine. Nor have those in ``exempt``.
    """

    def __init__(
        self, most: int, per_address: int | None = None, exempt: Networks | None = None
    ) -> None:
        self.most = most
        self.per_address = per_address
        self.exempt = exempt
        self.open = 0
        """The places that are taken."""
        self.addresses: dict[str, int] = {}
        """How many of them each address holds."""

    def take(self) -> Place | None:
        """Return a place, None where all are taken."""
        if self.open >= self.most:
            return None
        self.open += 1
        return Place(self)


def address_key(host: str | None) -> str | None:
    """Return what an address counts as, None for one that has no bound."""
    if host is None:
        return None
    try:
        address = plain(host)
    except ValueError:
        return host
    if address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> (128 - PREFIX) << (128 - PREFIX)))
    return str(address)
