r"""Events as bytes, by the HTML standard ("Server-sent events"). Pure.

::

    stream  = *event
    event   = *(comment / field) LF
    comment = ":" *any-char LF
    field   = name [":" [" "] *any-char] LF       name: data, event, id, retry
    any-char: all but LF and CR

A line ends at CRLF, CR or LF, and at nothing else that Unicode calls a line's end. A reader joins
the ``data`` lines of an event with LF, takes one space after each colon away, and hands over what
it has at the empty line; an event without ``data`` is no event, though its ``id`` and ``retry``
count.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.errors import LocalProtocolError

SAID: Final = frozenset(("text", "bytes", "event", "id", "retry", "comment", "missed"))
"""The keys of a reply that become bytes here."""
OWN: Final = frozenset(("open", "close", "missed"))
"""The names of events by which the gateway itself speaks to a page."""
COMMENT: Final = b":\n\n"
"""Says nothing: it begins a stream, so that proxies let go of its head, and keeps it alive."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_UNFIT: Final = re.compile(r"[\r\n\0]")


def encoded(reply: Mapping[str, Any]) -> bytes:
    """Return what a reply says, nothing where it says nothing; its other keys do not matter.

    Raises `LocalProtocolError` for what no reader would get as it was meant.
    """
    text = reply.get("text")
    name = reply.get("event")
    data = reply.get("bytes")
    if name in OWN:
        raise LocalProtocolError(f"the event {name} is the gateway's own; choose another name")
    if data is not None:
        text = base64.b64encode(data).decode()
        name = "bytes" if name is None else name
    if reply.get("missed"):
        if text is not None or name is not None:
            raise LocalProtocolError("missed is an event of its own: without text, bytes, event")
        text, name = "{}", "missed"
    lines: list[str] = []
    if (comment := reply.get("comment")) is not None:
        lines += [f": {line}" for line in _LINE_END.split(comment)]
    if (retry := reply.get("retry")) is not None:
        lines.append(f"retry: {retry}")
    if (id_ := reply.get("id")) is not None:
        lines.append(f"id: {_fit('id', id_)}")
    if name is not None:
        if text is None:
            raise LocalProtocolError("an event needs text or bytes: browsers drop it without")
        lines.append(f"event: {_fit('event', name)}")
    if text is not None:
        lines += [f"data: {line}" for line in _LINE_END.split(text)]
    if not lines:
        return b""
    return ("\n".join(lines) + "\n\n").encode()


def opening(location: str, keep_alive: float) -> bytes:
    """Return the event that tells a page where it may post, and how long silence is no news."""
    data = json.dumps({"location": location, "keep_alive": keep_alive})
    return f"event: open\ndata: {data}\n\n".encode()


def closing(code: int, reason: str) -> bytes:
    """Return the event that tells a page that the application has closed."""
    data = json.dumps({"code": code, "reason": reason})
    return f"event: close\ndata: {data}\n\n".encode()


def coming_back(seconds: float) -> bytes:
    """Return what makes a browser come back so many seconds after the stream has ended."""
    return b"retry: %d\n\n" % round(seconds * 1000)


def _fit(key: str, value: str) -> str:
    """Return a value of one line. A reader ignores an ``id`` with NUL, so none is sent."""
    if _UNFIT.search(value):
        raise LocalProtocolError(f"{key} holds CR, LF or NUL")
    return value
