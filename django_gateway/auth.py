"""Users of connections, by the names of Channels 1; and whom to believe, and how to end them.

``message.user`` needs none of the decorators on threads. On the event loop they spare the
consumer its ``await message.auser()``.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from django_gateway import sessions
from django_gateway.credentials import Credentials
from django_gateway.endings import adisconnect_user, disconnect_user, user_group
from django_gateway.message import Message
from django_gateway.sessions import BrowserSession, ChannelSession, Consumer
from django_gateway.users import BY_SESSION, BY_TOKEN, KIND, authenticate, remembered

__all__ = [
    "Credentials",
    "adisconnect_user",
    "authenticate",
    "channel_and_http_session_user_from_http",
    "channel_session_user",
    "channel_session_user_from_http",
    "disconnect_user",
    "http_session_user",
    "transfer_user",
    "user_group",
]


def transfer_user(from_session: Any, to_session: Any) -> None:
    """Copy a login from one session into another: ``http_session`` to ``channel_session``."""
    keys = (BACKEND_SESSION_KEY, SESSION_KEY, HASH_SESSION_KEY)
    if all(key in from_session for key in keys):
        for key in keys:
            to_session[key] = from_session[key]
        if isinstance(to_session, ChannelSession):
            to_session[KIND] = BY_SESSION if isinstance(from_session, BrowserSession) else BY_TOKEN


def http_session_user(consumer: Consumer) -> Consumer:
    """Have ``message.http_session`` and ``message.user`` there before the consumer is called."""
    return sessions.around("http_session_user", _http)(consumer)


def channel_session_user(consumer: Consumer) -> Consumer:
    """Have ``message.channel_session`` and ``message.user`` there before the consumer is called."""
    return sessions.around("channel_session_user", _channel)(consumer)


def channel_session_user_from_http(consumer: Consumer) -> Consumer:
    """Have both sessions and ``message.user`` there before the consumer is called."""
    return sessions.around("channel_session_user_from_http", _both)(consumer)


def channel_and_http_session_user_from_http(consumer: Consumer) -> Consumer:
    """Do what `channel_session_user_from_http` does: the browser's session is there anyway."""
    return sessions.around("channel_and_http_session_user_from_http", _both)(consumer)


def _http(message: Message) -> None:
    sessions.read_http_session(message)
    _ = message.user


def _channel(message: Message) -> None:
    remembered.check(message, message.channel_session.get(SESSION_KEY))
    _ = message.user


def _both(message: Message) -> None:
    sessions.read_http_session(message)
    _channel(message)
