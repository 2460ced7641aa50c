"""Who may open a WebSocket, by the rules that Django has for hosts.

The gateway's own setting, ``websocket.origins``, refuses pages of other sites before any
consumer is asked, and by default stands in front of this. What is here is for consumers with
rules of their own.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from django_gateway.exceptions import Reject
from django_gateway.message import Message
from django_gateway.routing import is_async
from django_gateway.sessions import message_of

log = logging.getLogger("django.security.DisallowedHost")


def allowed_hosts_only(consumer: Callable[..., Any]) -> Callable[..., Any]:
    """Let a ``connect`` consumer see only clients whose Origin is one of ``ALLOWED_HOSTS``.

    ::

        @allowed_hosts_only
        def connect(message): ...

    Others, and those that send no Origin, are refused: HTTP 403. With ``DEBUG`` and an empty
    ``ALLOWED_HOSTS`` localhost may, as in Django.
    """
    if is_async(consumer):

        @functools.wraps(consumer)
        async def achecked(*args: Any, **kwargs: Any) -> Any:
            _check(message_of(args, "allowed_hosts_only"))
            return await consumer(*args, **kwargs)

        return achecked

    @functools.wraps(consumer)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check(message_of(args, "allowed_hosts_only"))
        return consumer(*args, **kwargs)

    return checked


def _check(message: Message) -> None:
    origin = next((value for name, value in message["headers"] if name == b"origin"), b"")
    host = _host(origin)
    allowed = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed:
        allowed = [".localhost", "127.0.0.1", "[::1]"]
    if not host or not validate_host(host, allowed):
        hint = f" You may need to add {host!r} to ALLOWED_HOSTS." if host else ""
        log.warning("A WebSocket was refused to the origin %r.%s", origin[:200], hint)
        raise Reject(403, "not for pages of another site")


def _host(origin: bytes) -> str:
    """Return the host of an origin, "" where there is none."""
    try:
        parts = urlsplit(origin.decode("ascii"))
    except ValueError:
        return ""
    return str(split_domain_port(parts.netloc)[0])
