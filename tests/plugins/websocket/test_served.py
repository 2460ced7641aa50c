"""WebSocket connections over real sockets, through the bus."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.core.config import GatewaySettings
from gateway.core.layers.base import REJECTED, RELEASED, Outcome
from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import (
    ECHO,
    Raw,
    Serving,
    accept,
    echo,
    on_loop,
    request,
    wait_until,
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


@on_loop
async def test_echo() -> None:
    """A message comes back as it went, text as text and bytes as bytes."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, "h\u00e4llo".encode())
        assert await peer.frame() == (TEXT, "h\u00e4llo".encode())
        peer.send(BINARY, b"\x00\xff")
        assert await peer.frame() == (BINARY, b"\x00\xff")
        orders = [message["order"] for _, message in gateway.seen]
        assert orders == [0, 1, 2]
        assert gateway.messages("receive")[0]["client"][0] == "127.0.0.1"


@on_loop
async def test_connect_message() -> None:
    """The connect message says what was asked for."""
    async with Serving(ECHO) as gateway:
        await gateway.open("/a%20b?x=1", "Sec-WebSocket-Protocol: v2, v1", "Cookie: s=1")
        (message,) = gateway.messages("connect")
        assert message["path"] == "/a b"
        assert message["raw_path"] == b"/a%20b"
        assert message["query_string"] == b"x=1"
        assert message["scheme"] == "ws"
        assert message["subprotocols"] == ["v2", "v1"]
        assert [b"cookie", b"s=1"] in message["headers"]


