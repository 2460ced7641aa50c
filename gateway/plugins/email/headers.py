"""The header of a mail: its fields, decoded, whatever they look like. Pure.

::

    Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= CRLF       field = name ":" value
    Received: from a.example CRLF                   folded: the next line begins with SP or HTAB
            by b.example; … CRLF
    CRLF                                            the end; what follows is the body

Nothing here raises for what a mail may hold. A line that is no field ends the header, and a field
without a name is passed over, as the standard library's parser has it, which workers use: both see
the same mail.
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache
from typing import Final

import msgspec

_LINE: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]+):(.*)", re.DOTALL)
_WORD: Final = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([bqBQ])\?([^?]*)\?=")
"""An encoded word (RFC 2047 section 2; RFC 2231 section 5: with a language)."""
_BETWEEN: Final = re.compile(r"(\?=)[ \t\r\n]+(?==\?[^?\s]+\?[bqBQ]\?[^?]*\?=)")
"""White space between two of them, which is not part of the text (section 6.2)."""
_QUOTED: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_CONTROLS: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]+")
_FOLD: Final = re.compile(r"[\r\n]+[ \t]*")
_ID: Final = re.compile(r"<[^<>\s]{1,996}>")
_REFUSED: Final = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem")
)
"""Codecs of Python that are no character sets of mail; two take quadratic time."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a header says."""

    fields: list[tuple[str, str]]
    """(name in lower case, value decoded), in order."""
    length: int
    """Bytes of the header with the empty line that ends it: where the body begins."""
    hops: int
    """Its Received fields."""

    def first(self, name: str) -> str:
        """Return the value of the first field of a name, empty where there is none."""
        for found, value in self.fields:
            if found == name:
                return value
        return ""

    @property
    def subject(self) -> str:
        """The subject, empty where there is none."""
        return self.first("subject")

    @property
    def message_id(self) -> str | None:
        """The Message-ID with its angle brackets; None where there is none."""
        value = self.first("message-id")
        found = _ID.search(value)
        if found is not None:
            return found[0]
        word = value.strip().split(maxsplit=1)
        return f"<{word[0].strip('<>')[:996]}>" if word and word[0].strip("<>") else None


def read(content: bytes) -> Head:
    """Return the header that a mail begins with. ``content`` holds all of it."""
    fields: list[tuple[str, str]] = []
    hops = 0
    start, end = 0, len(content)
    while start < end:
        stop = _next(content, start)
        found = _LINE.match(content, start, stop)
        if found is None:
            if content[start:stop] in {b"\r\n", b"\n"}:
                start = stop
                break
            if not content.startswith((b" ", b"\t", b":", b"From "), start):
                break
        while stop < end and content[stop] in b" \t":
            stop = _next(content, stop)
        if found is not None:
            name = found[1].lower().decode("ascii")
            fields.append((name, decode(content[found.start(2) : stop])))
            hops += name == "received"
        start = stop
    return Head(fields, start, hops)


def _next(content: bytes, start: int) -> int:
    """Return where the next line begins."""
    found = content.find(b"\n", start)
    return len(content) if found < 0 else found + 1


def decode(value: bytes) -> str:
    """Return the value of a field as text: unfolded, encoded words decoded, without controls.

    What is 8-bit is UTF-8, or, where it is not, Latin-1. A line break or a NUL that an encoded
    word hides becomes a space: a value may be put into another header.
    """
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = bytes_as_text(value)
    if "\n" in text or "\r" in text:
        text = _FOLD.sub(" ", text.rstrip("\r\n"))
    if "=?" in text:
        text = _WORD.sub(_decoded, _BETWEEN.sub(r"\1", text))
        text = text.encode("utf-8", "replace").decode()
    text = text.strip(" \t")
    return text if text.isprintable() else _CONTROLS.sub(" ", text)


def bytes_as_text(value: bytes, charset: str = "") -> str:
    """Return bytes as text: of that character set, else UTF-8, else Latin-1. Never raises."""
    codec = codec_of(charset) if charset else None
    if codec is not None and codec != "ascii":
        try:
            text = value.decode(codec, "replace")
        except (UnicodeError, ValueError, OverflowError):  # some of Python's heed no handler
            text = value.decode("latin-1")
        return text.encode("utf-8", "replace").decode()
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


@lru_cache(maxsize=256)
def codec_of(charset: str) -> str | None:
    """Return Python's name for a character set of mail; None for one that it does not know."""
    name = charset.strip("\"' \t").lower()
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return None
    if not getattr(found, "_is_text_encoding", True) or found.name.replace("_", "-") in _REFUSED:
        return None
    return found.name


def _decoded(found: re.Match[str]) -> str:
    charset, kind, payload = found.groups()
    if codec_of(charset) is None:
        return found[0]
    data = payload.encode("utf-8", "replace")
    if kind in "bB":
        try:
            data = binascii.a2b_base64(data + b"=" * (-len(data) % 4))
        except binascii.Error:
            return found[0]
    else:
        data = _QUOTED.sub(_octet, data.replace(b"_", b" "))
    return bytes_as_text(data, charset)


def _octet(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))
