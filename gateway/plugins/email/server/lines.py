r"""What a client sends: commands by lines, and the data of a mail. Pure.

::

    MAIL FROM:<a@example.org> CR LF          a command is a line
    DATA CR LF
    Subject: x CR LF                         data is lines, too; one that begins with "." has
    ..a line that begins with a dot CR LF    another one before it
    . CR LF                                  the end: CR LF "." CR LF and nothing else

CR and LF stand together or not at all (RFC 5321 section 2.3.8). Servers that take ``\n.\n`` or
``\r.\r`` for the end, or hand them on to one that does, let whoever wrote a mail append others to
it, in somebody else's name ("SMTP smuggling"). Here such a mail is refused whole.
"""

from __future__ import annotations

import enum
import re
from typing import Final

LONGEST: Final = 12_296
"""Bytes of the longest command: AUTH with the 12,288 of RFC 4954 section 4."""
LIMITS: Final = {b"AUTH": LONGEST, b"MAIL": 1024, b"RCPT": 1024}
"""Bytes of a command with its CR LF. MAIL and RCPT: 512 and what their parameters may add."""
USUAL: Final = 512
"""Bytes of any other (RFC 5321 section 4.5.3.1.4)."""


class Fault(enum.Enum):
    """What is wrong with what came; the value is a metric's label."""

    BARE = "bare"
    """CR or LF by itself."""
    NUL = "nul"
    """A NUL in a mail, or another control character in a command."""
    LINE = "line"
    """Too long a line."""
    SIZE = "size"
    """Too large a mail."""
    HEADER = "header"
    """Too large a header."""
    LOOP = "loop"
    """Too many Received fields."""
    ROOM = "room"
    """No room for it in temporary files."""


_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_END: Final = re.compile(rb"(\r?)([\r\n])\.(\r\n|\n|\r(?=[^\n]))")
"""A line with nothing but a dot, by any notion of a line that is about."""


class Lines:
    """Commands, as they come. What a client sends ahead waits here."""

    __slots__ = ("_buffer", "_skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._skipping = False
        """Whether the rest of a line that is too long is to come."""

    def __len__(self) -> int:
        """Return how many bytes wait."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._buffer += data

    def take(self) -> bytes:
        """Return all that waits: it is no command."""
        data, self._buffer = self._buffer, b""
        return data

    @property
    def ready(self) -> bool:
        """Whether a whole line waits."""
        return b"\n" in self._buffer

    def line(self, limit: int | None = None) -> bytes | Fault | None:
        """Return the next line without its CR LF, or what is wrong with it; None: not here yet.

        ``limit`` is for lines that are no commands.
        """
        end = self._buffer.find(b"\n") + 1
        if not end:
            if len(self._buffer) > LONGEST:
                self._buffer = b""
                self._skipping = True
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        skipped, self._skipping = self._skipping, False
        if skipped or end > (limit or LIMITS.get(line[:4].upper(), USUAL)):
            return Fault.LINE
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            return Fault.BARE
        line = line[:-2]
        return Fault.NUL if _CONTROL.search(line) else line


class Content:
    """The data of one mail, from the line after DATA to the dot.

    After a `Fault` its content is dropped, and the end still looked for.
    """

    __slots__ = ("_held", "_most", "complete", "fault", "rest")

    def __init__(self, max_line: int) -> None:
        self._most = max_line
        self._held = b""
        """The beginning of a line; after a fault the last bytes, as the end may begin there."""
        self.fault: Fault | None = None
        self.complete = False
        self.rest = b""
        """What was fed and lies behind the end."""

    @property
    def ambiguous(self) -> bool:
        """Whether another notion of lines finds another end than ours: then nobody knows what
        follows, commands or the mail, and the connection has to end.
        """  # noqa: D205 - one sentence
        return self.fault in {Fault.BARE, Fault.NUL}

    def refuse(self, fault: Fault) -> None:
        """Drop what is still to come; the first reason is the one that is told."""
        if self.fault is None:
            self.fault = fault
            # Where a line begins, and after a line: either way the end is found behind this.
            self._held = b"\r\n" + self._held

    def feed(self, data: bytes) -> bytes:
        """Take what came; return content of whole lines, without the dots that are not the mail's.

        Not to be called once it is complete.
        """
        data = self._held + data
        if self.fault is not None:
            self._skip(data)
            return b""
        if data.startswith(b".\r\n"):
            end, size = 0, 3
        else:
            end, size = data.find(b"\r\n.\r\n") + 2, 3
            if end == 1:
                end, size = data.rfind(b"\r\n") + 2, 0
                if end == 1:
                    end = 0
        lines, tail = data[:end], data[end + size :]
        fault = self._judge(lines)
        if fault is None and not size:
            fault = self._judge_tail(tail)
        if fault is not None:
            self.fault = fault
            self._skip(b"\r\n" + data)
            return b""
        if size:
            self.complete = True
            self.rest = tail
            self._held = b""
        else:
            self._held = tail
        if lines.startswith(b"."):
            lines = lines[1:]
        return lines.replace(b"\r\n.", b"\r\n")

    def _judge(self, lines: bytes) -> Fault | None:
        """Say what is wrong with whole lines. A line's own first dot counts, if it has two."""
        pairs = lines.count(b"\r\n")
        if lines.count(b"\n") != pairs or lines.count(b"\r") != pairs:
            return Fault.BARE
        if b"\0" in lines:
            return Fault.NUL
        most = self._most - 2
        if len(lines) > most and any(
            len(line) > most + line.startswith(b".") for line in lines.split(b"\r\n")
        ):
            return Fault.LINE
        return None

    def _judge_tail(self, tail: bytes) -> Fault | None:
        """Say what is wrong with the beginning of a line."""
        if b"\n" in tail or b"\r" in tail[:-1]:
            return Fault.BARE
        if b"\0" in tail:
            return Fault.NUL
        return Fault.LINE if len(tail) > self._most + tail.startswith(b".") else None

    def _skip(self, data: bytes) -> None:
        found = _END.search(data)
        if found is None:
            self._held = data[-4:]
            return
        if not self.ambiguous and found[0] != b"\r\n.\r\n":
            self.fault = Fault.BARE
        self.complete = True
        self._held = b""
        self.rest = data[found.end() :]