@on_loop
async def test_input_with_the_handshake() -> None:
    """Frames that came before the decision are read after it, in order."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw(sent=frame(TEXT, b"1") + frame(TEXT, b"2")[:4])
        assert (await peer.response())[0] == 101
        peer.writer.write(frame(TEXT, b"2")[4:])
        assert [await peer.frame(), await peer.frame()] == [(TEXT, b"1"), (TEXT, b"2")]


@on_loop
async def test_flood_before_the_decision() -> None:
    """Input before the decision is bounded: the socket is read no further."""

    async def undecided(message: dict[str, Any]) -> None:
        await decided.wait()

    decided = asyncio.Event()
    sent = 0
    async with Serving(ECHO | {"websocket.connect": undecided}) as gateway:
        peer = await gateway.raw()
        peer.writer.transport.set_write_buffer_limits(high=1)
        piece = frame(BINARY, bytes(60000))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while sent < 10000:
                    peer.writer.write(piece)
                    await peer.writer.drain()
                    sent += 1
        assert sent < 1000
        decided.set()
        assert (await peer.response())[0] == 101
        assert await peer.frame() == (BINARY, bytes(60000))


@on_loop
async def test_accept_with_words() -> None:
    """An accepting reply chooses the subprotocol, adds headers, and may talk at once."""

    def connect(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "accept": True,
                "subprotocol": "v1",
                "headers": [(b"set-cookie", b"a=b")],
                "text": "welcome",
            }
        ]

    async with Serving({"websocket.connect": connect}) as gateway:
        peer = await gateway.raw("/chat", "Sec-WebSocket-Protocol: v2, v1")
        status, headers, _ = await peer.response()
        assert status == 101
        assert headers["sec-websocket-protocol"] == "v1"
        assert headers["set-cookie"] == "a=b"
        assert await peer.frame() == (TEXT, b"welcome")


@pytest.mark.parametrize(
    ("result", "status", "content"),
    [
        ([{"accept": False}], 403, b"403 Forbidden\n"),
        ([{"status": 401, "content": b"<who?>", "headers": [(b"x-a", b"b")]}], 401, b"<who?>"),
        ([{"close": True, "reason": "a\r\nb"}], 403, b"a\r\nb\n"),
        (Outcome(REJECTED, 429, "slow\r\nSet-Cookie: x"), 429, b"slow\r\nSet-Cookie: x\n"),
        (Outcome(REJECTED), 403, b"403 Forbidden\n"),
    ],
)
@on_loop
async def test_refuse(result: Any, status: int, content: bytes) -> None:
    """A refusal is an ordinary response, whatever its reason holds, and no disconnect follows."""
    async with Serving(
        {"websocket.connect": lambda _: result, "websocket.disconnect": accept}
    ) as gateway:
        peer = await gateway.raw()
        found, headers, body = await peer.response()
        assert (found, body) == (status, content)
        assert "set-cookie" not in headers
        await wait_until(lambda: not gateway.engine.by_channel)
        assert not gateway.messages("disconnect")


@on_loop
async def test_refusal_that_cannot_be_sent() -> None:
    """A refusal whose headers HTTP does not take is answered 500, counted; nothing hangs."""
    reply = {"status": 403, "headers": [(b"date", b"now"), (b"date", b"then")]}
    async with Serving({"websocket.connect": lambda _: [reply]}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == 500
        assert gateway.drops == {"invalid": 1}
        await wait_until(lambda: not gateway.engine.by_channel)


@pytest.mark.parametrize("status", [204, 304])
@on_loop
async def test_refusal_without_a_body(status: int) -> None:
    """A status that has no content is sent without."""
    async with Serving({"websocket.connect": lambda _: [{"status": status}]}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == status


@on_loop
async def test_refused_connection_serves_on() -> None:
    """After a refusal the connection takes the next request."""
    async with Serving({"websocket.connect": lambda _: [{"accept": False}]}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == 403
        peer.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.response())[0] == 404


@on_loop
async def test_failing_connect() -> None:
    """A connect consumer that raises is answered 500."""
    async with Serving({"websocket.connect": lambda message: message["nothing"]}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == 500


@on_loop
async def test_nobody_routes() -> None:
    """Where nobody routes WebSockets at all the handshake is answered 404."""
    async with Serving({"http.request": accept}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == 404


@on_loop
async def test_only_receive_is_routed() -> None:
    """Where nobody routes connects, but somebody receives, connections are accepted."""
    async with Serving({"websocket.receive": echo}, implicit_accept=False) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"x")
        assert await peer.frame() == (TEXT, b"x")


@on_loop
async def test_decision_timeout() -> None:
    """A handshake that nobody decides is answered 503."""
    async with Serving(
        {"websocket.connect": accept}, implicit_accept=False, decision_timeout=0.1
    ) as gateway:
        peer = await gateway.raw()
        status, headers, _ = await peer.response()
        assert status == 503
        assert headers["retry-after"] == "1"


@on_loop
async def test_max_pending() -> None:
    """More undecided handshakes than max_pending are answered 503, counted; room comes back."""
    async with Serving(
        {"websocket.connect": accept}, implicit_accept=False, max_pending=1
    ) as gateway:
        first = await gateway.raw()
        await wait_until(lambda: gateway.messages("connect"))
        assert (await (await gateway.raw()).response())[0] == 503
        assert gateway.drops == {"limited": 1}
        await first.leave()
        await wait_until(lambda: not gateway.engine.by_channel)
        await gateway.raw()
        await wait_until(lambda: len(gateway.messages("connect")) == 2)


@on_loop
async def test_paths() -> None:
    """Outside of `paths` a handshake is an ordinary request."""
    async with Serving(ECHO, paths=("/ws/",)) as gateway:
        await gateway.open("/ws/chat")
        assert (await (await gateway.raw("/chat")).response())[0] == 404


@on_loop
async def test_bad_handshake() -> None:
    """A bad handshake is answered by the gateway; the application hears nothing."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw("/", "Sec-WebSocket-Version: 13")
        assert (await peer.response())[0] == 400
        assert not gateway.seen


@on_loop
async def test_another_version() -> None:
    """A version that we do not speak is told what to upgrade to (RFC 9110 section 15.5.22)."""
    async with Serving(ECHO) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request().replace(b"Version: 13", b"Version: 8"))
        gateway.peers.append(peer := Raw(reader, writer))
        status, headers, _ = await peer.response()
        assert status == 426
        assert headers["upgrade"] == "websocket"
        assert "upgrade" in headers["connection"]
        assert headers["sec-websocket-version"] == "13"


# ---------------------------------------------------------------- the end


@on_loop
async def test_peer_closes() -> None:
    """The peer's close is echoed; one disconnect carries its code and words."""
    async with Serving(ECHO | {"websocket.disconnect": accept}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"last")
        peer.send(CLOSE, close_payload(4001, "bye"))
        assert await peer.frame() == (TEXT, b"last") or True
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (4001, "bye")
        assert message["path"] == "/chat"
        assert message["order"] == 2


