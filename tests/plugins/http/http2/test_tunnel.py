"""A stream as the transport of another protocol: WebSocket, or whatever a claim speaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from gateway.core.web import Claim, Exchange
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.http2.tunnel import Tunnel
from gateway.plugins.websocket.transport import WebsocketWire
from tests.plugins.http.http2.serving import CONSUMERS
from tests.plugins.http.http2.websockets import Line, Raw2
from tests.plugins.http.http2.wire import CANCEL, PROTOCOL_ERROR, Wire, headers, request
from tests.plugins.http.serving import Served
from tests.plugins.http.serving import wait_until as wait_for
from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import ECHO, Serving, accept, on_loop, wait_until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NO_ERROR = 0
BOTH = ECHO | {"websocket.disconnect": accept}


async def begin(gateway: Serving, **kwargs: int) -> Line:
    """Return a connection, which ends with the gateway."""
    line = await Line.begin(gateway.port, **kwargs)
    gateway.peers.append(line)  # type: ignore[arg-type]
    return line


async def opened(line: Line, *args: Any, **kwargs: Any) -> Raw2:
    """Return a WebSocket that was accepted."""
    peer = line.connect(*args, **kwargs)
    assert (await peer.response())[0] == 101
    return peer


# ---------------------------------------------------------------- WebSocket


@on_loop
async def test_the_handshake() -> None:
    """RFC 8441 5: 200, without what only HTTP/1 needs; the message is that of any WebSocket."""

    def connect(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"accept": True, "subprotocol": "v2", "headers": [(b"X-Own", b"yes")]}]

    async with Serving(ECHO | {"websocket.connect": connect}) as gateway:
        line = await begin(gateway)
        peer = await opened(
            line, "/a%20b?c=d", "Sec-WebSocket-Protocol: v1, v2", "Origin: http://localhost"
        )
        assert peer.fields.pop("date")
        assert peer.fields == {
            ":status": "200",
            "sec-websocket-protocol": "v2",
            "x-own": "yes",
            "server": "gateway",
        }
        (message,) = gateway.messages("connect")
        assert (message["path"], message["query_string"]) == ("/a b", b"c=d")
        assert (message["scheme"], message["subprotocols"]) == ("ws", ["v1", "v2"])
        assert [b"host", b"localhost"] in message["headers"]


@on_loop
async def test_wsproto() -> None:
    """An independent reader of frames: both kinds of messages, fragments, ping, close."""
    async with Serving(BOTH) as gateway:
        line = await begin(gateway)
        peer = await opened(line)
        reader = Connection(ConnectionType.CLIENT)
        heard: list[Any] = []

        async def hear(count: int) -> None:
            while len(heard) < count:
                async with asyncio.timeout(5):
                    reader.receive_data(await peer.reader.read(65536))
                heard.extend(reader.events())

        peer.write(reader.send(TextMessage("h\u00e4llo")))
        peer.write(reader.send(BytesMessage(b"\x00\xff", message_finished=False)))
        peer.write(reader.send(Ping(b"there?")))
        peer.write(reader.send(BytesMessage(b"\x01")))
        await hear(3)
        kinds = {type(event): event for event in heard}
        assert kinds[TextMessage].data == "h\u00e4llo"
        assert kinds[BytesMessage].data == b"\x00\xff\x01"
        assert kinds[Pong].payload == b"there?"
        peer.write(reader.send(CloseConnection(4001, "bye")))
        await hear(4)
        assert heard[3].code == 4001
        async with asyncio.timeout(5):
            await peer.over.wait()
        assert peer.reset is None
        peer.write_eof()
        await wait_until(lambda: gateway.messages("disconnect"))


@pytest.mark.parametrize("window", [100, 65535, 1 << 20])
@on_loop
async def test_large_messages(window: int) -> None:
    """A message of 200 KB goes and comes, however small the window that the client gives."""
    async with Serving(ECHO) as gateway:
        line = await begin(gateway, window=window)
        peer = await opened(line)
        payload = bytes(range(256)) * (800 if window > 100 else 60)
        peer.send(BINARY, payload)
        async with asyncio.timeout(15):
            assert await peer.frame() == (BINARY, payload)


@on_loop
async def test_a_hundred_on_one_connection() -> None:
    """All of them talk side by side, and one that is over makes room for another."""
    async with Serving(BOTH) as gateway:
        line = await begin(gateway)
        peers = [line.connect(f"/{number}") for number in range(100)]
        for peer in peers:
            assert (await peer.response())[0] == 101
        beyond = (
            line.connect("/beyond")
            if line.h2.remote_settings.max_concurrent_streams > 100
            else None
        )
        assert beyond is None
        for number, peer in enumerate(peers):
            peer.send(TEXT, b"%d" % number)
        for number, peer in reversed([*enumerate(peers)]):
            assert await peer.frame() == (TEXT, b"%d" % number)
        peers[0].send(CLOSE, (1000).to_bytes(2))
        assert (await peers[0].closed())[0] == 1000
        peers[0].write_eof()
        await wait_until(lambda: len(gateway.messages("disconnect")) == 1)
        assert await (await opened(line)).reader.read(0) == b""
        await line.leave()
        await wait_until(lambda: len(gateway.messages("disconnect")) == 101)


@on_loop
async def test_a_group_over_both_versions() -> None:
    """One group message reaches members over HTTP/1.1 and over HTTP/2, as the same frame."""
    async with Serving(ECHO) as gateway:
        line = await begin(gateway)
        peers = [await gateway.open(), await opened(line), await opened(line), await gateway.open()]
        for name in list(gateway.engine.by_channel):
            await gateway.layer.agroup_add("room", name)
        for number in range(3):
            await gateway.layer.asend_group("room", {"text": f"all {number}"})
        for peer in peers:
            for number in range(3):
                assert await peer.frame() == (TEXT, b"all %d" % number)


@on_loop
async def test_resets() -> None:
    """Before the decision a reset ends the handshake; after it the connection, as 1006."""
    go_on = asyncio.Event()

    async def connect(message: dict[str, Any]) -> None:
        if message["path"] == "/wait":
            await go_on.wait()

    async with Serving(BOTH | {"websocket.connect": connect}) as gateway:
        line = await begin(gateway)
        first = await opened(line)
        first.send(TEXT, b"x")
        assert await first.frame() == (TEXT, b"x")
        first.abort()
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1006
        second = line.connect("/wait")
        await wait_until(lambda: len(gateway.messages("connect")) == 2)
        second.abort()
        (connection,) = gateway.http._port.connections
        await wait_until(lambda: not connection.streams)
        go_on.set()
        third = await opened(line)
        third.send(TEXT, b"y")
        assert await third.frame() == (TEXT, b"y")


@on_loop
async def test_a_half_that_closed_before_the_decision() -> None:
    """The frames are read, then the end: a WebSocket does not end by halves."""
    async with Serving(BOTH) as gateway:
        line = await begin(gateway)
        peer = line.connect(sent=frame(TEXT, b"early"))
        peer.write_eof()
        assert (await peer.response())[0] == 101
        assert (await peer.closed())[0] == 1002
        await wait_until(lambda: gateway.messages("disconnect"))
        assert [message["text"] for message in gateway.messages("receive")] == ["early"]
        nothing = await opened(line, end=True)
        assert (await nothing.closed())[0] == 1002


@on_loop
async def test_a_close_that_is_not_answered() -> None:
    """A client that keeps its half open is reset a moment after ours is closed."""

    def connect(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"accept": True, "close": 4000}]

    async with Serving(BOTH | {"websocket.connect": connect}, close_timeout=0.2) as gateway:
        line = await begin(gateway)
        peer = await opened(line)
        assert await peer.frame() == (CLOSE, (4000).to_bytes(2))
        async with asyncio.timeout(5):
            await peer.over.wait()
            await wait_until(lambda: peer.reset is not None)
        await wait_until(lambda: gateway.messages("disconnect"))


@on_loop
async def test_what_is_not_spoken() -> None:
    """501 for another protocol, and where no WebSocket is; 426 for another version of it."""
    async with Serving(ECHO, paths=("/ws/",)) as gateway:
        line = await begin(gateway)
        other = line.connect("/ws/a", protocol=b"connect-udp")
        assert (await other.response())[0] == 501
        assert (await line.connect("/elsewhere").response())[0] == 501
        assert (await line.connect("/ws/a", "Sec-WebSocket-Version: 12").response())[0] == 400
        assert await (await opened(line, "/ws/a")).reader.read(0) == b""


@on_loop
async def test_shutdown() -> None:
    """The connection hears GOAWAY, its WebSockets are closed, then it ends."""
    async with Serving(BOTH) as gateway:
        line = await begin(gateway)
        peers = [await opened(line) for _ in range(5)]
        stopping = asyncio.ensure_future(gateway.http.stop())
        draining = asyncio.ensure_future(gateway.engine.drain(2.0))
        for peer in peers:
            opcode, payload = await peer.frame()
            assert (opcode, payload[:2]) == (CLOSE, (1012).to_bytes(2))
            peer.send(CLOSE, (1012).to_bytes(2))
            peer.write_eof()
        async with asyncio.timeout(5):
            await line.closed.wait()
        assert line.goaway == NO_ERROR
        await draining
        await stopping


@on_loop
async def test_no_tunnel_is_left() -> None:
    """After WebSockets of every fate nothing of them is held, nor in a cycle."""
    async with Serving(BOTH) as gateway:
        line = await begin(gateway)

        def alive() -> int:
            return sum(type(found) in {Tunnel, WebsocketWire} for found in gc.get_objects())

        gc.collect()
        gc.disable()
        try:
            before = alive()
            for fate in range(20):
                peer = await opened(line)
                peer.send(TEXT, b"x")
                assert await peer.frame() == (TEXT, b"x")
                if fate % 4 == 0:
                    peer.send(CLOSE, (1000).to_bytes(2))
                    await peer.closed()
                    peer.write_eof()
                elif fate % 4 == 1:
                    peer.abort()
                elif fate % 4 == 2:
                    peer.write(b"\xff\xff")
                    await peer.closed()
                    peer.write_eof()
                else:
                    peer.write_eof()
                    await peer.closed()
            await wait_until(lambda: not gateway.engine.by_channel)
            await wait_until(lambda: alive() == before)
        finally:
            gc.enable()


# ---------------------------------------------------------------- any protocol of a claim's


class Talker(asyncio.Protocol):
    """Says back what it hears in capitals, and does what some words say."""

    def __init__(self, transport: asyncio.Transport, log: list[Any]) -> None:
        self.transport = transport
        self.log = log

    def data_received(self, data: bytes) -> None:
        self.log.append(data)
        transport = self.transport
        match data:
            case b"and on":
                pass
            case b"end":
                transport.write(b"our half")
                transport.write_eof()
            case b"close":
                transport.write(b"last words")
                transport.close()
                transport.write(b"unheard")
            case b"abort":
                transport.abort()
            case b"pause":
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.1, transport.resume_reading)
            case b"flood":
                transport.write(b"x" * 500_000)
                self.log.append(transport.get_write_buffer_size())
            case b"flood and close":
                transport.write(b"x" * 500_000)
                transport.close()
            case _:
                transport.write(data.upper())

    def eof_received(self) -> bool:
        self.log.append("eof")
        return True

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append("lost")


@pytest.fixture
def log():
    return []


@pytest.fixture
def site(log):
    def take(exchange: Exchange) -> None:
        transport, early = exchange.upgrade(b"talk", [(b"X-Said", b"yes")])
        assert transport.get_extra_info("peername")
        talker = Talker(transport, log)
        transport.set_protocol(talker)
        assert transport.get_protocol() is talker
        assert transport.can_write_eof()
        assert transport.is_reading()
        assert not transport.is_closing()
        if early:
            talker.data_received(early)

    claim = Claim(lambda head: head.protocol == "talk", take)
    config = HttpConfig(write_timeout=0.5)
    with Served(CONSUMERS, config=config, claims=[claim]) as served:
        yield served


@contextlib.asynccontextmanager
async def talk(site: Served, window: int = 65535, sent: bytes = b""):
    """Return a connection, and a stream on which the claim's protocol is spoken."""
    line = await Line.begin(site.address[1], window=window, whole=1 << 20)
    try:
        peer = line.connect("/", protocol=b"TALK", sent=sent)
        assert (await peer.response())[0] == 101
        assert peer.fields["x-said"] == "yes"
        yield line, peer
    finally:
        await line.leave()


