"""The closing handshake in every order (RFC 6455 sections 5.5.1 and 7), over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.config import GatewaySettings
from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import (
    Consumer,
    Raw,
    Serving,
    accept,
    echo,
    on_loop,
    wait_until,
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def code(number: int, reason: str = "") -> bytes:
    return number.to_bytes(2, "big") + reason.encode()


def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Close with 4000 if told so, else echo."""
    if message.get("text") == "close":
        return [{"close": 4000, "reason": "as you wish"}]
    return echo(message)


CONSUMERS: dict[str, Consumer] = {
    "websocket.connect": accept,
    "websocket.receive": answer,
    "websocket.disconnect": accept,
}
OURS = code(4000, "as you wish")


async def disconnect(gateway: Serving) -> tuple[int, str]:
    """Return code and reason of the one disconnect; nothing is left then."""
    await wait_until(lambda: gateway.messages("disconnect"))
    await wait_until(lambda: not gateway.engine.by_channel)
    (message,) = gateway.messages("disconnect")
    return message["code"], message["reason"]


async def asked_to_close(gateway: Serving) -> Raw:
    """Return a peer that has our close frame, and answered nothing yet."""
    peer = await gateway.open()
    peer.send(TEXT, b"close")
    assert await peer.frame() == (CLOSE, OURS)
    return peer


# ---------------------------------------------------------------- the peer begins


@pytest.mark.parametrize(
    ("sent", "answered", "told"),
    [
        (b"", b"", (1005, "")),
        (code(1000), code(1000), (1000, "")),
        (code(1001, "bye"), code(1001), (1001, "bye")),
        (code(4999, "\u20ac" * 41), code(4999), (4999, "\u20ac" * 41)),
    ],
)
@on_loop
async def test_the_peer_closes(sent: bytes, answered: bytes, told: tuple[int, str]) -> None:
    """The peer's close is answered with its code, then the server ends the connection first."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.send(CLOSE, sent)
        assert await peer.frame() == (CLOSE, answered)
        await peer.ended()
        assert await disconnect(gateway) == told


@on_loop
async def test_the_peer_closes_and_goes_on() -> None:
    """What follows the peer's close frame is not read: no data, no ping, no second close, no fault."""
    async with Serving(CONSUMERS) as gateway:
        for rest in (
            frame(TEXT, b"late"),
            frame(PING, b"late"),
            frame(CLOSE, code(4001)),
            frame(CLOSE, code(1005)),
            b"\xff" * 1000,
        ):
            gateway.seen.clear()
            peer = await gateway.open()
            peer.writer.write(frame(CLOSE, code(1000)) + rest)
            assert await peer.frame() == (CLOSE, code(1000))
            await peer.ended()
            assert await disconnect(gateway) == (1000, "")
            assert not gateway.messages("receive")


@on_loop
async def test_the_peer_closes_and_goes_on_later() -> None:
    """What comes when the connection is over harms nobody."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.send(CLOSE, code(1000))
        assert await peer.frame() == (CLOSE, code(1000))
        peer.send(TEXT, b"late")
        peer.send(CLOSE, code(4001))
        assert await disconnect(gateway) == (1000, "")
        assert not gateway.messages("receive")
        other = await gateway.open()
        other.send(TEXT, b"x")
        assert await other.frame() == (TEXT, b"x")


@on_loop
async def test_the_peer_closes_within_a_message() -> None:
    """A close between the fragments of a message ends it as well; the message never was."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"never", fin=False)
        peer.send(CLOSE, code(1000))
        peer.send(0, b"finished")
        assert await peer.closed() == (1000, "")
        assert await disconnect(gateway) == (1000, "")
        assert not gateway.messages("receive")


