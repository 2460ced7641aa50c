"""The pure part: which requests ask, what a session does in each state."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Outcome,
)
from gateway.core.opening import Refuse
from gateway.core.plugin import Accepted, Close, Drop, Emit, Peer, Refusal, Timer, Write
from gateway.core.requested import CLOSED, CONNECT, DECLINE, OPEN, PENDING
from gateway.core.web import Piece
from gateway.plugins.sse import translate
from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.translate import KEEP_ALIVE, SseSession
from tests.core.asked import head

ACCEPT = (b"accept", b"text/event-stream")


def session(drops: list[Drop] | None = None, query: bytes = b"", **config: Any) -> SseSession:
    """Return a session whose connect is out."""
    drop = [].append if drops is None else drops.append
    request = head([ACCEPT], path="/news", query=query)
    found = SseSession(SseConfig(**config), request, drop)
    timer, emit = found.opened(Peer())
    assert timer == Timer("due", found._config.decision_timeout)
    assert isinstance(emit, Emit)
    assert (emit.kind, emit.token) == ("connect", CONNECT)
    return found


def opened(**more: Any) -> SseSession:
    """Return a session that is accepted."""
    found = session(**more)
    list(found.outcome(CONNECT, OK))
    assert found.state is OPEN
    return found


def written(actions: Any) -> list[bytes]:
    """Return what is written of the stream."""
    outputs = [action.output for action in actions if isinstance(action, Write)]
    return [output.content for output in outputs if isinstance(output, Piece)]


def refused(actions: Any) -> int:
    """Return the status of a refusal."""
    timer, close = actions
    assert timer == Timer("due", None)
    assert isinstance(close, Close)
    assert isinstance(close.data, Refuse)
    return close.data.status


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"accept": True}, []),
        ({"text": "x"}, [b"data: x\n\n"]),
        ({"comment": "x"}, [b": x\n\n"]),
        ({"retry": 5}, [b"retry: 5\n\n"]),
        ({"id": "5"}, [b"id: 5\n\n"]),
        ({"accept": True, "text": "x"}, [b"data: x\n\n"]),
    ],
)
def test_what_accepts(reply: dict[str, Any], said: list[bytes]) -> None:
    """A reply that says anything accepts, before it goes out."""
    found = session()
    actions = list(found.send(None, reply, None))
    assert isinstance(actions[0], Accepted)
    assert actions[1] == Timer("due", 15.0)
    assert written(actions) == said
    assert found.state is OPEN


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "x", "accept": False},
        {"accept": True, "status": 404},
        {"text": "x", "status": 404},
        {"accept": True, "content": b"x"},
        {"headers": [(b"a", b"b")]},
        {"accept": True, "headers": [(b"a b", b"c")]},
        {"accept": True, "headers": [(b"content-length", b"5")]},
        {"accept": False, "headers": [(b"a", b"b\r\nc")]},
        {"event": "x"},
    ],
)
def test_what_makes_no_sense_while_pending(reply: dict[str, Any]) -> None:
    """A reply that contradicts itself decides nothing."""
    found = session()
    with pytest.raises(LocalProtocolError):
        list(found.send(None, reply, None))
    assert found.state is PENDING


@pytest.mark.parametrize("close", [True, 4000, 1001])
def test_accepted_and_closed(close: Any) -> None:
    """What accepts and closes at once says what it has to say, and ends."""
    found = session()
    *_, said, end = found.send(None, {"text": "x", "close": close, "reason": "r"}, None)
    assert written([said]) == [b"data: x\n\n"]
    code = 1000 if close is True else close
    assert end == Close(b'event: close\ndata: {"code": %d, "reason": "r"}\n\n' % code)
    assert found.state is CLOSED


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Outcome(REJECTED), 403), (Outcome(FAILED), 500), (Outcome(RELEASED), 503)],
)
def test_outcomes_while_pending(outcome: Outcome, status: int) -> None:
    """The outcome of the connect refuses."""
    assert refused(session().outcome(CONNECT, outcome)) == status


def test_unrouted() -> None:
    """A connect that no route matches has its request handed on."""
    assert session().outcome(CONNECT, Outcome(UNROUTED))[1] == Close(DECLINE)


def test_implied() -> None:
    """Without implicit_accept a connect's outcome decides nothing, unless nobody routes connects."""
    assert session(implicit_accept=False).outcome(CONNECT, OK) == []
    found = session(implicit_accept=False)
    assert found.outcome(CONNECT, Outcome(ACCEPTED, cause="unannounced"))
    assert found.state is OPEN


