"""A client of a datagram plugin in a `gateway.testing.rig.Rig`: real sockets, virtual time.

What is sent on loopback is there at once, so that the loop need not wait for it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import unittest
from typing import TYPE_CHECKING, Final

from gateway.core.datagram import DatagramPlugin

if TYPE_CHECKING:
    from gateway.testing.virtual import VirtualLoop

LARGEST: Final = 65_535
"""Bytes of any datagram."""


class DatagramDoor:
    """A socket at which the plugin takes datagrams, and its clients."""

    def __init__(self, plugin: DatagramPlugin, loop: VirtualLoop) -> None:
        self._plugin = plugin
        self._loop = loop
        self._clients: list[DatagramClient] = []
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        loop.call(plugin.receive_at, self._socket)

    def client(self) -> DatagramClient:
        """Return a new client."""
        client = DatagramClient(self._plugin, self._loop, self._socket.getsockname())
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close all sockets."""
        for client in self._clients:
            client.cut()
        self._socket.close()


class DatagramClient:
    """A client with an address of its own."""

    def __init__(self, plugin: DatagramPlugin, loop: VirtualLoop, server: tuple[str, int]) -> None:
        self._plugin = plugin
        self._loop = loop
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.connect(server)
        self._socket.setblocking(False)
        self._address = self._socket.getsockname()
        self._came = b""

    def send(self, data: bytes) -> None:
        """Send a datagram; one that no datagram carries goes nowhere."""
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
        self._loop.run()

    def take(self) -> bytes:
        """Return all that came since the last time, datagram after datagram."""
        self._receive()
        came, self._came = self._came, b""
        return came

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._socket.fileno() >= 0:
                self._came += self._socket.recv(LARGEST)

    def leave(self) -> None:
        """Say nothing more: nobody is told of it."""
        self.cut()

    def cut(self) -> None:
        """Vanish."""
        self._receive()
        self._socket.close()

    def hold(self, room: int) -> None:
        """Raise SkipTest: a datagram that is not read is lost, and its sender never knows."""
        raise unittest.SkipTest("datagrams: nobody knows of a client that does not read")

    def release(self) -> None:
        """Do nothing: it was never held."""

    @property
    def held(self) -> int:
        """How many bytes wait for it to read on: none that are known of."""
        return 0

    @property
    def ended(self) -> bool:
        """Whether the plugin knows it no more."""
        return not self._loop.call(self._plugin.knows, self._address)
