"""The server role, packet by packet: the cases of the specification."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.layers import codec
from gateway.core.layers.base import ACCEPTED, FAILED, OK, REJECTED, RELEASED, Outcome
from gateway.core.plugin import Write
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import ack
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.server import service
from gateway.plugins.mqtt.server.device import Device as Peer
from gateway.plugins.mqtt.server.device import Limits
from gateway.plugins.mqtt.server.inbound import Inbound
from gateway.plugins.mqtt.server.shares import TELL_EVERY
from tests.plugins.mqtt.device import Device, Site, site

BOTH = pytest.mark.parametrize("protocol", [p.V311, p.V5], ids=["3.1.1", "5"])
EXPIRES: dict[str, Any] = {"clean_start": False, "properties": {"session_expiry_interval": 100}}


def published(packets: list[Any]) -> list[tuple[str, bytes, int]]:
    return [(f.topic, f.payload, f.qos) for f in packets if isinstance(f, p.Publish)]


def closed(device: Device, packets: list[Any]) -> int:
    """Return the reason code of the DISCONNECT that ends what a device hears."""
    assert isinstance(packets[-1], p.Disconnect), packets
    assert device.ended
    return packets[-1].code


# ---------------------------------------------------------------- CONNECT


@pytest.mark.parametrize(
    ("outcome", "five", "three"),
    [
        (Outcome(REJECTED), 0x87, 5),
        (Outcome(REJECTED, 0x86), 0x86, 4),
        (Outcome(REJECTED, 4004), 0x87, 5),
        (Outcome(FAILED), 0x83, 3),
        (Outcome(RELEASED), 0x88, 3),
    ],
    ids=["rejected", "with a code", "with a foreign code", "failed", "released"],
)
def test_connect_refused(outcome: Outcome, five: int, three: int) -> None:
    """A CONNECT is refused in the words of its version, and makes no disconnect."""
    with site() as s:
        s.decide = lambda _: outcome
        for protocol, code in ((p.V5, five), (p.V311, three)):
            device = s.device(protocol=protocol)
            assert [packet.code for packet in device.hello] == [code]
            assert device.ended
        s.serve(20)
        assert {heard.kind for heard in s.heard} == {"connect"}
        if outcome.code == 4004:
            assert s.dropped()["foreign_code"] == 2


def test_connect_undecided() -> None:
    """Who is not decided in time is told so (0x88)."""
    with site(decision_timeout=3) as s:
        device = Device(s)
        device.say(p.Connect("d"))
        s.rig.run(4)
        assert [packet.code for packet in device.decoder.feed(device.client.take())] == [0x88]
        assert device.ended


def test_connect_by_reply() -> None:
    """A direct reply decides, and what it says is published once the device is in."""
    with site(implicit_accept=False) as s:
        s.replies = lambda h: ({"text": "hi", "topic": "t"},) if h.kind == "connect" else ()
        device = s.device()
        assert isinstance(device.hello[0], p.Connack)
        assert published(device.hello) == [("t", b"hi", 0)]
        s.replies = lambda h: ({"close": 0x86, "reason": "no"},)
        refused = s.device("e")
        assert refused.hello[0].code == 0x86
        assert refused.hello[0].properties == {"reason_string": "no"}


def test_acknowledged_together() -> None:
    """Those that were handled together are acknowledged by one write, in the order of receipt."""
    device = Peer("d", Limits(10, 1 << 20, float, print))
    relayed: list[str] = []
    inbound = Inbound(
        MqttConfig(), device, p.V311, lambda one: relayed.append(one.topic), bool, print
    )
    emits = [
        inbound.take(p.Publish(topic, b"", qos, packet_id=n), topic)[0]
        for n, (topic, qos) in enumerate([("a", 1), ("b", 0), ("c", 2), ("", 1), ("e", 1)])
    ]
    tokens = [emit.token for emit in emits]
    assert inbound.accepted(tokens[2:3]) == []
    acks = [ack(p.PUBACK, 0), ack(p.PUBREC, 2), ack(p.PUBACK, 3)]
    assert inbound.accepted([*tokens[:2], tokens[3]]) == [Write(b"".join(acks))]
    assert relayed == ["c", "a", "b"]
    assert inbound.unacknowledged == 2


@BOTH
def test_wrong_versions_and_ids(protocol: int) -> None:
    """What is refused without asking: another version, no client id to come back to."""
    with site() as s:
        other = Device(s, p.V311)
        found = other.ask(b"\x10\x0c\0\4MQTT\x03\2\0\0\0\0")
        assert [packet.code for packet in found] == [1]
        if protocol == p.V311:
            device = s.device("", protocol, clean_start=False)
            assert [packet.code for packet in device.hello] == [2]
        else:
            device = s.device("", protocol)
            assigned = device.hello[0].properties["assigned_client_identifier"]
            assert assigned == s.of("connect")[-1]["client_id"]


def test_silence_before_connect() -> None:
    """Who connects and says nothing is ended."""
    with site(connect_timeout=5) as s:
        device = Device(s)
        s.serve(6)
        assert device.ended
        assert s.dropped() == {"limited": 1}


def test_early_packets() -> None:
    """What a client sends before its CONNACK waits for it."""
    with site() as s:
        device = Device(s)
        found = device.ask(p.Connect("d"), p.Publish("a", b"1", 1, packet_id=5), p.Ping(p.PINGREQ))
        assert [type(packet) for packet in found] == [p.Connack, p.Ping, p.Ack]


def test_secrets_and_properties() -> None:
    """The application hears all that a CONNECT says."""
    with site() as s:
        will = p.Will("w", b"gone", 1, retain=True, properties={"will_delay_interval": 7})
        s.device("d", username="u", password=b"p", will=will, keepalive=30)
        message = s.of("connect")[0]
        assert (message["username"], message["password"]) == ("u", b"p")
        assert message["will"] == {
            "topic": "w", "bytes": b"gone", "qos": 1, "retain": True, "delay": 7, "properties": {},
        }  # fmt: skip
        assert message["keepalive"] == 30


# ---------------------------------------------------------------- keep alive, the end


@BOTH
def test_keep_alive(protocol: int) -> None:
    """A device that is silent for one and a half times its keep alive is ended; PINGREQ is a sign."""
    with site() as s:
        device = s.device("d", protocol, keepalive=10)
        for _ in range(4):
            assert device.ask(p.Ping(p.PINGREQ)) == [p.Ping(p.PINGRESP)]
            s.serve(9)
        s.serve(5)
        assert not device.ended
        found = device.hear(7)
        assert device.ended
        if protocol == p.V5:
            assert closed(device, found) == 0x8D
        assert s.of("disconnect")[0]["code"] == 0x8D


@pytest.mark.parametrize(
    ("packet", "code"),
    [(p.Disconnect(), 0), (p.Disconnect(4), 4), (b"", 0x80), (b"\0\0", 0x81)],
    ids=["as it should", "with its will", "without a word", "nonsense"],
)
def test_disconnect(packet: Any, code: int) -> None:
    """One disconnect follows each device that was let in, with the reason."""
    with site() as s:
        device = s.device(will=p.Will("w", b"gone"))
        other = s.device("other")
        other.subscribe("w")
        if packet:
            device.ask(packet)
        else:
            device.client.cut()
        assert published(other.hear()) == ([("w", b"gone", 0)] if code else [])
        assert [message["code"] for message in s.of("disconnect")] == [code]
        assert [m["topic"] for m in s.of("receive")] == (["w"] if code else [])


def test_will_is_the_applications_to_refuse() -> None:
    """A will that its consumer rejects reaches nobody."""
    with site() as s:
        s.decide = lambda h: Outcome(REJECTED) if h.kind == "receive" else OK
        other = s.device("other")
        other.subscribe("w")
        s.device(will=p.Will("w", b"gone")).client.cut()
        assert other.hear(1) == []
        assert s.of("receive")[0]["client_id"] == "d"


def test_will_delay() -> None:
    """A delayed will is published after its delay, or never if the device comes back before."""
    delayed = p.Will("w", b"gone", properties={"will_delay_interval": 10})
    with site() as s:
        other = s.device("other")
        other.subscribe("w")
        s.device(will=delayed, **EXPIRES).client.cut()
        assert other.hear(5) == []
        again = s.device(will=delayed, **EXPIRES)
        assert other.hear(20) == []
        again.client.cut()
        assert published(other.hear(12)) == [("w", b"gone", 0)]
        again = s.device(will=delayed, **EXPIRES)
        again.client.cut()
        s.serve(1)
        s.device(clean_start=True)  # the session ends before the delay is over
        assert published(other.hear()) == [("w", b"gone", 0)]


# ---------------------------------------------------------------- sessions


@BOTH
def test_session_is_kept(protocol: int) -> None:
    """A session that lives on keeps its subscriptions and what came meanwhile, in order."""
    options: dict[str, Any] = EXPIRES if protocol == p.V5 else {"clean_start": False}
    with site() as s:
        device = s.device("d", protocol, **options)
        assert not device.hello[0].session_present
        device.subscribe("a/+", qos=1)
        device.ask(p.Disconnect())
        other = s.device("other", protocol)
        other.ask(*(p.Publish(f"a/{n}", b"x", 1, packet_id=n) for n in range(1, 6)))
        other.ask(p.Publish("a/0", b"lost", 0))
        again = s.device("d", protocol, **options)
        assert again.hello[0].session_present
        assert published(again.hello[1:]) == [(f"a/{n}", b"x", 1) for n in range(1, 6)]
        assert s.dropped() == {"gone": 1}


@BOTH
def test_session_is_not_kept(protocol: int) -> None:
    """A clean session ends with its connection; clean start ends one that lived on."""
    with site() as s:
        device = s.device("d", protocol)
        device.subscribe("a")
        device.ask(p.Disconnect())
        options: dict[str, Any] = EXPIRES if protocol == p.V5 else {"clean_start": False}
        again = s.device("d", protocol, **options)
        assert not again.hello[0].session_present
        again.subscribe("b", qos=1)
        again.ask(p.Disconnect())
        other = s.device("other", protocol)
        other.ask(p.Publish("b", b"x", 1, packet_id=1))
        clean = s.device("d", protocol, clean_start=True)
        assert not clean.hello[0].session_present
        assert published(clean.hello) == []
        other.ask(p.Publish("b", b"x", 1, packet_id=2))
        assert clean.hear() == []


def test_session_expires() -> None:
    """A session ends when its time is over, and not before."""
    with site() as s:
        s.device("d", **EXPIRES).ask(p.Disconnect())
        s.serve(99)
        again = s.device("d", **EXPIRES)
        assert again.hello[0].session_present
        again.ask(p.Disconnect(0, {"session_expiry_interval": 5}))
        s.serve(6)
        assert not s.device("d", **EXPIRES).hello[0].session_present


def test_session_that_was_to_end() -> None:
    """A DISCONNECT cannot keep a session that was to end (0x82)."""
    with site() as s:
        device = s.device("d")
        assert closed(device, device.ask(p.Disconnect(0, {"session_expiry_interval": 5}))) == 0x82


@BOTH
def test_take_over(protocol: int) -> None:
    """A second connection of a client id takes the session over; the first hears why (0x8E)."""
    options: dict[str, Any] = EXPIRES if protocol == p.V5 else {"clean_start": False}
    with site() as s:
        first = s.device("d", protocol, **options)
        first.subscribe("a", qos=1)
        second = s.device("d", protocol, **options)
        assert second.hello[0].session_present
        found = first.hear()
        assert first.ended
        if protocol == p.V5:
            assert closed(first, found) == 0x8E
        assert [message["code"] for message in s.of("disconnect")] == [0x8E]
        assert published(second.ask(p.Publish("a", b"x", 1, packet_id=1))) == [("a", b"x", 1)]


# ---------------------------------------------------------------- publishes of devices


def test_acknowledged_after_the_outcome() -> None:
    """A message is acknowledged once its consumer has returned, not before, in order of receipt."""
    with site() as s:
        device = s.device()
        for packet in (
            p.Publish("a", b"", 1, packet_id=1),
            p.Publish("a", b"", 2, packet_id=2),
            p.Publish("a", b"", 1, packet_id=3),
        ):
            device.say(packet)
        s.rig.run(1)
        assert device.client.take() == b""
        found = device.hear()
        assert [(a.type, a.packet_id) for a in found] == [
            (p.PUBACK, 1), (p.PUBREC, 2), (p.PUBACK, 3),
        ]  # fmt: skip


@BOTH
def test_rejected(protocol: int) -> None:
    """A rejected message is acknowledged with a reason code (MQTT 5), and relayed to nobody."""
    with site() as s:
        s.decide = lambda h: Outcome(REJECTED, 0x97) if h.kind == "receive" else OK
        device = s.device("d", protocol)
        device.subscribe("#")
        code = 0x97 if protocol == p.V5 else 0
        for qos, kind in ((1, p.PUBACK), (2, p.PUBREC)):
            found = device.ask(p.Publish("a", b"", qos, packet_id=qos))
            assert found == [p.Ack(kind, qos, code)]


def test_tried_again() -> None:
    """A message that failed is handed in again, marked, unacknowledged until it is accepted."""
    with site(retry_wait=1) as s:
        s.decide = lambda h: (
            Outcome(FAILED)
            if h.kind == "receive" and h.message["attempt"] < 3 and h.message["packet_id"] == 1
            else OK
        )
        device = s.device()
        device.say(p.Publish("a", b"1", 1, packet_id=1), p.Publish("a", b"2", 1, packet_id=2))
        assert device.hear(0.5) == []
        assert [f.packet_id for f in device.hear(1) + device.hear(3) + device.hear(1)] == [1, 2]
        tries = [(m["bytes"], m["attempt"], m["duplicate"]) for m in s.of("receive")]
        assert tries == [(b"1", 1, False), (b"1", 2, True), (b"1", 3, True), (b"2", 1, False)]


@pytest.mark.parametrize("accepted", [True, False])
def test_dead_letter(accepted: bool) -> None:
    """What failed for good goes to mqtt.failed, and is acknowledged if that was accepted."""
    with site(attempts=2, retry_wait=0.1, on_failure="dead_letter") as s:
        s.decide = lambda h: (
            OK if h.kind == "connect" or (accepted and h.kind == "failed") else Outcome(FAILED)
        )
        device = s.device()
        found = device.ask(p.Publish("a", b"1", 1, packet_id=1)) + device.hear(1) + device.hear(1)
        assert [m["bytes"] for m in s.of("failed")] == [b"1"]
        assert s.of("failed")[0]["attempt"] == 2
        if accepted:
            assert found == [p.Ack(p.PUBACK, 1)]
        else:
            assert closed(device, found) == 0x83


def test_qos_2_is_handed_over_once() -> None:
    """A QoS 2 message that comes again before its PUBREL is not handled again."""
    with site() as s:
        device = s.device(**EXPIRES)
        packet = p.Publish("a", b"x", 2, packet_id=7)
        again = p.Publish("a", b"x", 2, duplicate=True, packet_id=7)
        assert device.ask(packet) == [p.Ack(p.PUBREC, 7)]
        assert device.ask(again) == [p.Ack(p.PUBREC, 7)]
        device.client.cut()
        device = s.device(**EXPIRES)
        assert device.ask(again) == [p.Ack(p.PUBREC, 7)]
        assert device.ask(ack(p.PUBREL, 7)) == [p.Ack(p.PUBCOMP, 7)]
        assert device.ask(ack(p.PUBREL, 7)) == [p.Ack(p.PUBCOMP, 7, 0x92)]
        assert len(s.of("receive")) == 1


def test_qos_2_in_hand_over_a_reconnect() -> None:
    """… nor while its first copy, of an earlier connection, is with a consumer."""
    with site() as s:
        device = s.device(**EXPIRES)
        device.say(p.Publish("a", b"x", 2, packet_id=7))
        heard = s.rig.hear()
        device.client.cut()
        s.rig.run(0.1)
        again = Device(s)
        again.say(p.Connect("d", **EXPIRES))
        heard.settle(OK)
        s.serve()
        again.say(p.Publish("a", b"x", 2, duplicate=True, packet_id=7))
        assert again.hear()[-1] == p.Ack(p.PUBREC, 7)
        assert len(s.of("receive")) == 0


def test_receive_maximum() -> None:
    """Who has more unacknowledged messages than it may is ended (0x93)."""
    with site(receive_maximum=3) as s:
        device = s.device()
        assert device.hello[0].properties["receive_maximum"] == 3
        device.say(*(p.Publish("a", b"", 1, packet_id=n) for n in range(1, 5)))
        s.rig.run()
        assert closed(device, device.decoder.feed(device.client.take())) == 0x93


def test_topic_aliases() -> None:
    """An alias stands for its topic; one that stands for nothing, or over the maximum, is an end."""
    with site(topic_aliases=2) as s:
        device = s.device()
        device.ask(
            p.Publish("long/topic", b"1", properties={"topic_alias": 2}),
            p.Publish("", b"2", properties={"topic_alias": 2}),
            p.Publish("other", b"3", properties={"topic_alias": 2}),
            p.Publish("", b"4", properties={"topic_alias": 2}),
        )
        topics = [(m["topic"], m["bytes"]) for m in s.of("receive")]
        assert topics == [
            ("long/topic", b"1"), ("long/topic", b"2"), ("other", b"3"), ("other", b"4"),
        ]  # fmt: skip
        found = device.ask(p.Publish("", b"", properties={"topic_alias": 1}))
        assert closed(device, found) == 0x82
        device = s.device("e")
        found = device.ask(p.Publish("a", b"", properties={"topic_alias": 3}))
        assert closed(device, found) == 0x94


@BOTH
def test_limits_of_topics(protocol: int) -> None:
    """Topics of the server's, and such as are too long or too deep, are refused, not handed over."""
    with site(max_topic=100, max_topic_levels=4) as s:
        device = s.device("d", protocol)
        for number, (topic, code) in enumerate(
            [("$SYS/x", 0x87), ("x" * 101, 0x90), ("a/b/c/d/e", 0x90)], 1
        ):
            found = device.ask(p.Publish(topic, b"", 1, packet_id=number))
            assert found == [p.Ack(p.PUBACK, number, code if protocol == p.V5 else 0)]
        assert not s.of("receive")
        assert s.dropped() == {"invalid": 3}


