"""The best plain text in a small mail, found without building a tree of its parts. Pure.

Bounded in depth and parts, and never raising: what is odd is passed over. A worker that wants all
of a mail has the standard library.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from gateway.plugins.email.headers import Head, bytes_as_text, read

DEPTH: Final = 6
"""Multiparts within multiparts: forwarded and signed mail has three or four."""
PARTS: Final = 100
"""Parts looked at in one mail: the text is among the first."""

_TYPE: Final = re.compile(r"\s*([\w!#$&^.+-]+)/([\w!#$&^.+-]+)")
_PARAMETER: Final = re.compile(r";\s*([\w!#$&^.+*-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^;\s]*)")
_ESCAPED: Final = re.compile(r"\\(.)")


def plain_text(content: bytes, head: Head) -> str | None:
    """Return the first plain text of a mail that is no attachment; None where there is none."""
    return _Search().part(head, content, head.length, len(content), DEPTH)


class _Search:
    def __init__(self) -> None:
        self._left = PARTS

    def part(self, head: Head, content: bytes, start: int, end: int, depth: int) -> str | None:
        kind, parameters = content_type(head.first("content-type"))
        if kind == "text/plain":
            if head.first("content-disposition").strip()[:10].lower() == "attachment":
                return None
            body = decoded(content[start:end], head.first("content-transfer-encoding"))
            text = bytes_as_text(body, parameters.get("charset", ""))
            return text.replace("\r\n", "\n")
        boundary = parameters.get("boundary", "")
        if not kind.startswith("multipart/") or not boundary or not depth:
            return None
        return self._parts(boundary.rstrip().encode(), content, start, end, depth - 1)

    def _parts(
        self, boundary: bytes, content: bytes, start: int, end: int, depth: int
    ) -> str | None:
        mark = b"--" + boundary
        place = self._next(mark, content, start, end)
        while place >= 0 and self._left:
            self._left -= 1
            after = place + len(mark)
            if content.startswith(b"--", after):
                return None
            begin = content.find(b"\n", after, end) + 1
            if not begin:
                return None
            place = self._next(mark, content, begin, end)
            stop = end if place < 0 else max(begin, place - 2)
            head = read(content[begin:stop])
            found = self.part(head, content, begin + head.length, stop, depth)
            if found is not None:
                return found
        return None

    @staticmethod
    def _next(mark: bytes, content: bytes, start: int, end: int) -> int:
        """Return where the next line begins that is a boundary (RFC 2046 section 5.1.1), or -1."""
        while (place := content.find(mark, start, end)) >= 0:
            if place == 0 or content[place - 1] == 10:
                after = place + len(mark)
                stop = content.find(b"\n", after, end) + 1 or end
                if content[after:stop].strip(b" \t\r\n") in {b"", b"--"}:
                    return place
            start = place + 1
        return -1


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """Return type and parameters of a Content-Type. What is none is ``text/plain``."""
    found = _TYPE.match(value)
    if found is None:
        return "text/plain", {}
    parameters: dict[str, str] = {}
    for name, said in _PARAMETER.findall(value, found.end()):
        text = _ESCAPED.sub(r"\1", said[1:-1]) if said.startswith('"') else said
        parameters.setdefault(name.lower().rstrip("*"), text)
    return f"{found[1]}/{found[2]}".lower(), parameters


def decoded(body: bytes, encoding: str) -> bytes:
    """Return a body without its Content-Transfer-Encoding."""
    match encoding.strip().lower():
        case "quoted-printable":
            return binascii.a2b_qp(body)
        case "base64":
            try:
                return binascii.a2b_base64(body)
            except binascii.Error:
                return _as_much_base64(body)
    return body


def _as_much_base64(body: bytes) -> bytes:
    """Return what can be read of base64 that is cut off or padded wrongly."""
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
    return binascii.a2b_base64(letters[: len(letters) // 4 * 4])
