"""What a page sends while the network cuts: nothing is lost without a word, nothing comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.judging import OPTIONS, PLUGINS, PROJECT
from tests.browser.proxy import Proxy
from tests.demo.browser import Browser, Page
from tests.e2e.serving import Served, wait_until

pytestmark = pytest.mark.timeout(60)  # a gateway that imports Django, and a browser
COUNT = 300
POUR = """
  window.outcomes = {};
  let number = 0;
  const timer = setInterval(() => {
    const mine = ++number;
    if (mine === COUNT) clearInterval(timer);
    gateway.send(String(mine)).then(
      () => (outcomes[mine] = "sent"),
      error => (outcomes[mine] = error.unsure ? "unsure" : error.message),
    );
  }, 5);
""".replace("COUNT", str(COUNT))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("sending")
    with Served(folder, *PLUGINS, project=PROJECT, workers=2) as served:
        yield served


@contextmanager
def page_of(
    browser: Browser, served: Served, path: str, **options: object
) -> Iterator[tuple[Page, Proxy]]:
    with Proxy(served.port) as proxy, browser.open(proxy.url("/page/")) as page:
        page.wait("window.ready")
        page.run(f"begin({path!r}, {json.dumps(OPTIONS | options)})")
        yield page, proxy


def poured(page: Page, served: Served) -> tuple[dict[int, str], list[int]]:
    """What became of each number by the page, and what the consumers wrote down."""
    page.wait(f"Object.keys(outcomes).length === {COUNT}", 15)
    outcomes = {int(number): said for number, said in page.run("outcomes").items()}
    last = max(number for number, said in outcomes.items() if said == "sent")
    wait_until(lambda: str(last) in served.seen.read_text().split())
    seen = [int(line) for line in served.seen.read_text().split()]
    served.seen.unlink()
    return outcomes, seen


def test_posts_are_cut(browser: Browser, served: Served) -> None:
    """Over an event stream: what was accepted was run once; what was not, the page knows of."""
    with page_of(browser, served, "/numbers/", transports=["sse"], queue=COUNT) as (page, proxy):
        page.wait("gateway.status === 'open'")
        page.run(POUR)
        for number in range(4):
            page.wait(f"Object.keys(outcomes).length > {40 * (number + 1)}")
            proxy.cut("post", "sse") if number % 2 else proxy.cut("post")
        outcomes, seen = poured(page, served)
    assert set(outcomes.values()) <= {"sent", "unsure"}
    assert seen == sorted(set(seen))
    sent = {number for number, said in outcomes.items() if said == "sent"}
    assert sent <= set(seen)
    assert len(sent) >= COUNT - 2


def test_answers_to_posts_are_lost_with_the_stream(browser: Browser, served: Served) -> None:
    """Over an event stream: where it breaks, too, the page is told that it cannot know."""
    with page_of(browser, served, "/numbers/", transports=["sse"]) as (page, proxy):
        page.wait("gateway.status === 'open'")
        proxy.lossy.add("post")
        page.run(
            "void gateway.send('1').catch(error => (window.told = [error.unsure, error.message]))"
        )
        wait_until(lambda: proxy.lost)
        proxy.cut("sse")
        page.wait("window.told")
        assert page.run("told") == [True, "the connection broke before the answer came"]
        proxy.lossy.clear()
        page.run("gateway.send('2')")
    wait_until(lambda: served.seen.exists() and served.seen.read_text().split() == ["1", "2"])
    served.seen.unlink()


def test_websockets_are_cut(browser: Browser, served: Served) -> None:
    """Over WebSockets: in order, none twice; what waited while there was none is sent then."""
    with page_of(browser, served, "/numbers/", transports=["websocket"], queue=COUNT) as (
        page,
        proxy,
    ):
        page.wait("gateway.status === 'open'")
        page.run(POUR)
        for number in range(4):
            page.wait(f"Object.keys(outcomes).length > {40 * (number + 1)}")
            proxy.down.add("websocket")
            proxy.cut("websocket")
            page.wait("gateway._queue.length > 10")
            proxy.down.clear()
        outcomes, seen = poured(page, served)
    assert set(outcomes.values()) == {"sent"}
    assert seen == sorted(set(seen))
    assert len(seen) >= COUNT - 4 * 5


@pytest.mark.parametrize("transport", ["sse", "longpoll"])
def test_answers_to_posts_are_lost(browser: Browser, served: Served, transport: str) -> None:
    """Each is posted again under its key, and run once: all are accepted."""
    options = {"transports": [transport], "queue": COUNT}
    with page_of(browser, served, "/numbers/", **options) as (page, proxy):
        page.wait("gateway.status === 'open'")
        page.run(POUR)
        for number in range(4):
            page.wait(f"Object.keys(outcomes).length > {40 * (number + 1)}")
            lost = proxy.lost
            proxy.lossy.add("post")
            wait_until(lambda before=lost: proxy.lost > before)
            proxy.lossy.clear()
        outcomes, seen = poured(page, served)
    assert set(outcomes.values()) == {"sent"}
    assert seen == list(range(1, COUNT + 1))


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_the_application_closes(browser: Browser, served: Served, transport: str) -> None:
    """The page hears its code and its reason, by whatever transport, and does not come back."""
    with page_of(browser, served, "/talk/", transports=[transport]) as (page, proxy):
        page.wait("gateway.status === 'open'")
        page.run("gateway.send('close').catch(() => {})")
        page.wait("gateway.status === 'closed'")
        assert page.run("said") == [f"open {transport}", "close 4000 enough"]
        assert proxy.seen["sse"] + proxy.seen["websocket"] + proxy.seen["open"] == 1


def test_a_message_is_refused(browser: Browser, served: Served) -> None:
    """Over an event stream the promise is rejected with what the application said."""
    with page_of(browser, served, "/talk/", transports=["sse"]) as (page, _):
        page.wait("gateway.status === 'open'")
        assert page.run("gateway.send('refuse').catch(error => [error.status, error.message])") == [
            422,
            "refused with 422: not that",
        ]
        page.run("gateway.send('12')")
        page.wait("heard.at(-1) === 12")


def test_the_connection_is_refused(browser: Browser, served: Served) -> None:
    """The application's refusal is told, and nothing is tried again."""
    with page_of(browser, served, "/club/") as (page, proxy):
        page.wait("gateway.status === 'closed'")
        assert page.run("said") == ["close 403 members only"]
        assert proxy.seen["websocket"] + proxy.seen["sse"] == 2
        assert page.run("gateway.send('x').catch(error => error.message)") == (
            "not sent, the connection is closed: members only"
        )
