"""The journal on disk, ``SOCKET.journal``: written by the hub, read by its successor.

What one turn of the hub's loop has to say leaves in one write, before any frame of that turn
does. It is not synced: a process that is killed loses nothing of what it has written, only a
machine that fails does, and with that machine went every connection.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.core.layers import journal
from gateway.core.layers.journal import Journal, Left, pack, replay

log = logging.getLogger("gateway.hub")

LEAST: Final = 1024 * 1024
"""Bytes from which on it is written anew: some thousand connections that came and went."""
GROWTH: Final = 4
"""It is written anew at so many times the size that it had after the last time: so each record
is written again about once in its life, however many connections stay."""
AGAIN: Final = 10.0
"""Seconds after which a journal that could not be written is tried again, as a disk that is full
stays so for a while."""


class JournalFile(Journal):
    """Records in a file. Every method under the lock of the state that speaks."""

    def __init__(
        self,
        path: str,
        *,
        mode: int = 0o600,
        group: str = "",
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.file = Path(path)
        self.size = 0
        """Bytes of the file."""
        self._mode = mode
        self._group = group
        self._wake = wake
        """Called when there is something to write, once until `flush`."""
        self._records: Callable[[], Iterable[tuple[Any, ...]]] = tuple
        self._buffer = bytearray()
        self._fd = -1
        self._limit = LEAST
        self._retry = 0.0

    # ------------------------------------------------ its life

    def read(self) -> Left:
        """Return what a predecessor left. Never raises: what cannot be read is logged."""
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return Left()
        except OSError as error:
            log.error("%s cannot be read: %s; what it says is lost", self.file, error.strerror)  # noqa: TRY400 - its text says it all
            return Left()
        left, whole = replay(data)
        if left.version != journal.VERSION:
            log.warning(
                "%s is of another version of the gateway (its format is %d, this one's %d) and is "
                "not read: the disconnects that it says are lost",
                self.file,
                left.version,
                journal.VERSION,
            )
        elif whole < len(data):
            log.warning(
                "%s: the last %d of %d bytes are no whole record, as of a hub that was killed "
                "while it wrote; they are skipped",
                self.file,
                len(data) - whole,
                len(data),
            )
        return left

    def open(self, records: Callable[[], Iterable[tuple[Any, ...]]]) -> None:
        """Begin to write; ``records`` says all that there is to be said now, at any time."""
        self._records = records
        self._rewrite()

    def close(self, *, keep: bool) -> None:
        """Write no more; leave the file only if a successor needs it."""
        if self._fd >= 0:
            if keep:
                self._rewrite()
            else:
                self.file.unlink(missing_ok=True)
        self._lose()
        self._records = tuple
        self._retry = time.monotonic() + 1e9  # for good

    @property
    def pending(self) -> bool:
        """Whether something is to be written."""
        return bool(self._buffer) or self._fd < 0

    def flush(self) -> None:
        """Write what was said."""
        if self._fd < 0:
            self._buffer.clear()
            if time.monotonic() >= self._retry:
                self._rewrite()
            return
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            try:
                written = os.write(self._fd, data)
            except OSError as error:
                self._failed(error)
                return
            self.size += written
            if written < len(data):
                # The rest would follow half a record: all is said anew instead.
                self._rewrite()
            elif self.size > self._limit:
                self._rewrite()

    def _rewrite(self) -> None:
        """Replace the file by one that says only what is so now."""
        data = b"".join(map(pack, self._records()))
        new = self.file.with_name(self.file.name + ".new")
        fd = -1
        try:
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            if self._group:
                shutil.chown(new, group=self._group)
            os.fchmod(fd, self._mode & 0o666)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            new.replace(self.file)
        except (OSError, LookupError) as error:
            if fd >= 0:
                os.close(fd)
                with suppress(OSError):
                    new.unlink(missing_ok=True)
            self._failed(error)
            return
        if self._retry:
            log.info("%s is written again", self.file)
        self._lose()
        self._fd = fd
        self._retry = 0.0
        self.size = len(data)
        self._limit = max(LEAST, GROWTH * len(data))

    def _failed(self, error: Exception) -> None:
        if not self._retry:
            log.error(
                "%s cannot be written (%s): if the hub is killed now, disconnects of connections "
                "since then are lost, and those told since then are told again; trying again "
                "every %.0f s",
                self.file,
                getattr(error, "strerror", None) or error,
                AGAIN,
            )
        self._lose()
        self._retry = time.monotonic() + AGAIN

    def _lose(self) -> None:
        self._buffer.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ------------------------------------------------ what the state says

    def _say(self, *record: Any) -> None:
        if not self._buffer:
            self._wake()
        self._buffer += pack(record)

    def registered(self, process: str, connection: str, channel: str, payload: bytes) -> None:
        self._say(journal.REGISTER, process, connection, channel, payload)
        if not process:
            # Its protocol's accept may leave in this very turn, and nobody is left to say what
            # was lost if this process is killed in between.
            self.flush()

    def ended(self, connection: str) -> None:
        self._say(journal.END, connection)

    def offered(
        self, tag: int, connection: str, channel: str | None, payload: bytes | None
    ) -> None:
        self._say(journal.OFFER, tag, connection, channel, payload)

    def settled(self, tag: int) -> None:
        self._say(journal.SETTLED, tag)

    def worker(self, process: str) -> None:
        self._say(journal.WORKER, process)

    def gone(self, process: str) -> None:
        self._say(journal.GONE, process)
