"""One bound socket, accepting: bounded in a turn of the loop, patient where files run out.

The socket of another process of the same address is a spare: its own process accepts there at
once, so that what still waits there after a while waits for one that was killed or is stuck.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from gateway.core.plugin import Context

ACCEPTS: Final = 64
"""Connections accepted in one turn of the loop, so that those that are served get theirs."""
NO_FILES: Final = 1.0
"""Seconds to wait before accepting again when the process has no descriptors left."""
SPARE: Final = 0.05
"""Seconds between two looks at a spare: long for a turn of a loop, and what a look costs is one
system call; short for who waits."""

_FULL: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Acceptor:
    """Accepts at one bound socket and hands over what it accepted, non-blocking.

    ``accepted`` is called with the socket, which is its own from then on, and with the peer's
    address as `socket.accept` gives it. It must not raise.
    """

    def __init__(
        self,
        sock: socket.socket,
        accepted: Callable[[socket.socket, Any], None],
        context: Context,
        *,
        spare: bool = False,
    ) -> None:
        self.socket = sock
        self._accepted = accepted
        self._context = context
        self._spare = spare
        self._again: asyncio.TimerHandle | None = None
        self._begin()

    def _begin(self) -> None:
        """Accept from now on."""
        self._again = None
        if self._spare:
            self._again = self._context.loop.call_later(SPARE, self._look)
        else:
            self._context.loop.add_reader(self.socket.fileno(), self._accept)

    def _look(self) -> None:
        self._begin()
        self._accept()

    def close(self) -> None:
        """Accept no more. The socket of who bound it stays."""
        self._pause()
        self.socket.close()

    def _pause(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if not self._spare:
            self._context.loop.remove_reader(self.socket.fileno())

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, address = self.socket.accept()
            except OSError as error:
                if error.errno in _FULL:
                    self._wait(error)
                return
            accepted.setblocking(False)
            self._accepted(accepted, address)

    def _wait(self, error: OSError) -> None:
        self._context.log.error("cannot accept connections: %s", error.strerror)
        self._pause()
        self._again = self._context.loop.call_later(NO_FILES, self._begin)
