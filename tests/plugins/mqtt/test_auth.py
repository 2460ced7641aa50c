"""Enhanced authentication (MQTT 5, section 4.12), decided by the application step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.plugins.mqtt import packets as p
from tests.plugins.mqtt.device import Device, Site, site

METHOD = {"authentication_method": "DANCE"}
CONTINUE, AGAIN = 0x18, 0x19


def says(data: bytes) -> p.Properties:
    return {**METHOD, "authentication_data": data}


def step(data: bytes, code: int = CONTINUE) -> p.Auth:
    return p.Auth(code, says(data))


def hello(data: bytes = b"I am d", **more: Any) -> p.Connect:
    return p.Connect("d", properties={**says(data), **more})


def dance(s: Site, last: dict[str, Any] | None = None) -> None:
    """Have an application that wants to hear ``left``, then ``right``."""

    def replies(heard: Any) -> tuple[dict[str, Any], ...]:
        if heard.kind != "auth":
            return ()
        data = heard.message["data"]
        if data == b"right":
            return () if last is None else (last,)
        return ({"auth": b"and then?" if data == b"left" else b"begin"},)

    s.replies = replies


def proven(s: Site, last: dict[str, Any] | None = None) -> Device:
    """Return a device that was let in by steps."""
    dance(s, last)
    device = Device(s)
    assert device.ask(hello()) == [step(b"begin")]
    assert device.ask(step(b"left")) == [step(b"and then?")]
    device.hello = device.ask(step(b"right"))
    return device


@pytest.mark.parametrize(
    ("last", "said"),
    [(None, None), ({"accept": True}, None), ({"accept": True, "auth": b"well"}, b"well")],
    ids=["returns", "accepts", "says something last"],
)
def test_steps(last: dict[str, Any] | None, said: bytes | None) -> None:
    """A device proves who it is step by step, then `mqtt.connect` lets it in."""
    with site() as s:
        device = proven(s, last)
        properties = device.hello[0].properties
        assert (device.hello[0].code, properties["authentication_method"]) == (0, "DANCE")
        assert properties.get("authentication_data") == said
        assert [heard.kind for heard in s.heard] == ["auth", "auth", "auth", "connect"]
        asked = s.of("auth")
        assert [(m["step"], m["data"]) for m in asked] == [
            (1, b"I am d"), (2, b"left"), (3, b"right"),
        ]  # fmt: skip
        assert {(m["client_id"], m["method"], m["again"]) for m in asked} == {("d", "DANCE", False)}
        assert [m["order"] for m in asked] == [0, 1, 2]
        assert device.ask(p.Ping(p.PINGREQ)) == [p.Ping(p.PINGRESP)]
        device.say(p.Disconnect())
        s.serve()
        assert s.heard[-1].kind == "disconnect"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(REJECTED), 0x87),
        (Outcome(REJECTED, 0x8C, "what dance?"), 0x8C),
        (Outcome(REJECTED, 4004), 0x87),
        (Outcome(FAILED), 0x83),
        (Outcome(RELEASED), 0x88),
        (Outcome(UNROUTED), 0x8C),
    ],
    ids=["rejected", "with a code", "with a foreign code", "failed", "released", "unrouted"],
)
def test_refused(outcome: Outcome, code: int) -> None:
    """Who does not prove who it is, is told so by CONNACK, and nobody is asked to let it in."""
    with site() as s:
        s.decide = lambda heard: outcome
        device = Device(s)
        assert [packet.code for packet in device.ask(hello())] == [code]
        assert device.ended
        s.serve(20)
        assert {heard.kind for heard in s.heard} == {"auth"}
        assert s.dropped().get("foreign_code", 0) == (outcome.code == 4004)


def test_refused_by_reply() -> None:
    """A reply refuses, too, with its code and words."""
    with site() as s:
        s.replies = lambda heard: ({"close": 0x86, "reason": "no"},)
        device = Device(s)
        found = device.ask(hello())
        assert found == [p.Connack(0x86, properties={"reason_string": "no"})]


def test_nobody_authenticates() -> None:
    """Where nobody routes `mqtt.auth` there is no method; 3.1.1 has none."""
    with site(("connect", "receive")) as s:
        device = Device(s)
        assert [packet.code for packet in device.ask(hello())] == [0x8C]
        assert device.ended


def test_proven_and_not_let_in() -> None:
    """`mqtt.connect` decides on who has proven who it is."""
    with site() as s:
        s.decide = lambda heard: Outcome(REJECTED) if heard.kind == "connect" else OK
        device = proven(s)
        assert [packet.code for packet in device.hello] == [0x87]


def test_not_in_time() -> None:
    """A device that stops half way is not waited for."""
    with site(decision_timeout=5) as s:
        dance(s)
        device = Device(s)
        device.ask(hello())
        assert [packet.code for packet in device.hear(6)] == [0x88]
        assert device.ended


OUT_OF_TURN: dict[str, Callable[[], p.Packet]] = {
    "another method": lambda: p.Auth(CONTINUE, {"authentication_method": "WALK"}),
    "no method": lambda: p.Auth(CONTINUE),
    "another packet": lambda: p.Publish("a", b""),
    "as if let in": lambda: step(b"left", AGAIN),
    "success": lambda: step(b"left", 0),
}


@pytest.mark.parametrize("case", OUT_OF_TURN)
def test_out_of_turn(case: str) -> None:
    """Before it is let in a device says AUTH, with its method, when it is its turn: nothing else."""
    with site() as s:
        dance(s)
        device = Device(s)
        device.ask(hello())
        found = device.ask(OUT_OF_TURN[case]())
        assert [type(packet) for packet in found] == [p.Connack]
        assert found[0].code in {0x81, 0x82}
        assert device.ended


def test_twice() -> None:
    """A device that answers before it was asked is ended."""
    with site() as s:
        dance(s)
        device = Device(s)
        device.ask(hello())
        assert [packet.code for packet in device.ask(step(b"left"), step(b"right"))] == [0x82]


def test_leaves_half_way() -> None:
    """A device may leave before it has proven who it is; nobody hears of it."""
    with site(max_pending=1) as s:
        dance(s)
        device = Device(s)
        device.ask(hello())
        device.ask(p.Disconnect())
        assert device.ended
        assert [heard.kind for heard in s.heard] == ["auth"]
        assert proven(s).hello[0].code == 0  # its place is free


# ---------------------------------------------------------------- once it is let in


def test_again() -> None:
    """A device that was let in proves anew who it is, and goes on meanwhile."""
    with site() as s:
        device = proven(s, {"accept": True, "auth": b"well"})
        s.heard.clear()
        device.say(step(b"me again", AGAIN), p.Publish("a", b"1", 1, packet_id=1))
        assert device.hear() == [step(b"begin"), p.Ack(p.PUBACK, 1)]
        assert device.ask(step(b"right")) == [step(b"well", 0)]
        assert [(m["step"], m["again"]) for m in s.of("auth")] == [(1, True), (2, True)]
        assert "connect" not in {heard.kind for heard in s.heard}
        assert device.ask(step(b"once more", AGAIN)) == [step(b"begin")]
        found = device.hear(11)
        assert (found[-1].code, device.ended) == (0x87, True)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(REJECTED), 0x87),
        (Outcome(REJECTED, 0x97), 0x97),
        (Outcome(REJECTED, 0x86), 0x87),
        (Outcome(FAILED), 0x83),
        (Outcome(UNROUTED), 0x87),
    ],
    ids=["rejected", "with a code", "with a code of CONNACK's", "failed", "unrouted"],
)
def test_again_refused(outcome: Outcome, code: int) -> None:
    """A device that cannot prove anew who it is, is ended."""
    with site() as s:
        device = proven(s)
        s.decide = lambda heard: outcome
        found = device.ask(step(b"me again", AGAIN))
        assert (type(found[-1]), found[-1].code, device.ended) == (p.Disconnect, code, True)


@pytest.mark.parametrize(
    "packet",
    [
        p.Auth(AGAIN, {"authentication_method": "WALK"}),
        step(b"left"),
        step(b"left", 0),
    ],
    ids=["another method", "not begun", "success"],
)
def test_again_out_of_turn(packet: p.Auth) -> None:
    """AUTH of a device that was let in begins with its method, anew."""
    with site() as s:
        device = proven(s)
        found = device.ask(packet)
        assert (type(found[-1]), device.ended) == (p.Disconnect, True)
        assert found[-1].code in {0x81, 0x82}


@pytest.mark.parametrize("reply", [{"auth": b"x"}, {"auth": b"x", "accept": True}])
def test_nobody_asked(reply: dict[str, Any]) -> None:
    """What answers `mqtt.auth` is invalid where no device waits for it."""
    with site() as s:
        device = s.device()
        s.replies = lambda heard: (reply,) if heard.kind == "receive" else ()
        device.ask(p.Publish("a", b""))
        assert s.dropped() == {"invalid": 1}
        second = proven(s)
        s.replies = lambda heard: (reply,) if heard.kind == "receive" else ()
        second.ask(p.Publish("a", b""))
        assert s.dropped() == {"invalid": 2}


def test_nothing_else_is_said_before() -> None:
    """A text for a device that has not proven who it is, is an invalid reply."""
    with site() as s:
        s.replies = lambda heard: ({"text": "hi"},) if heard.kind == "auth" else ()
        device = Device(s)
        found = device.ask(hello())
        assert [type(packet) for packet in found] == [p.Connack]  # it returned, too: proven
        assert s.dropped() == {"invalid": 1}