def test_rate() -> None:
    """Who sends too fast is ended (0x96)."""
    with site(message_rate=10, message_burst=20) as s:
        device = s.device()
        found = device.ask(b"\xc0\0" * 60)
        assert closed(device, found) == 0x96
        assert s.dropped() == {"limited": 1}


@pytest.mark.parametrize(
    "packet",
    [
        p.Connack(), p.Suback(1, [0]), p.Unsuback(1, [0]), p.Ping(p.PINGRESP), p.Auth(),
        p.Connect("d"), p.Publish("a", b"", properties={"subscription_identifiers": [1]}),
    ],
    ids=lambda packet: type(packet).__name__,
)  # fmt: skip
def test_what_a_server_does_not_get(packet: p.Packet) -> None:
    """Packets that only servers send end the connection (0x82)."""
    with site() as s:
        device = s.device()
        assert closed(device, device.ask(packet)) == 0x82


# ---------------------------------------------------------------- subscriptions


@BOTH
def test_subscribe_decided(protocol: int) -> None:
    """The application decides on subscriptions; who is refused gets nothing."""
    with site(max_subscriptions=2) as s:
        s.decide = lambda h: (
            Outcome(REJECTED)
            if h.kind == "subscribe" and h.message["filters"][0][0] == "no"
            else OK
        )
        device = s.device("d", protocol)
        five = protocol == p.V5
        found = device.ask(p.Subscribe(1, [("no", 0)]), p.Subscribe(2, [("a", 1), ("b", 2)]))
        assert found == [p.Suback(1, [0x87 if five else 0x80]), p.Suback(2, [1, 2])]
        found = device.ask(p.Subscribe(3, [("c", 0)]), p.Unsubscribe(4, ["a", "a"]))
        codes = [0, 0x11] if five else []
        assert found == [p.Suback(3, [0x97 if five else 0x80]), p.Unsuback(4, codes)]
        device.ask(p.Publish("no", b""), p.Publish("a", b""), p.Publish("b", b""))
        assert s.of("unsubscribe")[0]["filters"] == ["a", "a"]


