"""One browser for all tests that look at a page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.browser import PROGRAM, Browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()
