"""WebSockets over TLS (wss), on both loops."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
import websockets
from websockets.asyncio.client import connect

from gateway.core.config import GatewaySettings
from tests.certificates import Authority
from tests.plugins.websocket.serving import ECHO, Serving, accept, wait_until

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a loop of uvloop's, and on one of asyncio's."""

    @pytest.mark.parametrize("loop", LOOPS)
    @functools.wraps(test)
    def run(authority: Authority, loop: str) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(authority))

    del run.__wrapped__  # its arguments are not the fixtures
    return run


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serving(authority: Authority, consumers: dict[str, Any], **more: Any) -> Serving:
    tls = authority.tls(**more.pop("table", {}))
    consumers = {"websocket.disconnect": accept} | consumers
    return Serving(consumers, tls=tls, trust=authority.client(), **more)


@on_both_loops
async def test_the_client_closes(authority: Authority) -> None:
    """Messages of any size go both ways; the client's closing handshake is clean."""
    async with serving(authority, ECHO) as gateway:
        async with connect(gateway.url, ssl=gateway.trust, proxy=None) as peer:
            for message in ("h\u00e4llo", b"\x00\x01", "", "x" * 100_000, b"y" * 900_000):
                await peer.send(message)
                assert await peer.recv() == message
            await (await peer.ping(b"there?"))
            await peer.close(4321, "bye")
        assert peer.close_code == 4321
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (4321, "bye")
        assert gateway.messages("connect")[0]["scheme"] == "wss"
        await wait_until(lambda: gateway.http._port.places.open == 0)


@on_both_loops
async def test_the_server_closes(authority: Authority) -> None:
    """The client hears our last message, our code and words, and finds the close clean."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"text": "last", "close": 4000, "reason": "enough"}]

    consumers = {"websocket.connect": accept, "websocket.receive": receive}
    async with serving(authority, consumers) as gateway:
        async with connect(gateway.url, ssl=gateway.trust, proxy=None) as peer:
            await peer.send("x")
            assert await peer.recv() == "last"
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await peer.recv()
            assert caught.value.rcvd == websockets.frames.Close(4000, "enough")
            assert caught.value.rcvd_then_sent
        await wait_until(lambda: gateway.http._port.places.open == 0)


@on_both_loops
async def test_a_peer_that_breaks_the_rules(authority: Authority) -> None:
    """What is wrong is said with a close frame, which arrives whatever the client still sends."""
    async with serving(authority, ECHO) as gateway:
        peer = await gateway.open()
        peer.send(1, b"a reserved bit", rsv=2)
        for _ in range(20):
            peer.send(2, b"x" * 10_000)
        assert (await peer.closed())[0] == 1002
        await wait_until(lambda: gateway.messages("disconnect"))


@on_both_loops
async def test_a_slow_application(authority: Authority) -> None:
    """A client whose messages are not taken is read no further, and loses none."""
    gate = asyncio.Event()

    async def receive(message: dict[str, Any]) -> None:
        await gate.wait()

    consumers = {"websocket.connect": accept, "websocket.receive": receive}
    settings = GatewaySettings(inbox_messages=4, run_messages=1)
    async with serving(authority, consumers, settings=settings) as gateway:
        async with connect(gateway.url, ssl=gateway.trust, proxy=None) as peer:
            sending = asyncio.ensure_future(_send(peer, 200))
            await wait_until(lambda: gateway.messages("receive"))
            await asyncio.wait({sending}, timeout=0.2)
            assert not sending.done()
            gate.set()
            await sending
        await wait_until(lambda: gateway.messages("disconnect"))
        assert [len(m["bytes"]) for m in gateway.messages("receive")] == [100_000] * 200


async def _send(peer: websockets.ClientConnection, count: int) -> None:
    for _ in range(count):
        await peer.send(b"x" * 100_000)


@on_both_loops
async def test_identity(authority: Authority) -> None:
    """Every message says whose certificate the client has shown."""
    alice = authority.issue("alice", common_name="alice", organization_unit_name="Sales")
    context = authority.client(alice)
    async with serving(authority, ECHO, table={"client_ca": authority.path}) as gateway:
        async with connect(gateway.url, ssl=context, proxy=None) as peer:
            await peer.send("x")
            await peer.recv()
        await wait_until(lambda: gateway.messages("disconnect"))
        assert len(gateway.seen) == 3
        for _, message in gateway.seen:
            assert message["identity"].startswith("CN=alice,OU=Sales,")
        with pytest.raises((ssl.SSLError, OSError, websockets.InvalidHandshake, EOFError)):
            await connect(gateway.url, ssl=gateway.trust, proxy=None)
