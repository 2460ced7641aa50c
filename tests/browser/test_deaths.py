"""Processes are killed while numbers flow to a page: it hears each once, in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.browser.judging import PLUGINS, PROJECT, Judge, judged
from tests.demo.browser import Browser
from tests.e2e.serving import Served, wait_until

pytestmark = pytest.mark.timeout(90)  # five processes that start, and are killed and start again
TRANSPORTS = pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two gateways, a hub of its own, two workers."""
    folder = tmp_path_factory.mktemp("deaths")
    quick = ("--set", "gateway.reconnect_spread=0.5")
    with Served(folder, *PLUGINS, *quick, project=PROJECT, gateways=2, workers=2) as served:
        yield served


def kill(served: Served, role: str, how: int = signal.SIGKILL) -> None:
    """Kill the processes of a role, one after the other, each once the last is replaced."""
    for pid in served.processes()[role]:
        before = served.processes()[role]
        os.kill(pid, how)
        wait_until(
            lambda b=before, p=pid: (
                len(now := served.processes()[role]) == len(b) and p not in now and answers(served)
            ),
            20,
        )


def answers(served: Served) -> bool:
    try:
        return served.get("/page/")[0] == 200
    except OSError:
        return False


def lives(judge: Judge, opened: int) -> None:
    """Numbers come again, and it took another connection."""
    judge.more(50, 20)
    assert len(judge.said) > opened


@TRANSPORTS
def test_gateways_are_killed(browser: Browser, served: Served, transport: str) -> None:
    """One after the other, the one that holds the page's connection among them."""
    with judged(browser, served, transports=[transport]) as judge:
        judge.more()
        kill(served, "gateway")
        lives(judge, 1)


def test_gateways_are_killed_under_an_event_source(browser: Browser, served: Served) -> None:
    """EventSource, with nothing but what is built in."""
    with judged(browser, served, begin="listen('/numbers/?last_event_id=')") as judge:
        judge.more()
        kill(served, "gateway")
        lives(judge, 1)


@TRANSPORTS
def test_workers_are_killed(browser: Browser, served: Served, transport: str) -> None:
    """While the page comes back again and again, so that joins are lost with them."""
    with judged(browser, served, transports=[transport]) as judge:
        for pid in served.processes()["worker"]:
            judge.more()
            for state in ("frozen", "active"):
                judge.page.call("Page.setWebLifecycleState", state=state)
            os.kill(pid, signal.SIGKILL)
        lives(judge, 1)
        wait_until(lambda: len(served.processes()["worker"]) == 2, 20)
