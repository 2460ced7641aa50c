"""Listening sockets that systemd, or who does as it does, passes: sd_listen_fds(3).

::

    LISTEN_PID=4711            the process that they are for
    LISTEN_FDS=3               how many there are: descriptors 3, 4 and 5
    LISTEN_FDNAMES=web:web:api what they are called (FileDescriptorName= in a .socket unit)
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Container, MutableMapping
from typing import Final

from gateway.core.listen import Listen

log = logging.getLogger("gateway.systemd")

FIRST: Final = 3
"""The first descriptor (SD_LISTEN_FDS_START)."""
MOST: Final = 1024
"""Sockets that one process is passed at most: a mistyped number must not close descriptors."""


class Passed:
    """What was passed to this process. Each socket is taken once.

    The variables are taken out of ``environ``: they mean this process, not those it starts.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        process = environ.pop("LISTEN_PID", None)
        count = environ.pop("LISTEN_FDS", None)
        names = environ.pop("LISTEN_FDNAMES", None)
        self._names: dict[int, str] = {}
        """What was passed, by descriptor."""
        self._left: set[int] = set()
        self._missing = ""
        """Why nothing was."""
        if process is None or count is None:
            self._missing = (
                "systemd passed no sockets (LISTEN_FDS is not set); start the gateway by its "
                ".socket unit, or name an address"
            )
        elif process != str(os.getpid()):
            self._missing = (
                f"the sockets were passed to process {process}, and this is {os.getpid()}; a "
                "script between systemd and the gateway ends with 'exec gateway run'"
            )
        elif not count.isdecimal() or not 1 <= int(count) <= MOST:
            self._missing = f"LISTEN_FDS is {count!r}, which is no number of sockets"
        else:
            found = range(FIRST, FIRST + int(count))
            words = [""] * len(found) if names is None else names.split(":")
            if len(words) == len(found):
                self._names = dict(zip(found, words, strict=True))
                self._left = set(found)
                for fd in found:
                    with contextlib.suppress(OSError):  # not open: `take`'s caller finds that
                        os.set_inheritable(fd, False)
            else:
                self._missing = f"LISTEN_FDNAMES has {len(words)} names for {count} sockets"

    def take(self, listen: Listen) -> list[int]:
        """Return the descriptors that an endpoint means: by number, by name, or all of them.

        Raises ConfigError that names the setting where there is none, or another endpoint has
        taken it.
        """
        if self._missing:
            raise listen.error(self._missing)
        word = listen.name
        if not word:
            found = list(self._names)
        elif word.isdecimal():
            found = [fd for fd in self._names if fd == FIRST + int(word)]
        else:
            found = [fd for fd, name in self._names.items() if name == word]
        if not found:
            raise listen.error(f"no such socket was passed; there are {self._told(self._names)}")
        taken = [fd for fd in found if fd not in self._left]
        if taken:
            raise listen.error(f"{self._told(taken)} is taken by another endpoint")
        self._left.difference_update(found)
        return found

    def leave(self, own: set[int]) -> None:
        """Say which sockets no endpoint took, ``own`` aside: their clients would wait in vain."""
        left = sorted(self._left - own)
        if left:
            log.warning(
                "systemd passed sockets that no 'listen' setting names: %s; the first is "
                "'systemd:%d'",
                self._told(left),
                left[0] - FIRST,
            )

    def _told(self, descriptors: Container[int]) -> str:
        return ", ".join(
            f"{fd - FIRST} ({name})" if name else str(fd - FIRST)
            for fd, name in self._names.items()
            if fd in descriptors
        )
