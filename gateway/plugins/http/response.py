"""Responses of HTTP/1 as bytes: status line, headers, framing. Pure.

A `gateway.plugins.http.framing.Framing`.

Framing is decided here and nowhere else (RFC 9112 6): what an application says of
``Transfer-Encoding``, ``Connection`` (but for ``close``) and other headers between two hops is
left out; its ``Content-Length`` is checked and kept or completed; its ``Date`` and ``Server``
take the place of ours. So no response ever has two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.core.errors import LocalProtocolError
from gateway.core.web import Header, Piece
from gateway.plugins.http.head import RequestHead

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_PHRASES = {int(status): status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}".encode() for code in range(200, 600)
}
_END = b"\r\n\r\n"
_CLOSE = b"\r\nconnection: close\r\n\r\n"
_KEEP = b"\r\nconnection: keep-alive\r\n\r\n"
UPGRADE_REQUIRED: Final = 426
SILENT: Final = frozenset((204, 205, 304))
"""Status codes whose responses have no content."""
FIELD_BYTES = bytes(b for b in range(256) if b == 9 or (b >= 32 and b != 127))
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_OURS = frozenset(
    (
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
TEXT: Final[tuple[Header, ...]] = ((b"content-type", b"text/plain; charset=utf-8"),)
OCTETS: Final[tuple[Header, ...]] = ((b"content-type", b"application/octet-stream"),)


def _fields(headers: Iterable[Header], stamp: bytes) -> tuple[bytes, bytes, int | None, bool]:
    """Check an application's headers.

    Returns the lines to send; the stamp, less what the application has itself; what its
    ``Content-Length`` says; whether it asks for ``Connection: close``. Raises
    `LocalProtocolError` for what cannot be sent.
    """
    parts: list[bytes] = []
    length: int | None = None
    close = False
    own: list[bytes] = []
    for name, value in headers:
        line = _line(name)
        if line:
            parts.append(line)
            parts.append(value)
            continue
        name = name.lower()  # noqa: PLW2901 - the same name
        if name == b"content-length":
            length = own_length(value, length)
        elif name == b"connection":
            close = close or b"close" in [part.strip() for part in value.lower().split(b",")]
        elif name in {b"date", b"server"}:
            if name in own:
                raise LocalProtocolError(f"more than one {name.decode()}")
            own.append(name)
            line = b"\r\n" + name + b": "
            stamp = _without(stamp, line)
            parts.append(line)
            parts.append(value)
    block = b"".join(parts)
    # Every line brings one CRLF; any other control character would end a line early.
    if len(block.translate(None, FIELD_BYTES)) != len(parts):
        raise LocalProtocolError("a header's value holds a control character")
    return block, stamp, length, close


def own_length(value: bytes, other: int | None) -> int:
    """Return what an application's Content-Length says; ``other`` is what one before it says."""
    if re.fullmatch(rb"[0-9]{1,18}", value) is None or (other is not None and other != int(value)):
        raise LocalProtocolError("Content-Length is not one number")
    return int(value)


def _without(stamp: bytes, line: bytes) -> bytes:
    """Return the stamp less the line that begins so."""
    before, found, after = stamp.partition(line)
    return before + after[len(after.partition(b"\r\n")[0]) :] if found else stamp


@lru_cache(maxsize=4096)
def own_name(name: bytes) -> bytes:
    """Return an application's header name in lower case, nothing for one of ours.

    Raises `LocalProtocolError` for one that cannot be sent.
    """
    if _TOKEN(name) is None:
        raise LocalProtocolError("a header's name is not a token")
    name = name.lower()
    return b"" if name in _OURS else name


@lru_cache(maxsize=4096)
def _line(name: bytes) -> bytes:
    """Return how a header's line begins, nothing for one of ours."""
    name = own_name(name)
    return b"\r\n" + name + b": " if name else b""


