"""A real browser, a real gateway, a bad network between them: no number is missed, none comes twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.judging import PROJECT, judged
from tests.demo.browser import Browser
from tests.e2e.serving import Served

pytestmark = pytest.mark.timeout(60)  # a gateway that imports Django, and a browser
PLUGINS = ("--plugins", "http,websocket,sse")
QUICK = ("--set", "websocket.ping_interval=0.4", "--set", "sse.keep_alive=0.4")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers behind one gateway; no test breaks it."""
    folder = tmp_path_factory.mktemp("judge")
    with Served(folder, *PLUGINS, *QUICK, project=PROJECT, workers=2) as served:
        yield served


def test_nothing_happens(browser: Browser, served: Served) -> None:
    """Over a good network each number comes once, by WebSocket, on one connection."""
    with judged(browser, served) as judge:
        judge.more(200)
        assert judge.said == ["open websocket"]


def test_websockets_are_reset(browser: Browser, served: Served) -> None:
    """Reset in full flow, again and again."""
    with judged(browser, served, transports=["websocket"]) as judge:
        for _ in range(5):
            judge.more()
            judge.proxy.cut("websocket")
        judge.more()
        assert judge.said == ["open websocket"] * 6


def test_websockets_are_cut_within_a_frame(browser: Browser, served: Served) -> None:
    """What came by half has not come."""
    with judged(browser, served, transports=["websocket"]) as judge:
        for _ in range(5):
            judge.more()
            judge.proxy.cut("websocket", within=True)
        judge.more()


def test_binary_messages_are_cut(browser: Browser, served: Served) -> None:
    """Bytes have their ids as texts have."""
    with judged(browser, served, transports=["websocket"], binary=True) as judge:
        for _ in range(10):
            judge.more(20)
            judge.proxy.cut("websocket", within=True)
        judge.more()
