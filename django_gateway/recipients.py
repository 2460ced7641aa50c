"""Whom there is mail for: who has a route of ``email.receive`` is asked for no other.

A recipient has to be refused when it is named; later, all that can be said of its mail is that
something is wrong. So where every route of ``email.receive`` says for which mailboxes it is, or a
route of ``email.recipient`` decides on some, the table's own mailboxes are accepted, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable

from django_gateway.message import Message
from django_gateway.routing import Route

RECEIVE = "email.receive"
RECIPIENT = "email.recipient"
KEY = "rcpt_to"


def recipient(message: Message, **_: object) -> None:
    """Accept it: a route of ``email.receive`` takes its mail."""


def recipients(routes: Iterable[Route]) -> list[Route]:
    """Return the routes of ``email.recipient`` that stand behind the table's own."""
    table = list(routes)
    receiving = [one for one in table if RECEIVE in one.channels]
    decided = any(RECIPIENT in one.channels for one in table)
    if not receiving or not (decided or all(KEY in one.filters for one in receiving)):
        return []
    return [
        Route((RECIPIENT,), recipient, {KEY: one.filters[KEY]} if KEY in one.filters else {})
        for one in receiving
    ]
