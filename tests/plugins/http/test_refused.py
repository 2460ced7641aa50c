"""What is ambiguous is refused: over a real socket, with its id, and the connection closed."""

from __future__ import annotations

import re

import pytest

from gateway.core.plugin import Peer
from gateway.plugins.http.body import ChunkedBody
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import CHUNKED, HeadReader
from gateway.plugins.http.http2.faults import FAULTS
from gateway.plugins.http.refusals import RULES, Refused
from tests.plugins.http import own
from tests.plugins.http.http2 import refused as http2
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.refused import CASES, PAGE, page
from tests.plugins.http.serving import Served, hello, wait_until

IDS = [f"{refusal}: {case}" for refusal, case, _ in CASES]
TIMEOUTS = {"header-timeout", "body-timeout"}


@pytest.fixture(scope="module")
def site():
    config = HttpConfig(header_timeout=0.1, body_timeout=0.1)
    with Served({"http.request": hello}, config=config) as served:
        yield served


@pytest.mark.parametrize(("refusal", "case", "data"), CASES, ids=IDS)
def test_refused(site, refusal, case, data):
    """The answer has the rule's status and names the refusal; then the connection ends."""
    before = len(site.seen)
    with site.connect() as client:
        response = client.send(data).response()
        assert response.status == RULES[refusal].status
        assert response.content == f"{RULES[refusal].sentence} ({refusal})\n".encode()
        assert response.header(b"connection") == b"close"
        own.check(response.status, response.headers, response.content)
        assert client.rest() == b""
    assert site.seen[before:] == []
    series = f'gateway_http_refused_total{{why="{refusal}"}}'
    assert wait_until(lambda: site.metrics.snapshot().get(series))


@pytest.mark.parametrize(
    ("refusal", "case", "fields"), http2.CASES, ids=[f"{r}: {c}" for r, c, _ in http2.CASES]
)
def test_refused_over_http2(site, refusal, case, fields):
    """The answer says what is wrong, on its stream alone: the connection goes on."""
    before = len(site.seen)
    with Http2Client(site) as client:
        answer = client.ask(fields)
        assert answer.status == RULES[refusal].status
        assert answer.content == f"{RULES[refusal].sentence} ({refusal})\n".encode()
        own.check(answer.status, answer.headers, answer.content)
        assert site.seen[before:] == []
        assert client.ask(http2.request("/next")).content == b"hello /next"
    series = f'gateway_http_refused_total{{why="{refusal}"}}'
    assert wait_until(lambda: site.metrics.snapshot().get(series))


def read(data: bytes, cuts: list[int]) -> str | None:
    """Return the id of the refusal of ``data``, cut into pieces, read without any socket."""
    reader = HeadReader(HttpConfig(), Peer())
    body = None
    rest = b""
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    try:
        for piece in pieces:
            rest += piece
            if body is None:
                head = reader.read(rest)
                if head is None:
                    continue
                assert head.length == CHUNKED, "a head that is to be refused was read"
                rest = rest[reader.size :]
                body = ChunkedBody(HttpConfig().max_body)
            body.feed(rest)
            rest = b""
    except Refused as refused:
        return refused.id
    return None


@pytest.mark.parametrize(("refusal", "case", "data"), CASES, ids=IDS)
def test_refused_however_it_is_cut(refusal, case, data):
    """Whole, byte by byte or in two, the same input is refused for the same reason."""
    if refusal in TIMEOUTS:
        return
    assert read(data, []) == refusal
    step = 1 if len(data) < 1000 else 997
    assert read(data, list(range(step, len(data), step))) == refusal
    for cut in range(1, len(data), step):
        assert read(data, [cut]) == refusal


def test_each_refusal_has_a_case_and_each_case_a_row():
    """The rules, the cases and the table of the documentation name the same refusals."""
    assert {refusal for refusal, _, _ in (*CASES, *http2.CASES)} == set(RULES)
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [*RULES, *FAULTS]
    assert len(IDS) == len(set(IDS))


def test_the_page_is_current():
    """The documentation lists every case; ``python -m tests.plugins.http.refused`` writes it."""
    assert PAGE.read_text() == page()
