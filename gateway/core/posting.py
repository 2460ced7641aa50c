"""What a client posts to a connection that it has by other requests: a stream, a long poll. Pure.

The connection has a location (`gateway.core.relay`), which its requests name in their query::

    POST /room?gateway_connection=longpoll.p_AbCdEfGhIjKl.TOKEN

What is posted is a message of the client's, a text or bytes; what it is answered is the message's
outcome: 204 accepted, the code or 403 rejected, 500 failed, 503 not worked on, 404 there is no
such connection, 504 nobody knows: the time was up, or the connection ended first. With an
``Idempotency-Key`` a repeated one is answered as the first was (`gateway.core.posts`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from gateway.core.errors import RemoteProtocolError
from gateway.core.layers.base import ACCEPTED, REJECTED, RELEASED, Outcome
from gateway.core.metrics import Drop
from gateway.core.opening import UNREACHED, Refuse, query, refusal
from gateway.core.relay import Answer, Unanswered
from gateway.core.session import Message, Refusal
from gateway.core.web import Exchange, Head

KEY: Final = b"gateway_connection"
"""The query's key that names a connection's location."""
BINARY: Final = b"application/octet-stream"
"""The type of what is bytes; anything else is a text."""

_KEY: Final = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch

_UNANSWERED: Final = {
    Unanswered.GONE: (404, "there is no such connection, or not any more"),
    Unanswered.UNAVAILABLE: (503, "the connection cannot be reached"),
    Unanswered.BUSY: (503, "too many requests for connections are under way"),
    Unanswered.TOO_BIG: (413, "too big for one message"),
    Unanswered.TIMEOUT: (504, "no answer in time"),
    Unanswered.DRAINING: (503, "the gateway is shutting down"),
    Unanswered.BROKEN: (500, "the gateway made a mistake"),
}

_UNSETTLED: Final = {Refusal.TOO_BIG: 413, Refusal.TIMEOUT: 504}
"""Where what is posted is answered other than what asks for a connection."""

NO_CONNECTION: Final = refusal(*_UNANSWERED[Unanswered.GONE])
"""What is answered where there is none."""
UNKNOWN: Final = refusal(504, "the connection ended before the application had answered")
"""What is answered where the application may have it, and is not asked any more. 404 would say
that it has nothing, and have a client send it again by its next connection."""


def located(head: Head, plugin: str) -> str | None:
    """Return the location of a plugin's that a request names, or None; it may be of nothing."""
    value = query(head, KEY)
    if value is None or not value.startswith(plugin.encode() + b"."):
        return None
    return value.decode("utf-8", "replace")


def link(head: Head, location: str) -> str:
    """Return the reference to a location, for who asked for the connection by ``head``."""
    path = head.raw_path.decode("latin-1")
    # RFC 3986 section 4.2: what begins with two slashes is a reference to another host.
    dot = "/." if path.startswith("//") else ""
    return f"{dot}{path}?{KEY.decode()}={location}"


async def body_of(exchange: Exchange, most: int) -> bytes | None:
    """Return a request's body; None where it is over ``most`` bytes.

    Raises ConnectionError if it is cut off.
    """
    body = bytearray()  # however small the pieces are that a client sends
    async for piece in exchange.body():
        body += piece
        if len(body) > most:
            return None
    return bytes(body)


def posted(head: Head, body: bytes) -> dict[str, str | bytes]:
    """Return the message that a body is: ``bytes`` where its type says so, else ``text``.

    Raises `RemoteProtocolError` with the `Refuse` to answer where a text is none.
    """
    kind = (head.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind == BINARY:
        return {"bytes": body}
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        words = "a text is UTF-8; post bytes as application/octet-stream"
        raise RemoteProtocolError(words, answer=refusal(400, words)) from None


def key_of(head: Head) -> str:
    """Return the Idempotency-Key of what is posted, "" where it has none.

    Raises `RemoteProtocolError` as `posted` does.
    """
    value = head.header(b"idempotency-key")
    if value is None:
        return ""
    if not _KEY(value):
        words = "an Idempotency-Key is up to 128 visible characters of ASCII"
        raise RemoteProtocolError(words, answer=refusal(400, words))
    return value.decode()


async def read(
    exchange: Exchange, most: int, drop: Callable[[Drop], None]
) -> Message | Refuse | None:
    """Read a post: return the ask of it, ``{"key", "message"}``, or what is to be answered.

    None: the client left. ``drop`` counts what is over ``most`` bytes.
    """
    head = exchange.head
    try:
        key = key_of(head)
        body = await body_of(exchange, most)
        if body is None:
            drop(Drop.TOO_BIG)
            return refusal(413, f"over {most} bytes")
        return {"key": key, "message": posted(head, body)}
    except RemoteProtocolError as error:
        answer: Refuse = error.answer
        return answer
    except ConnectionError:
        return None


def settled(outcome: Outcome, drop: Callable[[Drop], None]) -> Refuse:
    """Return what is answered for the outcome of what was posted.

    ``drop`` counts a code that is no HTTP status.
    """
    kind = outcome.kind
    if kind == ACCEPTED:
        return Refuse(204)
    if kind == REJECTED:
        code = outcome.code
        if code is not None and not 400 <= code <= 599:
            drop(Drop.FOREIGN_CODE)
            code = None
        return refusal(code or 403, outcome.reason)
    if kind == RELEASED:
        return refusal(503, "nobody was there to answer")
    return refusal(500, "the application failed")


def unsettled(why: Refusal) -> Refuse:
    """Return what is answered for what never reached a consumer."""
    if (status := _UNSETTLED.get(why)) is not None:
        return refusal(status, UNREACHED[why][1])
    return refusal(*UNREACHED[why])


def packed(answer: Refuse) -> Message:
    """Return an answer as one to an ask, which may come from another process."""
    return {
        "status": answer.status,
        "headers": [list(field) for field in answer.headers],
        "content": answer.content,
    }


def unpacked(answer: Answer) -> Refuse:
    """Return what to answer a client for what an ask was answered."""
    if isinstance(answer, Unanswered):
        return refusal(*_UNANSWERED[answer])
    headers: list[Any] = answer["headers"]
    return Refuse(answer["status"], answer["content"], [(name, value) for name, value in headers])
