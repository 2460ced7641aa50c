"""A directory with toys installed, and gateways that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.toy import Gateway, install


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A directory where the toy plugin and application are installed; ``project`` in it."""
    install(tmp_path)
    (tmp_path / "project").mkdir()
    return tmp_path


@pytest.fixture
def start(toys: Path) -> Iterator[Callable[..., Gateway]]:
    """Start ``gateway ARGUMENTS`` with the toys; killed at the end of the test."""
    running: list[Gateway] = []

    def begin(*arguments: str, **environ: Any) -> Gateway:
        running.append(Gateway(toys, *arguments, **environ))
        return running[-1]

    yield begin
    for gateway in running:
        gateway.end()
