"""``GATEWAY_AUTH``: who a connection is, for how long that is believed, and what ends it.

A setting of Django's own, as no gateway process reads it: ``GATEWAY_AUTH = {"expiry": 30}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from msgspec import Meta

from django_gateway.credentials import Credentials
from django_gateway.routing import load


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``GATEWAY_AUTH`` may hold."""

    authenticate: Annotated[
        str,
        Meta(
            description="Dotted path of a function, plain or async, of Credentials that returns "
            "a user or None. The default believes the session cookie and nothing else."
        ),
    ] = "django_gateway.auth.authenticate"
    at_connect: Annotated[
        bool,
        Meta(
            description="Whether every connection is authenticated when it is opened, whatever its "
            "consumer asks. Off, only those are whose connect consumer asks: a project that asks "
            "nowhere pays nothing."
        ),
    ] = False
    expiry: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that a worker believes what it knows of a connection's user. 60: "
            "whoever is deactivated is out within a minute, for one look into the database a "
            "minute and connection that is in use.",
        ),
    ] = 60.0
    cache_size: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections whose user a worker remembers. 10,000: some 2 KiB each; one "
            "that was forgotten is looked up again.",
        ),
    ] = 10_000
    query_token: Annotated[
        str,
        Meta(
            description="Key of the query whose value is the credentials' query_token; empty: "
            "none. Browsers can send no Authorization header with a WebSocket; but a query gets "
            "into other people's logs, so make it a token that is used once."
        ),
    ] = ""
    close_code: Annotated[
        int,
        Meta(
            ge=1000,
            le=4999,
            description="Close code of a connection whose user is gone: logged out, deactivated, "
            "disconnected. 4401: the private codes' 401, by which a page knows that it has to log "
            "in again; a protocol that knows no such code uses its own.",
        ),
    ] = 4401
    log_out: Annotated[
        bool,
        Meta(
            description="Whether logging out ends the connections that were opened with that "
            "session."
        ),
    ] = True
    session_age: Annotated[
        int,
        Meta(
            ge=60,
            description="Seconds after which a channel session that nobody used is forgotten. "
            "1,209,600: two weeks, as for browsers' sessions; it is deleted long before, when its "
            "connection ends.",
        ),
    ] = 1_209_600


def read() -> AuthSettings:
    """Return what ``GATEWAY_AUTH`` says, read once; ImproperlyConfigured that names the fix."""
    found = _kept.get("settings")
    if found is None:
        found = _kept["settings"] = _read(getattr(settings, "GATEWAY_AUTH", {}))
    return cast("AuthSettings", found)


def hook() -> Callable[[Credentials], Any]:
    """Return the function that ``authenticate`` names, imported once."""
    found = _kept.get("hook")
    if found is None:
        found = load(read().authenticate, "GATEWAY_AUTH['authenticate']")
        if not callable(found):
            raise ImproperlyConfigured(
                f"GATEWAY_AUTH['authenticate'] names {found!r}: it is the dotted path of a "
                "function of Credentials that returns a user or None"
            )
        _kept["hook"] = found
    return cast("Callable[[Credentials], Any]", found)


def check() -> None:
    """Raise ImproperlyConfigured for what is wrong, the default's imports excepted."""
    if read().authenticate != AuthSettings().authenticate:
        hook()


def _read(given: Any) -> AuthSettings:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"GATEWAY_AUTH is a dict, as in {{'expiry': 60}}, not {type(given).__name__}"
        )
    known = AuthSettings.__struct_fields__
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            raise ImproperlyConfigured(
                f"GATEWAY_AUTH has no {name!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"it may hold {', '.join(known)}")
            )
    try:
        return msgspec.convert(dict(given), AuthSettings)
    except msgspec.ValidationError as error:
        raise ImproperlyConfigured(f"GATEWAY_AUTH: {error}") from None


_kept: dict[str, Any] = {}


def _forget(*, setting: str, **_: Any) -> None:
    """Read again what a test has overridden."""
    if setting == "GATEWAY_AUTH":
        _kept.clear()


setting_changed.connect(_forget, dispatch_uid="django_gateway.auth_settings")
