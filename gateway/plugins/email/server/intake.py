"""One mail while it comes: in memory while it is small, then in a temporary file; its bounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.headers import Head, read
from gateway.plugins.email.server.lines import Fault

BLOCK: Final = 65536
"""Bytes of one piece: large enough that its message's cost does not matter."""


class Room:
    """How many bytes of temporary files there are, and may be."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0


class Intake:
    """The content of one mail. ``close`` gives back what it holds."""

    __slots__ = ("_config", "_file", "_memory", "_room", "_searched", "_spilled", "head", "size")

    def __init__(self, config: EmailConfig, room: Room) -> None:
        self._config = config
        self._room = room
        self._memory = bytearray()
        """All of it, or its start with the whole header."""
        self._file = -1
        self._spilled = 0
        self._searched = 0
        """Where in it the end of the header is looked for."""
        self.size = 0
        self.head: Head | None = None
        """Its header, once all of that is there."""

    @property
    def spilled(self) -> bool:
        """Whether it is in a file."""
        return self._file >= 0

    def add(self, piece: bytes) -> Fault | None:
        """Take a piece of it; return why it cannot be taken. Whole lines, each with CR LF."""
        self.size += len(piece)
        if self.size > self._config.max_size:
            return Fault.SIZE
        if not self.spilled:
            self._memory += piece
            if self.head is None and (fault := self._look()) is not None:
                return fault
            if self.size > self._config.inline_bytes and self.head is not None:
                return self._spill()
            return None
        return self._write(piece)

    def end(self) -> Fault | None:
        """Hear that it is complete; its header is known from now on."""
        if self.head is None:
            return self._read(len(self._memory))
        return None

    def _look(self) -> Fault | None:
        """Read the header, if all of it is there."""
        memory = self._memory
        if memory.startswith(b"\r\n"):
            return self._read(2)
        end = memory.find(b"\r\n\r\n", self._searched)
        self._searched = max(0, len(memory) - 3)
        if end >= 0:
            return self._read(end + 4)
        return self._read(len(memory)) if len(memory) > self._config.max_header_bytes else None

    def _read(self, end: int) -> Fault | None:
        most = self._config.max_header_bytes
        head = read(bytes(self._memory[: min(end, most)]))
        if end > most and head.length == most:
            return Fault.HEADER  # else a line that is no field ended it before
        if len(head.fields) > self._config.max_header_fields:
            return Fault.HEADER
        if head.hops > self._config.max_hops:
            return Fault.LOOP
        self.head = head
        return None

    def _spill(self) -> Fault | None:
        """Go on in a file without a name, which is gone with whoever holds it open."""
        try:
            with tempfile.TemporaryFile(dir=self._config.spill_directory or None) as file:
                self._file = os.dup(file.fileno())
        except OSError:
            return Fault.ROOM
        fault = self._write(bytes(self._memory))
        head = self.head
        if head is not None:
            del self._memory[head.length :]
        return fault

    def _write(self, piece: bytes) -> Fault | None:
        if self._room.used + len(piece) > self._room.most:
            return Fault.ROOM
        self._room.used += len(piece)
        self._spilled += len(piece)
        try:
            while piece:
                piece = piece[os.write(self._file, piece) :]
        except OSError:
            return Fault.ROOM
        return None

    def content(self) -> bytes:
        """Return all of it. Of one in a file: reads that, and takes as much memory."""
        return self.read(0, self.size) if self.spilled else bytes(self._memory)

    def read(self, offset: int, size: int) -> bytes:
        """Return a part of one that is in a file. Raises OSError."""
        return _read(self._file, offset, size)

    def borrow(self) -> tuple[Callable[[], bytes], int]:
        """Return what reads all of one that is in a file, and the descriptor to close after it."""
        descriptor = os.dup(self._file)
        return partial(_read, descriptor, 0, self.size), descriptor

    def close(self) -> None:
        """Give back file and memory. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._room.used -= self._spilled
        self._spilled = 0
        self._memory = bytearray()


def _read(descriptor: int, offset: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = os.pread(descriptor, size - len(found), offset + len(found))
        if not piece:
            break
        found += piece
    return bytes(found)
