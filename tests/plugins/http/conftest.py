"""What the tests of http share."""

from __future__ import annotations

import pytest

from tests.plugins.http.talk import VERSIONS


@pytest.fixture(params=VERSIONS)
def talk(request):
    """What begins a connection with a site, in each version of HTTP."""
    return VERSIONS[request.param]
