"""permessage-deflate over real sockets: real clients, groups, what a connection costs."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from gateway.plugins.websocket.deflate import Deflater
from tests.plugins.websocket.peers import deflated
from tests.plugins.websocket.serving import ECHO, Raw, Serving, accept, echo, on_loop, wait_until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
LONG = "Hello, hello, hello! " * 100


def inflate(payload: bytes) -> bytes:
    """Return what a message without context inflates to."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


async def compressed(peer: Raw) -> tuple[int, bytes]:
    """Return opcode and inflated payload of the next frame, which is compressed."""
    async with asyncio.timeout(5):
        first, size = await peer.reader.readexactly(2)
        assert first & 0xF0 == 0xC0, "final, RSV1"
        if size >= 126:
            size = int.from_bytes(await peer.reader.readexactly(2 if size == 126 else 8), "big")
        return first & 15, inflate(await peer.reader.readexactly(size))


@on_loop
async def test_echo() -> None:
    """What is agreed on is answered; long messages travel compressed, short ones as they are."""
    async with Serving(ECHO, compression="deflate") as gateway:
        peer = await gateway.raw("/chat", OFFER)
        status, headers, _ = await peer.response()
        assert status == 101
        assert headers["sec-websocket-extensions"] == (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=12"
        )
        peer.send(TEXT, deflated(LONG.encode()), rsv=4)
        assert await compressed(peer) == (TEXT, LONG.encode())
        peer.send(BINARY, LONG.encode())
        assert await compressed(peer) == (BINARY, LONG.encode())
        peer.send(TEXT, deflated(b"hi"), rsv=4)
        assert await peer.frame() == (TEXT, b"hi")
        assert [m.get("text") for m in gateway.messages("receive")] == [LONG, None, "hi"]


@pytest.mark.parametrize(
    ("compression", "offer"),
    [
        ("off", OFFER),
        ("deflate", "X-Nothing: x"),
        ("deflate", OFFER + "; server_max_window_bits=8"),
        ("deflate", OFFER + "; unknown"),
    ],
)
@on_loop
async def test_not_agreed(compression: str, offer: str) -> None:
    """Without an agreement nothing is answered or compressed, and RSV1 is a fault: 1002."""
    async with Serving(ECHO, compression=compression) as gateway:
        peer = await gateway.raw("/chat", offer)
        status, headers, _ = await peer.response()
        assert status == 101
        assert "sec-websocket-extensions" not in headers
        peer.send(TEXT, LONG.encode())
        assert await peer.frame() == (TEXT, LONG.encode())
        peer.send(TEXT, deflated(LONG.encode()), rsv=4)
        assert (await peer.closed())[0] == 1002