def test_subscribe_in_order() -> None:
    """An UNSUBSCRIBE behind a SUBSCRIBE waits for its decision."""
    with site() as s:
        device = s.device()
        device.say(p.Subscribe(1, [("a", 0)]), p.Unsubscribe(2, ["a"]))
        s.rig.run(1)
        assert device.client.take() == b""
        assert device.hear() == [p.Suback(1, [0]), p.Unsuback(2, [0])]
        assert device.ask(p.Publish("a", b"")) == []


def test_subscribe_undecided() -> None:
    """A SUBSCRIBE that nobody decides in time is refused."""
    with site(decision_timeout=3) as s:
        device = s.device()
        device.say(p.Subscribe(1, [("a", 0)]))
        s.rig.run(4)
        assert device.decoder.feed(device.client.take()) == [p.Suback(1, [0x80])]


def test_subscribe_unrouted() -> None:
    """Where nobody routes subscriptions they are accepted if somebody routes messages."""
    with site(("receive",)) as s:
        device = s.device()
        device.subscribe("a")
        assert published(device.ask(p.Publish("a", b"x"))) == [("a", b"x", 0)]
    with site(("connect",)) as s:
        assert s.device().ask(p.Subscribe(1, [("a", 0)])) == [p.Suback(1, [0x87])]


