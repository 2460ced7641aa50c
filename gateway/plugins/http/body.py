"""Bytes in, body content out: by length, or in chunks. Pure.

::

    chunk = 1*HEXDIG [ ";" extension ] CRLF  content CRLF
    end   = 1*"0"    [ ";" extension ] CRLF  *( trailer CRLF ) CRLF

llhttp would read chunks too, but does not say where a message ended, and so not which bytes
belong to the next one; and RFC 9112 7.1's grammar is short. Extensions and trailers are
checked and dropped (7.1.1, 7.1.2).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Final

from gateway.plugins.http.refusals import Refused

LINE_BYTES: Final = 4096
"""Bytes of one chunk's line, or one trailer: far more than the few that clients send."""
EXTRA_BYTES: Final = 16 * 1024
"""Bytes of all extensions and trailers of one body: what says nothing must not cost much."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIZE = re.compile(rb"[0-9A-Fa-f]+").match
_EXTENSION = re.compile(
    # RFC 9110 5.6.3: a recipient MUST parse the whitespace that a sender must not write.
    rb"(?:[\t ]*+;[\t ]*+" + _TOKEN + rb"+(?:[\t ]*+=[\t ]*+(?:" + _TOKEN + rb"+|"
    rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*+"))?+)++'
).fullmatch
_TRAILER = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*").fullmatch


class Body(ABC):
    """Reads one body. ``complete`` once all of it was fed."""

    __slots__ = ("complete", "rest")

    complete: bool
    rest: bytes
    """What was fed and lies behind the body."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Return the content in ``data``. Raises `Refused`."""


class LengthBody(Body):
    """A body of known length (RFC 9112 6.2)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the content in ``data``."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self.complete = True
        if len(data) > left:
            self.rest = data[left:]
            return data[:left]
        return data


class ChunkedBody(Body):
    """A body in chunks (RFC 9112 7.1)."""

    __slots__ = ("_extra", "_left", "_line", "_room", "_state")

    def __init__(self, max_body: int) -> None:
        self._room = max_body
        self._left = 0
        self._extra = EXTRA_BYTES
        self._line = b""
        self._state = self._size
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the content in ``data``. Raises `Refused`, however the data is cut."""
        pieces: list[bytes] = []
        start = 0
        while start < len(data):
            if self._left:
                piece = data[start : start + self._left]
                pieces.append(piece)
                start += len(piece)
                self._left -= len(piece)
                continue
            end = data.find(b"\n", start)
            stop = len(data) if end < 0 else end + 1
            line = self._line + data[start:stop]
            start = stop
            if len(line) > LINE_BYTES:
                raise Refused("chunk-line-size")
            if end < 0:
                self._line = line
                break
            self._line = b""
            if not line.endswith(b"\r\n"):
                raise Refused("chunk-end" if self._state == self._end else "bare-lf")
            self._state(line[:-2])
            if self.complete:
                self.rest = data[start:]
                break
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def _size(self, line: bytes) -> None:
        match = _SIZE(line)
        if match is None:
            raise Refused("chunk-size")
        digits = match[0]
        extension = line[match.end() :]
        if extension:
            self._spend(extension)
            if extension.lstrip(b" \t")[:1] != b";":
                raise Refused("chunk-size")
            if b"\r" in extension:
                raise Refused("bare-cr")
            if _EXTENSION(extension) is None:
                raise Refused("chunk-extension")
        if len(digits) > 15:  # 15 hexadecimal digits fit 64 bits with any sign
            raise Refused("chunk-size-overflow")
        size = int(digits, 16)
        if size > self._room:
            raise Refused("body-size")
        self._room -= size
        self._left = size
        self._state = self._end if size else self._trailer

    def _end(self, line: bytes) -> None:
        if line:
            raise Refused("chunk-end")
        self._state = self._size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._spend(line)
        if _TRAILER(line) is None:
            raise Refused("trailer")

    def _spend(self, extra: bytes) -> None:
        self._extra -= len(extra)
        if self._extra < 0:
            raise Refused("chunk-line-size")
