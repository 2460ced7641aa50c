"""`Credentials`: what a connection or request brought to say who it is, whatever its protocol."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port
from django.utils.http import is_same_domain

log = logging.getLogger("django.security.csrf")

KINDS: Final = frozenset({"connect", "request", "authenticate"})
"""The last words of the channels whose messages bring credentials."""
MAIL: Final = "email.receive"
"""A mail says so by itself: no other message of its connection belongs to it."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""
_OVER_TLS: Final = frozenset({"https", "wss"})
"""Schemes of messages."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a message brought, by what it is rather than by how its protocol spells it.

    None stands for what was not brought. Its repr says what is there, and no secret.
    """

    protocol: str
    """The first word of the channel: ``websocket``, ``http``, ``mqtt``."""
    session: Any = field(default=None, compare=False)
    """The browser's session (`django_gateway.sessions.BrowserSession`), read at its first use;
    None without a cookie, and for pages of other sites."""
    bearer: str | None = None
    """The token of ``Authorization: Bearer …`` (RFC 6750)."""
    query_token: str | None = None
    """The value of the query's key that the setting ``query_token`` names."""
    identity: str | None = None
    """Who the protocol itself authenticated: a client certificate, for example."""
    username: str | None = None
    password: str | None = None
    """What MQTT, SASL and SMTP AUTH send; not HTTP's Basic."""
    client: tuple[str, int] | None = None
    """The peer's address."""

    def __repr__(self) -> str:
        names = ("session", "bearer", "query_token", "identity", "username", "password")
        there = [name for name in names if getattr(self, name) is not None]
        return f"<Credentials of {self.protocol}: {', '.join(there) or 'none'}>"


def brings_credentials(channel: str) -> bool:
    """Return whether messages of ``channel`` say who their sender is."""
    return channel.rpartition(".")[2] in KINDS or channel == MAIL


def credentials_of(
    channel: str, content: dict[str, Any], session: Any, query_token: str
) -> Credentials:
    """Return what a message brought. ``session`` is the one of its cookie, or None."""
    client = content.get("client")
    return Credentials(
        protocol=channel.partition(".")[0],
        session=session,
        bearer=_bearer(content.get("headers", ())),
        query_token=_query_token(content.get("query_string", b""), query_token),
        identity=content.get("identity"),
        username=content.get("username"),
        password=_text(content.get("password")),
        client=(client[0], client[1]) if client else None,
    )


def session_key_of(channel: str, content: dict[str, Any]) -> str | None:
    """Return the session's key in the cookies of a message, unless another site's page sent it.

    A browser sends cookies whatever page asks, and what a WebSocket carries is subject to no
    CSRF token. So where there is an ``Origin`` it has to be the host's own (over TLS where the
    message came over TLS: anybody on the way may have written an ``http`` page), or one of
    ``CSRF_TRUSTED_ORIGINS``; it does not matter for requests that change nothing.
    """
    headers = content.get("headers", ())
    cookies = b"; ".join(_values(headers, b"cookie"))
    if not cookies:
        return None
    key = parse_cookie(cookies.decode("utf-8", "replace")).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    origin = next(iter(_values(headers, b"origin")), None)
    if origin is None or content.get("method") in _SAFE:
        return key
    text = origin.decode("latin-1")
    plain = content.get("scheme") in _OVER_TLS and not text.lower().startswith("https:")
    if (not plain and _is_own(text, headers)) or _is_trusted(text):
        return key
    log.warning(
        "The session cookie of a %s message was not believed: the page that sent it is of %r. If "
        "it is yours, add that to CSRF_TRUSTED_ORIGINS.",
        channel,
        text[:200],
    )
    return None


def _text(secret: Any) -> str | None:
    """Return a password as text: MQTT's is bytes, of which what is no UTF-8 is nobody's."""
    if not isinstance(secret, bytes):
        return None if secret is None else str(secret)
    try:
        return secret.decode()
    except UnicodeDecodeError:
        return None


def _values(headers: Iterable[Any], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _is_own(origin: str, headers: Iterable[Any]) -> bool:
    """Return whether an origin's host is the one that was asked; cookies know no ports."""
    names = [b"x-forwarded-host", b"host"] if settings.USE_X_FORWARDED_HOST else [b"host"]
    for name in names:
        for value in _values(headers, name):
            host = split_domain_port(value.decode("latin-1"))[0]
            return bool(host) and _host(origin) == host
    return False


def _is_trusted(origin: str) -> bool:
    """Return whether an origin is one of ``CSRF_TRUSTED_ORIGINS``, as Django's middleware does."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return any(
        parts.scheme == scheme and is_same_domain(parts.netloc, host.lstrip("*"))
        for scheme, mark, host in (one.partition("://") for one in settings.CSRF_TRUSTED_ORIGINS)
        if mark and host.startswith("*")
    )


def _host(origin: str) -> str:
    try:
        return split_domain_port(urlsplit(origin).netloc)[0]
    except ValueError:
        return ""


def _bearer(headers: Iterable[Any]) -> str | None:
    found = _values(headers, b"authorization")
    if len(found) != 1:  # two are nobody's: RFC 9110 section 5.3 allows one
        return None
    scheme, _, token = found[0].decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _query_token(query: bytes, name: str) -> str | None:
    if not name or not query:
        return None
    try:
        found = parse_qs(query.decode("latin-1"), max_num_fields=100).get(name, [])
    except ValueError:  # more fields than anybody needs
        return None
    return found[0] if len(found) == 1 and found[0] else None
