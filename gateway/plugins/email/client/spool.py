"""`Spool`: the directory where mail waits. Everything here blocks: never on the loop.

::

    DIRECTORY/            0700
      tmp/                what is being written
      queue/ID.eml        a mail
      queue/ID.json       its envelope (`gateway.plugins.email.client.envelope`)
      corrupt/            what could not be read, set aside for somebody to look at
      deliverer           locked by the process that delivers

A mail is there once its envelope is in ``queue``. Both are written below ``tmp``, flushed to the
disk (fsync), renamed, first the mail, then the envelope, and the directory is flushed: only then
`Draft.commit` returns. Whoever works on a mail holds the lock (flock) of its ``.eml``, which the
system takes back from a process that dies.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.core.errors import ConfigError
from gateway.plugins.email.client.envelope import ID, Entry, packed, unpacked

log = logging.getLogger("gateway.plugins.email")

BLOCK: Final = 256 * 1024
"""Octets read at once: what a connection's buffers take."""
FRESH: Final = 5.0
"""Seconds for which it is believed how full the spool is, beside what this process did to it."""
FOR_GOOD: Final = frozenset((errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP))
"""What will not go by itself: what stands there is none of ours."""
STALE: Final = 60.0
"""Seconds after which what is below ``tmp``, and not locked, is nobody's: a file is locked, and an
envelope renamed, within milliseconds of its beginning."""
ENVELOPE: Final = 16 << 20
"""Octets of an envelope: far above one of 1000 recipients; more is no envelope."""


class Spool:
    """The spool in a directory, made with the first mail. Raises ConfigError if it cannot be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queue = directory / "queue"
        self._tmp = directory / "tmp"
        self._corrupt = directory / "corrupt"
        self._counted = 0.0
        self._messages = 0
        self._bytes = 0
        self._made = False
        self._hindrance = ""
        """Why nobody could begin to deliver."""
        if directory.exists():
            self._check()
        else:
            self._check_parent()

    def _check(self) -> None:
        directory = self.directory
        info = directory.lstat()
        if not stat.S_ISDIR(info.st_mode) or not os.access(directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"email.spool: {directory} is no directory that this user may write to; name "
                "another one"
            )
        if info.st_mode & 0o077:
            raise ConfigError(
                f"email.spool: {directory} is open to others, and mail is private: run "
                f"chmod 700 {directory}, or name another directory"
            )

    def _check_parent(self) -> None:
        parent = next(one for one in self.directory.parents if one.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigError(
                f"email.spool: {self.directory} cannot be made: this user may not write to "
                f"{parent}; name a directory elsewhere"
            )

    @property
    def is_there(self) -> bool:
        """Whether the directory was made: it is, with the first mail."""
        return self._made or self.queue.is_dir()

    def make(self) -> None:
        """Make the directory where it is missing. Raises OSError."""
        if not self._made:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            for one in (self.directory, self._tmp, self._corrupt, self.queue):
                one.mkdir(mode=0o700, exist_ok=True)
            self._made = True

    # ------------------------------------------------ in

    def draft(self, name: str) -> Draft:
        """Begin a mail. Raises OSError."""
        self.make()
        return Draft(self, name, self._tmp / f"{name}.eml")

    def knows(self, name: str) -> bool:
        """Whether there is a mail."""
        return ID.fullmatch(name) is not None and (self.queue / f"{name}.json").exists()

    def usage(self) -> tuple[int, int]:
        """Return how many mails are there, and their bytes; looked at every few seconds."""
        now = time.monotonic()
        if not self._counted or now - self._counted > FRESH:
            messages = size = 0
            for one in self._files(".eml"):
                with suppress(FileNotFoundError):
                    size += one.stat().st_size
                    messages += 1
            self._messages, self._bytes, self._counted = messages, size, now
        return self._messages, self._bytes

    @property
    def messages(self) -> int:
        """How many mails were there when it was last counted, and are by what was done since."""
        return max(0, self._messages)

    @property
    def octets(self) -> int:
        """Their bytes."""
        return max(0, self._bytes)

    def grown(self, messages: int, size: int) -> None:
        """Note that this process has added mails, or removed them."""
        self._messages += messages
        self._bytes += size

    # ------------------------------------------------ what is there

    def changed(self) -> int:
        """Return a number that is another one once a mail has come, gone or changed."""
        return self.queue.stat().st_mtime_ns

    def names(self) -> set[str]:
        """Return the ids of the mails that are there."""
        return {one.name[:-5] for one in self._files(".json")}

    def _files(self, suffix: str) -> Iterator[os.DirEntry[str]]:
        if not self.is_there:
            return
        with os.scandir(self.queue) as found:
            for one in found:
                if one.name.endswith(suffix) and ID.fullmatch(one.name[: -len(suffix)]):
                    yield one

    def stamp(self, name: str) -> int | None:
        """Return a number that is another one once an envelope was replaced; None: it is gone."""
        try:
            info = (self.queue / f"{name}.json").stat()
        except FileNotFoundError:
            return None
        return info.st_mtime_ns ^ (info.st_ino << 1)

    def read(self, name: str) -> Entry | None:
        """Return an envelope; None where there is none, or none that can be read.

        What is damaged is set aside, and told. Raises OSError where the system cannot just now:
        there are too many open files, no memory.
        """
        if ID.fullmatch(name) is None:
            return None
        path = self.queue / f"{name}.json"
        try:
            with path.open("rb") as file:
                entry = unpacked(file.read(ENVELOPE), name)
            if not (self.queue / f"{name}.eml").exists():
                raise ValueError("there is no mail beside it")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in FOR_GOOD:
                raise
            if not self.knows(name):
                return None  # it was removed meanwhile
            log.error("the spooled mail %s cannot be read and is set aside: %s", name, error)  # noqa: TRY400 - the reason is all there is to tell
            self._set_aside(name)
            return None
        return entry

    def _set_aside(self, name: str) -> None:
        for suffix in (".json", ".eml"):
            with suppress(FileNotFoundError):
                (self.queue / f"{name}{suffix}").rename(self._corrupt / f"{name}{suffix}")
        flush(self.queue)

    def claim(self, name: str) -> Claim | None:
        """Have a mail alone until `Claim.close`; None: somebody else works on it, or it is gone."""
        if ID.fullmatch(name) is None:
            return None
        try:
            descriptor = os.open(self.queue / f"{name}.eml", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        entry = None
        try:
            # What stands in the envelope counts as it is now: somebody else may have had it.
            entry = self.read(name) if locked(descriptor) else None
            if entry is not None and os.fstat(descriptor).st_size != entry.size:
                log.error("the spooled mail %s is cut off and is set aside", name)
                self._set_aside(name)
                entry = None
        finally:
            if entry is None:
                os.close(descriptor)
        return None if entry is None else Claim(entry, descriptor)

    def update(self, name: str, envelope: bytes) -> int | None:
        """Replace an envelope, on the disk when it returns; return its stamp.

        Only by who has claimed the mail. ``envelope`` is an entry, `packed`.
        """
        path = self._tmp / f"{name}.{os.getpid()}.json"
        write(path, envelope)
        path.rename(self.queue / f"{name}.json")
        flush(self.queue)
        return self.stamp(name)

    def remove(self, entry: Entry) -> None:
        """Remove a mail, of which all is done. Only by who has claimed it."""
        # The envelope first: a mail without one is none, and is cleared away.
        with suppress(FileNotFoundError):
            (self.queue / f"{entry.id}.json").unlink()
            self.grown(-1, -entry.size)
        with suppress(FileNotFoundError):
            (self.queue / f"{entry.id}.eml").unlink()
        flush(self.queue)

    def clear(self) -> None:
        """Remove what processes left that died while they wrote. Only by the deliverer."""
        names = self.names()
        for one in list(self._files(".eml")):
            if one.name[:-4] not in names:
                self._clear(Path(one.path), Path(one.path).with_suffix(".json"))
        for path in self._tmp.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime < STALE:
                    continue
                if path.suffix == ".eml":
                    self._clear(path, None)
                else:
                    path.unlink()

    def _clear(self, path: Path, envelope: Path | None) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            # Its writer holds the lock until the envelope is there.
            if locked(descriptor) and not (envelope is not None and envelope.exists()):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def deliverer(self) -> int | None:
        """Become the one process that delivers; return what holds that.

        None: another one does, there is nothing to deliver yet, or it cannot be just now, which
        is told. Does not block.
        """
        if not self.is_there:
            return None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self.directory / "deliverer", flags, 0o600)
        except OSError as error:
            if self._hindrance != str(error):
                log.error("nothing is delivered from the spool: %s", error)  # noqa: TRY400 - as above
                self._hindrance = str(error)
            return None
        if not locked(descriptor):
            os.close(descriptor)
            return None
        with suppress(OSError):  # the number is for people: a full disk need not take it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        return descriptor

    def is_delivered(self) -> bool:
        """Whether a process delivers from here."""
        try:
            descriptor = os.open(self.directory / "deliverer", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not locked(descriptor)
        finally:
            os.close(descriptor)


class Claim:
    """A mail that this process works on alone."""

    def __init__(self, entry: Entry, descriptor: int) -> None:
        self.entry = entry
        self.descriptor = descriptor
        """Its content's, to read from."""

    def close(self) -> None:
        """Let others have it."""
        os.close(self.descriptor)


