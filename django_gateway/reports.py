"""Errors of consumers, told once to whoever looks after errors.

To the log: one record of the logger ``django.gateway`` with the traceback, and with the
attributes ``channel``, ``route`` and ``connection``. Django's own logging passes it to its
``AdminEmailHandler``. And by Django's signal ``got_request_exception``, sent while the exception
is being handled, with the ``sender`` `Message`, ``message`` the message and ``request`` None (but
for a view whose stream broke). Neither holds anything of the message's content, only the
exception's own words. What a view raises is Django's to report, and it does, in the same two ways.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any, Final

from django.core.signals import got_request_exception
from django.db import DatabaseError

from django_gateway.exceptions import RequestAborted
from django_gateway.message import Message
from gateway.core.layers.base import Delivery

log = logging.getLogger("django.gateway")

NO_TABLE: Final = re.compile(r"no such table|(relation|Table) .* (does not|doesn't) exist")
"""What SQLite, PostgreSQL and MySQL say."""


def report(error: BaseException, route: str, subject: Message | Delivery) -> None:
    """Tell of an error, while it is being handled. A client that left is none."""
    message: Message | None = None
    if isinstance(subject, Message):
        message = subject
        channel = subject.channel_name
        connection = subject.content.get("reply_channel", "nobody")
    else:
        channel, connection = subject.channel, "an unread message"
    if isinstance(error, RequestAborted):
        log.info("%s, on %s for %s: %s", route, channel, connection, error)
        return
    if isinstance(error, DatabaseError) and NO_TABLE.search(str(error)):
        error.add_note("Was `manage.py migrate` run on this database?")
    extra: dict[str, Any] = {"channel": channel, "route": route, "connection": connection}
    request = None if message is None else getattr(message, "request", None)
    if request is not None:
        extra["request"] = request  # what Django's handlers look for
    try:
        log.error(
            "%s failed, on %s for %s: %s",
            route,
            channel,
            connection,
            type(error).__name__,
            exc_info=error,
            extra=extra,
        )
    except Exception:  # noqa: BLE001 - a handler that fails, a mail's for one, changes no outcome
        traceback.print_exc()
    # robust: who does not expect that there is no request changes no outcome
    got_request_exception.send_robust(sender=Message, request=request, message=message)
