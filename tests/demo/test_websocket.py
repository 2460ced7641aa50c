"""A real browser's WebSockets: what it offers and compresses, and whose pages it lets connect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.browser import Browser
from tests.e2e.serving import Served

TALK = """
new Promise(resolve => {{
    const socket = new WebSocket("{url}");
    const found = [];
    const texts = ["hi", "hello, ".repeat(5000), "\\u20ac".repeat(300)];
    socket.onopen = () => texts.forEach(text => socket.send(text));
    socket.onmessage = event => {{
        found.push(event.data);
        if (found.length == texts.length) socket.close(4000, "bye");
    }};
    socket.onclose = event => resolve([
        socket.extensions, found.map((text, n) => text == texts[n]), event.code, event.wasClean
    ]);
}})
"""
"""What came of a conversation: the extension, whether each text came back, how it ended."""


@pytest.fixture(scope="module", params=["false", "true"])
def served(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Served]:
    environ = {
        "GATEWAY_WEBSOCKET_COMPRESSION": "deflate",
        "GATEWAY_WEBSOCKET_COMPRESSION_CONTEXT": request.param,
    }
    with Served(tmp_path_factory.mktemp("served"), **environ) as served:
        yield served


def test_compression(browser: Browser, served: Served) -> None:
    """A browser agrees on compression, and reads and writes it; its close is clean."""
    with browser.open(served.url("/pid")) as page:
        extension, same, code, clean = page.run(TALK.format(url=served.url("/echo", "ws")))
    assert extension.startswith("permessage-deflate")
    assert same == [True] * 3
    assert (code, clean) == (4000, True)


def test_origins(browser: Browser, served: Served) -> None:
    """A page of another host cannot connect: the browser sees the handshake fail."""
    elsewhere = served.url("/pid").replace("127.0.0.1", "localhost")
    with browser.open(elsewhere) as page:
        extension, same, code, clean = page.run(TALK.format(url=served.url("/echo", "ws")))
    assert (extension, same, code, clean) == ("", [], 1006, False)
    assert served.numbers()["gateway_websocket_foreign_origins_total"] >= 1