@pytest.mark.parametrize(
    ("found", "topic", "matches"),
    [
        ("a/b", "a/b", True), ("a/+", "a/b", True), ("a/+", "a", False), ("a/#", "a", True),
        ("a/#", "a/b/c", True), ("#", "a/b", True), ("+/+", "/a", True), ("+", "/a", False),
        ("/+", "/a", True), ("a/+/c", "a//c", True), ("A", "a", False),
    ],
)  # fmt: skip
def test_wildcards(found: str, topic: str, matches: bool) -> None:
    """A filter gets what it matches, and nothing else (section 4.7)."""
    with site() as s:
        device = s.device()
        device.subscribe(found)
        assert bool(published(device.ask(p.Publish(topic, b"")))) is matches


@pytest.mark.parametrize("published_at", [0, 1, 2])
@pytest.mark.parametrize("subscribed_at", [0, 1, 2])
def test_qos(published_at: int, subscribed_at: int) -> None:
    """A message goes out at the lesser of both QoS, and its exchange ends well."""
    with site() as s:
        device = s.device()
        device.subscribe("a", qos=subscribed_at)
        other = s.device("other")
        other.ask(p.Publish("a", b"x", published_at, packet_id=9 if published_at else 0))
        found = device.hear()
        qos = min(published_at, subscribed_at)
        assert published(found) == [("a", b"x", qos)]
        if qos == 1:
            assert device.ask(ack(p.PUBACK, found[0].packet_id)) == []
        if qos == 2:
            assert device.ask(ack(p.PUBREC, found[0].packet_id)) == [
                p.Ack(p.PUBREL, found[0].packet_id)
            ]
            assert device.ask(ack(p.PUBCOMP, found[0].packet_id)) == []


