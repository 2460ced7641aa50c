"""A short run of what ``make fuzz`` does for longer; and that it would find something."""

from __future__ import annotations

import pytest

from gateway.plugins.http.body import ChunkedBody
from gateway.plugins.http.service import Service
from tests.plugins.http.fuzz import Finding, check_responses, fuzz

STREAMS = 400
"""Some two seconds."""


def test_nothing_is_found():
    """Whatever clients send: nothing is logged or left, and every answer is well-formed."""
    assert fuzz(20261126, count=STREAMS) == STREAMS


def test_an_exception_is_found(monkeypatch):
    """A fault in the reading of bodies does not escape."""

    def broken(self: ChunkedBody, line: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ChunkedBody, "_trailer", broken)
    with pytest.raises(Finding, match=r"ZeroDivisionError|500"):
        fuzz(1, count=200)


def test_a_conversation_that_is_left_is_found(monkeypatch):
    """A session that nobody ends does not escape."""

    def slow(message: dict) -> list[dict]:
        return [{"text": "hi"}] if message["path"] == "/neighbour/" else []

    monkeypatch.setattr("tests.plugins.http.fuzz.answer", slow)
    monkeypatch.setattr(Service, "_gone", lambda *_: None)
    monkeypatch.setattr("tests.plugins.http.fuzz.LEFT", 0.3)
    monkeypatch.setattr("tests.plugins.http.fuzz.PATIENCE", 3.0)
    with pytest.raises(Finding, match=r"are left|TimeoutError"):
        fuzz(1, count=40)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_malformed_response_is_found(data):
    """So does no response that is cut off, ambiguous, or followed by something."""
    with pytest.raises(Exception, match=r"closed|conflicting|illegal|failed|partial|invalid"):
        check_responses(data, b"", whole=True)