@on_loop
async def test_the_peer_closes_behind_data() -> None:
    """What came before the close is worked on, to the last message, and then the disconnect."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.writer.write(
            b"".join(frame(TEXT, b"%d" % number) for number in range(300))
            + frame(CLOSE, code(1000))
        )
        assert await disconnect(gateway) == (1000, "")
        assert [m["text"] for m in gateway.messages("receive")] == [str(n) for n in range(300)]
        assert gateway.messages("disconnect")[0]["order"] == 301


@on_loop
async def test_the_peer_closes_while_a_consumer_works() -> None:
    """The peer is answered at once; the disconnect waits for the consumer, whose reply is dropped."""

    async def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        await go_on.wait()
        return echo(message)

    go_on = asyncio.Event()
    async with Serving(CONSUMERS | {"websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"x")
        await wait_until(lambda: gateway.messages("receive"))
        peer.send(CLOSE, code(1000))
        assert await peer.closed() == (1000, "")
        await wait_until(lambda: not gateway.engine.by_channel)
        assert not gateway.messages("disconnect")
        go_on.set()
        assert await disconnect(gateway) == (1000, "")
        assert gateway.drops == {"gone": 1}


@on_loop
async def test_the_peer_closes_before_the_decision() -> None:
    """A close that is there when the connection is accepted is answered then."""

    async def connect(message: dict[str, Any]) -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    async with Serving(CONSUMERS | {"websocket.connect": connect}) as gateway:
        peer = await gateway.raw(sent=frame(TEXT, b"x") + frame(CLOSE, code(1000)))
        await wait_until(lambda: gateway.messages("connect"))
        go_on.set()
        assert (await peer.response())[0] == 101
        assert await disconnect(gateway) == (1000, "")
        assert len(gateway.messages("receive")) == 1


@on_loop
async def test_the_peer_leaves_before_the_decision() -> None:
    """A peer that leaves before it is accepted gives its place back; who accepts it still hears so."""

    async def connect(message: dict[str, Any]) -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    async with Serving(CONSUMERS | {"websocket.connect": connect}, max_pending=1) as gateway:
        peer = await gateway.raw()
        await wait_until(lambda: gateway.messages("connect"))
        await peer.leave()
        await wait_until(lambda: not gateway.engine.by_channel)
        go_on.set()
        assert (await disconnect(gateway))[0] == 1006
        await gateway.open()


# ---------------------------------------------------------------- we begin


@on_loop
async def test_we_close() -> None:
    """The peer's answer ends the connection; the disconnect has its code and words."""
    async with Serving(CONSUMERS) as gateway:
        peer = await asked_to_close(gateway)
        peer.send(CLOSE, code(4000, "fine"))
        await peer.ended()
        assert await disconnect(gateway) == (4000, "fine")


@on_loop
async def test_we_close_and_the_peer_goes_on() -> None:
    """Data after our close is dropped, counted; pings are answered until the peer's close."""
    async with Serving(CONSUMERS) as gateway:
        peer = await asked_to_close(gateway)
        peer.send(TEXT, b"late")
        peer.send(BINARY, b"l", fin=False)
        peer.send(PING, b"still there?")
        assert await peer.frame() == (PONG, b"still there?")
        peer.send(0, b"ate")
        peer.send(CLOSE, code(4000))
        peer.send(PING, b"and now?")
        await peer.ended()
        assert await disconnect(gateway) == (4000, "")
        assert len(gateway.messages("receive")) == 1
        assert gateway.drops == {"closed": 2}


@on_loop
async def test_we_close_and_the_peer_breaks_the_rules() -> None:
    """A fault after our close ends the connection: there was no close of the peer's."""
    async with Serving(CONSUMERS) as gateway:
        peer = await asked_to_close(gateway)
        peer.writer.write(b"\xff" * 1000 + frame(CLOSE, code(4000)))
        await peer.ended()
        assert (await disconnect(gateway))[0] == 1006


@pytest.mark.parametrize("how", ["eof", "reset"])
@on_loop
async def test_we_close_and_the_peer_leaves(how: str) -> None:
    """A peer that leaves instead of an answer left without a close: 1006."""
    async with Serving(CONSUMERS) as gateway:
        peer = await asked_to_close(gateway)
        if how == "eof":
            peer.writer.write_eof()
            await peer.ended()
        else:
            peer.writer.transport.abort()
        assert (await disconnect(gateway))[0] == 1006


