"""Responses that stream: at the client's pace, until it leaves."""

import time

import pytest
from django.core.signals import request_finished

from django_gateway import pieces
from django_gateway import response as responses
from django_gateway.pieces import PIECE
from tests.django.peer import Outcome, assemble, nothing_left, wait_until

SIZE = 256 * 4000


def begin(peer, path, **more):
    """Make a request; return it and the beginning of its response."""
    request = peer.request(path, **more)
    peer.post("http.request", request)
    place, head = peer.hear()
    assert place == request["reply_channel"]
    return request, head


def unanswered(peer, seconds=0.3):
    """Return the pieces that come although none is answered."""
    found = []
    while True:
        place, message = peer.hear(block=seconds)
        if place is None:
            return found
        found.append((place, message))


def rest(peer, replies):
    """Answer everything; return the response and the outcome."""
    for message in replies:
        peer.answer(message)
    while True:
        place, message = peer.hear()
        assert place is not None, "the response never ended"
        if place == "outcome":
            return assemble(replies), message
        replies.append(message)
        peer.answer(message)


@pytest.mark.parametrize("path", ["/stream/5/", "/async-stream/5/"])
def test_pieces(work, peer, noted, path):
    """Each part of an iterator is a piece; the iterator is closed at the end."""
    work()
    assert peer.ask(path).content == b"0,1,2,3,4,"
    assert list(noted) == ["closed"]


def test_sync_view_async_iterator(work, peer):
    """A synchronous view's asynchronous iterator runs on the loop."""
    work()
    assert peer.ask("/sync-view-async-stream/").content == b"from loop"


def test_async_view_sync_iterator(work, peer):
    """An asynchronous view's synchronous iterator runs beside the loop."""
    work()
    assert peer.ask("/async-view-sync-stream/").content == b"ab"


def test_large_content(work, peer):
    """Large content leaves in pieces, with the Content-Length of the whole."""
    work()
    response = peer.ask("/large/")
    assert response.content == b"x" * 1_000_000
    assert response.header(b"content-length") == b"1000000"


def test_file(work, peer, noted):
    """A file leaves in pieces with its headers, and is closed."""
    work()
    response = peer.ask("/file/")
    assert response.content == bytes(range(256)) * 4000
    assert response.header(b"content-length") == b"%d" % SIZE
    assert response.header(b"content-disposition") == b'attachment; filename="numbers.bin"'
    assert noted.pop().closed


@pytest.mark.parametrize("path", ["/small-file/", "/async-small-file/"])
def test_small_file(work, peer, path):
    """A file that fits one piece is one reply, which leaves with the outcome."""
    work()
    request = peer.request(path)
    replies, outcomes = peer.settled("http.request", request)
    (reply,) = replies
    assert reply["content"] == bytes(range(256))
    assert outcomes == [Outcome("accepted")]


@pytest.mark.parametrize("path", ["/stream/200/", "/async-stream/200/", "/file/", "/large/"])
def test_nothing_is_left(work, peer, path):
    """After a stream the layer knows nothing of its answers any more, and has dropped nothing."""
    work()
    assert len(peer.ask(path).content) >= 1_000_000
    assert nothing_left(peer)
    assert peer.layer.global_statistics().drops == {}


def test_the_end_of_a_stream(work, peer, noted):
    """An iterator that has ended is closed on its thread, which then is free; what the client
    has still to take the loop waits for.
    """
    work(threads=1)
    _, head = begin(peer, "/short-stream/")
    _, first = peer.hear()
    peer.answer(first)
    _, second = peer.hear()
    wait_until(lambda: noted)
    assert peer.ask("/").content == b"hello"
    assert list(noted) == ["consumer-1"]
    peer.answer(second)
    response, outcome = rest(peer, [head, first, second])
    assert len(response.content) == 400_000
    assert outcome == Outcome("accepted")
    assert nothing_left(peer)


@pytest.mark.parametrize("path", ["/stream/1000/", "/async-stream/1000/", "/file/", "/large/"])
def test_window(work, peer, path):
    """No more than a piece is under way while the client takes none."""
    work()
    _, head = begin(peer, path)
    pieces = [head, *(message for _, message in unanswered(peer))]
    contents = [len(piece["content"]) for piece in pieces]
    assert 0 < sum(contents) <= PIECE
    assert max(contents) <= PIECE


@pytest.mark.parametrize("path", ["/file/", "/large/"])
def test_slow_client_of_a_file(work, peer, path):
    """A client that takes a file slowly holds no thread."""
    work(threads=1)
    _, head = begin(peer, path)
    pieces = [head, *(message for _, message in unanswered(peer))]
    assert peer.ask("/").content == b"hello"
    response, outcome = rest(peer, pieces)
    assert outcome == Outcome("accepted")
    assert len(response.content) in {SIZE, 1_000_000}


