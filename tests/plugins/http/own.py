"""What every answer of the gateway's own looks like, whoever makes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = "zx81marker"
"""Stands in all that a client sends and in every exception, where answers are checked."""
LEAKS = re.compile(
    rb"(?i)" + MARK.encode() + rb"|traceback|\.py\b|error:|exception|python|uvloop|autobahn"
    rb"|(?<!HTTP/)(?<![a-z]-)\d\.\d|site-packages|/tmp|/home|/root|localhost|[<>]"
)
SAID = {
    b"content-type": b"text/plain; charset=utf-8",
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
}


def check(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    content: bytes,
    *more: bytes,
    method: str = "GET",
    server: bytes | None = b"gateway",
) -> None:
    """Assert that it is plain, is of this moment, says who and when, and gives nothing away.

    ``more`` are the names of headers that it must have beside those that all have.
    """
    found = dict(headers)
    assert len(found) == len(headers), "a header stands twice"
    for name, value in SAID.items():
        assert found[name] == value, name
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", found[b"date"])
    assert found.get(b"server") == server
    if method == "HEAD":
        assert content == b""
    else:
        assert int(found[b"content-length"]) == len(content)
        assert re.fullmatch(rb"[ -~]{5,100}\n", content)
    assert not LEAKS.search(content)
    if status == 503:
        assert found[b"retry-after"] == b"1"
    if status == 405:
        assert found[b"allow"]
    if status == 426:
        assert found[b"upgrade"]
    assert not LEAKS.search(b"".join(n + v for n, v in headers if n != b"date"))
    fixed = {*SAID, b"date", b"server", b"content-length", b"retry-after", b"connection", *more}
    assert set(found) <= fixed