@on_loop
async def test_close_is_echoed_and_the_server_closes_first() -> None:
    """After both close frames the server closes the connection (RFC 6455 section 7.1.1)."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.open()
        peer.send(CLOSE, close_payload(1000))
        assert await peer.closed() == (1000, "")


@on_loop
async def test_peer_vanishes() -> None:
    """A peer that is gone without a word has 1006."""
    async with Serving(ECHO | {"websocket.disconnect": accept}) as gateway:
        peer = await gateway.open()
        peer.writer.transport.abort()
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1006


@on_loop
async def test_half_closed() -> None:
    """A WebSocket does not end by halves: an end of file without a close frame ends it."""
    async with Serving(ECHO | {"websocket.disconnect": accept}) as gateway:
        peer = await gateway.open()
        peer.writer.write_eof()
        assert (await peer.closed())[0] == 1002
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1006


@on_loop
async def test_we_close() -> None:
    """The application's close goes out after its data, and the peer's code comes back."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"text": "ok", "close": 4002, "reason": "enough"}]

    async with Serving(
        {"websocket.connect": accept, "websocket.receive": receive, "websocket.disconnect": accept}
    ) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"x")
        assert await peer.frame() == (TEXT, b"ok")
        assert await peer.frame() == (CLOSE, close_payload(4002, "enough"))
        peer.send(TEXT, b"too late")
        peer.send(CLOSE, close_payload(4002))
        await peer.ended()
        await wait_until(lambda: gateway.messages("disconnect"))
        assert [m["code"] for m in gateway.messages("disconnect")] == [4002]
        assert len(gateway.messages("receive")) == 1
        assert gateway.drops == {"closed": 1}


@on_loop
async def test_both_close_at_once() -> None:
    """Two closes that cross are one closing handshake, and one disconnect follows."""
    async with Serving(
        {
            "websocket.connect": lambda _: [{"accept": True, "close": 4000}],
            "websocket.disconnect": accept,
        }
    ) as gateway:
        peer = await gateway.raw(sent=frame(CLOSE, close_payload(4100)))
        assert (await peer.response())[0] == 101
        assert await peer.closed() == (4000, "")
        await wait_until(lambda: gateway.messages("disconnect"))
        assert [m["code"] for m in gateway.messages("disconnect")] == [4100]


@on_loop
async def test_close_timeout() -> None:
    """A peer that answers no close is cut off after close_timeout: 1006."""
    async with Serving(
        {
            "websocket.connect": lambda _: [{"accept": True, "close": True}],
            "websocket.disconnect": accept,
        },
        close_timeout=0.1,
    ) as gateway:
        peer = await gateway.open()
        assert await peer.frame() == (CLOSE, close_payload(1000))
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1006


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(3, b"x"), 1002, id="opcode"),
        pytest.param(frame(1, b"x", rsv=4), 1002, id="reserved-bit"),
        pytest.param(frame(1, b"\xff"), 1007, id="utf-8"),
        pytest.param(frame(1, bytes(1001)), 1009, id="too-big"),
        pytest.param(frame(0, b"x"), 1002, id="continuation-of-nothing"),
        pytest.param(b"\x81\x01x", 1002, id="unmasked"),
    ],
)
@on_loop
async def test_faults(sent: bytes, code: int) -> None:
    """A peer that breaks the rules is told so, and the connection ends with 1006."""
    async with Serving(ECHO | {"websocket.disconnect": accept}, max_message=1000) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"good")
        assert await peer.frame() == (TEXT, b"good")
        peer.writer.write(sent + frame(TEXT, b"after") * 3)
        assert (await peer.closed())[0] == code
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert message["code"] == 1006
        assert message["reason"]
        assert len(gateway.messages("receive")) == 1


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(REJECTED, 4003, "no"), 4003),
        (Outcome(REJECTED, 404), 1008),
        (ValueError("x"), 1011),
    ],
)
@on_loop
async def test_outcome_of_receive(outcome: Any, code: int) -> None:
    """What becomes of a message may close its connection; one disconnect follows."""

    def receive(message: dict[str, Any]) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with Serving(
        {"websocket.connect": accept, "websocket.receive": receive, "websocket.disconnect": accept}
    ) as gateway:
        peer = await gateway.open()
        peer.writer.write(frame(TEXT, b"1") + frame(TEXT, b"2"))
        opcode, payload = await peer.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        peer.send(CLOSE, payload)
        await wait_until(lambda: gateway.messages("disconnect"))
        assert len(gateway.messages("receive")) == 1