async def say(peer: Raw2, words: bytes, answer: bytes = b"") -> None:
    peer.write(words)
    async with asyncio.timeout(5):
        assert await peer.reader.readexactly(len(answer)) == answer


@on_loop
async def test_another_protocol(site, log) -> None:
    """A claim takes the stream over and speaks what was asked for, whatever the case."""
    async with talk(site) as (_, peer):
        await say(peer, b"hello", b"HELLO")
        peer.write_eof()
        await wait_until(lambda: log == [b"hello", "eof"])
    await wait_until(lambda: log == [b"hello", "eof", "lost"])


@on_loop
async def test_halves(site, log) -> None:
    """Our half may end first, the client's goes on; when both have the connection is lost."""
    async with talk(site) as (_, peer):
        await say(peer, b"end", b"our half")
        async with asyncio.timeout(5):
            await peer.over.wait()
        peer.write(b"and on")
        await wait_until(lambda: log == [b"end", b"and on"])
        peer.write_eof()
        await wait_until(lambda: log[-2:] == ["eof", "lost"])
        assert peer.reset is None


@on_loop
async def test_close(site, log) -> None:
    """What was written arrives, then the end of our half; nothing after it is heard."""
    async with talk(site) as (_, peer):
        await say(peer, b"close", b"last words")
        async with asyncio.timeout(5):
            await peer.over.wait()
            await wait_until(lambda: log == [b"close", "lost"])
            peer.write(b"x" * 100)
            peer.write_eof()
            assert await peer.reader.read() == b""
        assert peer.reset is None


