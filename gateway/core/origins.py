"""Which web pages may ask, by their Origin header (RFC 6454). Pure.

A browser sends the cookies of a site with a request whatever page makes it, and what is opened
so, a WebSocket or a stream, has no form that could hold a secret: only the Origin tells a foreign
page, and no page can forge it. What has none is no browser's, or a page of the host itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

ANY: Final = "*"
SAME_HOST: Final = "same-host"
OPAQUE: Final = "null"
"""The origin of pages that have none: of files, and of what any page puts into a sandbox."""

_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/:?#@\[\]*]+)(?::(\d{1,5}))?"
)
_ALLOWED: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\*\.)?(\[[0-9a-f:.]+\]|[^\s/:?#@\[\]*]+)(?::(\d{1,5}|\*))?"
)
_PORTS: Final = {"http": 80, "https": 443}


class _Pattern(NamedTuple):
    scheme: str
    host: str
    subdomains: bool
    """Whether those of ``host`` are meant, not itself."""
    port: int | None
    """None for any."""

    def fits(self, scheme: str, host: str, port: int) -> bool:
        return (
            scheme == self.scheme
            and self.port in (None, port)
            and (host.endswith(f".{self.host}") if self.subdomains else host == self.host)
        )


class Origins:
    """What the setting ``origins`` allows. Raises ValueError for an entry that is none."""

    def __init__(self, allowed: Iterable[str]) -> None:
        given = set(allowed)
        self._any = ANY in given
        self._same_host = SAME_HOST in given
        self._opaque = OPAQUE in given
        self._patterns = [_pattern(text) for text in given - {ANY, SAME_HOST, OPAQUE}]

    def allow(self, origin: bytes, host: bytes | None) -> bool:
        """Return whether a page of ``origin`` may; ``host`` is the request's Host header."""
        return (
            self._any
            or (self._opaque and origin.lower() == OPAQUE.encode())
            or self.knows(origin, host)
        )

    def knows(self, origin: bytes, host: bytes | None) -> bool:
        """Return whether it is of the host, or named: not let in as "*" and "null" let in all."""
        text = origin.decode("latin-1").lower()
        found = _ORIGIN.fullmatch(text)
        if found is None:
            return False
        scheme, name, port = found.groups()
        if self._same_host and host is not None and name == _host_alone(host):
            return True
        number = int(port) if port else _PORTS.get(scheme, 0)
        return any(pattern.fits(scheme, name, number) for pattern in self._patterns)


def _host_alone(host: bytes) -> str:
    """Return a Host without its port, which proxies drop: cookies know no ports either."""
    return re.sub(r":\d*$", "", host.decode("latin-1").lower())


def _pattern(text: str) -> _Pattern:
    found = _ALLOWED.fullmatch(_ascii(text).lower())
    if found is None:
        raise ValueError(
            f"origins: {text!r} is no origin; write https://example.org, https://*.example.org "
            f'for its subdomains, http://localhost:* for any port, "{SAME_HOST}", "{OPAQUE}" or '
            f'"{ANY}"'
        )
    scheme, wildcard, host, port = found.groups()
    number = None if port == "*" else int(port) if port else _PORTS.get(scheme, 0)
    return _Pattern(scheme, host, wildcard is not None, number)


def _ascii(text: str) -> str:
    """Return an origin as browsers write it: they know names of hosts in ASCII only."""
    scheme, mark, rest = text.partition("://")
    try:
        return scheme + mark + rest.encode("idna").decode()
    except UnicodeError:
        return ""
