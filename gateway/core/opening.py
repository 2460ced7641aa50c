"""How a request is answered that asks for a connection, and gets none.

A WebSocket, an event stream, a long-poll connection: each begins as a request that waits for the
application's decision (its ``connect``). What it is answered where the decision is no, or none
came, is the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import ACCEPTED, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.core.metrics import Drop
from gateway.core.session import Refusal
from gateway.core.web import RETRY_AFTER, Exchange, Head, Header, plain

UNREACHED: Final = {
    Refusal.FULL: (503, "the application is busy"),
    Refusal.DRAINING: (503, "the gateway is shutting down"),
    Refusal.UNAVAILABLE: (503, "the application cannot be reached"),
    Refusal.TOO_BIG: (431, "too big for one message"),
    Refusal.TOO_SLOW: (503, "too much waits to be worked on"),
    Refusal.TIMEOUT: (503, "no answer in time"),
    Refusal.BROKEN: (500, "the gateway made a mistake"),
}
"""What never reached a consumer: the status, and words for people."""

LAST_EVENT_ID: Final = b"last_event_id"
"""The key of the query that says where a client was."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 section 5.6.2
_UNFIT: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5; a tab may be
_OURS: Final = frozenset(
    (b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"trailer", b"te")
)


class Refuse(msgspec.Struct, frozen=True):
    """The answer that refuses it, an ordinary HTTP response."""

    status: int
    content: bytes = b""
    headers: Sequence[Header] = ()


def query(head: Head, key: bytes) -> bytes | None:
    """Return the first value of a key in a request's query, decoded, or None."""
    if key not in head.query_string:
        return None
    for item in head.query_string.split(b"&"):
        name, _, value = item.partition(b"=")
        if name == key:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def last_event_id(head: Head) -> str | None:
    """Return the id of the last message that a client has had; None where it says nothing of it.

    It stands in the header that HTML's EventSource sends (as UTF-8), else in the query, for those
    that can send no headers.
    """
    header = head.header(b"last-event-id")
    if header is not None:
        return header.decode("utf-8", "replace")
    found = query(head, LAST_EVENT_ID)
    return None if found is None else found.decode("utf-8", "replace")


def refusal(
    status: int,
    reason: str,
    headers: Sequence[Header] = (),
    retry_after: float = RETRY_AFTER,
) -> Refuse:
    """Return a refusal with a text for people, and ``headers`` before those of such answers.

    ``retry_after`` (seconds) is told with a 503.
    """
    own = {name for name, _ in headers}
    more, content = plain(status, reason, retry_after)
    return Refuse(status, content, (*headers, *(item for item in more if item[0] not in own)))


def undecided(outcome: Outcome, drop: Callable[[Drop], None]) -> Refuse | None:
    """Return how it is refused for the outcome of its ``connect``; None where it is not.

    ``drop`` counts a code that is no HTTP status.
    """
    kind = outcome.kind
    if kind == ACCEPTED:
        return None
    if kind == REJECTED:
        code = outcome.code
        if code is not None and not 400 <= code <= 599:
            drop(Drop.FOREIGN_CODE)
            code = None
        return refusal(code or 403, outcome.reason)
    if kind == UNROUTED:
        return refusal(404, "nothing is here")
    if kind == RELEASED:
        return refusal(503, "nobody was there to answer")
    return refusal(500, "the application failed")


def unreached(why: Refusal) -> Refuse:
    """Return how it is refused whose ``connect`` never reached a consumer."""
    return refusal(*UNREACHED[why])


def answer(exchange: Exchange, refuse: Refuse) -> LocalProtocolError | None:
    """Answer a request; with 500 where the headers cannot be sent, of which it returns why."""
    try:
        _respond(exchange, refuse)
    except LocalProtocolError as error:
        _respond(exchange, refusal(500, "the refusal cannot be sent"))
        return error
    return None


def _respond(exchange: Exchange, refuse: Refuse) -> None:
    exchange.respond(refuse.status, refuse.headers)
    exchange.write(refuse.content)
    exchange.end()


def checked_headers(
    headers: Iterable[Header], ours: frozenset[bytes] = frozenset(), prefix: bytes | None = None
) -> list[Header]:
    """Return an application's headers as lower-case bytes.

    Raises `LocalProtocolError` for what would break the response apart (RFC 9110 section 5.5)
    or is the gateway's own business: the framing, ``ours``, and what begins with ``prefix``.
    """
    found: list[Header] = []
    for name, value in headers:
        name = name.lower()  # noqa: PLW2901 - as messages spell them
        if not _TOKEN.match(name) or _UNFIT.search(value):
            raise LocalProtocolError(f"the header {name!r} has characters that none may have")
        if name in _OURS or name in ours or (prefix is not None and name.startswith(prefix)):
            raise LocalProtocolError(f"the header {name.decode()} is the gateway's own")
        found.append((name, value.strip(b" \t")))
    return found
