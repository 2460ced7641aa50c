"""`Pages`: which web pages may ask a plugin, and what their browsers are told (CORS).

By the CORS protocol of the Fetch standard (https://fetch.spec.whatwg.org/#http-cors-protocol).
Whom the setting ``origins`` names, and pages of the host itself, may ask with cookies; whom only
"*" or "null" lets in, without: their answer says that anybody may read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.core.origins import Origins
from gateway.core.plugin import Context
from gateway.core.web import Head, Header

MOST_TOLD: Final = 16
"""Foreign origins that are logged by name: anybody can make up more."""
MAX_AGE: Final = b"7200"
"""Seconds that a browser may remember what a preflight was told: the most that Chromium does."""

FRESH: Final = (b"cache-control", b"no-store")
"""Of an answer for this moment, and for the page that asked alone."""

_VARY: Final = (b"vary", b"origin")
_FOREIGN: Final = frozenset((b"cross-site", b"same-site"))
"""What browsers say in Sec-Fetch-Site of pages of another origin (W3C Fetch Metadata)."""
_UNNAMED: Final = b""
"""Stands for the origin of such a page."""
_ASKED_METHOD: Final = b"access-control-request-method"
_ASKED_HEADERS: Final = b"access-control-request-headers"


class Pages:
    """Whose pages may ask for ``what`` (for the log), by the setting ``NAME.origins``."""

    def __init__(self, context: Context, origins: Iterable[str], what: str) -> None:
        self._context = context
        self._origins = Origins(origins)
        self._what = what
        self._told: set[bytes] = set()

    def admit(self, head: Head) -> bool:
        """Return whether a request is of a page that may ask, or of none; count and log others."""
        # RFC 6454 section 7.3: never more than one; if there are, each counts.
        host = head.header(b"host")
        named = False
        for name, value in head.headers:
            if name == b"origin":
                named = True
                if not self._origins.allow(value, host):
                    self._tell(value, host)
                    return False
        # Fetch: a GET that wants no leave to read ("no-cors") brings cookies and says no origin.
        site = None if named else head.header(b"sec-fetch-site")
        if site in _FOREIGN and not self._origins.allow(_UNNAMED, host):
            self._tell(_UNNAMED, host)
            return False
        return True

    def headers(self, head: Head, expose: bytes = b"") -> tuple[Header, ...]:
        """Return the headers of an answer, so that a page that may ask may read it, no other.

        ``expose`` are the headers of the answer that it may see, beside the safe ones. Whatever
        the request, a cache is told that the answer depends on its origin.
        """
        origin = head.header(b"origin")
        if origin is None:
            return (_VARY,)
        host = head.header(b"host")
        if not self._origins.allow(origin, host):
            return (_VARY,)
        found: list[Header] = []
        if self._origins.knows(origin, host):
            found.append((b"access-control-allow-origin", origin))
            found.append((b"access-control-allow-credentials", b"true"))
        else:
            found.append((b"access-control-allow-origin", b"*"))
        if expose:
            found.append((b"access-control-expose-headers", expose))
        return (*found, _VARY)

    def preflight(self, head: Head, methods: bytes, allowed: bytes) -> tuple[Header, ...]:
        """Return the headers of the answer (204) to a preflight of a page that may ask.

        ``methods`` and ``allowed`` (headers of requests) are lists as they are to be sent.
        """
        return (
            *self.headers(head),
            (b"vary", _ASKED_METHOD + b", " + _ASKED_HEADERS),
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", MAX_AGE),
        )

    def _tell(self, origin: bytes, host: bytes | None) -> None:
        """Count a page that may not, and say in the log how it could."""
        context = self._context
        context.count("foreign_origins_total")
        if origin not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(origin)
            where = (host or b"")[:200].decode("latin-1")
            if origin is _UNNAMED:
                context.log.warning(
                    "a page of another site asked for %s at %r without an Origin and was refused; "
                    "if it is one of yours, have it ask in the mode cors",
                    self._what,
                    where,
                )
                return
            context.log.warning(
                "a page of %r asked for %s at %r and was refused; if it is one of yours, "
                "add it to %s.origins",
                origin[:200].decode("latin-1"),
                self._what,
                where,
                context.name,
            )


def asks_first(head: Head) -> tuple[bytes, frozenset[bytes]] | None:
    """Return what a preflight asks for: a method, and lower-case names of headers.

    None for what is no preflight.
    """
    if head.method != "OPTIONS" or head.header(b"origin") is None:
        return None
    method = head.header(_ASKED_METHOD)
    if method is None:
        return None
    names = (head.header(_ASKED_HEADERS) or b"").lower().split(b",")
    return method, frozenset(name.strip(b" \t") for name in names) - {b""}


def merged(own: Sequence[Header], ours: Iterable[Header]) -> list[Header]:
    """Return an application's headers with the gateway's before them, but for what they say."""
    named = {name for name, _ in own} - {b"vary"}  # which adds up
    return [*(field for field in ours if field[0] not in named), *own]
