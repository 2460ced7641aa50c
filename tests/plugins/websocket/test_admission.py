"""Who is let in, and who sends too much: origins and rates, over real sockets."""

from __future__ import annotations

import logging

import pytest

from gateway.core import pages
from tests.plugins.websocket.peers import frame
from tests.plugins.websocket.serving import ECHO, Serving, accept, on_loop, wait_until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FOREIGN = "gateway_websocket_foreign_origins_total"


@pytest.mark.parametrize(
    ("origins", "header", "status"),
    [
        (("same-host",), "Origin: http://localhost", 101),
        (("same-host",), "Origin: https://localhost:8443", 101),
        (("same-host",), "X-No: origin", 101),
        (("same-host",), "Origin: https://evil.example", 403),
        (("same-host",), "Origin: null", 403),
        (("same-host",), "Origin:", 403),
        (("https://app.example",), "Origin: https://app.example", 101),
        (("https://app.example",), "Origin: http://localhost", 403),
        ((), "Origin: http://localhost", 403),
        ((), "X-No: origin", 101),
        (("*",), "Origin: https://evil.example", 101),
    ],
)
@on_loop
async def test_origins(origins: tuple[str, ...], header: str, status: int) -> None:
    """Another site's page is refused before the application is asked, counted; others get in."""
    async with Serving(ECHO, origins=origins) as gateway:
        peer = await gateway.raw("/chat", header)
        found, _, body = await peer.response()
        assert found == status
        if status == 403:
            assert body == b"not for pages of another site\n"
        assert bool(gateway.messages("connect")) == (status == 101)
        assert gateway.metrics.snapshot().get(FOREIGN, 0) == (status == 403)


@on_loop
async def test_the_default_origins() -> None:
    """Unless told otherwise only pages of the same host may."""
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw("/chat", "Origin: https://evil.example")
        assert (await peer.response())[0] == 403


@on_loop
async def test_a_foreign_origin_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the page, the host and the setting, once a page, and for some pages only."""
    caplog.set_level(logging.WARNING)
    async with Serving(ECHO) as gateway:
        peer = await gateway.raw("/chat", "Origin: https://app.example")
        for number in range(100):
            await peer.response()
            origin = f"x{number}.example" if number > 2 else "app.example"
            peer.writer.write(handshake(f"Origin: https://{origin}"))
        await peer.response()
    first, *more = [record.getMessage() for record in caplog.records]
    assert first == (
        "a page of 'https://app.example' asked for a WebSocket at 'localhost' and was refused; if "
        "it is one of yours, add it to websocket.origins"
    )
    assert len(more) == pages.MOST_TOLD - 1


def handshake(*headers: str) -> bytes:
    from tests.plugins.websocket.serving import request

    return request("/chat", *headers)


# ---------------------------------------------------------------- rate


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(TEXT, b"x"), id="messages"),
        pytest.param(frame(PING, b"x"), id="pings"),
        pytest.param(frame(PONG), id="pongs"),
        pytest.param(frame(TEXT, b"x" * 5000), id="long-messages"),
    ],
)
@on_loop
async def test_rate(flood: bytes) -> None:
    """Who sends more than the rate and a burst is told so, 1008; what was in time is worked on."""
    async with Serving(
        {"websocket.connect": accept, "websocket.receive": accept, "websocket.disconnect": accept},
        message_rate=10,
        message_burst=100,
    ) as gateway:
        peer = await gateway.open()
        peer.writer.write(flood * 90)
        (connection,) = gateway.engine.by_channel.values()
        await wait_until(lambda: connection.wire._allowance <= 10)
        assert gateway.engine.by_channel
        peer.writer.write(flood * 300)
        while (found := await peer.frame())[0] == PONG:
            pass
        assert found == (CLOSE, b"\x03\xf0over 10 messages a second")
        await peer.ended()
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (1006, "over 10 messages a second")
        assert gateway.drops["limited"] >= 1
        assert gateway.drops.keys() == {"limited"}
        if flood[0] == 0x81:
            assert 90 <= len(gateway.messages("receive")) <= 300


@on_loop
async def test_fragments_count() -> None:
    """A message in many fragments counts as many, though it is never finished."""
    async with Serving(ECHO, message_rate=10, message_burst=100) as gateway:
        peer = await gateway.open()
        peer.send(TEXT, b"", fin=False)
        peer.writer.write(frame(0, b"x", fin=False) * 300)
        assert (await peer.closed())[0] == 1008


@on_loop
async def test_rate_in_time() -> None:
    """Who keeps to the rate stays, for as long as it likes."""
    async with Serving(ECHO, message_rate=20_000, message_burst=100) as gateway:
        peer = await gateway.open()
        for _ in range(1000):
            peer.send(TEXT, b"x")
            assert await peer.frame() == (TEXT, b"x")
        assert not gateway.drops


@on_loop
async def test_no_rate() -> None:
    """A rate of 0 is none: any number may come at once."""
    async with Serving(ECHO, message_rate=0, message_burst=1) as gateway:
        peer = await gateway.open()
        peer.writer.write(frame(TEXT, b"x") * 2000)
        for _ in range(2000):
            assert await peer.frame() == (TEXT, b"x")