@on_loop
async def test_keep() -> None:
    """With on_failure = "keep" a failed message costs nothing but itself."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["text"] == "bad":
            raise ValueError
        return echo(message)

    async with Serving(
        {"websocket.connect": accept, "websocket.receive": receive}, on_failure="keep"
    ) as gateway:
        peer = await gateway.open()
        for text in (b"1", b"bad", b"2"):
            peer.send(TEXT, text)
        assert [await peer.frame(), await peer.frame()] == [(TEXT, b"1"), (TEXT, b"2")]


@on_loop
async def test_drain() -> None:
    """A shutdown asks each open connection to come back at a moment of its own."""
    async with Serving(ECHO | {"websocket.disconnect": accept}) as gateway:
        peers = [await gateway.open() for _ in range(20)]
        draining = asyncio.ensure_future(gateway.engine.drain(2.0))
        moments = set()
        for peer in peers:
            opcode, payload = await peer.frame()
            words, _, seconds = payload[2:].decode().partition("; retry-after=")
            assert (opcode, payload[:2]) == (CLOSE, (1012).to_bytes(2))
            assert words == "the gateway is shutting down"
            moments.add(float(seconds))
            peer.send(CLOSE, close_payload(1012))
            await peer.ended()
            await peer.leave()
        await draining
        assert len(moments) > 5
        assert 0 <= min(moments) < max(moments) <= gateway.engine.settings.reconnect_spread


@on_loop
async def test_drain_answers_first() -> None:
    """At a shutdown what a consumer has in hand is answered before the close; who has nothing there
    is closed at once; a consumer that takes the whole grace is not waited for.
    """
    go_on = asyncio.Event()

    async def receive(message: dict[str, Any]) -> Any:
        await (asyncio.Event() if message["text"] == "never" else go_on).wait()
        return echo(message)

    async with Serving(ECHO | {"websocket.receive": receive}) as gateway:
        asks, stuck, idle = [await gateway.open() for _ in range(3)]
        asks.send(TEXT, b"question")
        stuck.send(TEXT, b"never")
        await wait_until(lambda: len(gateway.engine.flow.flights) == 2)
        draining = asyncio.ensure_future(gateway.engine.drain(1.0))
        assert (await idle.frame())[0] == CLOSE
        go_on.set()
        assert await asks.frame() == (TEXT, b"question")
        assert (await asks.frame())[0] == CLOSE
        opcode, payload = await stuck.frame()
        assert (opcode, payload[:2]) == (CLOSE, (1012).to_bytes(2))
        for peer in (asks, stuck, idle):
            peer.send(CLOSE, close_payload(1012))
            await peer.ended()
        await draining


# ---------------------------------------------------------------- life


@on_loop
async def test_ping_is_answered_while_data_waits() -> None:
    """A ping is answered at once, though a consumer holds the conversation."""

    async def receive(message: dict[str, Any]) -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    async with Serving({"websocket.connect": accept, "websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        peer.send(PING, b"there?")
        assert await peer.frame() == (PONG, b"there?")
        go_on.set()


@on_loop
async def test_keep_alive() -> None:
    """A silent peer is pinged; one that answers stays, one that does not is cut off."""
    async with Serving(
        ECHO | {"websocket.disconnect": accept}, ping_interval=0.1, ping_timeout=0.3
    ) as gateway:
        peer = await gateway.open()
        for _ in range(3):
            assert await peer.frame() == (PING, b"")
            peer.send(PONG)
        assert await peer.frame() == (PING, b"")
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1006


@on_loop
async def test_full_inbox_pauses() -> None:
    """While the inbox is full the socket is not read; then everything comes, in order."""

    async def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        await go_on.wait()
        return echo(message)

    go_on = asyncio.Event()
    count = 3000
    async with Serving({"websocket.connect": accept, "websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        for number in range(count):
            peer.writer.write(frame(TEXT, b"%d" % number))
        (connection,) = gateway.engine.by_channel.values()
        await wait_until(lambda: connection.session.paused)
        assert connection._waiting <= 64 + 64
        go_on.set()
        for number in range(count):
            assert await peer.frame() == (TEXT, b"%d" % number)
        assert not gateway.drops


@on_loop
async def test_close_behind_a_full_inbox() -> None:
    """The application can end a connection whose socket is not being read."""

    async def receive(message: dict[str, Any]) -> Any:
        await go_on.wait()
        return Outcome(RELEASED) if message["order"] > 1 else [{"close": 4000}]

    go_on = asyncio.Event()
    async with Serving(
        {"websocket.connect": accept, "websocket.receive": receive, "websocket.disconnect": accept}
    ) as gateway:
        peer = await gateway.open()
        for _ in range(500):
            peer.send(TEXT, b"x")
        peer.send(CLOSE, close_payload(4000))
        (connection,) = gateway.engine.by_channel.values()
        await wait_until(lambda: connection.session.paused)
        go_on.set()
        assert await peer.closed() == (4000, "")
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 4000


@on_loop
async def test_slow_consumer() -> None:
    """A client that does not read is closed when its queue is full, counted."""
    settings = GatewaySettings(outbox_messages=10, outbox_bytes=100_000)
    async with Serving(ECHO | {"websocket.disconnect": accept}, settings=settings) as gateway:
        peer = await gateway.open()
        peer.writer.transport.pause_reading()
        (name,) = gateway.engine.by_channel
        for _ in range(400):
            await gateway.layer.asend(name, {"bytes": bytes(60000)})
            await asyncio.sleep(0)
            if not gateway.engine.by_channel:
                break
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.drops["slow"] >= 1


@on_loop
async def test_flood_of_pings() -> None:
    """A peer that pings and never reads has its last ping answered, and fills nothing."""
    async with Serving(ECHO, message_rate=0) as gateway:
        peer = await gateway.open()
        peer.writer.transport.pause_reading()
        (connection,) = gateway.engine.by_channel.values()
        wire = connection.wire
        peer.writer.transport.set_write_buffer_limits(high=1)
        for _ in range(3000):
            peer.writer.write(frame(PING, bytes(125)) * 50)
            await asyncio.sleep(0)
            if wire._congested:
                break
        assert wire._congested
        size = wire._transport.get_write_buffer_size()
        for _ in range(20):
            peer.writer.write(frame(PING, bytes(125)) * 50)
            await asyncio.sleep(0)
        peer.send(PING, b"last")
        await wait_until(lambda: wire._pong == b"\x8a\x04last")
        assert wire._transport.get_write_buffer_size() <= size
        peer.writer.transport.resume_reading()
        while (await peer.frame()) != (PONG, b"last"):
            pass


@on_loop
async def test_groups() -> None:
    """A group's message reaches every member as one ready frame."""
    async with Serving(ECHO) as gateway:
        peers = [await gateway.open() for _ in range(5)]
        for name in list(gateway.engine.by_channel):
            await gateway.layer.agroup_add("room", name)
        await gateway.layer.asend_group("room", {"text": "all"})
        for peer in peers:
            assert await peer.frame() == (TEXT, b"all")