@pytest.mark.parametrize("kind", [FAILED, RELEASED, UNROUTED])
def test_accepted_too_early(kind: str) -> None:
    """Whose connect failed after it had accepted is ended, and may come back."""
    assert list(opened().outcome(CONNECT, Outcome(kind))) == [Close()]


def test_rejected_late() -> None:
    """Whose connect is rejected after it had accepted is told to stay away."""
    drops: list[Drop] = []
    (close,) = opened(drops=drops).outcome(CONNECT, Outcome(REJECTED, 404, "no"))
    assert close.data.startswith(b'event: close\ndata: {"code": 1008')
    assert drops == [Drop.FOREIGN_CODE]


@pytest.mark.parametrize("why", list(Refusal))
def test_unreached(why: Refusal) -> None:
    """A connect that never reached a consumer is refused; once accepted, the stream ends."""
    assert refused(session().refused(CONNECT, why)) >= 431
    assert list(opened().refused(CONNECT, why)) == [Close()]


def test_timeouts() -> None:
    """Who is pending is refused, who is open kept alive, who is over left alone."""
    assert refused(session().timeout("due")) == 503
    found = opened()
    assert list(found.timeout("due")) == [Write(KEEP_ALIVE), Timer("due", 15.0)]
    list(found.draining(1.5))
    assert list(found.timeout("due")) == []
    assert list(found.draining(1.5)) == []


def test_no_keep_alive() -> None:
    """0 sets no timer."""
    actions = session(keep_alive=0).outcome(CONNECT, OK)
    assert [action for action in actions if isinstance(action, Timer)] == [Timer("due", None)]


def test_draining() -> None:
    """An open stream's last word is when to come back."""
    assert list(opened().draining(2.25)) == [Close(b"retry: 2250\n\n")]
    assert refused(session().draining(2.25)) == 503


def test_location_is_asked_for() -> None:
    """A location is told to who asks for one, and for a new one."""
    for query, expected in [
        (b"gateway_connection=new", True),
        (b"a=1&gateway_connection=new", True),
        (b"", False),
        (b"gateway_connection=", False),
        (b"gateway_connection=newer", False),
    ]:
        actions = session(query=query).outcome(CONNECT, OK)
        (answer,) = [action.output for action in actions if isinstance(action, Write)]
        assert answer.located is expected


class Posted:
    """Something that was posted, and what it was answered."""

    def __init__(self, **message: Any) -> None:
        self.message = message
        self.statuses: list[int] = []

    def answer(self, answer: Refuse) -> None:
        self.statuses.append(answer.status)


@pytest.mark.parametrize("over", [False, True])
def test_posts(over: bool) -> None:
    """What is posted is emitted under its own token, and answered even if the stream has ended."""
    found = opened()
    posts = [Posted(text="a"), Posted(bytes=b"b"), Posted(text="c")]
    for post in posts:
        (emit,) = found.received(post)  # type: ignore[arg-type] # it answers as a Post does
        assert emit.kind == "receive"
        assert emit.message == {"path": "/news", **post.message}
        assert emit.token is post
    if over:
        list(found.send(None, {"close": True}, None))
    assert list(found.outcome(posts[0], OK)) == []
    assert list(found.outcome(posts[1], Outcome(REJECTED, 422, "no"))) == []
    assert list(found.refused(posts[2], Refusal.TOO_BIG)) == []
    assert [post.statuses for post in posts] == [[204], [422], [413]]


def test_frame() -> None:
    """A group's message that is an event alone is framed once for all; any other is not."""
    piece = SseSession.frame({"text": "x", "id": "5"})
    assert piece is not None
    assert piece.content == b"id: 5\ndata: x\n\n"
    for reply in ({}, {"missed": False}, {"text": "x", "ack": 1}, {"headers": []}):
        assert SseSession.frame(reply) is None


def test_stream_headers() -> None:
    """An application's headers take the place of ours of the same name; Vary adds up."""
    own = [(b"vary", b"cookie"), (b"cache-control", b"private")]
    found = translate.stream_headers(own, [(b"vary", b"origin")])
    assert [value for name, value in found if name == b"vary"] == [b"origin", b"cookie"]
    assert [value for name, value in found if name == b"cache-control"] == [b"private"]
    assert (b"content-type", b"text/event-stream") in found
