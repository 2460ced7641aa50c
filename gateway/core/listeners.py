"""The listening sockets of one process, by plugin; and the hub's."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.config import LayerSettings
from gateway.core.errors import ConfigError
from gateway.core.listen import Listen, bind, bind_several, place, remove_stale
from gateway.core.project import private_directory
from gateway.core.systemd import Passed

ADDRESSES: Final = ("tcp", "udp")
"""Kinds of endpoints of which each process has a socket of its own."""


class Listeners:
    """The endpoints of each plugin and the sockets that they became.

    Sockets are bound before any plugin starts, so that a failure is known early, and so that
    who restarts a process keeps them. A plugin's `gateway.core.listen.bind` duplicates them.

    For ``processes`` that share the endpoints each has a socket of its own at an address, and
    those of the others as spares; any other socket is one for all.
    """

    def __init__(self, endpoints: Mapping[str, Sequence[Listen]], processes: int = 1) -> None:
        self._endpoints = endpoints
        self._processes = processes
        self._sockets: dict[str, list[list[socket.socket]]] = {}
        """By plugin and endpoint: systemd may pass several for one, Twisted's have none, and of an
        address's the first is this process's own."""
        self._paths: list[str] = []

    def bind(self) -> None:
        """Bind everything, or raise ConfigError and leave nothing bound."""
        passed = Passed()
        inherited = set()
        try:
            for name, endpoints in self._endpoints.items():
                bound = self._sockets[name] = []
                for endpoint in endpoints:
                    group: list[socket.socket] = []
                    bound.append(group)
                    if endpoint.kind in {"fd", "systemd"}:
                        given = passed.take(endpoint) if endpoint.fd < 0 else [endpoint.fd]
                        inherited.update(given)
                        for fd in given:
                            group.append(bind(msgspec.structs.replace(endpoint, fd=fd)))
                            os.close(fd)  # `bind` made its own; nobody else will close it
                    elif endpoint.kind in ADDRESSES and self._processes > 1:
                        group.extend(bind_several(endpoint, self._processes))
                    elif endpoint.kind != "twisted":
                        group.append(bind(endpoint))
                        if endpoint.kind == "unix":
                            self._paths.append(endpoint.path)
        except ConfigError:
            self.close()
            raise
        passed.leave(inherited)

    def adopt(self, descriptors: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Take over what another process bound for the same endpoints."""
        for name, groups in descriptors.items():
            self._sockets[name] = [
                [socket.socket(fileno=number) for number in numbers] for numbers in groups
            ]

    def descriptors(self, number: int = 0) -> dict[str, list[list[int]]]:
        """Return the numbers of the sockets of each plugin's endpoints, in their order.

        Of several at one address that of process ``number``, from 0, comes first.
        """
        found: dict[str, list[list[int]]] = {}
        for name, groups in self._sockets.items():
            found[name] = []
            for endpoint, group in zip(self._endpoints[name], groups, strict=False):
                numbers = [sock.fileno() for sock in group]
                if endpoint.kind in ADDRESSES:
                    numbers = numbers[number:] + numbers[:number]
                found[name].append(numbers)
        return found

    def endpoints(self, name: str) -> list[Listen]:
        """Return a plugin's endpoints with their descriptors, one for each socket."""
        return [
            endpoint
            if sock is None
            else msgspec.structs.replace(endpoint, fd=sock.fileno(), spare=spare)
            for endpoint, sock, spare in self._each(name)
        ]

    def places(self, name: str) -> list[str]:
        """Return where a plugin listens, as one would write it; the port is the true one."""
        return [
            endpoint.text if sock is None else ("tls:" if endpoint.tls else "") + place(sock)
            for endpoint, sock, spare in self._each(name)
            if not spare
        ]

    def _each(self, name: str) -> Iterator[tuple[Listen, socket.socket | None, bool]]:
        """Iterate over endpoints, their sockets, and whether each is another process's."""
        for endpoint, group in zip(self._endpoints[name], self._sockets[name], strict=True):
            members: Sequence[socket.socket | None] = group or [None]
            for index, sock in enumerate(members):
                yield endpoint, sock, endpoint.kind in ADDRESSES and index > 0

    def close(self) -> None:
        """Close our sockets and remove the files of those that we bound. Idempotent."""
        for groups in self._sockets.values():
            for sock in chain.from_iterable(groups):
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
