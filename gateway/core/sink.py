r"""`Sink`: lines to a file, a pipe or a terminal, written by a thread so that nobody waits.

A full disk, a file server that hangs, a pipe that nobody reads: the event loop hands its
lines over and goes on. The thread takes what has come, writes it, and naps, so that a busy
process pays for some twenty wake-ups a second and not for one a line::

    loop     put put put      put put put put
    thread   ─── write ── nap ─────────────── write ── nap ──

Processes may share a file: it is opened to append, and each write is of whole lines.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from gateway.core.errors import ConfigError
from gateway.core.metrics import Counter

log = logging.getLogger("gateway.access")

STDOUT: Final = 1
ROOM: Final = 1024 * 1024
"""Bytes of lines that wait at most: some 6,000, seconds of a busy site's requests."""
NAP: Final = 0.05
"""Seconds between two writes: short for who watches the log, long beside what a write costs."""
ATOMIC: Final = 4096
"""Bytes that a pipe takes whole, whoever else writes to it (PIPE_BUF of Linux, pipe(7))."""
BATCH: Final = 256 * 1024
"""Bytes of one write to a file, which takes any number of them as one (O_APPEND)."""
PATIENCE: Final = 1.0
"""Seconds that the last lines get to be written at the end of the process."""
TELL: Final = 10.0
"""Seconds between two words on what was dropped: a log that fails must not fill the other."""
LF: Final = 10
ANEW: Final = b""
"""Stands among the lines where the file is to be opened anew."""


def open_file(path: str) -> int:
    """Open a file to append to, made with mode 0640 if it is not there. Raises OSError."""
    # O_NONBLOCK: a FIFO without a reader is an error and not a wait without end.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o640)
    os.set_blocking(descriptor, True)
    return descriptor


def check(path: str) -> None:
    """Raise ConfigError if a `Sink` could not be opened on ``path``; make nothing."""
    if path in {"", "-"}:
        return
    found = Path(path)
    if found.is_dir():
        raise _cannot_open(path, os.strerror(errno.EISDIR))
    if not found.exists():
        found = found.parent
        if not found.is_dir():
            raise _cannot_open(path, os.strerror(errno.ENOENT))
    if not os.access(found, os.W_OK):
        raise _cannot_open(path, os.strerror(errno.EACCES))


def _cannot_open(path: str, reason: str | None) -> ConfigError:
    return ConfigError(
        f"log.access: cannot open {path!r}: {reason}; name a file in a directory that this user "
        'may write to, "-" for standard output, or "" for no access log'
    )


class Sink:
    """Takes lines on the event loop; writes them on a thread of its own.

    ``path`` is a file's, or "-" for standard output. ``dropped`` counts the lines that were not
    written. Raises ConfigError if the file cannot be opened.
    """

    def __init__(self, path: str, dropped: Counter, nap: float = NAP) -> None:
        self._path = path
        self._dropped = dropped
        self._nap = nap
        try:
            self._descriptor = STDOUT if path == "-" else open_file(path)
            self._most = _most(self._descriptor)
        except OSError as error:
            raise _cannot_open(path, error.strerror) from None
        # A deque and two sums, of which each side changes one: neither waits for the other.
        self._lines: deque[bytes] = deque()
        self._given = 0
        self._taken = 0
        self._asleep = False
        self._wake = threading.Event()
        self._over = threading.Event()
        self._torn = False
        """Whether what was written last lacks its end."""
        self._lock = threading.Lock()
        """Around what is counted on both threads."""
        self._lost = 0
        """Lines dropped since that was told."""
        self._troubled = False
        self._told = -TELL
        self._thread = threading.Thread(target=self._run, name="gateway-access", daemon=True)
        self._thread.start()

    # ------------------------------------------------ on the event loop

    def put(self, line: bytes) -> None:
        """Take a line with its LF; drop it, counted, where too much waits already."""
        size = len(line)
        if self._given - self._taken + size > ROOM:
            self._lose(1)
            return
        self._given += size
        self._lines.append(line)
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def reopen(self) -> None:
        """Have what comes from now on written to the file of that name, however old it is."""
        if self._path != "-":
            self._lines.append(ANEW)
            self._wake.set()

    def close(self, patience: float = PATIENCE) -> None:
        """Write what waits, within ``patience`` seconds, and end. Blocks. Idempotent."""
        if self._over.is_set():
            return
        self._over.set()
        self._wake.set()
        self._thread.join(patience)
        if self._thread.is_alive():
            # It hangs in a write, and ends with the process.
            self._lose(len(self._lines))
        if self._lost:
            log.warning("%s ends; %d lines were dropped", self, self._lost)

    def __str__(self) -> str:
        """Return what people call it."""
        return f"the access log ({'standard output' if self._path == '-' else self._path})"

    # ------------------------------------------------ on the thread

    def _run(self) -> None:
        while True:
            self._asleep = True
            # Looked at after that: whoever puts a line now is seen here, or wakes us.
            if not (self._lines or self._over.is_set()):
                self._wake.wait()
            self._wake.clear()
            self._asleep = False
            while self._lines:
                if self._lines[0] is ANEW:
                    self._lines.popleft()
                    self._open_anew()
                else:
                    self._write(*self._take())
            if self._over.is_set():
                break
            self._over.wait(self._nap)
        if self._descriptor != STDOUT:
            os.close(self._descriptor)

    def _open_anew(self) -> None:
        try:
            descriptor = open_file(self._path)
        except OSError as error:
            log.error("%s cannot be opened anew and goes on as it was: %s", self, error.strerror)  # noqa: TRY400 - the reason is all there is to tell
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._most = _most(descriptor)
        self._torn = False

    def _take(self) -> tuple[bytes, int]:
        """Take lines for one write, at least one; return them and their number."""
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines:
            line = self._lines[0]
            if line is ANEW or size + len(line) > self._most:
                break
            self._lines.popleft()
            lines.append(line)
            size += len(line)
        self._taken += size
        return b"".join(lines), len(lines)

    def _write(self, data: bytes, count: int) -> None:
        """Write lines; drop, counted, what the file does not take."""
        start = 0
        if self._torn:
            data, start = b"\n" + data, 1
        view = memoryview(data)
        written = 0
        try:
            while written < len(data):
                written += self._write_some(view[written:])
        except OSError as error:
            if written:
                self._torn = data[written - 1] != LF
            self._lose(count - data.count(b"\n", start, written))
            if not self._troubled:
                self._troubled = True
                self._told = time.monotonic()
                log.error("%s takes no lines, they are dropped: %s", self, error.strerror)  # noqa: TRY400 - as above
            return
        self._torn = False
        if (self._lost or self._troubled) and not self._lines:
            self._recover()

    def _write_some(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # somebody else made standard output so
                select.select((), (self._descriptor,), ())

    def _recover(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL:
            self._told = now
            self._troubled = False
            with self._lock:
                lost, self._lost = self._lost, 0
            log.warning("%s takes lines again; %d were dropped", self, lost)

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count
            self._dropped.value += count


def _most(descriptor: int) -> int:
    """Return how many bytes go into one write."""
    return BATCH if stat.S_ISREG(os.fstat(descriptor).st_mode) else ATOMIC