def _offers(headers: Iterable[Header], block: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Return the block with Upgrade in it, and the end with Connection: upgrade.

    RFC 9110 15.5.22: a server that answers 426 "MUST send an Upgrade header field"; 7.8: and
    names it in Connection.
    """
    offered = b", ".join(value for name, value in headers if name.lower() == b"upgrade")
    if not offered or offered.translate(None, FIELD_BYTES):
        return block, end
    option = b"close, upgrade" if end == _CLOSE else b"upgrade"
    return block + b"\r\nupgrade: " + offered, b"\r\nconnection: " + option + b"\r\n\r\n"


def complete(
    head: RequestHead,
    status: int,
    headers: Iterable[Header],
    content: bytes,
    *,
    keep_alive: bool,
    stamp: bytes,
) -> tuple[bytes, bool]:
    r"""Return a whole response, and whether the connection may be used again.

    ``stamp`` is ``\r\ndate: …\r\nserver: …``. Raises `LocalProtocolError` where the
    application's headers cannot be sent.
    """
    block, stamp, said, close = _fields(headers, stamp)
    keep_alive = keep_alive and not close
    if not keep_alive:
        end = _CLOSE
    elif head.http_version == "1.0":
        end = _KEEP
    else:
        end = _END
    if status == UPGRADE_REQUIRED:
        block, end = _offers(headers, block, end)
    length, content = sized(head, status, content, said)
    if length is None:
        return b"".join((_STATUS_LINES[status], block, stamp, end)), keep_alive
    return (
        b"%b%b\r\ncontent-length: %d%b%b%b"
        % (_STATUS_LINES[status], block, length, stamp, end, content),
        keep_alive,
    )


def sized(
    head: RequestHead, status: int, content: bytes, own_length: int | None
) -> tuple[int | None, bytes]:
    """Return the Content-Length of a whole response, None for none, and the content to send.

    ``own_length`` is what the application's says. Raises `LocalProtocolError` if it is wrong.
    """
    length: int | None = len(content)
    if status in SILENT:
        content = b""
        # RFC 9110 15.3.6: never with content; 8.6: what a 200 would have.
        length = 0 if status == 205 else own_length if status == 304 else None
    elif own_length is not None and own_length != length:
        if length or head.method != "HEAD":
            raise LocalProtocolError("Content-Length is not the content's length")
        length = own_length
    return length, b"" if head.method == "HEAD" else content


class Stream:
    """A response whose content comes in pieces.

    Raises `LocalProtocolError` where the application's headers cannot be sent.
    """

    __slots__ = ("_begin", "_chunked", "_left", "_silent", "keep_alive")

    def __init__(
        self,
        head: RequestHead,
        status: int,
        headers: Iterable[Header],
        *,
        keep_alive: bool,
        stamp: bytes,
    ) -> None:
        block, stamp, length, close = _fields(headers, stamp)
        keep_alive = keep_alive and not close
        modern = head.http_version == "1.1"
        self._silent = head.method == "HEAD" or status in SILENT
        self._left = None if self._silent else length
        self._chunked = False
        framing = b""
        if status == 205:
            framing = b"\r\ncontent-length: 0"
        elif length is not None and status != 204:
            framing = b"\r\ncontent-length: %d" % length
        elif status not in {204, 304}:
            if modern:
                # In answer to HEAD too: RFC 9112 6.1, it says what GET would do.
                framing = b"\r\ntransfer-encoding: chunked"
                self._chunked = not self._silent
            elif not self._silent:
                keep_alive = False  # RFC 9112 6.3: the end of the connection is the end
        self.keep_alive = keep_alive
        end = _CLOSE if not keep_alive else _END if modern else _KEEP
        self._begin = b"".join((_STATUS_LINES[status], block, framing, stamp, end))

    def start(self, content: bytes) -> bytes:
        """Return the head of the response and its first piece of content."""
        begin, self._begin = self._begin, b""  # a stream may last for days
        return begin + self.piece(content, more=True)

    def piece(self, content: bytes, *, more: bool) -> bytes:
        """Return what to write for a piece of content; after the last one the response is whole.

        Raises `LocalProtocolError` where it breaks the ``Content-Length`` that was sent.
        """
        if self._silent:
            return b""
        if self._chunked:
            if not more:
                return (
                    b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
                )
            return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        if self._left is not None:
            self._left -= len(content)
            if self._left < 0 or (self._left and not more):
                raise LocalProtocolError("the content is not as long as Content-Length says")
        return content

    def shared(self, piece: Piece) -> bytes:
        """Return what to write for a piece that goes to others, too: its chunk is made once."""
        if not self._chunked:
            return self.piece(piece.content, more=True)
        chunk = piece.chunk
        if chunk is None:
            chunk = piece.chunk = self.piece(piece.content, more=True)
        return chunk


stream = Stream


def refusal(
    status: int, headers: Iterable[Header], content: bytes, stamp: bytes, *, bare: bool
) -> bytes:
    """Return the gateway's own answer; the connection ends after it. See `Framing.refusal`."""
    lines = b"".join(b"\r\n%b: %b" % header for header in headers)
    return b"%b%b\r\ncontent-length: %d%b%b%b" % (
        _STATUS_LINES[status],
        lines,
        len(content),
        stamp,
        _CLOSE,
        b"" if bare else content,
    )


def switching(protocol: bytes, headers: Iterable[Header], stamp: bytes) -> bytes:
    """Return the answer that changes the connection's protocol (RFC 9110 15.2.2)."""
    fields = list(headers)
    lines = b"".join(b"\r\n%b: %b" % field for field in fields)
    for name, _ in fields:
        if name in {b"date", b"server"}:
            stamp = _without(stamp, b"\r\n" + name + b": ")
    return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade%b%b\r\n\r\n" % (
        protocol,
        lines,
        stamp,
    )
