"""Readers that are slow, or vanish, by the hundred: bounded, counted, and nobody else's business."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.config import GatewaySettings
from gateway.core.layers.base import group_send
from tests.deaf import deafen
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.sse.serving import Serving, Stream, accept, on_loop, wait_until

CROWD = 200
NEIGHBOURS = 8
SIZE = 16_384
OUTBOX = 65_536
ROOM = GatewaySettings(outbox_messages=16, outbox_bytes=OUTBOX)
REQUEST = b"GET /news HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
DEAF: dict[str, Any] = {"sse.connect": accept, "sse.disconnect": accept}


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Let this process open as many sockets as both ends of a crowd need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def crowd(gateway: Serving, count: int = CROWD) -> list[socket.socket]:
    """Return clients that have asked, and read nothing."""
    before = len(gateway.messages("connect"))
    found = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", gateway.port))
        one.send(REQUEST)
        found.append(one)
    await wait_until(lambda: len(gateway.messages("connect")) == before + count)
    return found


async def over_http2(gateway: Serving) -> socket.socket:
    """Return a client that has asked over HTTP/2."""
    found = socket.create_connection(("127.0.0.1", gateway.port))
    fields = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"a"),
        (b":path", b"/news"),
        (b"accept", b"text/event-stream"),
    ]
    before = len(gateway.messages("connect"))
    Http2Client(found).send(fields)
    await wait_until(lambda: len(gateway.messages("connect")) == before + 1)
    return found


async def joined(gateway: Serving) -> None:
    """Make every stream a member of the group."""
    for message in gateway.messages("connect"):
        await gateway.layer.agroup_add("news", message["reply_channel"])


async def say(gateway: Serving, number: int) -> None:
    """Send a group's message that is large, and known by its number."""
    await gateway.layer.aapply([group_send("news", {"text": f"{number} {'x' * SIZE}"})])


async def say_to(gateway: Serving, reply: dict[str, Any]) -> None:
    """Send to the last stream alone."""
    await gateway.layer.asend(gateway.channel, reply)


async def listen(stream: Stream, heard: list[int]) -> None:
    """Read on, and remember the numbers."""
    while await stream.piece():
        while b"\n\n" in stream.body:
            event, _, stream.body = stream.body.partition(b"\n\n")
            if event.startswith(b"data: "):
                heard.append(int(event.split()[1]))


def buffered(gateway: Serving) -> int:
    """Return the bytes that wait in this process for clients to read them."""
    found = 0
    for connection in gateway.http._port.connections:
        found += connection._transport.get_write_buffer_size()
    return found


