"""Messages of devices whose connections change while consumers have them: none lost, none stuck."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.layers.base import FAILED, OK, REJECTED, Outcome
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import ack
from tests.plugins.mqtt.device import Device, site

EXPIRES: dict[str, Any] = {"clean_start": False, "properties": {"session_expiry_interval": 100}}


def two(packet_id: int, payload: bytes = b"x", *, duplicate: bool = False) -> p.Publish:
    return p.Publish("a", payload, 2, duplicate=duplicate, packet_id=packet_id)


def payloads(site: Any) -> list[bytes]:
    return [message["bytes"] for message in site.of("receive")]


def test_what_waited_at_a_take_over_is_handled_when_it_comes_again() -> None:
    """A QoS 2 message that no consumer had when its connection was taken over is not lost."""
    with site() as s:
        first = s.device(**EXPIRES)
        first.say(two(1, b"1"))
        heard = s.rig.hear()
        first.say(two(2, b"2"))  # waits behind the first
        s.rig.run(0.1)
        second = s.device(**EXPIRES)
        heard.settle(OK)
        s.heard.append(heard)
        s.serve(0.1)
        second.say(two(1, b"1", duplicate=True), two(2, b"2", duplicate=True))
        acks = [packet.packet_id for packet in second.hear(1) if isinstance(packet, p.Ack)]
        assert acks == [1, 2]
        assert payloads(s) == [b"1", b"2"]


def test_what_fails_over_a_reconnect_is_handed_in_again() -> None:
    """A QoS 2 message whose consumer fails after its device has come back is handled then."""
    with site() as s:
        first = s.device(**EXPIRES)
        first.say(two(1))
        heard = s.rig.hear()
        first.client.cut()
        s.rig.run(0.1)
        second = s.device(**EXPIRES)
        second.say(two(1, duplicate=True), p.Publish("b", b"y", 1, packet_id=2))
        s.rig.run(0.1)
        heard.settle(Outcome(FAILED))
        s.serve(1)
        assert [packet.packet_id for packet in second.hear(1)] == [1, 2]
        assert sorted(payloads(s)) == [b"x", b"y"]


@pytest.mark.parametrize("lost", ["consumer", "layer"])
def test_what_fails_between_two_connections_is_handled_when_it_comes_again(lost: str) -> None:
    """… and so it is where its consumer, or the layer, failed while the device was away."""
    with site() as s:
        first = s.device(**EXPIRES)
        first.say(two(1))
        heard = s.rig.hear()
        first.client.cut()
        s.rig.run(0.1)
        if lost == "consumer":
            heard.settle(Outcome(FAILED))
        else:
            s.rig.fail()
            s.rig.run(0.1)
            s.rig.restore()
        s.rig.run(1)
        second = s.device(**EXPIRES)
        second.say(two(1, duplicate=True))
        assert second.hear(1) == [p.Ack(p.PUBREC, 1)]
        assert payloads(s) == [b"x"]


@pytest.mark.parametrize("outcome", [OK, Outcome(FAILED), Outcome(REJECTED)], ids=lambda o: o.kind)
@pytest.mark.parametrize("later", [False, True], ids=["in hand", "settled"])
def test_a_new_session_has_no_past(outcome: Outcome, later: bool) -> None:
    """With a clean start a packet identifier is new, whatever an earlier connection has in hand."""
    with site() as s:
        first = s.device()
        first.say(two(1, b"old"))
        heard = s.rig.hear()
        second = Device(s)
        second.say(p.Connect("d"))
        s.serve()
        assert isinstance(second.hear()[0], p.Connack)
        if later:
            heard.settle(outcome)
            s.rig.run(0.1)
        second.say(two(1, b"new"))
        s.serve()
        if not later:
            heard.settle(outcome)
        assert second.hear() == [p.Ack(p.PUBREC, 1)]
        assert payloads(s) == [b"new"]


def test_qos_1_by_the_identifier_of_an_unreleased_message() -> None:
    """A device that has forgotten its QoS 2 messages is acknowledged in QoS 1 as it asks."""
    with site() as s:
        device = s.device(**EXPIRES)
        device.ask(two(1))
        assert device.ask(p.Publish("a", b"1", 1, packet_id=1)) == [p.Ack(p.PUBACK, 1)]
        assert payloads(s) == [b"x", b"1"]
        assert device.ask(ack(p.PUBREL, 1)) == [p.Ack(p.PUBCOMP, 1)]
