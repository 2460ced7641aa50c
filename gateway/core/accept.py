"""One bound socket, accepting: bounded in a turn of the loop, patient where files run out."""

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
    ) -> None:
        self.socket = sock
        self._accepted = accepted
        self._context = context
        self._again: asyncio.TimerHandle | None = None
        context.loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more. The socket of who bound it stays."""
        if self._again is not None:
            self._again.cancel()
        self._context.loop.remove_reader(self.socket.fileno())
        self.socket.close()

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
        loop = self._context.loop
        loop.remove_reader(self.socket.fileno())
        self._again = loop.call_later(NO_FILES, loop.add_reader, self.socket.fileno(), self._accept)