@on_loop
async def test_a_slow_reader_gets_all_that_it_missed() -> None:
    """A replay of many times what an outbox or a socket holds reaches a client that reads slowly,
    with what was sent meanwhile behind it.
    """
    missed, meanwhile = 3000, 600
    async with Serving(ECHO) as gateway:
        peer = await gateway.open()
        peer.writer.transport.pause_reading()
        for number in range(missed):
            text = f"{number} ".ljust(4000, ".")
            await gateway.layer.asend_group("room", {"text": text}, history=missed)
        [name] = gateway.engine.by_channel
        await gateway.layer.agroup_add("room", name, since="0-0")
        for number in range(missed, missed + meanwhile):
            text = f"{number} ".ljust(4000, ".")
            await gateway.layer.asend_group("room", {"text": text}, history=10)
        await wait_until(lambda: gateway.engine.by_channel[name].wire._congested)
        peer.writer.transport.resume_reading()
        for number in range(missed + meanwhile):
            code, data = await peer.frame()
            assert (code, data.split()[0]) == (TEXT, b"%d" % number)
        assert not gateway.metrics.dropped()


@on_loop
async def test_nothing_is_left() -> None:
    """After connections of every fate nothing of them is left."""
    async with Serving(ECHO | {"websocket.disconnect": accept}) as gateway:
        for fate in range(40):
            peer = await gateway.open()
            peer.send(TEXT, b"x")
            if fate % 4 == 0:
                peer.send(CLOSE, close_payload(1000))
            elif fate % 4 == 1:
                peer.writer.transport.abort()
            elif fate % 4 == 2:
                peer.writer.write(b"\xff\xff")
            else:
                await peer.leave()
        await wait_until(lambda: not gateway.engine.by_channel)
        await wait_until(lambda: len(gateway.messages("disconnect")) == 40)
        assert not gateway.engine.flow.flights
