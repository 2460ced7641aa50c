"""How ``gateway reload`` reaches the supervisor: a Unix socket beside the hub's.

::

    client ── reload ↵ ──────────────► supervisor
           ◄── {"done":…,"text":…} ↵ ─   once the workers are replaced, or cannot be

Whoever may connect may restart workers, and nothing else: the socket is its user's alone (0600).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.listen import Listen, bind, remove_stale
from gateway.core.rolling import Answer, Result

log = logging.getLogger("gateway.supervisor")

RELOAD: Final = b"reload\n"
SUFFIX: Final = ".ctl"
"""What the path of this socket adds to the hub's."""


class Control:
    """The supervisor's end. ``roll(answer)`` begins, and answers once."""

    def __init__(
        self, path: str, selector: selectors.BaseSelector, roll: Callable[[Answer], None]
    ) -> None:
        self._path = path
        self._selector = selector
        self._roll = roll
        self._socket: socket.socket | None = None
        self._clients: set[socket.socket] = set()

    def open(self) -> None:
        """Listen. Where that fails only ``gateway reload`` is missing: it is told, not raised."""
        try:
            if not remove_stale(self._path):
                raise ConfigError(f"{self._path} is another supervisor's")
            self._socket = bind(
                Listen(kind="unix", text=self._path, setting="layer.url", path=self._path)
            )
        except ConfigError as error:
            log.warning("'gateway reload' will not work, SIGHUP does: %s", error)
            return
        self._socket.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            client, _ = self._socket.accept()
            client.setblocking(False)
            self._clients.add(client)
            self._selector.register(client, selectors.EVENT_READ, lambda: self._hear(client))

    def _hear(self, client: socket.socket) -> None:
        if client not in self._clients:
            return  # answered in this very turn, after its event was selected
        said = b""
        with contextlib.suppress(OSError):
            said = client.recv(64)
        if said == RELOAD:
            self._roll(lambda result: self._answer(client, result))
        elif said:
            self._answer(client, Result(done=False, text=f"there is no command {said!r}"))
        else:
            self._leave(client)

    def _answer(self, client: socket.socket, result: Result) -> None:
        if client in self._clients:
            with contextlib.suppress(OSError):
                client.send(msgspec.json.encode(result._asdict()) + b"\n")
            self._leave(client)

    def _leave(self, client: socket.socket) -> None:
        self._clients.discard(client)
        self._selector.unregister(client)
        client.close()

    def close(self) -> None:
        """Listen no more, and let the clients go. Idempotent."""
        for client in list(self._clients):
            self._leave(client)
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
            Path(self._path).unlink(missing_ok=True)


def reload(path: str) -> Result | None:
    """Ask the supervisor at ``path`` to reload, and wait until it has; None if none listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
            sock.sendall(RELOAD)
            with sock.makefile("rb") as file:
                said = file.readline()
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            return Result(done=False, text=f"the supervisor at {path}: {error.strerror}")
    if not said:
        return Result(done=False, text="the supervisor ended before the workers were replaced")
    return Result(**msgspec.json.decode(said, type=dict[str, bool | str]))  # type: ignore[arg-type]