@on_loop
async def test_slow_and_vanished() -> None:
    """Hundreds that do not read, and hundreds that vanish, cost their neighbours no message."""
    async with Serving(DEAF, settings=ROOM) as gateway:
        neighbours = [await gateway.open() for _ in range(NEIGHBOURS)]
        heard: list[list[int]] = [[] for _ in neighbours]
        slow, vanishing = await crowd(gateway), await crowd(gateway)
        await joined(gateway)
        reading = [
            asyncio.ensure_future(listen(one, numbers))
            for one, numbers in zip(neighbours, heard, strict=True)
        ]
        said = most = 0
        while len(gateway.engine.by_channel) > NEIGHBOURS:
            assert said < 1000, "slow readers are never ended"
            await say(gateway, said)
            said += 1
            for _ in range(CROWD // 4):
                if vanishing:
                    one = vanishing.pop()
                    # Vanish without a word: a reset.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.close()
            await wait_until(lambda: min(map(len, heard)) == said)  # noqa: B023 - it is now
            most = max(most, buffered(gateway))
        assert heard == [list(range(said))] * NEIGHBOURS
        # What waits in a transport, and in an outbox behind it, is bounded for each.
        assert most <= 2 * CROWD * (65_536 + 2 * SIZE)
        await wait_until(lambda: len(gateway.messages("disconnect")) == 2 * CROWD)
        assert gateway.drops["slow"] == CROWD
        assert gateway.drops.keys() <= {"slow", "gone"}
        numbers = gateway.metrics.snapshot()
        assert numbers["gateway_sse_streams"] == NEIGHBOURS
        assert numbers['gateway_connections{plugin="sse"}'] == NEIGHBOURS
        assert len(await gateway.layer.agroup_channels("news")) == NEIGHBOURS
        assert len(gateway.http._port.connections) == NEIGHBOURS
        for one in slow:
            one.close()
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


@on_loop
async def test_slow_ones_that_keep_up_later() -> None:
    """With drop_oldest nobody is ended: who reads again goes on with the latest."""
    settings = GatewaySettings(outbox_messages=4, outbox_bytes=1 << 20)
    async with Serving(DEAF, settings=settings, slow_consumer="drop_oldest") as gateway:
        slow = await crowd(gateway, 20)
        await joined(gateway)
        said = 0
        while gateway.drops.get("slow", 0) < 20 * 20:
            assert said < 1000, "nothing is dropped"
            await say(gateway, said)
            said += 1
            await asyncio.sleep(0)
        assert len(gateway.engine.by_channel) == 20
        numbers = await asyncio.gather(*(last_of(one, said - 1) for one in slow))
        assert numbers == [said - 1] * 20
        for one in slow:
            one.close()
        await wait_until(lambda: len(gateway.messages("disconnect")) == 20)


async def last_of(one: socket.socket, last: int) -> int:
    """Read until a number has come; return it."""
    data = b""
    async with asyncio.timeout(10):
        while b"data: %d " % last not in data:
            data = data[-100:] + await asyncio.get_running_loop().sock_recv(one, 1 << 20)
    return last


@on_loop
async def test_many_at_once() -> None:
    """Hundreds that come and vanish undecided leave no place taken, whatever their moment."""
    async with Serving(DEAF, implicit_accept=False, max_pending=CROWD) as gateway:
        for _ in range(2):
            for one in await crowd(gateway):
                one.close()
            await wait_until(lambda: not gateway.engine.by_channel)
        assert gateway.metrics.snapshot()["gateway_sse_streams"] == 0
        stream = await gateway.ask()
        await wait_until(lambda: len(gateway.messages("connect")) == 2 * CROWD + 1)
        await gateway.layer.asend(gateway.channel, {"accept": True})
        await stream.head()
        assert stream.status == 200


@on_loop
async def test_keep_alive_fills_nothing() -> None:
    """A client that reads nothing gets no comments on top of what waits for it."""
    async with Serving(DEAF, keep_alive=0.1) as gateway:
        (one,) = await crowd(gateway, 1)
        (connection,) = gateway.engine.by_channel.values()
        while connection.ready:
            await gateway.layer.asend(gateway.channel, {"text": "x" * 100_000})
            await asyncio.sleep(0)
        before = connection.wire._exchange._sent
        connection.timed_out("due")
        connection.timed_out("due")
        assert connection.wire._exchange._sent == before
        one.close()
        await wait_until(lambda: gateway.messages("disconnect"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is not Linux's")
@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("chatty", [False, True])
@on_loop
async def test_vanished_without_a_word(chatty: bool, http2: bool) -> None:
    """One whose machine acknowledges nothing is gone after ``silence``, and its place is free."""
    async with Serving(DEAF, keep_alive=0.1, silence=0.4) as gateway:
        neighbour = await gateway.open()
        gone = await over_http2(gateway) if http2 else (await crowd(gateway, 1))[0]
        channel = gateway.channel
        deafen(gone)
        began = asyncio.get_running_loop().time()
        while len(gateway.engine.by_channel) > 1:
            assert asyncio.get_running_loop().time() < began + 8, "it is never missed"
            if chatty:
                await gateway.layer.asend(channel, {"text": "hello"})
            await neighbour.piece()
        assert asyncio.get_running_loop().time() - began >= 0.4
        await wait_until(lambda: len(gateway.messages("disconnect")) == 1)
        numbers = gateway.metrics.snapshot()
        assert numbers["gateway_sse_vanished_total"] == 1
        assert numbers["gateway_sse_streams"] == 1
        assert http2 or len(gateway.http._port.connections) == 1
        gone.close()


@on_loop
async def test_silent_but_there() -> None:
    """Who is only silent, or does not read for a while, is not taken for gone."""
    async with Serving(DEAF, keep_alive=0.05, silence=0.1) as gateway:
        neighbour = await gateway.open()
        [silent] = await crowd(gateway, 1)
        await say_to(gateway, {"text": "x" * 40_000})
        for _ in range(10):
            await neighbour.piece()
        assert not gateway.messages("disconnect")
        assert "gateway_sse_vanished_total" not in gateway.metrics.snapshot()
        silent.close()
