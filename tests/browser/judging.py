"""A page behind a bad network, and numbers that flow to it: it hears each once, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from tests.browser.proxy import Proxy
from tests.demo.browser import Browser, Page
from tests.e2e.serving import Served

PROJECT = Path(__file__).parent / "project"
PLUGINS = ("--plugins", "http,websocket,sse,longpoll")
OPTIONS = {"minDelay": 50, "maxDelay": 500, "openTimeout": 1000, "probe": 0}
"""Everything sooner than a page would have it."""


class Numbers:
    """Sends a number every few milliseconds to a group that keeps them."""

    def __init__(self, served: Served, binary: bool = False) -> None:
        self._layer = UnixLayer(f"unix://{served.socket}", LayerOptions())
        self._binary = binary
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="numbers")
        self.last = 0

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            number = self.last + 1
            said = {"bytes": number.to_bytes(4)} if self._binary else {"text": str(number)}
            self._layer.send_group("numbers", said, history=5000)
            self.last = number

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(10)
            self._layer.close()


class Judge:
    """The page, the network, and what has to be true at the end."""

    def __init__(self, page: Page, proxy: Proxy, numbers: Numbers) -> None:
        self.page = page
        self.proxy = proxy
        self.numbers = numbers

    def more(self, count: int = 50, seconds: float = 8) -> None:
        """Wait until the page has heard so many numbers that were not sent before now."""
        self.page.wait(f"heard.at(-1) >= {self.numbers.last + count}", seconds)

    @property
    def said(self) -> list[str]:
        found: list[str] = self.page.run("said")
        return found

    def transport(self, name: str, seconds: float = 8) -> None:
        """Wait until the page is connected by a transport."""
        self.page.wait(f"gateway.status === 'open' && gateway.transport === '{name}'", seconds)

    def verdict(self) -> None:
        """No gap, no double, in order, and nothing that was not told."""
        self.numbers.stop()
        last = self.numbers.last
        self.page.wait(f"heard.at(-1) === {last}")
        heard = self.page.run("heard")
        assert heard == list(range(1, last + 1)), _faults(heard)
        assert "missed" not in self.said


def _faults(heard: list[int]) -> list[tuple[int, int]]:
    """The neighbours that are none."""
    pairs = zip([0, *heard], heard, strict=False)
    return [(one, other) for one, other in pairs if other != one + 1][:20]


@contextmanager
def judged(browser: Browser, served: Served, begin: str = "", **options: Any) -> Iterator[Judge]:
    """Numbers flow to a page while the block cuts what it likes; at its end the page is judged."""
    with (
        Proxy(served.port, options.pop("host", "127.0.0.1")) as proxy,
        browser.open(proxy.url("/page/")) as page,
    ):
        page.wait("window.ready")
        numbers = Numbers(served, options.pop("binary", False))
        hostile = options.pop("hostile", None)
        if hostile is not None:
            hostile(proxy)
        page.run(begin or f"begin('/numbers/', {json.dumps(OPTIONS | options)})")
        if begin:
            page.wait("said.length")
        else:
            page.wait("gateway.position")
        judge = Judge(page, proxy, numbers)
        numbers.start()
        try:
            yield judge
            judge.verdict()
        finally:
            numbers.stop()
