"""Fixtures for projects that are tested by pytest; Django is imported when one is used.

They want Django to be set up, by pytest-django, say, or by a ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient
    from gateway.core.layers.base import Layer


@pytest.fixture
def gateway_client() -> Iterator[GatewayClient]:
    """Yield a `GatewayClient` of the project's site; end the site after the test."""
    from django_gateway.testing.client import GatewayClient  # noqa: PLC0415 - see above

    client = GatewayClient()
    yield client
    client.close()


@pytest.fixture
def gateway_layer(gateway_client: GatewayClient) -> Layer:
    """Return the layer of ``gateway_client``'s site."""
    return gateway_client.layer
