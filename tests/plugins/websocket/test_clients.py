"""Real clients: the websockets library's, and autobahn's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from websockets.asyncio.client import connect

from tests.plugins.websocket.serving import ECHO, Serving, accept, on_loop, wait_until


def choose(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Accept with the client's last subprotocol."""
    return [{"accept": True, "subprotocol": message["subprotocols"][-1]}]


@on_loop
async def test_websockets() -> None:
    """The websockets library: subprotocol, both kinds of messages, fragments, ping, close."""
    async with Serving(
        ECHO | {"websocket.connect": choose, "websocket.disconnect": accept}
    ) as gateway:
        async with connect(gateway.url, subprotocols=["b", "a"], proxy=None) as peer:
            assert peer.subprotocol == "a"
            for message in ("h\u00e4llo", b"\x00\x01", "", b"", "x" * 100_000, b"y" * 500_000):
                await peer.send(message)
                assert await peer.recv() == message
            await peer.send(["in ", "three ", "parts"])
            assert await peer.recv() == "in three parts"
            await (await peer.ping(b"there?"))
            await peer.close(4321, "bye")
        assert peer.close_code == 4321
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (4321, "bye")


@on_loop
async def test_websockets_hears_the_end() -> None:
    """The websockets library hears our code and words, and finds the close clean."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"text": "last", "close": 4000, "reason": "enough"}]

    async with Serving(
        {"websocket.connect": accept, "websocket.receive": receive, "websocket.disconnect": accept}
    ) as gateway:
        async with connect(gateway.url, proxy=None) as peer:
            await peer.send("x")
            assert await peer.recv() == "last"
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await peer.recv()
            assert caught.value.rcvd == websockets.frames.Close(4000, "enough")
            assert caught.value.rcvd_then_sent
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 4000


@on_loop
async def test_websockets_refused() -> None:
    """The websockets library sees a refusal's status and body."""
    async with Serving(
        {"websocket.connect": lambda _: [{"status": 418, "content": b"teapot"}]}
    ) as gateway:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(gateway.url, proxy=None)
        assert caught.value.response.status_code == 418
        assert caught.value.response.body == b"teapot"


@on_loop
async def test_autobahn() -> None:
    """autobahn's client: subprotocol, messages in many frames, a clean close."""
    heard: list[Any] = []
    over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Client(WebSocketClientProtocol):
        def onOpen(self) -> None:
            heard.append(self.websocket_protocol_in_use)
            self.sendMessage("h\u00e4".encode())
            self.sendMessage(bytes(range(256)) * 10, isBinary=True, fragmentSize=100)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            heard.append((isBinary, payload))
            if isBinary:
                self.sendClose(1000, "done")

        def onClose(self, wasClean: bool, code: int, reason: str) -> None:
            over.set_result((wasClean, code))

    async with Serving(
        ECHO | {"websocket.connect": choose, "websocket.disconnect": accept}
    ) as gateway:
        factory = WebSocketClientFactory(gateway.url, protocols=["b", "a"])
        factory.protocol = Client
        await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", gateway.port)
        async with asyncio.timeout(5):
            assert await over == (True, 1000)
        assert heard == ["a", (False, "h\u00e4".encode()), (True, bytes(range(256)) * 10)]
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1000
