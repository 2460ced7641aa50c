"""The parts of a mail, cut out of it in one pass, whatever its size or shape.

::

    multipart/mixed; boundary=a         --a
      multipart/alternative; boundary=b --b
        text/plain                      the mail's text
        text/html                       --b--
      application/pdf; name=bill.pdf    an attachment, base64 in the mail

`split` reads lines and writes what the parts hold, decoded, one after the other into one file:
of a mail no more is in memory than a block, and the headers of one part. It never raises for what
a mail says: what is broken is taken as it stands (RFC 2046 says how it ought to be).
"""

from __future__ import annotations

import binascii
import mimetypes
import re
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message as Fields
from email.parser import BytesHeaderParser
from email.policy import Compat32
from typing import BinaryIO, Final, NamedTuple

LINE: Final = 65_536
"""Bytes that are looked at in one step: of a longer line, without a break, several."""
HEADERS: Final = 65_536
"""Bytes of one part's headers that are read: real ones have some hundreds."""
DEPTH: Final = 64
"""Multiparts in multiparts: what is deeper is a part as it stands."""
PARTS: Final = 1000
"""Parts that are told apart: the rest of a mail that has more is dropped."""
BLOCK: Final = 49_152
"""Bytes of base64 that are decoded in one step."""

_EMPTY: Final = (b"\n", b"\r\n")
_FIELD: Final = re.compile(rb"[\x21-\x39\x3b-\x7e]+[ \t]*:")
_FOREIGN: Final = re.compile(rb"[^A-Za-z0-9+/=]+")
"""What does not belong into base64, and is passed over (RFC 2045 section 6.8)."""
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\u2028\u2029\u202a-\u202e\u2066-\u2069]')
"""What no file is called: controls, what Windows does not take, and what turns text around."""
_NAME: Final = 200
"""Characters of a name: file systems take 255 bytes."""


class Part(NamedTuple):
    """One part that is no multipart: what it is, and where its content lies."""

    content_type: str
    charset: str
    disposition: str
    """"attachment", "inline", or empty."""
    name: str
    """A file's name as the sender gave it (see `file_name`); empty where there is none."""
    content_id: str
    """What a text in HTML calls it; empty without one."""
    start: int
    size: int

    @property
    def is_body(self) -> bool:
        """Whether it is what the sender wrote, rather than what is attached to it."""
        return (
            self.content_type in ("text/plain", "text/html")
            and not self.name
            and self.disposition != "attachment"
        )


def split(source: BinaryIO, into: BinaryIO) -> list[Part]:
    """Return the parts of the mail that ``source`` has from here on, decoded into ``into``."""
    splitter = _Splitter(into)
    while line := source.readline(LINE):
        splitter.feed(line)
    return splitter.finish()


def file_name(given: str, content_type: str, number: int) -> str:
    """Return a name for the file of a part, in which there is no path and nothing odd.

    Where nothing is left of what the sender gave it is ``attachment-NUMBER``, and an ending.
    """
    name = _UNSAFE.sub("", given.replace("\\", "/").rpartition("/")[2]).strip(" .")
    if name:
        stem, dot, ending = name.rpartition(".")
        if len(name) > _NAME and dot and len(ending) < 20:
            return f"{stem[: _NAME - len(ending) - 1]}.{ending}"
        return name[:_NAME]
    return f"attachment-{number}{mimetypes.guess_extension(content_type) or '.bin'}"


