"""The states and decisions of a WebSocket connection, by table."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import LocalProtocolError
from gateway.core.metrics import Drop
from gateway.core.opening import Refuse
from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Accepted,
    Close,
    Emit,
    Outcome,
    Refusal,
    Timer,
    Write,
)
from gateway.core.websockets import frames
from gateway.core.websockets.frames import Closed, Fault, Ping, Pong
from gateway.core.websockets.handshake import Accept
from gateway.plugins.websocket import messages
from gateway.plugins.websocket.translate import (
    CLOSED,
    CLOSING,
    CONNECT,
    OPEN,
    PENDING,
    RECEIVE,
    State,
)
from tests.plugins.websocket.peers import Talk, server_frames, without_timers


def close_of(actions: Any) -> tuple[int, str]:
    """Return code and reason of the one close frame among actions."""
    (close,) = [action for action in actions if isinstance(action, Close)]
    assert not close.abort
    ((opcode, payload),) = server_frames(close.data)
    assert opcode == 8
    if not payload:
        return 1005, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def refuse_of(actions: Any) -> Refuse:
    """Return the one refusal among actions."""
    (close,) = [action for action in actions if isinstance(action, Close)]
    assert isinstance(close.data, Refuse)
    return close.data


# ---------------------------------------------------------------- before the decision


def test_opened() -> None:
    """A connection begins with one connect message and the clock of the decision."""
    talk = Talk(subprotocols=["chat"], decision_timeout=7.0)
    timer, emit = talk.opened
    assert timer == Timer("decision", 7.0)
    assert isinstance(emit, Emit)
    assert emit.kind == "connect"
    assert emit.token is not None
    assert emit.message["path"] == "/chat"
    assert emit.message["scheme"] == "ws"
    assert emit.message["subprotocols"] == ["chat"]
    assert set(emit.message) == set(messages.Connect.__annotations__) - {"last_event_id"}


@pytest.mark.parametrize(
    ("query", "expected"), [(b"last_event_id=1-2f", "1-2f"), (b"last_event_id=", ""), (b"", None)]
)
def test_last_event_id(query: bytes, expected: str | None) -> None:
    """Where the client says which message was its last, the connect message does."""
    _, emit = Talk(query=query).opened
    assert isinstance(emit, Emit)
    assert emit.message.get("last_event_id") == expected


ACCEPT = [Accepted(), Write(Accept(None, []))]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"accept": True}, ACCEPT),
        ({"text": "hi"}, [*ACCEPT, Write(b"\x81\x02hi")]),
        ({"bytes": b"\x00"}, [*ACCEPT, Write(b"\x82\x01\x00")]),
        ({"accept": True, "text": "hi"}, [*ACCEPT, Write(b"\x81\x02hi")]),
        ({"text": ""}, [*ACCEPT, Write(b"\x81\x00")]),
        (
            {"text": "hi", "close": True},
            [*ACCEPT, Write(b"\x81\x02hi"), Close(frames.close_frame(1000))],
        ),
        ({"accept": True, "close": 4000}, [*ACCEPT, Close(frames.close_frame(4000))]),
        (
            {"accept": True, "subprotocol": "chat", "headers": [(b"Set-Cookie", b"a")]},
            [Accepted(), Write(Accept("chat", [(b"set-cookie", b"a")]))],
        ),
    ],
)
def test_accepting_replies(reply: dict[str, Any], expected: list[Any]) -> None:
    """What accepts, and in which order data and close follow."""
    talk = Talk(subprotocols=["chat"])
    assert talk.send(**reply) == expected
    assert talk.session.state is (CLOSING if "close" in reply else OPEN)


@pytest.mark.parametrize(
    ("reply", "status", "content"),
    [
        ({"accept": False}, 403, b"403 Forbidden\n"),
        ({"close": True}, 403, b"403 Forbidden\n"),
        ({"close": 4001}, 403, b"403 Forbidden\n"),
        ({"close": True, "reason": "go away"}, 403, b"go away\n"),
        ({"accept": False, "status": 401, "content": b"who?"}, 401, b"who?"),
        ({"accept": False, "status": 401, "content": b""}, 401, b""),
        ({"status": 404}, 404, b"404 Not Found\n"),
        ({"status": 302, "headers": [(b"location", b"/login")]}, 302, b"302 Found\n"),
    ],
)
def test_refusing_replies(reply: dict[str, Any], status: int, content: bytes) -> None:
    """What refuses, with which status and body."""
    talk = Talk()
    answer = refuse_of(talk.send(**reply))
    assert (answer.status, answer.content) == (status, content)
    assert set(reply.get("headers", ())) <= set(answer.headers)
    assert talk.session.state is CLOSED
    assert not talk.drops


@pytest.mark.parametrize("reply", [{"close": False}, {"ack": 1, "ack_channel": "a?b"}])
def test_replies_that_decide_nothing(reply: dict[str, Any]) -> None:
    """A reply without accept, data or close leaves the handshake open."""
    talk = Talk()
    assert talk.send(**reply) == []
    assert talk.session.state is PENDING


@pytest.mark.parametrize(
    "reply",
    [
        {"accept": True, "subprotocol": "other"},
        {"subprotocol": "chat"},
        {"headers": [(b"x", b"y")]},
        {"accept": True, "content": b"x"},
        {"accept": True, "status": 404},
        {"accept": False, "text": "x"},
        {"accept": False, "subprotocol": "chat"},
        {"accept": True, "headers": [(b"x", b"y\r\nz")]},
        {"status": 404, "headers": [(b"x", b"y\nz")]},
    ],
)
def test_invalid_while_pending(reply: dict[str, Any]) -> None:
    """A reply that contradicts itself or the handshake is invalid and decides nothing."""
    talk = Talk(subprotocols=["chat"])
    with pytest.raises(LocalProtocolError):
        talk.send(**reply)
    assert talk.session.state is PENDING


@pytest.mark.parametrize(
    "reply",
    [{"accept": False}, {"status": 404}, {"content": b"x"}, {"subprotocol": "a"}, {"headers": []}],
)
def test_invalid_when_open(reply: dict[str, Any]) -> None:
    """What belongs to a handshake comes too late once it is decided."""
    talk = Talk(subprotocols=["a"]).open()
    with pytest.raises(LocalProtocolError):
        talk.send(**reply)
    assert talk.session.state is OPEN


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(REJECTED), 403),
        (Outcome(REJECTED, 401, "no"), 401),
        (Outcome(FAILED, cause="ValueError"), 500),
        (Outcome(FAILED, cause="lost"), 500),
        (Outcome(RELEASED), 503),
        (Outcome(UNROUTED), 404),
    ],
)
def test_outcome_of_connect(outcome: Outcome, status: int) -> None:
    """Every outcome but accepted refuses a pending handshake."""
    talk = Talk()
    answer = refuse_of(talk.session.outcome(CONNECT, outcome))
    assert answer.status == status
    assert (outcome.reason or "").encode() in answer.content
    assert ((b"retry-after", b"1") in answer.headers) == (status == 503)
    assert not talk.drops


@pytest.mark.parametrize("code", [4001, 200, 1000, 0, -1, 99999])
def test_foreign_code_of_a_rejection(code: int) -> None:
    """A code that is no HTTP error becomes 403, counted."""
    talk = Talk()
    assert refuse_of(talk.session.outcome(CONNECT, Outcome(REJECTED, code))).status == 403
    assert talk.drops == [Drop.FOREIGN_CODE]


def test_implicit_accept() -> None:
    """A connect consumer that returns without a decision accepts."""
    assert without_timers(Talk().session.outcome(CONNECT, OK)) == ACCEPT


def test_explicit_accept() -> None:
    """Without implicit_accept it decides nothing, unless nobody routes connects."""
    talk = Talk(implicit_accept=False)
    assert without_timers(talk.session.outcome(CONNECT, OK)) == []
    assert talk.session.state is PENDING
    unannounced = Outcome(ACCEPTED, cause="unannounced")
    assert without_timers(talk.session.outcome(CONNECT, unannounced)) == ACCEPT


def test_outcome_after_the_decision() -> None:
    """The outcome of a connect that was decided by a reply changes nothing if it is good."""
    assert list(Talk().open().session.outcome(CONNECT, OK)) == []


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Refusal.FULL, 503, 1013),
        (Refusal.DRAINING, 503, 1012),
        (Refusal.UNAVAILABLE, 503, 1012),
        (Refusal.TOO_BIG, 431, 1009),
        (Refusal.TOO_SLOW, 503, 1013),
        (Refusal.TIMEOUT, 503, 1011),
        (Refusal.BROKEN, 500, 1011),
    ],
)
def test_refused(refusal: Refusal, status: int, code: int) -> None:
    """What never reached a consumer refuses the handshake, or closes the connection."""
    assert refuse_of(Talk().session.refused(CONNECT, refusal)).status == status
    assert close_of(Talk().open().session.refused(RECEIVE, refusal))[0] == code


def test_decision_timeout() -> None:
    """What nobody decides is answered 503, and late decisions change nothing."""
    talk = Talk(implicit_accept=False)
    assert refuse_of(talk.session.timeout("decision")).status == 503
    assert list(talk.session.outcome(CONNECT, OK)) == []


def test_a_decision_stops_its_clock() -> None:
    """Once decided, the decision's timer is not due any more."""
    assert Timer("decision", None) in list(Talk().session.send(None, {"accept": True}, None))
    assert Timer("decision", None) in list(Talk().session.send(None, {"accept": False}, None))


