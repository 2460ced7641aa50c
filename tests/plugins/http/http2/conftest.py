"""What the tests of HTTP/2 share."""

from __future__ import annotations

import pytest

from tests.certificates import Authority
from tests.plugins.http.http2.serving import CONSUMERS, Secure
from tests.plugins.http.serving import Served


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=["plain", "TLS"])
def site(request, authority):
    """A site, to be spoken to by prior knowledge, and one where TLS agrees on HTTP/2."""
    made = Secure(authority, CONSUMERS) if request.param == "TLS" else Served(CONSUMERS)
    with made as served:
        yield served
