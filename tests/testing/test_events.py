"""The client's side of event streams, as tests read them: any cutting gives the same."""

from __future__ import annotations

import pytest

from gateway.testing.events import Events, ServerEvent
from gateway.testing.talk import Chunks

STREAM = (
    b": hi\r\n:\r\n\r\n"
    b"data: one\ndata:two\ndata\n\n"
    b"id: 1-a\nevent: named\nretry: 50\ndata: \xc3\xa9\xe2\x80\xa8x\r\r"
    b"id: 1-b\n\n"
    b"event: empty\n\n"
    b"id: no\0\nretry: 5x\ndata:  two spaces\nunknown: x\n\n"
    b"data: not yet"
)
EVENTS = [
    ServerEvent("message", "one\ntwo\n", None, None),
    ServerEvent("named", "é\u2028x", "1-a", 50),
    ServerEvent("message", " two spaces", None, None),
]


def cuttings(data: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and in two at every place."""
    pairs = [[data[:place], data[place:]] for place in range(1, len(data))]
    return [[data], [data[n : n + 1] for n in range(len(data))], *pairs]


@pytest.mark.parametrize("pieces", cuttings(STREAM), ids=range(len(STREAM) + 1))
def test_events(pieces: list[bytes]) -> None:
    """Fields, comments and ends of lines are those of the HTML standard; what is cut off waits."""
    reader = Events()
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert reader.comments == ["hi", ""]
    assert (reader.last_event_id, reader.retry) == ("1-b", 50)


CHUNKED = b"3\r\nabc\r\nb;x=y\r\n0123456789\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("pieces", cuttings(CHUNKED), ids=range(len(CHUNKED) + 1))
def test_chunks(pieces: list[bytes]) -> None:
    """Chunks are joined, their extensions left out; the last one is the end."""
    reader = Chunks()
    assert b"".join(map(reader.feed, pieces)) == b"abc0123456789\n"
    assert reader.over
