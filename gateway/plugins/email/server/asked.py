"""What is asked of who a mail is from, and what the answers prove. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.plugins.email.headers import Head


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one mail."""

    client: str
    """The address of the client."""
    helo: str
    mail_from: str | None
    head: Head


def proves(found: dict[str, Any], mail_from: str | None) -> bool:
    """Return whether what was found proves whose the envelope's sender is."""
    domain = domain_of(mail_from)
    if not domain:
        return False
    if found.get("spf") == "pass" and found.get("spf_domain") == domain:
        return True
    return any(domain == one or domain.endswith(f".{one}") for one in found.get("dkim_domains", ()))


def domain_of(address: str | None) -> str:
    """Return the domain of an address, empty where it has none."""
    return (address or "").rpartition("@")[2].lower() if "@" in (address or "") else ""
