"""Whether the other end of a connection is still there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time

import pytest

from gateway.core.heard import unheard
from tests.deaf import deafen
from tests.plugins.websocket.serving import on_loop, wait_until

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel is not Linux's")


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


@needs_linux
@on_loop
async def test_unheard() -> None:
    """Of a peer that acknowledges nothing more it is told for how long nothing was heard."""
    client, served = pair()
    with client, served:
        served.send(b"heard")
        await wait_until(lambda: unheard(served) == 0.0)
        deafen(client)
        served.send(b"unheard")
        assert unheard(served) < 0.3
        await wait_until(lambda: unheard(served) > 0.3)


@needs_linux
@on_loop
async def test_silent() -> None:
    """A peer that owes nothing is not missed, however long it is silent; nor one that reads not."""
    client, served = pair()
    with client, served:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        served.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while served.send(b"x" * 65_536):
                pass
        began = time.monotonic()
        longest = 0.0
        while time.monotonic() < began + 1.0:
            longest = max(longest, unheard(served))
            await asyncio.sleep(0.01)
        assert longest < 0.5  # what fills its buffer is acknowledged, and then nothing is owed


def test_none() -> None:
    """Nothing is known of what is no TCP connection, or closed."""
    one, other = socket.socketpair()
    with one, other:
        one.send(b"unread")
        assert unheard(one) == 0.0
    client, served = pair()
    client.close()
    served.close()
    assert unheard(served) == 0.0
    assert unheard(None) == 0.0
