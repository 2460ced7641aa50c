"""The listening sockets of one process, by plugin; and the hub's."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from gateway.core.config import LayerSettings
from gateway.core.errors import ConfigError
from gateway.core.listen import Listen, bind, place, remove_stale
from gateway.core.project import private_directory


class Listeners:
    """The endpoints of each plugin and the sockets that they became.

    Sockets are bound before any plugin starts, so that a failure is known early, and so that
    who restarts a process keeps them. A plugin's `gateway.core.listen.bind` duplicates them.
    """

    def __init__(self, endpoints: Mapping[str, Sequence[Listen]]) -> None:
        self._endpoints = endpoints
        self._sockets: dict[str, list[socket.socket | None]] = {}
        self._paths: list[str] = []

    def bind(self) -> None:
        """Bind everything, or raise ConfigError and leave nothing bound."""
        try:
            for name, endpoints in self._endpoints.items():
                bound = self._sockets[name] = []
                for endpoint in endpoints:
                    bound.append(None if endpoint.kind == "twisted" else bind(endpoint))
                    if endpoint.kind == "unix":
                        self._paths.append(endpoint.path)
                    elif endpoint.kind == "fd":
                        os.close(endpoint.fd)  # `bind` made its own; nobody else will close it
        except ConfigError:
            self.close()
            raise

    def adopt(self, descriptors: Mapping[str, Sequence[int]]) -> None:
        """Take over what another process bound for the same endpoints."""
        for name, numbers in descriptors.items():
            self._sockets[name] = [
                None if number < 0 else socket.socket(fileno=number) for number in numbers
            ]

    def descriptors(self) -> dict[str, list[int]]:
        """Return the numbers of the sockets; -1 for what has none."""
        return {
            name: [-1 if sock is None else sock.fileno() for sock in sockets]
            for name, sockets in self._sockets.items()
        }

    def endpoints(self, name: str) -> list[Listen]:
        """Return a plugin's endpoints, with their descriptors."""
        return [
            endpoint if sock is None else msgspec.structs.replace(endpoint, fd=sock.fileno())
            for endpoint, sock in zip(self._endpoints[name], self._sockets[name], strict=True)
        ]

    def places(self, name: str) -> list[str]:
        """Return where a plugin listens, as one would write it; the port is the true one."""
        return [
            endpoint.text if sock is None else place(sock)
            for endpoint, sock in zip(self._endpoints[name], self._sockets[name], strict=True)
        ]

    def close(self) -> None:
        """Close our sockets and remove the files of those that we bound. Idempotent."""
        for sockets in self._sockets.values():
            for sock in sockets:
                if sock is not None:
                    sock.close()
        for path in self._paths:
            Path(path).unlink(missing_ok=True)
        self._sockets = {name: [] for name in self._sockets}
        self._paths = []


def bind_hub(settings: LayerSettings, url: str) -> socket.socket:
    """Return the listening socket of the hub at ``url`` (unix:///path).

    Raises ConfigError if a hub answers there already, or the path cannot be used.
    """
    path = url.partition("://")[2]
    if not path.startswith("/"):
        raise ConfigError(f"layer.url: {url!r}: a hub's socket is an absolute path, unix:///path")
    if not settings.url.startswith("unix:"):
        private_directory(Path(path).parent)
    if not remove_stale(path):
        raise ConfigError(
            f"layer.url: {url!r}: another gateway or hub serves it, or it is no socket; join it "
            "with --workers none, stop it, or set another layer.url"
        )
    mode = int(settings.socket_mode, 8)
    sock = bind(Listen(kind="unix", text=url, setting="layer.url", path=path, mode=mode))
    group = settings.socket_group
    if group:
        try:
            shutil.chown(path, group=group)
        except (LookupError, OSError) as error:
            sock.close()
            remove_stale(path)
            raise ConfigError(f"layer.socket_group: {group!r}: {error}") from None
    return sock
