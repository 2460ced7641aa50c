"""The pieces of a response: how many are under way, and which ask for an answer."""

import pytest

from django_gateway.pieces import (
    ASK_PIECES,
    PIECE,
    QUICK,
    WINDOW,
    WINDOW_PIECES,
    Pieces,
    cut,
)
from gateway.core.layers import codec

OK = {"outcome": "accepted"}


@pytest.fixture
def pieces():
    return Pieces("http.send.p_x!1", "http.ack?1")


def message(send):
    """Return the message of a send."""
    return codec.decode(send[2])


def fill(pieces, size):
    """Post pieces of that size until the window is full; return their messages."""
    found = []
    while not pieces.full:
        found.append(message(pieces.piece(b"x" * size)))
    return found


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE])
def test_cut(size):
    """What is cut is whole, in pieces of the greatest size; nothing makes no piece."""
    part = bytes(size)
    found = list(cut(part))
    assert b"".join(found) == part
    assert all(len(piece) == PIECE for piece in found[:-1])
    assert all(found)


def test_offsets(pieces):
    """The beginning has status and headers, each piece says where it stands."""
    head = message(pieces.head(206, [(b"a", b"b")], b"12345"))
    assert (head["status"], head["headers"], head["content"]) == (206, [[b"a", b"b"]], b"12345")
    assert message(pieces.piece(b"678"))["offset"] == 5
    assert pieces.last() == {"offset": 8, "content": b"", "more_content": False}


def test_a_short_response_asks_for_nothing(pieces):
    """No acks, which nobody would read."""
    for _ in range(ASK_PIECES - 1):
        assert "ack" not in message(pieces.piece(b"x" * 1000))
    assert not pieces.unanswered


@pytest.mark.parametrize("size", [PIECE, PIECE // 2, 70_000])
@pytest.mark.parametrize(
    ("waits", "window"), [((0.0,), WINDOW), ((0.0, QUICK), PIECE), ((), PIECE)]
)
def test_the_window_in_bytes(pieces, size, waits, window):
    """No more than a window is under way, and no less than fits: two pieces to a client that was
    quick, one to any other.
    """
    for seconds in waits:
        pieces.waited(seconds)
    fill(pieces, size)
    assert window - PIECE < pieces.offset <= window


def test_the_window_in_pieces(pieces):
    """Small pieces are counted, and a quarter of the window at most asks."""
    pieces.waited(0.0)
    found = fill(pieces, 10)
    assert len(found) == WINDOW_PIECES
    assert sum("ack" in piece for piece in found) == WINDOW_PIECES // ASK_PIECES


@pytest.mark.parametrize("size", [10, 1000, 70_000, PIECE])
def test_an_answer_stands_for_all_before(pieces, size):
    """One answer makes room for what was posted up to its piece."""
    found = fill(pieces, size)
    last = [piece for piece in found if "ack" in piece][-1]
    assert pieces.answered({**OK, "ack": last["ack"]})
    assert not pieces.full
    assert not pieces.unanswered


def test_a_full_window_waits_for_an_answer(pieces):
    """There is always one to come: who waits for room does not wait in vain."""
    for size in (1, 5000, 130_000, PIECE) * 20:
        if pieces.full:
            assert pieces.unanswered
            break
        pieces.piece(b"x" * size)
    assert pieces.full


def test_asked(pieces):
    """A piece asks where it is told to."""
    assert message(pieces.piece(b"", ask=True))["ack_channel"] == "http.ack?1"
    assert pieces.unanswered


@pytest.mark.parametrize("ack", [{"closed": True}, {"ack": 1, "outcome": "failed"}])
def test_the_client_left(pieces, ack):
    """A failure, or the end of the gateway, says so."""
    pieces.piece(b"", ask=True)
    assert not pieces.answered(ack)
    assert not pieces.unanswered
