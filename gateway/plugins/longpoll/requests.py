"""What the requests of long-polling ask for: a connection, a wait, what follows a cursor. Pure."""

from __future__ import annotations

import re
from typing import Final

from gateway.core.errors import RemoteProtocolError
from gateway.core.opening import refusal
from gateway.core.web import Head

_CURSOR: Final = re.compile(rb'(?:W/)?"(\d{1,15})"').fullmatch
_SECONDS: Final = re.compile(rb'"?(\d{1,9})"?').fullmatch


def opens(head: Head) -> bool:
    """Return whether a request asks for a connection: a POST of nothing, to be answered by itself.

    One with a body is something of its own, that is to be answered later.
    """
    if head.method != "POST":
        return False
    asks = False
    for name, value in head.headers:
        if name == b"prefer":
            asks = asks or b"respond-async" in preferences(value)
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return False
    return asks


def preferences(value: bytes) -> dict[bytes, bytes]:
    """Return the preferences of a Prefer header (RFC 7240 section 2), their parameters left out.

    Of several by the same name the first counts.
    """
    found: dict[bytes, bytes] = {}
    for item in value.split(b","):
        name, _, said = item.partition(b";")[0].partition(b"=")
        found.setdefault(name.strip(b" \t").lower(), said.strip(b" \t"))
    return found


def wait_of(head: Head, default: int, most: int) -> tuple[int, bool]:
    """Return how many seconds a poll is to wait, and whether it said so.

    Raises `RemoteProtocolError` with the `Refuse` to answer for what is no number of seconds.
    """
    for name, value in head.headers:
        if name == b"prefer" and (said := preferences(value).get(b"wait")) is not None:
            found = _SECONDS(said)
            if found is None:
                raise _bad("Prefer: wait is a number of seconds, as in wait=25")
            return min(int(found[1]), most), True
    return min(default, most), False


def cursor_of(head: Head) -> int | None:
    """Return the cursor that a poll brings, None where it brings none.

    Raises `RemoteProtocolError` as `wait_of` does.
    """
    value = head.header(b"if-none-match")
    if value is None:
        return None
    found = _CURSOR(value.strip(b" \t"))
    if found is None:
        raise _bad('If-None-Match is the ETag of the last answer, as in "7"')
    return int(found[1])


def _bad(words: str) -> RemoteProtocolError:
    return RemoteProtocolError(words, answer=refusal(400, words))
