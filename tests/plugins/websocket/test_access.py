"""WebSockets in the access log: a record for each, refused or ended, by whomever."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from gateway.core.access import AccessLog
from gateway.core.config import LogSettings
from gateway.core.layers.base import REJECTED, Outcome
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import ECHO, Serving, accept, on_loop, wait_until

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def close_payload(code: int, reason: str = "") -> bytes:
    """Return what a close frame says."""
    return code.to_bytes(2, "big") + reason.encode()


class Logged(Serving):
    """A gateway with an access log."""

    def __init__(self, consumers: dict[str, Any], **more: Any) -> None:
        self.lines: list[bytes] = []
        log = AccessLog(LogSettings(access="-", access_format="json"), self.lines.append)
        super().__init__(consumers, access=log, **more)

    async def record(self) -> dict[str, Any]:
        """Return the one record, once it is there."""
        await wait_until(lambda: self.lines)
        assert len(self.lines) == 1
        found: dict[str, Any] = json.loads(self.lines[0])
        return found


@on_loop
async def test_ended_by_the_client() -> None:
    """A record has the request, the client's close code, and the bytes of frames both ways."""
    async with Logged(ECHO | {"websocket.disconnect": accept}) as gateway:
        peer = await gateway.open("/chat%20room?token=secret")
        peer.send(TEXT, b"hello")
        assert await peer.frame() == (TEXT, b"hello")
        assert not gateway.lines
        peer.send(PING, b"x")
        assert await peer.frame() == (PONG, b"x")
        peer.send(CLOSE, close_payload(4001, "bye"))
        assert await peer.frame() == (CLOSE, close_payload(4001))
        record = await gateway.record()
        assert record.pop("time").endswith("Z")
        assert 0 <= record.pop("seconds") < 5
        assert record.pop("client") == list(peer.writer.get_extra_info("sockname"))
        assert record.pop("reply_channel").startswith("websocket.send.p_")
        assert record == {
            "protocol": "websocket",
            "method": "GET",
            "path": "/chat%20room",
            "http_version": "1.1",
            "code": 4001,
            "end": "client",
            "received": (6 + 5) + (6 + 1) + (6 + 5),
            "sent": (2 + 5) + (2 + 1) + (2 + 2),
        }


@on_loop
async def test_ended_by_the_application() -> None:
    """What the application closes has the code that the client answered with."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"text": "ok", "close": 4002}]

    async with Logged({"websocket.connect": accept, "websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"x")
        assert await peer.frame() == (TEXT, b"ok")
        await peer.frame()
        peer.send(CLOSE, close_payload(4002))
        record = await gateway.record()
        assert (record["code"], record["end"]) == (4002, "application")


@on_loop
async def test_without_a_word() -> None:
    """A client that vanishes has 1006."""
    async with Logged(ECHO) as gateway:
        peer = await gateway.open()
        peer.writer.transport.abort()
        record = await gateway.record()
        assert (record["code"], record["end"]) == (1006, "client")


@on_loop
async def test_ended_by_the_gateway() -> None:
    """A shutdown is the gateway's."""
    async with Logged(ECHO) as gateway:
        peer = await gateway.open()
        gateway.engine._connections()[0].drain(0.0)
        await peer.frame()
        peer.send(CLOSE, close_payload(1012))
        record = await gateway.record()
        assert (record["code"], record["end"]) == (1012, "gateway")


@on_loop
async def test_silent_client_is_cut_off() -> None:
    """A client without a sign of life is cut off."""
    async with Logged(ECHO, ping_interval=0.1, ping_timeout=0.1) as gateway:
        await gateway.open()
        record = await gateway.record()
        assert (record["code"], record["end"]) == (1006, "cut")


@pytest.mark.parametrize(
    ("result", "code"),
    [(Outcome(REJECTED), 403), ([{"status": 401, "content": b"who?"}], 401), ([{"close": 1}], 403)],
)
@on_loop
async def test_refused(result: Any, code: int) -> None:
    """A refused handshake is one record, of the websocket plugin, with its status."""
    async with Logged({"websocket.connect": lambda _: result}) as gateway:
        peer = await gateway.raw()
        assert (await peer.response())[0] == code
        record = await gateway.record()
        assert (record["protocol"], record["code"], record["end"]) == ("websocket", code, "refused")
        [(_, message)] = gateway.seen
        assert record["reply_channel"] == message["reply_channel"]


@on_loop
async def test_bad_handshake() -> None:
    """A handshake that nobody is asked about is a request of http that the gateway refused."""
    async with Logged(ECHO) as gateway:
        peer = await gateway.raw("/chat", "Sec-WebSocket-Version: 12")
        status, _, _ = await peer.response()
        record = await gateway.record()
        assert (record["protocol"], record["code"], record["end"]) == ("http", status, "gateway")


@on_loop
async def test_client_leaves_before_the_decision() -> None:
    """A client that leaves while its handshake waits has 499."""
    async with Logged(
        {"websocket.connect": lambda _: [{"close": False}]}, implicit_accept=False
    ) as gateway:
        peer = await gateway.raw()
        await wait_until(lambda: gateway.seen)
        peer.writer.transport.abort()
        record = await gateway.record()
        assert (record["protocol"], record["code"], record["end"]) == ("websocket", 499, "client")


@on_loop
async def test_a_pong_behind_our_close() -> None:
    """What is answered after our close frame counts as well."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"close": 4002}]

    async with Logged({"websocket.connect": accept, "websocket.receive": receive}) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"x")
        assert await peer.frame() == (CLOSE, close_payload(4002))
        peer.send(PING, b"y")
        assert await peer.frame() == (PONG, b"y")
        peer.send(CLOSE, close_payload(4002))
        record = await gateway.record()
        assert record["sent"] == (2 + 2) + (2 + 1)


@on_loop
async def test_over_http2() -> None:
    """A WebSocket on a stream of HTTP/2 is a record like any other."""
    async with Logged(ECHO) as gateway:

        def talk() -> None:
            sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            handshake = (b"sec-websocket-version", b"13")
            with Http2Client(sock) as client:
                number = client.send(
                    request("/chat", handshake, method=b"CONNECT", protocol=b"websocket"), end=False
                )
                while not client.answers[number].status:
                    client.take()
                client.h2.send_data(number, frame(TEXT, b"hello"))
                client.flush()
                while not client.answers[number].content:
                    client.take()
                client.h2.send_data(number, frame(CLOSE, close_payload(1000)))
                client.flush()
                client.answer(number)

        await asyncio.to_thread(talk)
        record = await gateway.record()
        assert (record["protocol"], record["method"], record["http_version"]) == (
            "websocket",
            "CONNECT",
            "2",
        )
        assert (record["code"], record["end"], record["path"]) == (1000, "client", "/chat")
        assert record["received"] == len(frame(TEXT, b"hello") + frame(CLOSE, b"\x03\xe8"))
        assert record["sent"] == (2 + 5) + (2 + 2)