# ---------------------------------------------------------------- open


def test_messages() -> None:
    """Text and bytes become receive messages in order, with tokens, under the path."""
    actions = list(Talk().open().session.received(["a", b"b", ""]))
    assert [(action.kind, action.message) for action in actions] == [
        ("receive", {"path": "/chat", "text": "a"}),
        ("receive", {"path": "/chat", "bytes": b"b"}),
        ("receive", {"path": "/chat", "text": ""}),
    ]
    assert all(action.token is not None for action in actions)


def test_ping() -> None:
    """A ping is answered with the same bytes, a pong with nothing."""
    assert list(Talk().open().session.received([Ping(b"x"), Pong()])) == [Write(b"\x8a\x01x")]


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        ({"text": "h\u00e4"}, b"\x81\x03h\xc3\xa4"),
        ({"bytes": b"\xff"}, b"\x82\x01\xff"),
        ({"accept": True, "text": "x"}, b"\x81\x01x"),
        ({"text": "x" * 126}, b"\x81\x7e\x00\x7e" + b"x" * 126),
        ({"text": "x" * 65536}, b"\x81\x7f" + (65536).to_bytes(8, "big") + b"x" * 65536),
    ],
)
def test_data(reply: dict[str, Any], output: bytes) -> None:
    """A reply's data is one frame."""
    assert Talk().open().send(**reply) == [Write(output)]


