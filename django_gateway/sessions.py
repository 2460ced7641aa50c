"""Sessions of connections: what a consumer keeps from one message to the next, and the browser's.

``message.channel_session``
    A Django session of the connection's own, found by its reply channel, whichever worker runs
    the message; of a mail that of its thread, whichever connection brings it. Saved when the
    consumer has returned, if it was changed; deleted when a consumer of the connection's
    ``disconnect`` has returned.
``message.http_session``
    The session of the cookie that the connection, or the request, was opened with; None
    without one.

Both are there without a decorator, and do nothing before their first use. On the event loop
use their async methods (``await message.channel_session.aget("seen")``), or a decorator, which
reads the session ahead. The decorators have the names that Channels 1 gave them.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from django_gateway import auth_settings
from django_gateway.channel import outbox
from django_gateway.credentials import MAIL, brings_credentials, session_key_of
from django_gateway.exceptions import ConsumeLater
from django_gateway.message import Message
from django_gateway.routing import is_async
from gateway.core.layers.memory import MemoryLayer

Consumer = Callable[..., Any]

SAVED: Final = "_gateway_saved"
"""The key of a channel session that says since when (epoch, seconds) its age counts."""


class AttendedSession(SessionBase):
    """A session that is finished when its consumer has returned, or is as it was before."""

    def state(self) -> dict[str, Any]:
        """Return what it is now, for `restore`."""
        return {
            name: copy.deepcopy(value) if name == "_session_cache" else value
            for name, value in vars(self).items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Be what it was."""
        vars(self).clear()
        vars(self).update(state)


# ---------------------------------------------------------------- the connection's own