@on_loop
async def test_abort(site, log) -> None:
    """An aborted transport is a stream that is reset; the connection goes on."""
    async with talk(site) as (line, peer):
        peer.write(b"abort")
        async with asyncio.timeout(5):
            await peer.over.wait()
        assert peer.reset is not None
        await wait_until(lambda: log == [b"abort", "lost"])
        other = line.connect("/", protocol=b"talk")
        assert (await other.response())[0] == 101


@on_loop
async def test_paused(site, log) -> None:
    """A transport that is not read keeps what comes, within the window, and hands it on later."""
    async with talk(site) as (_, peer):
        peer.write(b"pause")
        await wait_until(lambda: log == [b"pause"])
        await say(peer, b"meanwhile", b"MEANWHILE")
        peer.write(b"pause")
        await wait_until(lambda: log[-1] == b"pause")
        peer.write(b"x" * 300_000)
        assert not peer._drained.is_set()
        async with asyncio.timeout(5):
            assert await peer.reader.readexactly(300_000) == b"X" * 300_000


@on_loop
async def test_a_client_that_does_not_read(site, log) -> None:
    """Whoever writes is told to pause, and to go on once the client has caught up."""
    async with talk(site, window=1000) as (_, peer):
        peer.pause_reading()
        peer.write(b"flood")
        await wait_until(lambda: len(log) == 3)
        assert log == [b"flood", "pause", 499_000]
        peer.resume_reading()
        async with asyncio.timeout(10):
            await peer.reader.readexactly(500_000)
        await wait_until(lambda: log[-1] == "resume")


