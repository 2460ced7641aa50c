"""What ends the connections of a user: `disconnect_user`, and logging out.

A connection whose user was found is a member of two groups: its user's, and that of the
browser's session that it was opened with.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final, Unpack

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac

from django_gateway import auth_settings
from django_gateway.channel import Group, When
from gateway.core import names
from gateway.core.errors import GatewayError

log = logging.getLogger("django.gateway")

LONGEST: Final = 150
"""Characters of a primary key that stand in a group's name, which may have 200 in all."""
ENDED: Final = "the user was disconnected"
LOGGED_OUT: Final = "logged out"


def key_of(user: Any) -> str:
    """Return the primary key of a user as sessions spell it."""
    return str(user._meta.pk.value_to_string(user))  # noqa: SLF001 - documented by Django


def user_group(user: Any) -> Group:
    """Return the group of all connections of ``user``, a user or a primary key.

    Those are in it of which ``message.user`` was asked for when they were opened.
    """
    if hasattr(user, "_meta"):
        if user.pk is None:
            raise ValueError(f"{user!r} is not saved: it can have no connections")
        key = key_of(user)
    elif user is None or getattr(user, "is_authenticated", None) is False:
        raise ValueError("anonymous users have no group: nobody could be told from another")
    else:
        key = _spelt(user)
    text = names.escape(key)
    if len(text) > LONGEST:
        text = f"sha256.{hashlib.sha256(key.encode()).hexdigest()}"
    return Group(f"gateway.user.{text}")


def _spelt(key: Any) -> str:
    """Return a primary key as `key_of` does, however it was written: UUIDs with their dashes."""
    if not apps.is_installed("django.contrib.auth"):
        return str(key)
    model = get_user_model()
    try:
        return str(model._meta.pk.to_python(key))  # noqa: SLF001 - documented by Django
    except (TypeError, ValidationError):
        raise ValueError(
            f"{key!r} is neither a user nor a primary key of {model.__name__} (AUTH_USER_MODEL), "
            "whose connections could be found by it; for a name, get the user first"
        ) from None


def session_group(session_key: str) -> Group:
    """Return the group of the connections that were opened with a browser's session.

    Who sees the name learns nothing of the key.
    """
    secret = salted_hmac(__name__, session_key, algorithm="sha256").hexdigest()
    return Group(f"gateway.session.{secret}")


def disconnect_user(
    user: Any, *, code: int | None = None, reason: str = ENDED, **when: Unpack[When]
) -> None:
    """End every connection of ``user`` (a user or a primary key), on whatever gateway.

    Those are ended of which ``message.user`` was asked for when they were opened. ``code`` is
    the close code, by default the setting ``close_code``. Leaves when `Group.send` does, by the
    same ``when``.
    """
    user_group(user).send(_close(code, reason), **when)


async def adisconnect_user(
    user: Any, *, code: int | None = None, reason: str = ENDED, **when: Unpack[When]
) -> None:
    """Async twin of `disconnect_user`."""
    await user_group(user).asend(_close(code, reason), **when)


def _close(code: int | None, reason: str) -> dict[str, Any]:
    return {"close": auth_settings.read().close_code if code is None else code, "reason": reason}


def end_session(request: Any, user: Any, **_: Any) -> None:
    """End the connections of the session that logs out: a receiver of ``user_logged_out``."""
    if user is None or request is None or not auth_settings.read().log_out:
        return
    keys = {request.COOKIES.get(settings.SESSION_COOKIE_NAME)}
    session = getattr(request, "session", None)
    if session is not None:
        keys.add(session.session_key)
    try:
        waits = asyncio._get_running_loop() is None  # noqa: SLF001 - get_running_loop() raises where there is none
        for key in keys - {None, ""}:
            session_group(key).send(_close(None, LOGGED_OUT), immediately=waits)
    except (GatewayError, RuntimeError) as error:
        log.warning(
            "The connections of a session that logged out could not be ended: %s. Where no "
            "gateway runs, set GATEWAY_AUTH = {'log_out': False}",
            error,
        )


def listen() -> None:
    """Have log-outs of this process heard."""
    if apps.is_installed("django.contrib.auth"):
        user_logged_out.connect(end_session, dispatch_uid="django_gateway.endings")
