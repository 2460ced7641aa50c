"""Every test of WebSocket connections, once more over HTTP/2 (RFC 8441)."""

from __future__ import annotations

import pytest

from tests.plugins.http.http2.websockets import Line, Raw2
from tests.plugins.websocket import test_served
from tests.plugins.websocket.serving import Serving
from tests.plugins.websocket.test_served import *  # noqa: F403 - pytest collects what is here

# Of HTTP/1: a raw request behind a refusal, 426 with Upgrade, and a handshake that is a request.
del test_refused_connection_serves_on, test_another_version, test_paths  # noqa: F821


@pytest.fixture(autouse=True)
def _over_http2(monkeypatch):
    """Have a gateway's clients be streams of one connection."""

    async def raw(self: Serving, path: str = "/chat", *headers: str, sent: bytes = b"") -> Raw2:
        if not hasattr(self, "line"):
            self.line = await Line.begin(self.port, whole=1 << 24)
            self.peers.append(self.line)
        return self.line.connect(path, *headers, sent=sent)

    monkeypatch.setattr(Serving, "raw", raw)


def test_nothing_is_left_out():
    """All of them are run here, but for three that are of HTTP/1 alone."""
    theirs = {name for name in vars(test_served) if name.startswith("test_")}
    assert len(theirs - set(globals())) == 3
