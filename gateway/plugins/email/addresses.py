"""Mail addresses as people and programs write them: ``ann@example.org``, ``Ann <ann@…>``. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from gateway.core.errors import LocalProtocolError

LONGEST: Final = 254
"""Octets of a whole address: RFC 5321, section 4.5.3.1.3, less the brackets."""
LONGEST_LOCAL: Final = 64
"""Octets before the @: RFC 5321, section 4.5.3.1.1."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMED: Final = re.compile(r"(?P<name>[^<>]*?)\s*<(?P<address>[^<>]*)>")
_DOT_STRING: Final = re.compile(
    r"[^\s\x00-\x1f\x7f\"(),:;<>@\[\]\\.]+(?:\.[^\s\x00-\x1f\x7f\"(),:;<>@\[\]\\.]+)*"
)
_QUOTED: Final = re.compile(r'"(?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])*"')
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class Mailbox(NamedTuple):
    """A mailbox: who it is called, and its address."""

    name: str
    local: str
    domain: str
    """In ASCII (IDNA), lower case; ``[192.0.2.1]`` for an address literal."""

    @property
    def address(self) -> str:
        """Its address, without the name."""
        return f"{self.local}@{self.domain}"


def mailbox(text: str, what: str = "an address") -> Mailbox:
    """Return the mailbox that a text names. Raises LocalProtocolError that names ``what``.

    >>> mailbox("Ann Exempla <ann@Example.org>")
    Mailbox(name='Ann Exempla', local='ann', domain='example.org')
    """
    if _CONTROL.search(text):
        raise LocalProtocolError(f"{what} has a line break or another control character in it")
    text = text.strip()
    named = _NAMED.fullmatch(text)
    name, address = (named["name"], named["address"]) if named else ("", text)
    local, at, domain = address.strip().rpartition("@")
    if not at or not local or not domain:
        raise LocalProtocolError(f"{what} is not written as user@domain: {text[:80]!r}")
    if _DOT_STRING.fullmatch(local) is None and _QUOTED.fullmatch(local) is None:
        raise LocalProtocolError(f"{what} has something before its @ that cannot be: {text[:80]!r}")
    found = Mailbox(_unquoted(name.strip()), local, _domain(domain, what, text))
    try:
        size, size_local = len(found.address.encode()), len(local.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError(f"{what} is no text: {text[:80]!r}") from None
    if size > LONGEST or size_local > LONGEST_LOCAL:
        raise LocalProtocolError(
            f"{what} is too long: {size} octets of {LONGEST}, {size_local} of {LONGEST_LOCAL} "
            "before the @"
        )
    return found


def _unquoted(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _domain(domain: str, what: str, text: str) -> str:
    if domain[0] == "[" and domain[-1] == "]":
        if literal(domain) is None:
            raise LocalProtocolError(f"{what} has no IP address in its brackets: {text[:80]!r}")
        return domain
    try:
        found = domain.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        found = ""
    labels = found.split(".")
    # RFC 3696, section 2: the last is not of digits alone, so that no address looks like a domain.
    if not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise LocalProtocolError(f"{what} has no domain after its @: {text[:80]!r}")
    return found


def literal(domain: str) -> str | None:
    """Return the IP address of an address literal (RFC 5321, section 4.1.3); None: it is none.

    >>> literal("[192.0.2.1]"), literal("[IPv6:2001:db8::1]"), literal("example.org")
    ('192.0.2.1', '2001:db8::1', None)
    """
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return str(ipaddress.IPv6Address(inner[5:]))
        return str(ipaddress.IPv4Address(inner))
    except ValueError:
        return None