class _Splitter:
    """Takes a mail line by line."""

    def __init__(self, into: BinaryIO) -> None:
        self._into = into
        self._parts: list[Part] = []
        self._open: list[tuple[bytes, str]] = []
        """The multiparts around: boundary and type, the outermost first."""
        self._headers: list[bytes] | None = []
        """The headers of what begins; None within a content."""
        self._length = 0
        self._leaf: _Leaf | None = None
        """What the content goes to; None for what stands around parts."""
        self._whole = True
        """Whether the last line has ended."""

    def feed(self, line: bytes) -> None:
        """Take a line, or a piece of a long one."""
        whole, self._whole = self._whole, line.endswith(b"\n")
        if whole and self._open and line.startswith(b"--") and self._is_boundary(line):
            return
        if self._headers is not None:
            if self._is_header(self._headers, line, whole):
                return
            self._begin()
            if whole and line in _EMPTY:
                return
        if self._leaf is not None:
            self._leaf.feed(line)

    def finish(self) -> list[Part]:
        """Return the parts: the mail has ended."""
        if self._headers:
            self._begin()
        self._end_leaf()
        return self._parts

    def _is_boundary(self, line: bytes) -> bool:
        said = line.rstrip()
        for index in range(len(self._open) - 1, -1, -1):
            boundary = self._open[index][0]
            if said == boundary:
                self._end_part()
                del self._open[index + 1 :]
                self._headers = []
                return True
            if said == boundary + b"--":
                self._end_part()
                del self._open[index:]
                return True
        return False

    def _end_part(self) -> None:
        if self._headers:  # headers, and no empty line behind them
            self._begin()
        self._end_leaf()
        self._headers = None
        self._length = 0

    def _is_header(self, headers: list[bytes], line: bytes, whole: bool) -> bool:
        """Take a line of headers; return whether it was one."""
        if whole and line in _EMPTY:
            return False
        goes_on = not whole or (headers and line[:1] in (b" ", b"\t"))
        of_a_file = not headers and not self._open and line.startswith(b"From ")
        if not goes_on and not of_a_file and not _FIELD.match(line):
            return False  # somebody forgot the empty line: the content begins
        self._length += len(line)
        if self._length <= HEADERS:
            headers.append(line)
        return True

    def _begin(self) -> None:
        """Begin what the headers say: a multipart, or a part."""
        fields = _parser.parsebytes(b"".join(self._headers or ()))
        self._headers = None
        self._length = 0
        parent = self._open[-1][1] if self._open else ""
        kind = _content_type(fields, parent)
        if kind.startswith("multipart/") and len(self._open) < DEPTH:
            boundary = fields.get_boundary()
            if boundary:
                self._open.append((b"--" + boundary.encode("utf-8", "surrogateescape"), kind))
                return
            kind = "text/plain"  # as Python's own parser has it: there are no parts
        if len(self._parts) < PARTS:
            encoding = str(fields.get("content-transfer-encoding", "")).strip().lower()
            self._leaf = _Leaf(self._into, fields, kind, encoding)

    def _end_leaf(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf is not None:
            # the line's end before a boundary is the boundary's (RFC 2046 section 5.1.1)
            size = leaf.finish(within=bool(self._open))
            self._parts.append(_part(leaf.fields, leaf.kind, leaf.start, size))


class _Leaf:
    """The content of one part, on its way into the file."""

    __slots__ = ("_carry", "_encoding", "_end", "_into", "fields", "kind", "start")

    def __init__(self, into: BinaryIO, fields: Fields, kind: str, encoding: str) -> None:
        self._into = into
        self._encoding = encoding
        self._carry = bytearray()
        """What came and cannot be decoded yet."""
        self._end = b""
        """The end of the last line, which may belong to the boundary behind it."""
        self.fields = fields
        self.kind = kind
        self.start = into.tell()

    def feed(self, line: bytes) -> None:
        """Take a line."""
        if self._encoding == "base64":
            self._carry += line
            if len(self._carry) >= BLOCK:
                self._carry = bytearray(self._decode(bytes(self._carry), last=False))
        elif self._encoding == "quoted-printable":
            self._quoted(line)
        else:
            end = b"\r\n" if line.endswith(b"\r\n") else b"\n" if line.endswith(b"\n") else b""
            self._into.write(self._end + line[: len(line) - len(end)])
            self._end = end

    def finish(self, *, within: bool) -> int:
        """Return how many bytes there are; ``within`` a multipart the last line's end is not."""
        if self._encoding == "base64":
            self._decode(bytes(self._carry), last=True)
        elif self._carry:
            self._into.write(binascii.a2b_qp(bytes(self._carry)))
        if not within:
            self._into.write(self._end)
        return self._into.tell() - self.start

    def _decode(self, block: bytes, *, last: bool) -> bytes:
        """Decode base64; return what is left for the next time."""
        clean = _FOREIGN.sub(b"", block)
        while clean:
            # a padding ends a text, and another may follow: some programs glue them together
            end = clean.find(b"=")
            now = clean if end < 0 else clean[:end]
            usable = len(now) & ~3
            if end < 0 and not last:
                self._into.write(binascii.a2b_base64(now[:usable]))
                return now[usable:]
            rest = len(now) - usable
            padded = now + b"=" * (4 - rest) if rest > 1 else now[:usable]  # one is no byte
            self._into.write(binascii.a2b_base64(padded))
            if end < 0:
                return b""
            clean = clean[end:].lstrip(b"=")
        return b""

    def _quoted(self, line: bytes) -> None:
        self._into.write(self._end)
        self._end = b""
        line = bytes(self._carry) + line
        self._carry.clear()
        if line.endswith(b"\n"):
            text = line.rstrip(b" \t\r\n")
            if text.endswith(b"="):  # a soft break
                self._into.write(binascii.a2b_qp(text[:-1]))
                return
            self._end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
            self._into.write(binascii.a2b_qp(text))
            return
        cut = line.rfind(b"=", -2)  # a piece of a long line may end within =3D
        if cut >= 0:
            self._carry += line[cut:]
            line = line[:cut]
        self._into.write(binascii.a2b_qp(line))


class _AsIs(Compat32):
    """Headers as they came: what is no ASCII in them can still be read."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        """Return the value."""
        return value


_parser = BytesHeaderParser(policy=_AsIs())


def readable(text: str) -> str:
    """Return a header's text whose bytes were taken one by one: as UTF-8, else as Windows has it.

    Encoded words (RFC 2047) are decoded where they can be.
    """
    raw = text.encode("utf-8", "surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    if "=?" in text:
        try:
            return str(make_header(decode_header(text)))
        except (LookupError, ValueError, MessageError):  # however they may be broken
            return text
    return text


def _content_type(fields: Fields, parent: str) -> str:
    """Return the type of a part (RFC 2045 section 5.2, RFC 2046 section 5.1.5)."""
    if parent == "multipart/digest" and "content-type" not in fields:
        return "message/rfc822"
    return fields.get_content_type()


def _part(fields: Fields, kind: str, start: int, size: int) -> Part:
    try:
        given = fields.get_filename("") or ""
    except (LookupError, ValueError, TypeError):  # however its encoding (RFC 2231) may be broken
        given = ""
    charset = fields.get_content_charset("") if kind.startswith("text/") else ""
    return Part(
        kind,
        charset or "",
        fields.get_content_disposition() or "",
        readable(given),
        readable(str(fields.get("content-id", ""))).strip().strip("<>"),
        start,
        size,
    )
