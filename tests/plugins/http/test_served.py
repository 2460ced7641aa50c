"""The started plugin, spoken to over sockets."""

from __future__ import annotations

import pytest

from tests.plugins.http.serving import Served, get, hello


@pytest.fixture(scope="module")
def site():
    with Served({"http.request": hello, "http.disconnect": lambda _: None}) as served:
        yield served


def test_answers_a_request(site):
    """A request becomes a message, its reply the response."""
    with site.connect() as client:
        response = client.send(get("/a%20b?c=d")).response()
    assert response.status == 200
    assert response.content == b"hello /a b"
    assert response.header(b"content-length") == b"10"
    assert response.header(b"date")
    assert response.header(b"server") == b"gateway"


def test_keeps_the_connection(site):
    """Requests follow each other on one connection."""
    with site.connect() as client:
        for number in range(3):
            assert client.send(get(f"/{number}")).response().content == b"hello /%d" % number


def test_pipelined_requests_are_answered_in_order(site):
    """Of pipelined requests the next waits for the previous response."""
    with site.connect() as client:
        client.send(b"".join(get(f"/{number}") for number in range(50)))
        contents = [r.content for r in client.responses(*["GET"] * 50)]
    assert contents == [b"hello /%d" % number for number in range(50)]
