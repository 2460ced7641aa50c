"""Which mail may be answered automatically: RFC 3834, and what lists and robots say. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

Headers = Iterable[Sequence[str]]
"""Fields of a mail, ``(name, value)``, as ``email.receive`` has them."""

ROBOTS: Final = re.compile(
    r"(?:mailer-daemon|postmaster|owner-.*|.*-(?:request|owner|bounces)|bounces?[+=-].*"
    r"|listserv|majordomo|(?:no|do[-_.]?not)[-_.]?reply(?:[-+_.].*)?)",
    re.IGNORECASE,
)
"""Local parts that no person reads, or that a list answers for (RFC 3834, section 2)."""

_LISTS: Final = frozenset(
    ("list-id", "list-unsubscribe", "list-post", "list-help", "list-subscribe", "list-owner")
)
_SUPPRESSED: Final = re.compile(r"\b(?:all|oof|autoreply)\b", re.IGNORECASE).search


def unanswerable(
    mail_from: str | None, headers: Headers, mailboxes: Iterable[str] = ()
) -> str | None:
    """Return why a mail is not to be answered automatically; None: it may be.

    ``mail_from`` is its envelope's, ``mailboxes`` are our own: who would answer does not answer
    itself.

    >>> unanswerable("ann@example.org", [("Precedence", "bulk")])
    'it is of the precedence bulk'
    """
    if not mail_from or mail_from == "<>":
        return "it has the null sender: it tells of another mail"
    local = mail_from.rpartition("@")[0] or mail_from
    if ROBOTS.fullmatch(local):
        return f"nobody reads what is sent to {mail_from}"
    address = _plain(mail_from)
    if any(_plain(one) == address for one in mailboxes):
        return "it is from ourselves"
    for name, value in headers:
        reason = _marked(name.lower(), value.strip())
        if reason is not None:
            return reason
    return None


def _marked(name: str, value: str) -> str | None:
    """Return what a field says against an answer."""
    word = re.split(r"[;\s(]", value, maxsplit=1)[0].lower()
    if name == "auto-submitted" and word != "no":
        return f"it was submitted automatically ({word[:40] or 'it says'})"
    if name == "precedence" and word in {"bulk", "list", "junk"}:
        return f"it is of the precedence {word}"
    if name in _LISTS:
        return "it came by a mailing list"
    if name == "x-auto-response-suppress" and re.search(
        r"\b(?:all|oof|autoreply)\b", value, re.IGNORECASE
    ):
        return "its X-Auto-Response-Suppress wants no answer"
    if name in {"x-autoreply", "x-autorespond"} and word not in {"", "no"}:
        return "it was submitted automatically"
    if name == "return-path" and value == "<>":
        return "it has the null sender: it tells of another mail"
    if name == "content-type" and word == "multipart/report":
        return "it is a report on another mail"
    if name == "feedback-id":
        return "it is one of many that were sent at once"
    return None


def hops(headers: Headers) -> int:
    """Return how many servers a mail has passed: its Received fields (RFC 5321, section 6.3)."""
    return sum(name.lower() == "received" for name, _ in headers)


class Answered:
    """The mails that were answered, by Message-ID: the latest ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._known

    def add(self, message_id: str) -> bool:
        """Note that one is answered; False where it was before. One without an id is new."""
        if not message_id:
            return True
        if message_id in self._known:
            self._known.move_to_end(message_id)
            return False
        self._known[message_id] = None
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return True

    def discard(self, message_id: str) -> None:
        """Note that one is not answered after all."""
        self._known.pop(message_id, None)


def _plain(address: str) -> str:
    """Return an address without a tag (``user+tag``), in lower case, to compare by."""
    local, at, domain = address.strip("<> ").lower().rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}" if at else domain