@on_loop
async def test_we_close_and_the_peer_is_silent() -> None:
    """A peer that never answers is cut off after close_timeout: 1006."""
    async with Serving(CONSUMERS, close_timeout=0.1) as gateway:
        peer = await asked_to_close(gateway)
        assert (await disconnect(gateway))[0] == 1006
        await peer.ended()


@on_loop
async def test_we_close_and_the_peer_only_talks() -> None:
    """A peer that goes on talking instead of an answer is cut off as well, in the same time."""
    async with Serving(CONSUMERS, close_timeout=0.1) as gateway:
        peer = await asked_to_close(gateway)
        while not gateway.messages("disconnect"):
            if not peer.writer.transport.is_closing():
                peer.send(PING, b"x")
            await asyncio.sleep(0)
        assert (await disconnect(gateway))[0] == 1006


@on_loop
async def test_we_close_twice() -> None:
    """A second close of the application's changes nothing."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        (name,) = gateway.engine.by_channel
        await gateway.layer.asend(name, {"close": 4000})
        await gateway.layer.asend(name, {"close": 4001})
        await gateway.layer.asend(name, {"text": "late"})
        assert await peer.frame() == (CLOSE, code(4000))
        await wait_until(lambda: gateway.drops == {"gone": 2})
        peer.send(CLOSE, code(4000))
        await peer.ended()
        assert await disconnect(gateway) == (4000, "")


@on_loop
async def test_we_close_within_the_peers_message() -> None:
    """Our close may fall between the fragments of the peer's message, which is dropped."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"Hel", fin=False)
        (name,) = gateway.engine.by_channel
        await gateway.layer.asend(name, {"close": 4000})
        assert await peer.frame() == (CLOSE, code(4000))
        peer.send(0, b"lo")
        peer.send(CLOSE, code(4000))
        await peer.ended()
        assert await disconnect(gateway) == (4000, "")
        assert gateway.drops == {"closed": 1}


