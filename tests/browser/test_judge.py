"""A real browser, a real gateway, a bad network between them: no number is missed, none comes twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.judging import PLUGINS, PROJECT, judged
from tests.browser.proxy import Proxy
from tests.demo.browser import Browser
from tests.e2e.serving import Served, wait_until

pytestmark = pytest.mark.timeout(60)  # a gateway that imports Django, and a browser
KINDS = ("page", "websocket", "sse", "open", "poll", "post")
SPEED = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
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


def no_upgrades(proxy: Proxy) -> None:
    proxy.refused.add("websocket")


def test_upgrades_are_refused(browser: Browser, served: Served) -> None:
    """An event stream then, whatever cuts it; a WebSocket again once it is let through."""
    with judged(browser, served, hostile=no_upgrades, probe=400) as judge:
        judge.transport("sse")
        for within in (False, True, True):
            judge.more()
            judge.proxy.cut("sse", within=within)
        judge.more()
        judge.transport("sse")
        judge.proxy.refused.clear()
        judge.transport("websocket", 15)
        judge.more()
        assert "open websocket" not in judge.said[:-1]


def test_event_streams_are_cut(browser: Browser, served: Served) -> None:
    """Reset, and cut in the middle of an event."""
    with judged(browser, served, transports=["sse"]) as judge:
        for number in range(8):
            judge.more()
            judge.proxy.cut("sse", within=number % 2 == 0)
        judge.more()


def test_event_streams_of_bytes_are_cut(browser: Browser, served: Served) -> None:
    """Bytes have their ids as texts have."""
    with judged(browser, served, transports=["sse"], binary=True) as judge:
        for _ in range(5):
            judge.more()
            judge.proxy.cut("sse", within=True)
        judge.more()


def only_requests(proxy: Proxy) -> None:
    proxy.refused.add("websocket")
    proxy.stalled.add("sse")


def test_event_streams_are_buffered(browser: Browser, served: Served) -> None:
    """Behind a proxy that keeps a stream until it ends the page polls; and again streams after it."""
    with judged(browser, served, hostile=only_requests, probe=400) as judge:
        judge.transport("longpoll")
        judge.more()
        judge.proxy.stalled.clear()
        judge.transport("sse", 15)
        judge.more()


def test_polls_are_cut(browser: Browser, served: Served) -> None:
    """Reset while they wait, and cut in the middle of an answer."""
    with judged(browser, served, transports=["longpoll"]) as judge:
        for number in range(8):
            judge.more(20)
            judge.proxy.cut("poll", within=number % 2 == 0)
        judge.more()
        assert judge.said == ["open longpoll"]


@pytest.mark.parametrize("binary", [False, True])
def test_answers_to_polls_are_lost(browser: Browser, served: Served, binary: bool) -> None:
    """The gateway has written them, and the page never gets them: it hears the same again."""
    with judged(browser, served, transports=["longpoll"], binary=binary) as judge:
        for _ in range(4):
            judge.more(20)
            lost = judge.proxy.lost
            judge.proxy.lossy.add("poll")
            wait_until(lambda before=lost: judge.proxy.lost > before)
            judge.proxy.lossy.clear()
        judge.more()
        assert judge.said == ["open longpoll"]


def test_all_of_it(browser: Browser, served: Served) -> None:
    """From one transport to the next and back, each cut where it hurts."""
    with judged(browser, served, probe=300) as judge:
        network = judge.proxy
        judge.more()
        network.refused.add("websocket")
        network.cut("websocket", within=True)
        judge.transport("sse")
        judge.more()
        network.stalled.add("sse")
        judge.transport("longpoll", 15)
        judge.more()
        network.lossy.add("poll")
        wait_until(lambda: network.lost > 1)
        network.lossy.clear()
        judge.more()
        network.stalled.clear()
        judge.transport("sse", 15)
        network.cut("sse", within=True)
        judge.more()
        network.refused.clear()
        judge.transport("websocket", 15)
        judge.more()


def test_an_event_stream_is_held_up(browser: Browser, served: Served) -> None:
    """A path that is dead, with nobody to say so, is noticed by its silence."""
    with judged(browser, served, transports=["sse"]) as judge:
        judge.more()
        judge.proxy.stalled.add("sse")
        judge.page.wait("gateway.status !== 'open'")
        judge.proxy.stalled.clear()
        judge.more()


def test_a_websocket_is_held_up(browser: Browser, served: Served) -> None:
    """The heartbeats that a page sees tell it that its WebSocket is open in name only."""
    with judged(browser, served, transports=["websocket"]) as judge:
        judge.more()
        judge.proxy.stalled.add("websocket")
        judge.page.wait("gateway.status !== 'open'")
        judge.proxy.stalled.clear()
        judge.more()


def test_websockets_die_at_once(browser: Browser, served: Served) -> None:
    """What opens and is reset, three times, gives way to an event stream."""
    with judged(browser, served) as judge:
        for _ in range(3):
            judge.transport("websocket")
            judge.more(5)
            judge.proxy.cut("websocket")
            judge.page.wait("gateway.status !== 'open'")
        judge.transport("sse")
        judge.more()


def test_nobody_is_there(browser: Browser, served: Served) -> None:
    """For a second every connection is reset as soon as it is made."""
    with judged(browser, served) as judge:
        judge.more()
        judge.proxy.down.update(KINDS)
        judge.proxy.cut()
        judge.page.wait("gateway.status === 'waiting'")
        tried = judge.proxy.seen.total()
        wait_until(lambda: judge.proxy.seen.total() > tried + 6)
        judge.proxy.down.clear()
        judge.more()


def test_the_browsers_own_event_source(browser: Browser, served: Served) -> None:
    """EventSource, with nothing but what is built in: it comes back by itself, after its seconds."""
    with judged(browser, served, begin="listen('/numbers/?last_event_id=')") as judge:
        for within in (False, True, False):
            judge.more()
            judge.proxy.cut("sse", within=within)
        judge.more()
        assert judge.said == ["open"] * 4


def test_the_page_is_frozen(browser: Browser, served: Served) -> None:
    """A frozen page has no connection, and goes on where it was."""
    with judged(browser, served) as judge:
        judge.more()
        judge.page.call("Page.setWebLifecycleState", state="frozen")
        wait_until(lambda: judge.proxy.open("websocket") == 0)
        sent = judge.numbers.last
        wait_until(lambda: judge.numbers.last > sent + 50)
        judge.page.call("Page.setWebLifecycleState", state="active")
        judge.more()
        assert judge.said == ["open websocket"] * 2


def test_the_page_is_left_and_come_back_to(browser: Browser, served: Served) -> None:
    """By the back button: the page out of the browser's memory, or the page anew; never a gap."""
    with judged(browser, served) as judge:
        judge.more()
        judge.page.call("Page.navigate", url=judge.proxy.url("/static/gateway/package.json"))
        wait_until(lambda: judge.proxy.open("websocket") == 0)
        judge.page.wait("location.pathname.endsWith('json')")
        judge.page.run("history.back()")
        judge.page.wait("window.heard?.length")
        judge.more()
        assert judge.said == ["open websocket"] * 2


