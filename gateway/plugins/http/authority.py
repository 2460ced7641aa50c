"""What a request may name as its host: ``Host``, ``:authority``, ``X-Forwarded-Host``. Pure.

::

    authority  = uri-host [ ":" port ]                 ; RFC 9110 7.2, RFC 3986 3.2.2
    uri-host   = "[" IPv6address "]" / IPv4address / reg-name
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_PARTS: Final = re.compile(
    # A comma may stand in a reg-name, but RFC 9110 5.3 would read two hosts.
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[0-9A-Za-z._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]*))?"
).fullmatch
_DEFAULT: Final = {"http": b":80", "https": b":443"}


@lru_cache(maxsize=1024)
def valid(authority: bytes) -> bool:
    """Return whether it is a host with an optional port, without user information.

    An address of a later version of IP (``[v1.…]``) is none: RFC 3986 3.2.2 has it refused
    where the version is not known.
    """
    match = _PARTS(authority)
    if match is None:
        return False
    literal, port = match.groups()
    if port and (len(port) > 5 or int(port) > 65535):
        return False
    if literal is not None:
        try:
            IPv6Address(literal.decode())
        except AddressValueError:
            return False
    return True


def same(one: bytes, other: bytes, scheme: str) -> bool:
    """Return whether two name the same host and port: in any case, the default port or none."""
    return _plain(one, scheme) == _plain(other, scheme)


def _plain(authority: bytes, scheme: str) -> bytes:
    # RFC 9110 4.2.3: the host is case-insensitive, an empty port and the default one are none.
    return authority.lower().removesuffix(_DEFAULT[scheme]).removesuffix(b":")
