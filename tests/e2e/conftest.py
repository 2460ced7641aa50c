"""One gateway for most tests; those that break it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.serving import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with two workers, shared: nothing may break it."""
    with Served(tmp_path_factory.mktemp("e2e"), workers=2) as served:
        yield served