@on_loop
async def test_we_close_while_a_consumer_works() -> None:
    """Our close goes out though a consumer holds the conversation; the disconnect waits for it."""

    async def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        await go_on.wait()
        return echo(message)

    go_on = asyncio.Event()
    async with Serving(CONSUMERS | {"websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"1")
        await wait_until(lambda: gateway.messages("receive"))
        ((name, conversation),) = gateway.engine.by_channel.items()
        peer.send(TEXT, b"2")
        await wait_until(lambda: conversation.queue)
        await gateway.layer.asend(name, {"close": 4000})
        assert await peer.frame() == (CLOSE, code(4000))
        peer.send(CLOSE, code(4000))
        await peer.ended()
        await wait_until(lambda: not gateway.engine.by_channel)
        assert not gateway.messages("disconnect")
        go_on.set()
        assert await disconnect(gateway) == (4000, "")
        assert len(gateway.messages("receive")) == 1


@pytest.mark.parametrize("reads", [True, False])
@on_loop
async def test_we_close_and_the_peer_does_not_read(reads: bool) -> None:
    """A close waits behind what the peer does not read: heard if it reads in time, else cut off."""
    settings = GatewaySettings(outbox_messages=100_000, outbox_bytes=1 << 30)
    async with Serving(
        CONSUMERS, settings=settings, close_timeout=5.0 if reads else 0.1, message_rate=0
    ) as gateway:
        peer = await gateway.open()
        peer.writer.transport.pause_reading()
        (name,) = gateway.engine.by_channel
        connection = gateway.engine.by_channel[name]
        sent = 0
        while connection.wire._congested is False or sent < 20:
            await gateway.layer.asend(name, {"bytes": bytes(500_000)})
            sent += 1
            await asyncio.sleep(0)
        await gateway.layer.asend(name, {"close": 4000})
        if not reads:
            async with asyncio.timeout(5):
                while not gateway.messages("disconnect"):
                    if not peer.writer.transport.is_closing():
                        peer.send(PING, b"I am not dead")
                    await asyncio.sleep(0)
            assert (await disconnect(gateway))[0] == 1006
            return
        peer.writer.transport.resume_reading()
        for _ in range(sent):
            assert await peer.frame() == (BINARY, bytes(500_000))
        assert await peer.frame() == (CLOSE, code(4000))
        peer.send(CLOSE, code(4000))
        await peer.ended()
        assert await disconnect(gateway) == (4000, "")


@on_loop
async def test_we_refuse_what_has_left() -> None:
    """A decision for a peer that has left meanwhile is dropped."""
    async with Serving({"websocket.connect": accept}, implicit_accept=False) as gateway:
        peer = await gateway.raw()
        await wait_until(lambda: gateway.messages("connect"))
        (name,) = gateway.engine.by_channel
        await peer.leave()
        await wait_until(lambda: not gateway.engine.by_channel)
        await gateway.layer.asend(name, {"accept": True})
        await wait_until(lambda: gateway.drops == {"gone": 1})


# ---------------------------------------------------------------- both at once


@on_loop
async def test_both_close() -> None:
    """Closes that cross are one closing handshake: no second close of ours, the peer's code counts."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        # Both are on their way: the peer has not read ours, we have not read its.
        peer.writer.write(frame(TEXT, b"close"))
        await wait_until(lambda: gateway.messages("receive"))
        peer.writer.write(frame(CLOSE, code(1001, "leaving")))
        assert await peer.frame() == (CLOSE, OURS)
        await peer.ended()
        assert await disconnect(gateway) == (1001, "leaving")


@on_loop
async def test_both_close_in_one_read() -> None:
    """A close that came together with the message that makes us close was first: it is answered."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.writer.write(frame(TEXT, b"close") + frame(CLOSE, code(1001)))
        assert await peer.frame() == (CLOSE, code(1001))
        await peer.ended()
        assert await disconnect(gateway) == (1001, "")


# ---------------------------------------------------------------- without a word


@pytest.mark.parametrize("sent", [b"", frame(TEXT, b"x", fin=False), frame(TEXT, b"cut off")[:-3]])
@on_loop
async def test_the_peer_ends_its_side(sent: bytes) -> None:
    """An end of file without a close frame, even within a message, is told so: 1002, and 1006."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.writer.write(sent)
        peer.writer.write_eof()
        assert (await peer.closed())[0] == 1002
        assert await disconnect(gateway) == (1006, "left without closing")
        assert not gateway.messages("receive")


@on_loop
async def test_the_peer_closes_and_ends_its_side() -> None:
    """A close frame and an end of file in one are a proper close."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.send(CLOSE, code(1000))
        peer.writer.write_eof()
        assert await peer.closed() == (1000, "")
        assert await disconnect(gateway) == (1000, "")


@on_loop
async def test_a_fault_is_heard() -> None:
    """A fault's close arrives though the peer goes on sending: our side is shut, the rest is read."""
    async with Serving(CONSUMERS) as gateway:
        peer = await gateway.open()
        peer.writer.write(frame(3))
        for _ in range(50):
            peer.writer.write(frame(BINARY, bytes(60_000)))
        assert (await peer.closed())[0] == 1002
        assert (await disconnect(gateway))[0] == 1006
        peer.writer.write(frame(CLOSE, code(1002)))


@on_loop
async def test_a_fault_of_a_peer_that_stays() -> None:
    """After a fault a peer that never leaves is cut off after close_timeout."""
    async with Serving(CONSUMERS, close_timeout=0.1) as gateway:
        peer = await gateway.open()
        (connection,) = gateway.engine.by_channel.values()
        wire = connection.wire
        peer.writer.write(frame(3))
        assert (await peer.closed())[0] == 1002
        await wait_until(lambda: wire._transport is None)