@pytest.mark.parametrize(
    ("reply", "frame"),
    [
        ({"text": "x"}, b"\x81\x01x"),
        ({"bytes": b"x"}, b"\x82\x01x"),
        ({"text": "x", "close": True}, None),
        ({"close": True}, None),
        ({}, None),
    ],
)
def test_group_frame(reply: dict[str, Any], frame: bytes | None) -> None:
    """A group's message has a ready frame if it is nothing but data."""
    assert Talk().session.frame(reply) == frame


@pytest.mark.parametrize(
    ("close", "code", "drops"),
    [
        (True, 1000, []),
        (1000, 1000, []),
        (1001, 1001, []),
        (1014, 1014, []),
        (3000, 3000, []),
        (4999, 4999, []),
        *((code, 1000, [Drop.FOREIGN_CODE]) for code in (0, -1, 404, 999, 1004, 1005, 1006, 1015)),
        *((code, 1000, [Drop.FOREIGN_CODE]) for code in (1016, 2000, 2999, 5000, 65536, 1 << 40)),
    ],
)
def test_close_codes(close: Any, code: int, drops: list[Drop]) -> None:
    """A code that no close frame may carry becomes 1000, counted."""
    talk = Talk().open()
    assert close_of(talk.send(close=close, reason="bye")) == (code, "bye")
    assert talk.drops == drops
    assert talk.session.state is CLOSING


def test_long_reasons() -> None:
    """A reason is cut at 123 bytes and never within a character."""
    _, reason = close_of(Talk().open().send(close=True, reason="\u20ac" * 100))
    assert reason == "\u20ac" * 41


@pytest.mark.parametrize(
    ("outcome", "code", "drops"),
    [
        (Outcome(REJECTED), 1008, []),
        (Outcome(REJECTED, 4003, "no"), 4003, []),
        (Outcome(REJECTED, 404, "no"), 1008, [Drop.FOREIGN_CODE]),
        (Outcome(FAILED, cause="ValueError"), 1011, []),
        (Outcome(FAILED, cause="lost"), 1012, []),
        (Outcome(RELEASED, cause="expired"), 1012, []),
        (Outcome(UNROUTED), 1011, []),
    ],
)
def test_outcome_of_receive(outcome: Outcome, code: int, drops: list[Drop]) -> None:
    """Every outcome but accepted closes an open connection with its code."""
    talk = Talk().open()
    found = close_of(talk.session.outcome(RECEIVE, outcome))
    assert found[0] == code
    assert outcome.reason in found[1]
    assert talk.drops == drops


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (OK, OPEN),
        (Outcome(FAILED, cause="ValueError"), OPEN),
        (Outcome(FAILED, cause="lost"), OPEN),
        (Outcome(UNROUTED), OPEN),
        (Outcome(REJECTED), CLOSING),
        (Outcome(RELEASED), CLOSING),
    ],
)
def test_on_failure_keep(outcome: Outcome, state: State) -> None:
    """With on_failure = "keep" a fault costs nothing; a decision still closes."""
    talk = Talk(on_failure="keep").open()
    list(talk.session.outcome(RECEIVE, outcome))
    assert talk.session.state is state


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("event", "answer", "code", "reason"),
    [
        (Closed(1000, "bye"), (1000, ""), 1000, "bye"),
        (Closed(4321, ""), (4321, ""), 4321, ""),
        (Closed(1005, ""), (1005, ""), 1005, ""),
        (Fault(1007, "not UTF-8"), (1007, "not UTF-8"), 1006, "not UTF-8"),
    ],
)
def test_the_peer_ends(event: Any, answer: Any, code: int, reason: str) -> None:
    """A close is echoed, a fault told; the disconnect has the peer's code, or 1006."""
    talk = Talk().open()
    actions = list(talk.session.received(["last", event]))
    assert isinstance(actions[0], Emit)
    assert close_of(actions) == answer
    assert talk.session.state is CLOSED
    assert talk.session.ended() == {"path": "/chat", "code": code, "reason": reason}


