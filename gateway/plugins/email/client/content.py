"""The octets of a mail on their way out: line ends, dots, and what servers have to know. Pure."""

from __future__ import annotations

import re
from typing import Final

HEAD: Final = 256 * 1024
"""Octets of a header: far above what servers take (Postfix: 100 KiB)."""

_BARE: Final = re.compile(rb"\r\n|\r|\n")
_DOT: Final = re.compile(rb"(?m)^\.")


class Lines:
    r"""Makes every line end CRLF, over any cutting of the octets.

    A bare CR or LF is a line end for some servers and none for others, so that what follows it
    could be taken for another mail (SMTP smuggling): none goes out.

    >>> lines = Lines()
    >>> lines.feed(b"a\nb\r") + lines.feed(b"\nc") + lines.end()
    b'a\r\nb\r\nc\r\n'
    """

    __slots__ = ("_held", "_last")

    def __init__(self) -> None:
        self._held = False
        self._last = b"\r\n"
        """The end of what was returned."""

    def feed(self, data: bytes) -> bytes:
        """Return what can be said of some octets, and what was held back."""
        if self._held:
            data = b"\r" + data
        self._held = data[-1:] == b"\r"
        if self._held:
            data = data[:-1]
        pairs = data.count(b"\r\n")
        if pairs != data.count(b"\n") or pairs != data.count(b"\r"):
            data = _BARE.sub(b"\r\n", data)
        if data:
            self._last = data[-2:]
        return data

    def end(self) -> bytes:
        """Return the rest: the last line ends as all do."""
        if self._held or self._last != b"\r\n":
            return b"\r\n"
        return b""


class Dots:
    r"""Doubles the dot at a line's beginning (RFC 5321, section 4.5.2), over any cutting.

    >>> dots = Dots()
    >>> dots.feed(b".a\r\n") + dots.feed(b"..\r\n") + dots.END
    b'..a\r\n...\r\n.\r\n'
    """

    __slots__ = ("_begins",)

    END: Final = b".\r\n"

    def __init__(self) -> None:
        self._begins = True

    def feed(self, data: bytes) -> bytes:
        """Return octets whose lines end with CRLF as DATA has them."""
        if not data:
            return data
        begins, self._begins = self._begins, data[-1:] == b"\n"
        if b"\n." not in data and not (begins and data[:1] == b"."):
            return data
        if begins:
            return _DOT.sub(b"..", data)
        return data.replace(b"\n.", b"\n..")


class Facts:
    """What is to be known of a mail before it is sent; fed with it as it goes by."""

    __slots__ = ("_ended", "eight_bit", "head", "nul", "size", "too_long")

    def __init__(self) -> None:
        self.size = 0
        self.eight_bit = False
        self.nul = False
        self.head = bytearray()
        """Its header, up to the empty line."""
        self.too_long = False
        """Whether the header is over `HEAD` octets."""
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Look at octets whose lines end with CRLF."""
        self.size += len(data)
        if not self.eight_bit:
            self.eight_bit = not data.isascii()
        if not self.nul:
            self.nul = b"\0" in data
        if not self._ended:
            self._feed_head(data)

    def _feed_head(self, data: bytes) -> None:
        head = self.head
        since = max(0, len(head) - 3)
        head += data
        if head[:2] == b"\r\n":
            end = 0
        else:
            found = head.find(b"\r\n\r\n", since)
            end = -1 if found < 0 else found + 2
        if end >= 0:
            del head[end:]
            self._ended = True
        elif len(head) > HEAD:
            self.too_long = self._ended = True

    @property
    def utf8(self) -> bool:
        """Whether its header is not of ASCII."""
        return not self.head.isascii()

    def fields(self) -> list[tuple[str, bytes]]:
        """Return the fields of the header: names in lower case, values unfolded."""
        return fields(bytes(self.head))


def fields(head: bytes) -> list[tuple[str, bytes]]:
    """Return the fields of a header: names in lower case, values unfolded.

    What is no field ends it, as the body of a mail without a header does.
    """
    found: list[tuple[str, list[bytes]]] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and found:
            found[-1][1].append(line.strip())
            continue
        name, colon, value = line.partition(b":")
        if not colon or re.fullmatch(rb"[\x21-\x39\x3b-\x7e]+[ \t]*", name) is None:
            break
        found.append((name.rstrip().decode("ascii").lower(), [value.strip()]))
    return [(name, b" ".join(value)) for name, value in found]