def test_overlapping_subscriptions() -> None:
    """A device whose subscriptions overlap gets one copy, at the highest QoS, with all identifiers."""
    with site() as s:
        device = s.device()
        device.subscribe("a/+", qos=1, subscription_identifiers=[5])
        device.subscribe("a/#", qos=2, subscription_identifiers=[6])
        found = device.ask(p.Publish("a/b", b"x", 2, packet_id=1))
        copies = [f for f in found if isinstance(f, p.Publish)]
        assert [copy.qos for copy in copies] == [2]
        assert sorted(copies[0].properties["subscription_identifiers"]) == [5, 6]


def test_no_local_and_retain_as_published() -> None:
    """No Local keeps one's own messages away; Retain As Published keeps the flag."""
    with site() as s:
        device, other = s.device(), s.device("other")
        device.subscribe("a", options=p.NO_LOCAL)
        other.subscribe("a", options=p.RETAIN_AS_PUBLISHED)
        assert device.ask(p.Publish("a", b"x", retain=True)) == []
        assert [f.retain for f in other.hear()] == [True]
        other.ask(p.Publish("a", b"y", retain=True))
        assert [f.retain for f in device.hear()] == [False]


@pytest.mark.parametrize(("handling", "first", "second"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(handling: int, first: int, second: int) -> None:
    """Retained messages are sent at subscribing: always, to new subscriptions, or never."""
    with site() as s:
        device = s.device()
        device.ask(p.Publish("a", b"kept", retain=True))
        for expected in (first, second):
            device.subscribe("a", options=handling << 4)
            found = device.early + device.hear()
            assert [(f.payload, f.retain) for f in found] == [(b"kept", True)] * expected


def test_retained_is_bounded_and_ends() -> None:
    """An empty payload ends what is kept; there is a most of it, counted; it expires."""
    with site(max_retained=2) as s:
        device = s.device()
        expires = {"message_expiry_interval": 30}
        device.ask(p.Publish("a", b"1", retain=True), p.Publish("b", b"2", retain=True))
        device.ask(p.Publish("c", b"3", retain=True))
        assert s.dropped() == {"limited": 1}
        device.ask(p.Publish("a", b"", retain=True))
        device.ask(p.Publish("c", b"3", retain=True, properties=expires))
        device.subscribe("#")
        found = device.early + device.hear()
        assert sorted(published(found)) == [("b", b"2", 0), ("c", b"3", 0)]


def test_shared_subscriptions() -> None:
    """Of a shared subscription each message goes to one, in turn."""
    with site() as s:
        devices = [s.device(f"d{n}") for n in range(3)]
        for device in devices:
            device.subscribe("$share/g/a/+")
        s.device("other").ask(*(p.Publish("a/b", b"%d" % n) for n in range(6)))
        got = [[f.payload for f in device.hear()] for device in devices]
        assert sorted(payload for one in got for payload in one) == [b"%d" % n for n in range(6)]
        assert [len(one) for one in got] == [2, 2, 2]


def test_shares_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All shared subscriptions of a process are told of in one message, over a size in several."""
    told: list[dict[str, list[int]]] = []

    def group_send(_group: str, payload: bytes, *_: Any, **__: Any) -> None:
        if "shares" in (message := codec.decode(payload)):
            told.append(message["shares"])

    with site() as s:
        device = s.device(**EXPIRES)
        device.subscribe(*(f"$share/g/{n}" for n in range(50)))
        monkeypatch.setattr(s.rig.engine.edge, "group_send", group_send)
        s.serve(TELL_EVERY + 1)
        assert told == [{f"$share/g/{n}": [1, 1] for n in range(50)}]
        device.ask(p.Disconnect())
        assert told[1:] == [{f"$share/g/{n}": [0, 1] for n in range(50)}]
        monkeypatch.setattr(service, "TELL_BYTES", 100)
        s.serve(TELL_EVERY + 1)
        assert [len(one) for one in told[2:]] == [10, 10, 10, 10, 10]


def test_flow_control() -> None:
    """At most as many messages are unacknowledged as the device allows; the rest waits, bounded."""
    with site(max_queued=3) as s:
        device = s.device(properties={"receive_maximum": 2})
        device.subscribe("a", qos=1)
        other = s.device("other")
        other.ask(*(p.Publish("a", b"%d" % n, 1, packet_id=n) for n in range(1, 8)))
        found = device.hear()
        assert [f.payload for f in found] == [b"1", b"2"]
        assert s.dropped() == {"slow": 2}
        rest = []
        while found:
            found = device.ask(*(ack(p.PUBACK, f.packet_id) for f in found))
            rest += [f.payload for f in found]
        assert rest == [b"3", b"4", b"5"]


def test_retained_at_the_device_s_pace() -> None:
    """However many retained messages there are, none is lost to a device that acknowledges."""
    with site(max_queued=3) as s:
        other = s.device("other")
        kept = [p.Publish(f"a/{n}", b"%d" % n, 1, packet_id=n, retain=True) for n in range(1, 31)]
        other.ask(*kept)
        device = s.device(properties={"receive_maximum": 2})
        device.subscribe("a/+", qos=1)
        found = device.early + device.hear()
        got = []
        while found:
            got += [f.payload for f in found]
            found = device.ask(*(ack(p.PUBACK, f.packet_id) for f in found))
        assert sorted(got) == sorted(packet.payload for packet in kept)
        assert s.dropped() == {}


def test_retained_for_who_leaves() -> None:
    """What a device that leaves has not been sent of them waits for it as far as may wait."""
    with site(max_queued=3) as s:
        s.device("other").ask(
            *(p.Publish(f"a/{n}", b"x", 1, packet_id=n, retain=True) for n in range(1, 11))
        )
        properties = {"session_expiry_interval": 100, "receive_maximum": 2}
        device = s.device(clean_start=False, properties=properties)
        device.subscribe("a/+", qos=1)
        device.ask(p.Disconnect())
        assert s.dropped() == {"slow": 5}


def test_sent_again() -> None:
    """What was not acknowledged is sent again, marked, to the next connection of its session."""
    with site() as s:
        device = s.device(**EXPIRES)
        device.subscribe("a", qos=2)
        other = s.device("other")
        other.ask(*(p.Publish("a", b"%d" % n, 2, packet_id=n) for n in (1, 2)))
        first, second = device.hear()
        device.ask(ack(p.PUBREC, first.packet_id))
        device.client.cut()
        again = s.device(**EXPIRES)
        assert again.hello[1] == p.Ack(p.PUBREL, first.packet_id)
        assert again.hello[2].duplicate
        assert again.hello[2].packet_id == second.packet_id


def test_largest_packet_of_a_device() -> None:
    """A device gets no packet that is larger than it said, and the rest."""
    with site() as s:
        device = s.device(properties={"maximum_packet_size": 100})
        device.subscribe("a", qos=1)
        other = s.device("other")
        for qos in (0, 1):
            other.ask(p.Publish("a", b"x" * 200, qos, packet_id=qos))
            other.ask(p.Publish("a", b"y", qos, packet_id=qos * 2))
        assert [f.payload for f in device.hear()] == [b"y", b"y"]
        assert s.dropped()["too_big"] == 2


def test_request_and_response() -> None:
    """A reply goes to the response topic with its correlation data, to that device alone."""
    with site() as s:
        s.replies = lambda h: ({"text": "42"},) if h.kind == "receive" else ()
        device, other = s.device(), s.device("other")
        other.subscribe("#")
        asked = {"response_topic": "answers/d", "correlation_data": b"7"}
        found = device.ask(p.Publish("q", b"?", 1, packet_id=1, properties=asked))
        answer = found[0]
        assert (answer.topic, answer.payload) == ("answers/d", b"42")
        assert answer.properties == {"payload_format_indicator": 1, "correlation_data": b"7"}
        assert [f.topic for f in other.hear()] == ["q"]


# ---------------------------------------------------------------- the application publishes


@pytest.mark.parametrize("channel", ["mqtt.publish", "mqtt.publish!jobs_2fnew"])
def test_publish_from_anywhere(channel: str) -> None:
    """What is sent to mqtt.publish, or to an address, reaches whoever subscribes."""
    with site() as s:
        five, three = s.device(), s.device("three", p.V311)
        five.subscribe("jobs/+", qos=1)
        three.subscribe("jobs/#")
        message = {"text": "go", "qos": 1, "user_properties": [("a", "b")], "expiry": 60}
        if channel == "mqtt.publish":
            message["topic"] = "jobs/new"
        s.rig.send(channel, message)
        found = five.hear()
        assert published(found) == [("jobs/new", b"go", 1)]
        assert found[0].properties == {
            "payload_format_indicator": 1,
            "user_properties": [("a", "b")],
            "message_expiry_interval": 60,
        }
        assert published(three.hear()) == [("jobs/new", b"go", 0)]
        assert not s.of("receive")


@pytest.mark.parametrize(
    "message",
    [
        {"text": "x"}, {"text": "x", "topic": "a/+"}, {"text": "x", "topic": ""},
        {"text": 5, "topic": "a"}, {"text": "x", "topic": "a", "colour": 1},
        {"text": "x", "bytes": b"x", "topic": "a"}, {"text": "x", "topic": "a", "qos": 3},
        {"text": "x", "topic": "a", "content_type": "\0"},
    ],
    ids=str,
)  # fmt: skip
def test_invalid_publish(message: dict[str, Any]) -> None:
    """A publish that makes no sense is counted and dropped, and says so to who asked."""
    with site() as s:
        device = s.device()
        device.subscribe("#")
        s.rig.send("mqtt.publish", {**message, "ack": 7, "ack_channel": "acks?x"})
        assert device.hear() == []
        assert s.dropped() == {"invalid": 1}
        assert s.rig.worker.receive(["acks?x"])[1]["outcome"] == "failed"


def test_groups() -> None:
    """A group's message reaches its members: a device, and an address for all who subscribe."""
    with site() as s:
        device, other = s.device(), s.device("other")
        other.subscribe("news")
        worker = s.rig.worker
        worker.group_add("g", s.of("connect")[0]["reply_channel"])
        worker.group_add("g", "mqtt.publish!news")
        worker.send_group("g", {"text": "hi"})
        assert published(device.hear()) == [("d/reply", b"hi", 0)]
        assert published(other.hear()) == [("news", b"hi", 0)]


def test_ack_at_puback() -> None:
    """An ack of a reply with QoS 1 is answered when the device has acknowledged it."""
    with site() as s:
        device = s.device()
        channel = s.of("connect")[0]["reply_channel"]
        said = {"text": "x", "topic": "t", "ack": 1, "ack_channel": "acks?x"}
        s.rig.send(channel, {**said, "qos": 1})
        packet = device.hear()[0]
        assert s.rig.worker.receive(["acks?x"]) == (None, None)
        device.ask(ack(p.PUBACK, packet.packet_id))
        assert s.rig.worker.receive(["acks?x"])[1]["outcome"] == ACCEPTED
        s.rig.send(channel, said)
        device.hear()
        assert s.rig.worker.receive(["acks?x"])[1]["outcome"] == ACCEPTED


def test_close() -> None:
    """The application may end a connection, with a reason code and words."""
    with site() as s:
        device = s.device()
        s.rig.send(s.of("connect")[0]["reply_channel"], {"close": 0x98, "reason": "bye"})
        found = device.hear()
        assert closed(device, found) == 0x98
        assert found[0].properties == {"reason_string": "bye"}
        assert s.of("disconnect")[0]["code"] == 0x98


def test_nothing_is_relayed() -> None:
    """With relay = "off" devices hear only what the application publishes."""
    with site(relay="off") as s:
        device = s.device()
        device.subscribe("a")
        assert device.ask(p.Publish("a", b"")) == []
        s.rig.send("mqtt.publish!a", {"text": "x"})
        assert published(device.hear()) == [("a", b"x", 0)]


def test_too_many_pending() -> None:
    """Beyond max_pending devices are refused at once (0x97)."""
    with site(max_pending=1) as s:
        first, second = Device(s), Device(s)
        first.say(p.Connect("a"))
        second.say(p.Connect("b"))
        s.rig.run()
        assert second.decoder.feed(second.client.take())[0].code == 0x97
        assert isinstance(first.hear()[0], p.Connack)


def many(s: Site, count: int) -> list[Device]:
    devices = [s.device(f"d{n}") for n in range(count)]
    for device in devices:
        device.subscribe("a")
    return devices


def test_one_message_for_many() -> None:
    """A publish to many costs one message of the layer, and reaches each once, in order."""
    with site() as s:
        devices = many(s, 30)
        for n in range(3):
            s.rig.send("mqtt.publish!a", {"text": str(n)})
        for device in devices:
            assert [f.payload for f in device.hear()] == [b"0", b"1", b"2"]