def test_we_end() -> None:
    """After our close the peer's data is dropped, counted, and its close taken down."""
    talk = Talk().open()
    talk.send(close=4000)
    late = ["late", b"late", Ping(b"x"), Closed(4000, "ok")]
    assert list(talk.session.received(late)) == [Write(b"\x8a\x01x")]
    assert talk.drops == [Drop.CLOSED, Drop.CLOSED]
    assert talk.session.state is CLOSED
    assert talk.session.ended() == {"path": "/chat", "code": 4000, "reason": "ok"}


def test_we_end_and_the_peer_breaks_the_rules() -> None:
    """A fault in the middle of our close ends it: 1006."""
    talk = Talk().open()
    talk.send(close=True)
    assert list(talk.session.received([Fault(1002, "x")])) == []
    assert talk.session.state is CLOSED
    assert talk.session.ended()["code"] == 1006


def test_gone_without_a_word() -> None:
    """A peer that is gone without a close frame has 1006."""
    talk = Talk().open()
    assert talk.session.ended()["code"] == 1006
    assert close_of(talk.session.eof())[0] == 1002
    assert talk.session.ended()["code"] == 1006


def test_draining() -> None:
    """A shutdown refuses what is pending, closes what is open, and says when to come back."""
    refused = refuse_of(Talk().session.draining(3.2))
    assert (refused.status, dict(refused.headers)[b"retry-after"]) == (503, b"4")
    talk = Talk().open()
    code, reason = close_of(talk.session.draining(3.21))
    assert (code, reason) == (1012, "the gateway is shutting down; retry-after=3.2")
    assert list(talk.session.draining(3.2)) == []


# ---------------------------------------------------------------- keep-alive


def test_silence_is_pinged() -> None:
    """After an interval of silence a ping goes out, and no answer cuts the peer off."""
    talk = Talk(ping_interval=20.0, ping_timeout=9.0)
    assert Timer("ping", 20.0) in list(talk.session.send(None, {"accept": True}, None))
    assert list(talk.session.timeout("ping")) == [Write(b"\x89\x00"), Timer("pong", 9.0)]
    assert list(talk.session.timeout("pong")) == [Close(abort=True)]
    assert talk.session.ended()["code"] == 1006
    assert talk.session.ended()["reason"]


def test_traffic_saves_the_ping() -> None:
    """Whoever was heard within the interval is not pinged."""
    talk = Talk().open()
    list(talk.session.received(["x"]))
    assert list(talk.session.timeout("ping")) == [Timer("ping", 20.0)]
    assert Write(b"\x89\x00") in list(talk.session.timeout("ping"))


@pytest.mark.parametrize("event", [Pong(), "data", Ping(b"")])
def test_any_sign_of_life_answers_a_ping(event: Any) -> None:
    """A pong, a message, a ping of its own: the peer lives."""
    talk = Talk().open()
    list(talk.session.timeout("ping"))
    actions = list(talk.session.received([event]))
    assert actions[:2] == [Timer("pong", None), Timer("ping", 20.0)]


def test_silence_of_a_paused_peer_says_nothing() -> None:
    """While nothing is read, nobody is pinged and nobody cut off."""
    talk = Talk().open()
    talk.session.paused = True
    assert list(talk.session.timeout("ping")) == [Timer("ping", 20.0)]
    talk.session.paused = False
    list(talk.session.timeout("ping"))
    talk.session.paused = True
    assert list(talk.session.timeout("pong")) == [Timer("pong", 20.0)]


def test_no_pings() -> None:
    """With ping_interval 0 nobody is pinged."""
    actions = list(Talk(ping_interval=0.0).session.send(None, {"accept": True}, None))
    assert not any(isinstance(action, Timer) and action.name == "ping" for action in actions)


def test_timers_of_the_dead() -> None:
    """A timer that comes due after the end does nothing."""
    talk = Talk().open()
    talk.send(close=True)
    for name in ("decision", "ping", "pong"):
        assert list(talk.session.timeout(name)) == []