@pytest.mark.parametrize("path", ["/stream/1000/", "/async-stream/1000/"])
@pytest.mark.parametrize("told", ["failed", "closed"])
def test_client_left(work, peer, noted, path, told):
    """A client that left ends the iterator at once; the request is settled as accepted."""
    work()
    begin(peer, path)
    _, piece = peer.hear()
    if told == "closed":
        peer.layer.send(piece["ack_channel"], {"closed": True})
    else:
        peer.answer(piece, "failed")
    while (heard := peer.hear())[0] != "outcome":
        assert heard[0] is not None
    assert heard[1] == Outcome("accepted")
    assert list(noted) == ["closed"]


ENDS = {
    "generator": ["GeneratorExit", "resource"],
    "iterator": ["close", "resource"],
    "agenerator": ["GeneratorExit", "resource"],
    "aiterator": ["aclose", "resource"],
    "waiting": ["CancelledError", "resource"],
}


@pytest.mark.parametrize("view", ["/endless/", "/async-endless/"])
@pytest.mark.parametrize("kind", ENDS)
def test_how_a_client_that_left_ends_an_iterator(work, peer, noted, view, kind):
    """Each kind of iterator is ended in its own way, once, and then the response is closed, all
    within a second.
    """
    work()
    _, message = begin(peer, f"{view}{kind}/")
    left = time.monotonic()
    place = None
    while place != "outcome":
        peer.answer(message, "failed")
        place, message = peer.hear()
        assert place is not None
    assert message == Outcome("accepted")
    assert time.monotonic() - left < 5  # far below any timeout
    assert sorted(noted) == sorted(ENDS[kind])
    wait_until(lambda: nothing_left(peer))


@pytest.mark.parametrize("path", ["/stream/1000/", "/async-stream/1000/", "/file/"])
def test_last_words_of_a_client_that_left(work, peer, monkeypatch, path):
    """What is said of its other pieces a moment later is heard, too: nothing of it waits."""
    monkeypatch.setattr(pieces, "QUICK", 10.0)
    work()
    _, message = begin(peer, path)
    asked = []
    while len(asked) < 3:  # the first is taken: two may be under way
        if "ack" in message:
            asked.append(message)
            if len(asked) == 1:
                peer.answer(message)
        if len(asked) < 3:
            _, message = peer.hear()
    for message in asked[1:]:
        peer.answer(message, "failed")
    while (heard := peer.hear())[0] != "outcome":
        assert heard[0] is not None
    wait_until(lambda: nothing_left(peer))


def test_client_of_a_silent_stream_left(work, peer, noted, monkeypatch):
    """While an asynchronous iterator has nothing to say, empty pieces ask for the client."""
    monkeypatch.setattr(responses, "PULSE", 0.05)
    work()
    request, _ = begin(peer, "/silent-stream/")
    _, first = peer.hear()
    assert first["content"] == b"begun"
    place, pulse = peer.hear()
    assert place == request["reply_channel"]
    assert (pulse["content"], pulse["offset"]) == (b"", 5)
    assert not noted
    peer.answer(pulse, "failed")
    while (heard := peer.hear())[0] != "outcome":
        pass
    assert heard[1] == Outcome("accepted")
    assert list(noted) == ["closed"]


def test_gateway_left(work, peer, noted, monkeypatch):
    """A gateway that is gone ends the streams of its clients."""
    work()
    begin(peer, "/stream/1000/")
    peer.layer.close()
    wait_until(lambda: list(noted) == ["closed"])


def test_broken_stream(work, peer, caplog):
    """An iterator that raises fails the request after its head, and is logged once."""
    work()
    response, outcome = peer.exchange(peer.request("/broken-stream/"))
    assert response is None
    assert outcome == Outcome("failed", cause="RuntimeError")
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == [
        "django.gateway"
    ]


@pytest.mark.parametrize("path", ["/stream/5/", "/async-stream/5/", "/file/", "/large/", "/"])
def test_head(work, peer, noted, path):
    """HEAD is answered with the headers of GET; no iterator is run for it."""
    work()
    response = peer.ask(path, "HEAD")
    assert response.status == 200
    if path == "/file/":
        assert response.header(b"content-length") == b"%d" % SIZE
    if path == "/large/":
        assert response.header(b"content-length") == b"1000000"
    if path != "/":
        assert response.content == b""
    assert "closed" not in noted


@pytest.mark.parametrize("path", ["/stream/3/", "/async-stream/3/", "/file/", "/large/"])
def test_finished(work, peer, path):
    """request_finished is sent once, after the last piece."""
    heard = []

    def finished(sender, **kwargs):
        heard.append(sender)

    work()
    request_finished.connect(finished)
    try:
        peer.ask(path)
    finally:
        request_finished.disconnect(finished)
    assert len(heard) == 1
