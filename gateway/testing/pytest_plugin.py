"""The pytest plugin of the test kit: light fixtures, loaded wherever gateway is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gateway.core.layers.base import Layer


@pytest.fixture
def memory_layer() -> Iterator[Layer]:
    """Yield a new layer in this process; close it after the test."""
    from gateway import open_layer

    layer = open_layer("memory://")
    yield layer
    layer.close()