class Draft:
    """A mail that is being written. Whoever began it calls ``commit``, or ``discard``."""

    def __init__(self, spool: Spool, name: str, path: Path) -> None:
        self.name = name
        self._spool = spool
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            # Of the same id: one that died while it wrote. (One that lives holds its lock.)
            spool._clear(path, None)  # noqa: SLF001 - the two are one
            self._descriptor = os.open(path, flags, 0o600)
        locked(self._descriptor)

    def write(self, data: bytes) -> None:
        """Write more of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self, entry: Entry) -> None:
        """Have it in the queue, and on the disk: when this returns no crash loses it."""
        spool = self._spool
        envelope = self._path.with_suffix(".json")
        os.fsync(self._descriptor)
        write(envelope, packed(entry))
        self._path.rename(spool.queue / self._path.name)
        envelope.rename(spool.queue / envelope.name)
        flush(spool.queue)
        os.close(self._descriptor)
        self._descriptor = -1
        spool.grown(1, entry.size)

    def discard(self) -> None:
        """Have it not, if it is not in the queue. Idempotent."""
        if self._descriptor < 0:
            return
        # The envelope first, as in `Spool.remove`: it may be there, where the last flush failed.
        for name in (self._path.with_suffix(".json").name, self._path.name):
            for directory in (self._path.parent, self._spool.queue):
                (directory / name).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def read_head(descriptor: int, most: int) -> bytes:
    """Return the header of a mail, or ``most`` octets of it."""
    data = os.pread(descriptor, most, 0)
    end = data.find(b"\r\n\r\n")
    if end < 0:
        end = max(data.rfind(b"\r\n"), 0)
    return data[: end + 2]


def locked(descriptor: int) -> bool:
    """Lock a file for as long as it is open; False: somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write(path: Path, data: bytes) -> None:
    """Write a file of our own, on the disk when it returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(directory: Path) -> None:
    """Have what was renamed and removed in a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
