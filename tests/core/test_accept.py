"""Accepting at one's own socket, and at the spare of another process."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest

from gateway.core import accept
from gateway.core.accept import Acceptor
from gateway.core.listen import bind, parse


@pytest.mark.parametrize("spare", [False, True])
def test_who_waits_is_accepted(spare, monkeypatch):
    """At a spare what waits is accepted too, at the next look; nothing is after the close."""
    monkeypatch.setattr(accept, "SPARE", 0.001)

    async def run():
        loop = asyncio.get_running_loop()
        found = asyncio.Queue()
        sock = bind(parse("127.0.0.1:0"))
        place = sock.getsockname()
        with socket.create_connection(place):
            acceptor = Acceptor(
                sock, lambda one, _: found.put_nowait(one), SimpleNamespace(loop=loop), spare=spare
            )
            async with asyncio.timeout(5):
                (await found.get()).close()
                with socket.create_connection(place):
                    (await found.get()).close()
        acceptor.close()
        await asyncio.sleep(0.01)
        assert found.empty()

    asyncio.run(run())


def test_an_owner_that_accepts_comes_first():
    """A spare is looked at seldom: who owns the socket has taken what came."""

    async def run():
        loop = asyncio.get_running_loop()
        by = {"owner": 0, "other": 0}
        sock = bind(parse("127.0.0.1:0"))
        place = sock.getsockname()

        def taker(who):
            def take(one, _):
                one.close()
                by[who] += 1

            return take

        context = SimpleNamespace(loop=loop)
        other = Acceptor(sock.dup(), taker("other"), context, spare=True)
        owner = Acceptor(sock, taker("owner"), context)
        for _ in range(50):
            reader, writer = await asyncio.open_connection(*place)
            assert await reader.read() == b""
            writer.close()
        owner.close()
        other.close()
        assert by["owner"] > 40

    asyncio.run(run())