@pytest.fixture
def elsewhere(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    """A browser to whom the gateway is on another machine: it needs a network."""
    running = Browser(tmp_path / "profile", "--host-resolver-rules=MAP gateway.test 127.0.0.1")
    yield running
    running.close()


def test_the_machine_is_offline(elsewhere: Browser, served: Served) -> None:
    """No attempt while it is; at once when it is back."""
    with judged(elsewhere, served, host="gateway.test") as judge:
        judge.more()
        judge.page.call("Network.enable")
        judge.page.call("Network.emulateNetworkConditions", offline=True, **SPEED)
        judge.proxy.cut()
        judge.page.wait("gateway.status === 'offline'")
        seen = judge.proxy.seen.total()
        sent = judge.numbers.last
        wait_until(lambda: judge.numbers.last > sent + 100)
        assert judge.proxy.seen.total() == seen
        judge.page.call("Network.emulateNetworkConditions", offline=False, **SPEED)
        judge.more()


def test_a_strict_policy(browser: Browser, served: Served) -> None:
    """Under a Content-Security-Policy the tag's nonce is all that the client needs, and 'self'."""
    with browser.open(served.url("/strict/")) as page:
        page.wait("window.ready")
        for transport in ("websocket", "sse", "longpoll"):
            page.run(f"begin('/numbers/', {{transports: ['{transport}']}})")
            page.wait("gateway.position")
            page.run("gateway.close()")
        assert page.run("said.filter(line => line.startsWith('open'))") == [
            "open websocket",
            "open sse",
            "open longpoll",
        ]


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_another_origin(browser: Browser, served: Served, transport: str) -> None:
    """A page of another origin (another port is one) hears and says the same, preflights and all."""
    there = f"begin('{served.url('/numbers/')}', {{transports: ['{transport}'], withCredentials: true}})"
    with judged(browser, served, begin=there) as judge:
        judge.more()
        judge.page.run("gateway.send(new Uint8Array([49]))")
        judge.page.run("gateway.send('2')")
        wait_until(lambda: served.seen.exists() and served.seen.read_text().split() == ["1", "2"])
        served.seen.unlink()
        judge.more()
        assert judge.proxy.seen.keys() == {"page"}
