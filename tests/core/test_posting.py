"""What clients post to connections: which one is meant, what is said, what is answered."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core import posting
from gateway.core.errors import RemoteProtocolError
from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.core.opening import Refuse
from gateway.core.plugin import Drop, Refusal, Unanswered
from tests.core.asked import Asked, head


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"gateway_connection=longpoll.p_a.t", "longpoll.p_a.t"),
        (b"a=b&gateway_connection=longpoll.p_a.t&c", "longpoll.p_a.t"),
        (b"gateway_connection=longpoll.%70_a%2Et", "longpoll.p_a.t"),
        (b"gateway_connection=longpoll.", "longpoll."),
        (b"gateway_connection=longpoll.\xff", "longpoll.\ufffd"),
        (b"gateway_connection=sse.p_a.t", None),
        (b"gateway_connection=new", None),
        (b"gateway_connection", None),
        (b"my_gateway_connection=longpoll.p_a.t", None),
        (b"", None),
    ],
)
def test_located(query, found):
    """A request names the location of one plugin, or of none."""
    assert posting.located(head(query=query), "longpoll") == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/room/%20", "/room/%20?gateway_connection=x.y"),
        ("/", "/?gateway_connection=x.y"),
        ("//elsewhere.example/", "/.//elsewhere.example/?gateway_connection=x.y"),
    ],
)
def test_link(path, found):
    """A link is at the path that was asked, and never at another host."""
    assert posting.link(head(path=path), "x.y") == found


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (None, "é".encode(), {"text": "é"}),
        (b"application/json; charset=utf-8", b"{}", {"text": "{}"}),
        (b"Application/Octet-Stream ; x=y", b"\xff", {"bytes": b"\xff"}),
        (b"text/plain", b"", {"text": ""}),
    ],
)
def test_posted(kind, body, message):
    """What is posted is a text, or bytes where it says so."""
    headers = [] if kind is None else [(b"content-type", kind)]
    assert posting.posted(head(headers), body) == message


def test_posted_wrongly():
    """A text that is none is answered 400, with what to do instead."""
    with pytest.raises(RemoteProtocolError) as caught:
        posting.posted(head(), b"\xff")
    assert caught.value.answer.status == 400
    assert b"application/octet-stream" in caught.value.answer.content


class Sent(Asked):
    """A request with a body."""

    pieces = (b"ab", b"cd")

    async def body(self):
        """Iterate over its pieces."""
        for piece in self.pieces:
            yield piece


def test_body():
    """A body is read up to a bound."""
    assert asyncio.run(posting.body_of(Sent(), 4)) == b"abcd"
    assert asyncio.run(posting.body_of(Sent(), 3)) is None


def test_key():
    """An Idempotency-Key is any short word."""
    assert posting.key_of(head()) == ""
    assert posting.key_of(head([(b"idempotency-key", b'"8e03-7"')])) == '"8e03-7"'


@pytest.mark.parametrize("value", [b"", b"a b", b"\xff", b"x" * 129])
def test_bad_key(value):
    """What is none is told so."""
    with pytest.raises(RemoteProtocolError, match="128 visible") as caught:
        posting.key_of(head([(b"idempotency-key", value)]))
    assert caught.value.answer.status == 400


def read(most=9, pieces=(b"ab", b"cd"), headers=()):
    """Return what a post is read as, and what was dropped."""
    sent = Sent()
    sent.head = head(list(headers))
    sent.pieces = pieces
    drops = []
    return asyncio.run(posting.read(sent, most, drops.append)), drops


def test_read():
    """A post is read to its end, with its key."""
    assert read() == ({"key": "", "message": {"text": "abcd"}}, [])
    found, _ = read(headers=[(b"idempotency-key", b"7")], pieces=())
    assert found == {"key": "7", "message": {"text": ""}}


def test_read_wrongly():
    """What cannot be taken is answered with what is wrong; what is too large is counted."""
    for found, drops, status in (
        (*read(most=3), 413),
        (*read(pieces=[b"\xff"]), 400),
        (*read(headers=[(b"idempotency-key", b"")]), 400),
    ):
        assert found.status == status
        assert drops == ([Drop.TOO_BIG] if status == 413 else [])


def test_read_no_more():
    """Who leaves within its post is answered nothing."""

    class Cut(Sent):
        async def body(self):
            yield b"a"
            raise ConnectionError

    assert asyncio.run(posting.read(Cut(), 9, [].append)) is None


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        (OK, 204, ""),
        (Outcome(REJECTED), 403, ""),
        (Outcome(REJECTED, code=429, reason="slower"), 429, "slower"),
        (Outcome(FAILED), 500, "the application failed"),
        (Outcome(UNROUTED), 500, "the application failed"),
        (Outcome(RELEASED), 503, "nobody was there to answer"),
    ],
)
def test_settled(outcome, status, text):
    """What was posted is answered by its outcome; a 503 says when to come again."""
    drops = []
    answer = posting.settled(outcome, drops.append)
    assert answer.status == status
    assert text in answer.content.decode()
    assert ((b"retry-after", b"1") in answer.headers) == (status == 503)
    assert drops == []


def test_foreign_code():
    """A code that is no HTTP status becomes 403, counted."""
    drops = []
    assert posting.settled(Outcome(REJECTED, code=1008), drops.append).status == 403
    assert drops == [Drop.FOREIGN_CODE]


@pytest.mark.parametrize("why", Refusal, ids=lambda why: why.name)
def test_unsettled(why):
    """What never reached a consumer is answered as such; 504 where it may have."""
    known = {Refusal.TOO_BIG: 413, Refusal.BROKEN: 500, Refusal.TIMEOUT: 504}
    status = known.get(why, 503)
    assert posting.unsettled(why).status == status


@pytest.mark.parametrize("why", Unanswered, ids=lambda why: why.name)
def test_unanswered(why):
    """What has no answer is answered by why; 504 says that nobody knows whether it was heard."""
    known = {"GONE": 404, "TOO_BIG": 413, "BROKEN": 500, "TIMEOUT": 504}
    status = known.get(why.name, 503)
    assert posting.unpacked(why).status == status


def test_packed():
    """An answer is the same after its way between processes."""
    answer = Refuse(418, b"short", [(b"x", b"y")])
    assert posting.unpacked(posting.packed(answer)) == answer