@on_loop
async def test_a_closed_transport_that_nobody_reads(site, log) -> None:
    """What waits behind a close is waited for no longer than ``write_timeout``."""
    async with talk(site, window=1000) as (_, peer):
        peer.pause_reading()
        peer.write(b"flood and close")
        async with asyncio.timeout(5):
            await peer.over.wait()
        assert peer.reset == CANCEL
        await wait_until(lambda: site.drops.get("slow"))
        await wait_until(lambda: log[-1] == "lost")


@on_loop
async def test_words_before_the_answer(site, log) -> None:
    """What the client sends with its request is the first that the claim's protocol gets."""
    async with talk(site, sent=b"early") as (_, peer):
        async with asyncio.timeout(5):
            assert await peer.reader.readexactly(5) == b"EARLY"
        assert log[0] == b"early"


def test_what_an_extended_connect_needs(site) -> None:
    """RFC 8441 4: scheme and path as any request; without them it is malformed."""
    with Wire(site) as wire:
        for stream, missing in ((1, b":scheme"), (3, b":path")):
            asked = request(method=b"CONNECT", protocol=b"talk")
            fields = [field for field in asked if field[0] != missing]
            wire.send(headers(stream, fields, flags=4))
            assert wire.ended(stream).code == PROTOCOL_ERROR
            assert wire.status(stream) == 400
        wire.alive()
    wait_for(lambda: not site.connections)
