"""Responses of HTTP/2: header fields and content, for the stream to send. Pure.

A `gateway.plugins.http.framing.Framing`. What an application says of the connection, and of
framing, is left out as over HTTP/1; here it would make the response malformed (RFC 9113
section 8.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.web import Header, Piece
from gateway.plugins.http.head import RequestHead
from gateway.plugins.http.response import (
    FIELD_BYTES,
    SILENT,
    own_length,
    own_name,
    sized,
)

Stamp = tuple[Header, ...]
"""Our Date and Server."""


class Part(msgspec.Struct, frozen=True, gc=False):
    """What to send next on a stream."""

    fields: list[Header] | None
    """Header fields, of the response or of an interim one; None: content alone."""
    content: bytes
    end: bool
    """Whether the response is complete with it."""


CONTINUE: Final = Part([(b":status", b"100")], b"", end=False)


def _fields(
    status: int, headers: Iterable[Header], stamp: Stamp
) -> tuple[list[Header], int | None]:
    """Return the fields of a response's head, and what its ``Content-Length`` says."""
    found: list[Header] = [(b":status", b"%d" % status)]
    length: int | None = None
    own: list[bytes] = []
    for name, value in headers:
        lower = own_name(name)
        if lower:
            found.append((lower, value))
            continue
        lower = name.lower()
        if lower == b"content-length":
            length = own_length(value, length)
        elif lower in {b"date", b"server"}:
            if lower in own:
                raise LocalProtocolError(f"more than one {lower.decode()}")
            own.append(lower)
            found.append((lower, value))
    values = b"".join([value for _, value in found])
    if values.translate(None, FIELD_BYTES):
        raise LocalProtocolError("a header's value holds a control character")
    found.extend(field for field in stamp if field[0] not in own)
    return found, length


def complete(
    head: RequestHead,
    status: int,
    headers: Iterable[Header],
    content: bytes,
    *,
    keep_alive: bool,
    stamp: Stamp,
) -> tuple[Part, bool]:
    """Return a whole response; see `Framing.complete`."""
    fields, said = _fields(status, headers, stamp)
    length, content = sized(head, status, content, said)
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    return Part(fields, content, end=True), keep_alive


class stream:  # noqa: N801 - a constructor in the place of a function
    """A response whose content comes in pieces; see `Framing.stream`."""

    __slots__ = ("_fields", "_left", "_silent", "keep_alive")

    def __init__(
        self,
        head: RequestHead,
        status: int,
        headers: Iterable[Header],
        *,
        keep_alive: bool,
        stamp: Stamp,
    ) -> None:
        self._fields, length = _fields(status, headers, stamp)
        self.keep_alive = keep_alive
        self._silent = head.method == "HEAD" or status in SILENT
        self._left = None if self._silent else length
        if length is not None and status not in {204, 205}:
            self._fields.append((b"content-length", b"%d" % length))

    def start(self, content: bytes) -> Part:
        """Return the head of the response and its first piece of content."""
        self._count(content, more=True)
        return Part(self._fields, b"" if self._silent else content, end=False)

    def piece(self, content: bytes, *, more: bool) -> Part | None:
        """Return what to send for a piece of content, None for nothing."""
        self._count(content, more=more)
        if self._silent:
            content = b""
        return Part(None, content, end=not more) if content or not more else None

    def shared(self, piece: Piece) -> Part | None:
        """Return what to send for a piece that goes to others, too."""
        return self.piece(piece.content, more=True)

    def _count(self, content: bytes, *, more: bool) -> None:
        if self._left is not None:
            self._left -= len(content)
            if self._left < 0 or (self._left and not more):
                raise LocalProtocolError("the content is not as long as Content-Length says")


def refusal(
    status: int, headers: Iterable[Header], content: bytes, stamp: Stamp, *, bare: bool
) -> Part:
    """Return the gateway's own answer; see `Framing.refusal`."""
    fields = [(b":status", b"%d" % status), *headers]
    fields.append((b"content-length", b"%d" % len(content)))
    return Part([*fields, *stamp], b"" if bare else content, end=True)
