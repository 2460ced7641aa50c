"""Who sent a message: found out once for each connection, believed for a while, on any worker.

When the connection is opened, its credentials are shown to the function that the setting
``authenticate`` names. What that said is kept in the connection's channel session, in the form
in which Django keeps a login in a browser's session. From there every worker learns it that
runs a message of the connection, remembers it for ``expiry`` seconds, and then looks again
whether it still holds: the browser's session has to exist and to name the same user, the user
to be one that the backend returns, and the password to be the same.

Each connection with a user is a member of a group of the user's and of one of the session's:
so they can be ended wherever they are.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib import auth
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, load_backend
from django.core.exceptions import ImproperlyConfigured

from django_gateway import auth_settings
from django_gateway.credentials import Credentials, brings_credentials, credentials_of
from django_gateway.endings import key_of, session_group, user_group
from django_gateway.exceptions import Reject
from django_gateway.message import Message
from django_gateway.routing import is_async
from django_gateway.sessions import SAVED

KIND: Final = "_gateway_user"
"""The key of a channel session that says how its user came about."""
NOBODY: Final = ""
BY_SESSION: Final = "session"
BY_TOKEN: Final = "token"  # noqa: S105 - a word, not a token

GONE: Final = "the user of this connection has logged out, or was changed"
_LOGIN: Final = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)
_FIXED: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Decimal, UUID, date, datetime, timedelta}
)
"""Types of fields whose values nobody can change."""


def user_of(message: Message) -> Any:
    """Return the user of a message; on an event loop RuntimeError."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - get_running_loop() raises where there is none, at 30 times the cost
        raise RuntimeError(
            "message.user may wait for a database, and this is an event loop: write "
            "user = await message.auser(); from then on message.user is there"
        )
    known = remembered.get(message)
    if known is not None:
        return known.user()
    if brings_credentials(message.channel_name):
        credentials = _credentials(message)
        hook = auth_settings.hook()
        found = (async_to_sync(hook) if is_async(hook) else hook)(credentials)
        return _establish(message, credentials, found)
    return _look_again(message)


async def auser_of(message: Message) -> Any:
    """Async twin of `user_of`."""
    known = remembered.get(message)
    if known is not None:
        return known.user()
    if brings_credentials(message.channel_name):
        hook = auth_settings.hook()
        if is_async(hook):
            credentials = _credentials(message)
            found = await hook(credentials)
            return await sync_to_async(_establish)(message, credentials, found)
    return await sync_to_async(user_of)(message)


# ---------------------------------------------------------------- when a connection is opened


def _credentials(message: Message) -> Credentials:
    return credentials_of(
        message.channel_name,
        message.content,
        message.http_session,
        auth_settings.read().query_token,
    )


def authenticate(credentials: Credentials) -> Any:
    """Return the user of the session's cookie, as Django's middleware does; or None.

    Where there are a user name and a password (MQTT's), the user whom Django's ``authenticate``
    finds for them.
    """
    if credentials.username is not None and credentials.password is not None:
        from django.contrib.auth import authenticate as by_backends  # noqa: PLC0415 - needs settings

        return by_backends(username=credentials.username, password=credentials.password)
    session = credentials.session
    if session is None or session.get(SESSION_KEY) is None:
        return None
    return _user_of_login(session)


def _establish(message: Message, credentials: Credentials, found: Any) -> Any:
    """Return the user, having noted it for the connection's later messages."""
    user = _checked(found)
    if message.channel_name.endswith(".connect") and "reply_channel" in message:
        _note(message, credentials.session, user)
        remembered.put(message, user)
    return _anonymous() if user is None else user


def _checked(found: Any) -> Any:
    """Return a user that the project's function found; TypeError for anything else."""
    if found is None or getattr(found, "is_authenticated", None) is False:
        return None
    model = _user_model()
    if not isinstance(found, model) or found.pk is None:
        raise TypeError(
            f"GATEWAY_AUTH['authenticate'] returned a {type(found).__name__}: it returns a saved "
            f"{model.__name__} (AUTH_USER_MODEL) or None; give a device a user of its own"
        )
    return found


def _note(message: Message, browser: Any, user: Any) -> None:
    session = message.channel_session
    if user is None:
        session[KIND] = NOBODY
        return
    session[SESSION_KEY] = key_of(user)
    joined = [user_group(user)]
    if browser is not None and browser.get(SESSION_KEY) == session[SESSION_KEY]:
        session[KIND] = BY_SESSION
        session[BACKEND_SESSION_KEY] = browser.get(BACKEND_SESSION_KEY)
        session[HASH_SESSION_KEY] = browser.get(HASH_SESSION_KEY)
        joined.append(session_group(browser.session_key))
    else:
        session[KIND] = BY_TOKEN
        session[BACKEND_SESSION_KEY] = _backend_of(user)
        if hasattr(user, "get_session_auth_hash"):
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    for group in joined:
        group.add(message.content["reply_channel"])


def _backend_of(user: Any) -> str:
    """Return the backend that a user is looked up by from now on."""
    backend = getattr(user, "backend", None)
    if backend is None and len(settings.AUTHENTICATION_BACKENDS) == 1:
        backend = settings.AUTHENTICATION_BACKENDS[0]
    if backend is None:
        raise ImproperlyConfigured(
            "there are several AUTHENTICATION_BACKENDS: have GATEWAY_AUTH['authenticate'] say by "
            "which one its user is looked up later, user.backend = 'path.of.the.Backend'"
        )
    return str(backend)


def _user_model() -> Any:
    if not apps.is_installed("django.contrib.auth"):
        raise ImproperlyConfigured(
            "message.user is one of django.contrib.auth: put that and django.contrib.contenttypes "
            "into INSTALLED_APPS"
        )
    return auth.get_user_model()


