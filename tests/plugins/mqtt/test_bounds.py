"""What a hostile device may cost: everything that it can have kept, or done, is bounded."""

from __future__ import annotations

import pytest

from gateway.core.layers.base import OK
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.server.publication import Publication
from gateway.plugins.mqtt.server.retained import Retained
from gateway.plugins.mqtt.server.subscriptions import REMEMBERED, Subscription, Subscriptions
from gateway.plugins.mqtt.topics import matches
from tests.plugins.mqtt.device import Device, site
from tests.plugins.mqtt.test_server import published

PAIRS = {"user_properties": [("name", "x" * 1000)]}


def test_properties_count_where_a_message_is_kept() -> None:
    """What is retained, or waits for a device, counts with its properties."""
    with site(max_retained_bytes=3000, max_queued_bytes=3000) as s:
        away = s.device("away", clean_start=False, properties={"session_expiry_interval": 100})
        away.subscribe("#", qos=1)
        away.client.cut()
        device = s.device()
        for number in range(4):
            topic = str(number)
            device.ask(p.Publish(topic, b"x", 1, retain=True, packet_id=1, properties=PAIRS))
        assert s.dropped() == {"limited": 2, "slow": 2}


def test_what_comes_before_the_decision_is_bounded_in_bytes() -> None:
    """A device that nobody has let in yet is read no further than 64 KiB; what it said is kept."""
    with site() as s:
        device = Device(s)
        device.say(p.Connect("d"))
        s.rig.run()
        for _ in range(20):
            device.say(p.Publish("a", bytes(50_000)))
            s.rig.run()
        (connection,) = s.rig.engine.by_channel.values()
        assert len(connection.session._early) == 1  # type: ignore[attr-defined]
        assert isinstance(device.hear(1)[0], p.Connack)
        assert len(s.of("receive")) == 20


def test_who_does_not_read_is_not_read() -> None:
    """A device that asks and does not read its answers is answered no more until it reads."""
    with site(message_rate=0) as s:
        device = s.device()
        device.client.hold(1000)
        for _ in range(50):
            device.say(b"\xc0\0" * 1000)
        s.serve()
        assert device.client.held <= 4000
        device.client.release()
        assert len(device.hear()) == 50_000


@pytest.mark.parametrize("reads", [True, False], ids=["slowly", "not at all"])
def test_keep_alive_of_who_does_not_read(reads: bool) -> None:
    """A device that reads slowly is not called silent, one that reads nothing is."""
    with site() as s:
        device = s.device(keepalive=10)
        device.subscribe("t")
        device.client.hold(1000)
        s.device("other").ask(*(p.Publish("t", bytes(500)) for _ in range(9)))
        for _ in range(4):
            s.serve(9)
            if reads:
                device.client.release()
                device.say(p.Ping(p.PINGREQ))
                device.client.hold(1000)
        s.serve(9)
        assert device.ended is not reads


def test_a_filter_that_is_asked_for_again_and_again() -> None:
    """One SUBSCRIBE brings what is retained once, however often it has the filter."""
    with site() as s:
        device = s.device()
        device.ask(p.Publish("a", b"x", retain=True))
        found = device.ask(p.Subscribe(1, [("#", 0)] * 1000))
        assert len(found[0].codes) == 1000
        assert published(found[1:]) == [("a", b"x", 0)]


def test_what_is_newer_is_not_overtaken_by_what_was_retained() -> None:
    """Much that is retained is sent little by little; a topic that speaks meanwhile comes once."""
    with site() as s:
        server = s.rig.plugin._server  # type: ignore[attr-defined]
        for number in range(1200):
            server.relay(Publication(f"t/{number:04}", b"old", retain=True))
        other = s.device("other")
        other.ask(p.Subscribe(1, [("t/#", 0x20)]))  # what is retained: not yet

        def both() -> None:
            server.recall(server._homes.here["other"].device, "t/#")
            server.relay(Publication("t/1199", b"new", retain=True))

        s.rig.call(both)
        found = published(other.hear(1))
        assert sorted(topic for topic, _, _ in found) == [f"t/{n:04}" for n in range(1200)]
        assert [payload for topic, payload, _ in found if topic == "t/1199"] == [b"new"]


TOPICS = ["a", "a/b", "a/b/c", "a//c", "/", "$SYS/x", "b", "b/b"]


@pytest.mark.parametrize(
    "found", [*TOPICS, "#", "+", "a/#", "+/b", "a/+/c", "+/#", "$SYS/#", "+/+"]
)
def test_retained_are_found_as_filters_match(found: str) -> None:
    """What is retained is found by every filter that matches its topic, and forgotten whole."""
    kept = Retained(100, 10_000)
    for topic in TOPICS:
        assert kept.keep(Publication(topic, b"x", retain=True))
    assert {one.topic for one in kept.find(found, 0)} == {t for t in TOPICS if matches(found, t)}
    for topic in TOPICS:
        kept.keep(Publication(topic, b"", retain=True))
    assert (len(kept), list(kept), kept._size) == (0, [], 0)
    assert not kept._root.below


def test_what_is_remembered_of_topics_is_bounded() -> None:
    """Many topics of many subscribers are not all remembered with all of them."""
    tree = Subscriptions()
    for number in range(1000):
        tree.add("#", number, Subscription())
    for number in range(200):
        assert len(tree.find(f"t/{number}").members) == 1000
    assert sum(len(one.members) for one in tree._remembered.values()) <= REMEMBERED
    assert len(tree.find("t/0").members) == 1000


def test_a_will_of_a_session_that_ends() -> None:
    """A delayed will is published when a new connection wants no session; with whose it was."""
    will = p.Will("w", b"gone", properties={"will_delay_interval": 10})
    with site() as s:
        s.decide = lambda _: OK
        other = s.device("other")
        other.subscribe("w")
        lasting = {"session_expiry_interval": 100}
        s.device(will=will, clean_start=False, properties=lasting)
        s.device(will=will, clean_start=False, properties=lasting)
        assert other.hear(1) == []
        s.device()
        assert published(other.hear(1)) == [("w", b"gone", 0)]
        assert s.of("receive")[-1]["client"] == s.of("connect")[2]["client"]
