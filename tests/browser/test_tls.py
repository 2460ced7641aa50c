"""The client over TLS, where browsers speak HTTP/2: all transports share one connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.judging import PLUGINS, PROJECT, Numbers
from tests.certificates import Authority
from tests.demo.browser import PROGRAM, Browser
from tests.e2e.serving import Served, wait_until
from tests.e2e.test_tls import port, secure

pytestmark = pytest.mark.timeout(60)  # a gateway that imports Django, and a browser


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that takes any certificate."""
    if PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    running = Browser(tmp_path_factory.mktemp("browser"), "--ignore-certificate-errors")
    yield running
    running.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("site")
    certificate = Authority(folder).issue("site", "127.0.0.1")
    with secure(folder, certificate, *PLUGINS, project=PROJECT) as site:
        yield site


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_over_http2(trusting: Browser, site: Served, transport: str) -> None:
    """Over one connection of HTTP/2 numbers come, and what is sent arrives."""
    numbers = Numbers(site)
    with trusting.open(f"https://127.0.0.1:{port(site)}/page/") as page:
        page.wait("window.ready")
        page.run(f"begin('/numbers/', {{transports: ['{transport}']}})")
        page.wait("gateway.position")
        numbers.start()
        try:
            for number in range(20):
                page.run(f"gateway.send('{number}')")
            page.wait("heard.length > 100")
        finally:
            numbers.stop()
        page.wait(f"heard.at(-1) === {numbers.last}")
        assert page.run("heard") == list(range(1, numbers.last + 1))
        hops = "performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol)"
        assert set(page.run(hops)) == {"h2"}
    wait_until(lambda: site.seen.read_text().split()[-20:] == [str(n) for n in range(20)])
    site.seen.unlink()
