"""WebSockets through a real gateway with settings of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.e2e.serving import Served

LARGE = {
    "GATEWAY_LAYER_MESSAGE_BYTES": str(9 << 20),
    "GATEWAY_LAYER_CHANNEL_BYTES": str(40 << 20),
    "GATEWAY_WEBSOCKET_MAX_MESSAGE": str(8 << 20),
    "GATEWAY_WEBSOCKET_MAX_FRAME": str(8 << 20),
    "GATEWAY_WEBSOCKET_COMPRESSION": "deflate",
    "GATEWAY_WEBSOCKET_ORIGINS": "https://app.example",
}


def test_large_and_compressed(tmp_path: Path) -> None:
    """Messages of 8 MiB, compressed and not, pass the hub both ways; foreign pages do not."""

    async def run(url: str, compression: str | None) -> None:
        async with connect(
            url, max_size=None, compression=compression, origin="https://app.example", proxy=None
        ) as peer:
            assert bool(peer.protocol.extensions) == bool(compression)
            for message in ("hello " * 100, "x" * (8 << 20), "\u20ac" * (1 << 20)):
                await peer.send(message)
                assert await peer.recv() == message

    async def foreign(url: str) -> int:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin="https://evil.example", proxy=None)
        return refused.value.response.status_code

    with Served(tmp_path, **LARGE) as served:
        for path in ("/echo", "/aecho"):
            for compression in (None, "deflate"):
                asyncio.run(run(served.url(path, "ws"), compression))
        assert asyncio.run(foreign(served.url("/echo", "ws"))) == 403
        assert served.numbers()["gateway_websocket_foreign_origins_total"] == 1


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    """Messages that the layer does not let through stop the start, with what to set."""
    alone = {"GATEWAY_WEBSOCKET_MAX_MESSAGE": str(8 << 20)}
    with pytest.raises(AssertionError, match=r"set layer\.message_bytes to 8404992 or more"):
        Served(tmp_path, **alone).__enter__()