class ChannelSession(AttendedSession):
    """What the session of a connection has beyond its engine: a key that is given, once."""

    wanted: str
    """Its key."""
    fresh = False
    """Whether the store does not have it yet."""
    begun = False
    """Whether it was not looked for either: the connection has just begun."""
    ends = False
    """Whether its connection is over."""

    def load(self) -> dict[str, Any]:
        """Return the content, empty where there is none yet."""
        return self._loaded(super().load())

    async def aload(self) -> dict[str, Any]:
        """Async twin of `load`."""
        return self._loaded(await super().aload())

    def _loaded(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.session_key is None:  # the engine's way to say that there is nothing
            self.fresh = True
            self._session_key = self.wanted
        return data

    def begin(self) -> None:
        """Be empty: there can be nothing in the store."""
        self.fresh = self.begun = True
        self._session_cache: dict[str, Any] = {}

    def get_session_cookie_age(self) -> int:
        """Return the seconds that it is kept unused."""
        return auth_settings.read().session_age

    def cycle_key(self) -> None:
        """Do nothing: the key is the connection's."""

    async def acycle_key(self) -> None:
        """Do nothing: the key is the connection's."""

    def flush(self) -> None:
        """Forget the content."""
        self.clear()

    async def aflush(self) -> None:
        """Async twin of `flush`."""
        self.clear()

    def due(self) -> bool:
        """Return whether `finish` has something to do."""
        return self.ends or self.modified

    def finish(self) -> None:
        """Save what was changed; delete it where the connection is over."""
        if self.ends:
            self.delete(self.wanted)
        elif self.modified and not (self.fresh and not self.keys()):
            self[SAVED] = int(time.time())
            try:
                self.save(must_create=self.fresh)
            except CreateError:
                if not self.begun:
                    raise ConsumeLater from None  # another message of it was quicker
                self.save()  # what a worker left that was lost
            except UpdateError:
                self.save(must_create=True)  # somebody cleared the store
            self.modified = self.fresh = False


def session_for_reply_channel(reply_channel: str) -> ChannelSession:
    """Return the session of the connection that ``reply_channel`` answers, unread.

    Its key cannot be told from the name, which others may know: as a cookie it would be a login.
    """
    name = getattr(settings, "CHANNEL_SESSION_ENGINE", None) or settings.SESSION_ENGINE
    session: ChannelSession = _engine(name, ChannelSession)(None)
    _check_shared(session, name)
    secret = salted_hmac(__name__, reply_channel, algorithm="sha256").hexdigest()
    session.wanted = f"chn{secret[:29]}"
    session._session_key = session.wanted  # noqa: SLF001 - as SessionBase's own constructor does
    return session


def channel_session_of(message: Message) -> ChannelSession:
    """Return the session of a message's connection, saved once its consumer has returned."""
    channel = message.channel_name
    name = message.content.get("reply_channel")
    if name is None:
        raise LookupError(
            f"a message of {channel!r} has no channel_session: it has no reply_channel, so it "
            "belongs to no connection"
        )
    word = channel.rpartition(".")[2]
    if word == "request":
        raise LookupError(
            f"a message of {channel!r} has no channel_session: no other follows it. What is to "
            "last from one request to the next belongs into http_session"
        )
    if channel == MAIL and (thread := message.thread):
        name = f"{channel}!{thread}"  # no reply channel is called so
    session = session_for_reply_channel(name)
    if word == "connect" and not message.content.get("order"):
        session.begin()
    session.ends = word == "disconnect"
    _finish_later(session)
    return session


# ---------------------------------------------------------------- the browser's


class BrowserSession(AttendedSession):
    """What a browser's session has beyond its engine: it is written only where that was said."""

    writable = False
    """Whether a consumer's changes are saved: it has the decorator `http_session`."""
    _modified = False

    @property
    def modified(self) -> bool:
        """Whether it was changed."""
        return self._modified

    @modified.setter
    def modified(self, value: bool) -> None:
        if value and not self.writable:
            raise TypeError(
                "message.http_session is read-only here: decorate the consumer with "
                "@http_session, which saves it, or keep what belongs to the connection in "
                "message.channel_session"
            )
        self._modified = value

    def create(self) -> None:
        """Raise TypeError: the browser would not know of it."""
        raise TypeError(
            "a browser's session gets its key from a response of Django's: here no cookie can "
            "be set, so it cannot be created, nor its key be changed"
        )

    async def acreate(self) -> None:
        """Raise TypeError: the browser would not know of it."""
        self.create()

    def flush(self) -> None:
        """End the session, if that may be: as for any change."""
        self.modified = True
        super().flush()
        self.modified = False

    async def aflush(self) -> None:
        """Async twin of `flush`."""
        self.modified = True
        await super().aflush()
        self.modified = False

    def due(self) -> bool:
        """Return whether `finish` has something to do."""
        return self.modified

    def finish(self) -> None:
        """Save what was changed. Raises SessionInterrupted where it has ended meanwhile."""
        if not self.modified:
            return
        try:
            if self.session_key is None:
                raise UpdateError
            self.save()
        except UpdateError:
            raise SessionInterrupted(
                "the browser's session has ended: what was written to it is lost"
            ) from None
        self.modified = False


def http_session_of(message: Message) -> BrowserSession | None:
    """Return the browser's session of a message, unread; None where there was no cookie."""
    channel, content = message.channel_name, message.content
    if brings_credentials(channel):
        key = session_key_of(channel, content)
        if channel.endswith(".connect"):
            message.channel_session[settings.SESSION_COOKIE_NAME] = key or ""
    else:
        _only_off_loop("message.http_session", "decorate the consumer with @http_session")
        key = message.channel_session.get(settings.SESSION_COOKIE_NAME)
        if key is None:
            raise LookupError(
                f"a message of {channel!r} cannot tell its http_session: nobody asked for it when "
                "the connection was opened. Use message.http_session in its connect consumer too"
            )
    if not key:
        return None
    session: BrowserSession = _engine(settings.SESSION_ENGINE, BrowserSession)(key)
    _finish_later(session)
    return session


# ---------------------------------------------------------------- engines


@functools.cache
def _engine(name: str, mixin: type[Any]) -> type[Any]:
    """Return the class of an engine's sessions, with what ``mixin`` adds."""
    if mixin is ChannelSession and name == "django.contrib.sessions.backends.signed_cookies":
        raise ImproperlyConfigured(
            "SESSION_ENGINE keeps sessions in cookies, and a connection that is open gets no "
            "cookies: set CHANNEL_SESSION_ENGINE = 'django.contrib.sessions.backends.db', or "
            "another engine that stores them"
        )
    base = import_module(name).SessionStore
    # the name is the salt that sessions are signed with
    return type(base.__name__, (mixin, base), {"__qualname__": base.__qualname__})


def _check_shared(session: Any, engine: str) -> None:
    """Raise ImproperlyConfigured where other workers could not see what this one stores."""
    cache = getattr(session, "_cache", None)
    if cache is None or not isinstance(cache, LocMemCache | DummyCache):
        return
    from django_gateway.asgi import channel_layers  # noqa: PLC0415 - reads the settings

    if isinstance(cache, LocMemCache) and isinstance(channel_layers["default"], MemoryLayer):
        return  # all there is runs in this process
    raise ImproperlyConfigured(
        f"{engine} keeps sessions in the cache {settings.SESSION_CACHE_ALIAS!r}, a "
        f"{type(cache).__name__}, which each worker has to itself. Set CHANNEL_SESSION_ENGINE = "
        "'django.contrib.sessions.backends.db', or a cache that they share"
    )


def _only_off_loop(what: str, remedy: str) -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - get_running_loop() raises where there is none, at 30 times the cost
        raise RuntimeError(f"{what} may wait for a database, and this is an event loop: {remedy}")


# ---------------------------------------------------------------- decorators


def _finish_later(session: ChannelSession | BrowserSession) -> None:
    box = outbox.get()
    if box is not None and box.open:
        box.attend(session)


def _finish(message: Message) -> None:
    """Finish the sessions of a message that no worker runs: of a consumer that a test calls."""
    box = outbox.get()
    if box is None or not box.open:
        for name in ("channel_session", "http_session"):
            session = message.__dict__.get(name)
            if session is not None:
                session.finish()


def message_of(arguments: tuple[Any, ...], decorator: str) -> Message:
    """Return the message among the arguments of a consumer, a function or a method."""
    for argument in arguments[:2]:
        if isinstance(argument, Message):
            return argument
    raise TypeError(
        f"@{decorator} is for consumers: functions or methods of a message. Where a method gets "
        "frames, write self.message.user and self.message.channel_session, or decorate raw_receive"
    )


def around(name: str, before: Callable[[Message], None]) -> Callable[[Consumer], Consumer]:
    """Return a decorator of consumers, plain and async, that does ``before``, which may block."""

    def decorate(consumer: Consumer) -> Consumer:
        if is_async(consumer):

            @functools.wraps(consumer)
            async def awrapped(*args: Any, **kwargs: Any) -> Any:
                message = message_of(args, name)
                await sync_to_async(before)(message)
                result = await consumer(*args, **kwargs)
                if outbox.get() is None:
                    await sync_to_async(_finish)(message)
                return result

            wrapped: Consumer = awrapped
        else:

            @functools.wraps(consumer)
            def plain(*args: Any, **kwargs: Any) -> Any:
                message = message_of(args, name)
                before(message)
                result = consumer(*args, **kwargs)
                _finish(message)
                return result

            wrapped = plain
        wrapped.keeps_sessions = True  # type: ignore[attr-defined]
        return wrapped

    decorate.__name__ = name
    return decorate


def _read_channel_session(message: Message) -> None:
    message.channel_session.get(SAVED)


def read_http_session(message: Message) -> None:
    """Read the browser's session, and have it saved where the consumer changes it."""
    session = message.http_session
    if session is not None:
        session.writable = True
        session.get(SAVED)


def _read_both(message: Message) -> None:
    read_http_session(message)
    _read_channel_session(message)


def channel_session(consumer: Consumer) -> Consumer:
    """Have ``message.channel_session`` read before the consumer is called.

    On threads it is there without this. Nothing is saved if the consumer raises.
    """
    return around("channel_session", _read_channel_session)(consumer)


def http_session(consumer: Consumer) -> Consumer:
    """Have ``message.http_session`` read before the consumer is called, and saved after it.

    It is saved where the consumer changed it and returned. None without a cookie.
    """
    return around("http_session", read_http_session)(consumer)


def channel_and_http_session(consumer: Consumer) -> Consumer:
    """Do what `channel_session` and `http_session` do."""
    return around("channel_and_http_session", _read_both)(consumer)


def enforce_ordering(
    consumer: Consumer | None = None,
    slight: bool = False,  # noqa: ARG001 - the name that Channels 1 gave it
) -> Any:
    """Do nothing: the messages of a connection are in order anyway, unless ``window`` is 0.

    It is here for applications that were written for Channels 1.
    """
    return (lambda decorated: decorated) if consumer is None else consumer