@on_loop
async def test_an_illegal_header() -> None:
    """A header that does not conform to the grammar fails the handshake, though it is ignored."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw("/chat", OFFER + "; =x")
        status, _, body = await peer.response()
        assert status == 400
        assert body == b"a Sec-WebSocket-Extensions that is no list of extensions\n"
        assert not gateway.seen


@on_loop
async def test_accepted_with_words() -> None:
    """What an accepting reply says may be compressed already; a refusal names no extension."""

    def connect_(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["path"] == "/no":
            return [{"accept": False}]
        return [{"accept": True, "text": LONG, "close": 4000}]

    async with Serving({"websocket.connect": connect_}, compression="deflate") as gateway:
        peer = await gateway.open("/chat", OFFER)
        assert await compressed(peer) == (TEXT, LONG.encode())
        assert await peer.frame() == (CLOSE, b"\x0f\xa0")
        peer = await gateway.raw("/no", OFFER)
        status, headers, _ = await peer.response()
        assert status == 403
        assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize(
    "offer",
    [
        ClientPerMessageDeflateFactory(client_max_window_bits=True),
        ClientPerMessageDeflateFactory(),
        ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9),
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True
        ),
    ],
    ids=["default", "plain", "smallest", "no-context"],
)
@on_loop
async def test_websockets(offer: ClientPerMessageDeflateFactory, context: bool) -> None:
    """The websockets library: many messages, whole and in fragments, whatever was agreed on."""
    async with (
        Serving(ECHO, compression="deflate", compression_context=context) as gateway,
        connect(gateway.url, extensions=[offer], compression=None, proxy=None) as peer,
    ):
        (extension,) = peer.protocol.extensions
        assert extension.name == "permessage-deflate"
        for message in ("short", LONG, LONG, b"\x00" * 100_000, "", b"", LONG.encode() * 20):
            await peer.send(message)
            assert await peer.recv() == message
            await peer.send([message] * 3)
            assert await peer.recv() == message * 3  # type: ignore[operator]
        await (await peer.ping(b"there?"))


@on_loop
async def test_replies_and_order_with_context() -> None:
    """With context takeover all that is sent to a connection, by whatever way, can be inflated."""

    def receive(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["text"] == "bad":
            # Neither is sent, so neither may move the window on.
            return [
                {"text": LONG + "never", "accept": False},
                {"text": LONG + "never", "subprotocol": "x"},
            ]
        return [*echo(message), {"text": LONG + "again"}]

    async with (
        Serving(
            {"websocket.connect": accept, "websocket.receive": receive},
            compression="deflate",
            compression_context=True,
        ) as gateway,
        connect(gateway.url, proxy=None) as peer,
    ):
        (name,) = gateway.engine.by_channel
        await gateway.layer.agroup_add("room", name)
        for number in range(3):
            await peer.send("bad")
            await peer.send(f"{number}" + LONG)
            assert await peer.recv() == f"{number}" + LONG
            assert await peer.recv() == LONG + "again"
            await gateway.layer.asend_group("room", {"text": LONG + f"all {number}"})
            assert await peer.recv() == LONG + f"all {number}"
        assert gateway.drops == {"invalid": 6}


# ---------------------------------------------------------------- groups


@on_loop
async def test_groups_are_compressed_once_per_parameter_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group's message to 100 members of two parameter sets is compressed twice, to others not."""
    compressions = 0
    compress = Deflater.compress

    def counted(self: Deflater, payload: bytes) -> bytes:
        nonlocal compressions
        compressions += 1
        return compress(self, payload)

    monkeypatch.setattr(Deflater, "compress", counted)
    async with Serving({"websocket.connect": accept}, compression="deflate") as gateway:
        offers = [OFFER, OFFER + "; server_max_window_bits=9; client_max_window_bits"] * 50
        peers = [await gateway.open("/chat", offer) for offer in offers]
        plain = [await gateway.open() for _ in range(5)]
        for name in list(gateway.engine.by_channel):
            await gateway.layer.agroup_add("room", name)
        await gateway.layer.asend_group("room", {"text": LONG})
        for peer in peers:
            assert await compressed(peer) == (TEXT, LONG.encode())
        for peer in plain:
            assert await peer.frame() == (TEXT, LONG.encode())
        assert compressions == 2
        await gateway.layer.asend_group("room", {"text": "short"})
        for peer in [*peers, *plain]:
            assert await peer.frame() == (TEXT, b"short")
        assert compressions == 2


@on_loop
async def test_groups_with_context() -> None:
    """With context takeover each member gets a frame of its own, which it can inflate."""
    async with Serving(
        {"websocket.connect": accept}, compression="deflate", compression_context=True
    ) as gateway:
        peers = [await connect(gateway.url, proxy=None) for _ in range(5)]
        for name in list(gateway.engine.by_channel):
            await gateway.layer.agroup_add("room", name)
            await gateway.layer.asend(name, {"text": LONG + name})
        for number in range(3):
            await gateway.layer.asend_group("room", {"text": LONG + f"{number}"})
        for peer in peers:
            assert (await peer.recv()).startswith(LONG)  # type: ignore[arg-type]
            for number in range(3):
                assert await peer.recv() == LONG + f"{number}"
            await peer.close()


# ---------------------------------------------------------------- limits


@on_loop
async def test_a_bomb() -> None:
    """What inflates beyond max_message is refused: 1009; the application hears nothing of it."""
    async with Serving(ECHO | {"websocket.disconnect": accept}, compression="deflate") as gateway:
        peer = await gateway.open("/chat", OFFER)
        peer.send(BINARY, deflated(bytes(100_000_000)), rsv=4)
        assert (await peer.closed())[0] == 1009
        await wait_until(lambda: gateway.messages("disconnect"))
        assert not gateway.messages("receive")


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\xff\xff", 1007), (deflated(b"\xff" * 500), 1007)]
)
@on_loop
async def test_bad_data(payload: bytes, code: int) -> None:
    """What cannot be inflated, or is no text then, is refused: 1007."""
    async with Serving(ECHO, compression="deflate") as gateway:
        peer = await gateway.open("/chat", OFFER)
        peer.send(TEXT, payload, rsv=4)
        assert (await peer.closed())[0] == code
