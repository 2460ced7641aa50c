"""Old database connections are closed around each message, by the thread that opened them.

Django does it with receivers of its request signals, which cost as much as a small consumer.
Here a thread that never opened a connection is spared them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any
from weakref import ReferenceType

from django.core.cache import InvalidCacheBackendError, caches, close_caches
from django.core.cache.backends.base import BaseCache
from django.core.handlers.base import reset_urlconf
from django.db import (
    DEFAULT_DB_ALIAS,
    close_old_connections,
    connections,
    reset_queries,
    transaction,
)
from django.db.backends.signals import connection_created
from django.dispatch import Signal

_opened: set[int] = set()
"""Threads that ever opened a database connection, by ident."""
_workers: set[int] = set()
"""Threads that take messages: they look after their own connections."""

left_alone: ContextVar[bool] = ContextVar("django_gateway.left_alone", default=False)
"""Whether the connections are somebody else's: a test's, which has a transaction open."""


def _remember(**_: Any) -> None:
    _opened.add(get_ident())


connection_created.connect(_remember, dispatch_uid="django_gateway.database")


@contextmanager
def worker_thread() -> Iterator[None]:
    """Look after this thread's connections: close them all at the end."""
    ident = get_ident()
    _workers.add(ident)
    try:
        yield
    finally:
        connections.close_all()
        _opened.discard(ident)
        _workers.discard(ident)


def tidy() -> None:
    """Close this thread's connections that are broken or too old, forget logged queries."""
    if get_ident() in _opened and not left_alone.get():
        reset_queries()
        close_old_connections()


def opened_for_loop() -> bool:
    """Return whether a thread that runs blocking code for the loop may have a connection."""
    return not _opened <= _workers


def in_transaction(using: str | None) -> bool:
    """Return whether there is a transaction of this thread whose commit can be waited for.

    Opens no connection. Raises Django's ``TransactionManagementError`` where commits are the
    application's own (``set_autocommit(False)``), its ``ConnectionDoesNotExist`` for an alias
    that ``DATABASES`` lacks.
    """
    connection = connections[using or DEFAULT_DB_ALIAS]
    if connection.in_atomic_block:
        return True
    opened = connection.connection is not None
    if (opened and not connection.autocommit) or not connection.settings_dict["AUTOCOMMIT"]:
        raise transaction.TransactionManagementError(
            "on_commit=True needs transaction.atomic(): commits by hand tell nobody"
        )
    return False


class RequestSignal:
    """``request_started`` or ``request_finished``, sent only where somebody has to hear it.

    The receivers that Django itself connects have nothing to do for a thread without a
    database connection, in a context of its own, with caches that need no closing.
    """

    __slots__ = ("_own", "_own_alone", "_seen", "signal")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self._own: list[Any] = [reset_queries, close_old_connections, reset_urlconf]
        if _caches_need_no_closing():
            self._own.append(close_caches)
        self._seen: list[Any] | None = None
        self._own_alone = False

    def due(self) -> bool:
        """Return whether this thread has to send it."""
        return not self._of_django_alone() or get_ident() in _opened

    def due_on_loop(self) -> bool:
        """Return whether the loop has to send it."""
        return not self._of_django_alone() or opened_for_loop()

    def _of_django_alone(self) -> bool:
        if self.signal.receivers != self._seen:
            self._seen = list(self.signal.receivers)
            live = [
                found() if isinstance(found, ReferenceType) else found
                for _, found, *_ in self._seen  # how many there are is Django's own affair
            ]
            self._own_alone = all(found is None or found in self._own for found in live)
        return self._own_alone


def _caches_need_no_closing() -> bool:
    try:
        return all(type(caches[alias]).close is BaseCache.close for alias in caches)
    except InvalidCacheBackendError:
        return False