def _anonymous() -> Any:
    _user_model()
    from django.contrib.auth.models import AnonymousUser  # noqa: PLC0415 - needs its app

    return AnonymousUser()


# ---------------------------------------------------------------- and from then on


def _look_again(message: Message) -> Any:
    """Return the user of a message without credentials, as the connection's record has it."""
    channel = message.channel_name
    if "reply_channel" not in message:
        raise LookupError(
            f"a message of {channel!r} has no user: it belongs to no connection. Send what names "
            "the user along in it"
        )
    session = message.channel_session
    kind = session.get(KIND)
    if kind is None:
        raise LookupError(
            f"a message of {channel!r} cannot tell its user: nobody asked when the connection was "
            "opened, which is when its credentials came. Use message.user in its connect consumer "
            "too, or set GATEWAY_AUTH = {'at_connect': True}"
        )
    if channel.endswith(".disconnect"):
        remembered.forget(message)
        return _departed(session)
    user = None
    if kind == BY_SESSION:
        user = _still_logged_in(message, session)
    elif kind == BY_TOKEN:
        user = _user_of_login(session)
    if kind != NOBODY and user is None:
        raise Reject(auth_settings.read().close_code, GONE)
    if session.get(SAVED, 0) < time.time() - auth_settings.read().session_age / 2:
        session.modified = True  # it is in use: its age begins anew
    remembered.put(message, user)
    return _anonymous() if user is None else user


def _still_logged_in(message: Message, session: Any) -> Any:
    browser = message.http_session
    if browser is None or browser.get(SESSION_KEY) != session.get(SESSION_KEY):
        return None
    return _user_of_login(browser)


def _departed(session: Any) -> Any:
    """Return whose connection is over, logged out or not."""
    path = session.get(BACKEND_SESSION_KEY)
    user = None
    if session.get(KIND) != NOBODY and path in settings.AUTHENTICATION_BACKENDS:
        key = _user_model()._meta.pk.to_python(session[SESSION_KEY])  # noqa: SLF001 - documented
        user = load_backend(path).get_user(key)
    return _anonymous() if user is None else user


class _Login(dict[str, Any]):
    """A session as `django.contrib.auth.get_user` needs it, of which it may do what it likes.

    With an outdated key it would end the browser's, or change a key that no cookie can tell.
    """

    def flush(self) -> None:
        self.clear()

    def cycle_key(self) -> None:
        """Do nothing."""


class _Request:
    def __init__(self, session: _Login) -> None:
        self.session = session


def _user_of_login(session: Any) -> Any:
    """Return the user that a session names, if its backend and its hash agree; or None."""
    login = _Login({key: value for key in _LOGIN if (value := session.get(key)) is not None})
    user = auth.get_user(_Request(login))  # type: ignore[arg-type]  # all that it uses
    return user if user.is_authenticated else None


# ---------------------------------------------------------------- what a worker remembers


class Known:
    """The user of one connection: the fields of its row, made a user anew for each message.

    So what a consumer changes on it, and does not save, nobody else sees.
    """

    __slots__ = ("_copied", "_db", "_model", "_names", "_values", "expires", "key")

    def __init__(self, user: Any, expires: float) -> None:
        self.expires = expires
        self._model: Any = None
        self.key: str | None = None
        """The primary key as sessions spell it; None for nobody."""
        if user is not None:
            there, meta = user.__dict__, user._meta  # noqa: SLF001 - documented by Django
            self._names = [one.attname for one in meta.concrete_fields if one.attname in there]
            self._values = copy.deepcopy([there[name] for name in self._names])
            self._copied = [at for at, one in enumerate(self._values) if type(one) not in _FIXED]
            self._model = meta.model
            self._db = user._state.db  # noqa: SLF001 - documented by Django
            self.key = key_of(user)

    def user(self) -> Any:
        """Return a user of its own for one message."""
        if self._model is None:
            return _anonymous()
        values = self._values
        if self._copied:
            values = values.copy()
            for at in self._copied:
                values[at] = copy.deepcopy(values[at])
        return self._model.from_db(self._db, self._names, values)


class Memory:
    """What this process knows, by reply channel; what was put in first goes first."""

    def __init__(self) -> None:
        self._found: dict[str, Known] = {}
        self._lock = threading.Lock()

    def get(self, message: Message) -> Known | None:
        """Return what is known of a message's connection and still believed.

        Not for its first and its last: there the credentials, and the record, speak.
        """
        found = self._found.get(message.content.get("reply_channel", ""))
        if found is None or found.expires <= time.monotonic():
            return None
        return None if message.channel_name.endswith("connect") else found

    def put(self, message: Message, user: Any) -> None:
        """Remember a user, or None, for ``expiry`` seconds."""
        name = message.content["reply_channel"]
        said = auth_settings.read()
        known = Known(user, time.monotonic() + said.expiry)
        with self._lock:
            self._found.pop(name, None)
            self._found[name] = known
            while len(self._found) > said.cache_size:
                del self._found[next(iter(self._found))]

    def check(self, message: Message, key: str | None) -> None:
        """Forget a user who is not the one that the connection's record names by now."""
        name = message.content.get("reply_channel", "")
        found = self._found.get(name)
        if found is not None and found.key != key:
            self.forget(message)

    def forget(self, message: Message) -> None:
        """Remember nothing of a message's connection."""
        with self._lock:
            self._found.pop(message.content.get("reply_channel", ""), None)

    def clear(self) -> None:
        """Remember nothing."""
        with self._lock:
            self._found.clear()


remembered = Memory()
