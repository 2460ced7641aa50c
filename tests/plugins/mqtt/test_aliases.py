"""Topic aliases that the gateway uses towards devices (MQTT 5, section 3.3.2.3.4)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.plugins.mqtt import packets as p
from tests.plugins.mqtt.device import Device, site

EXPIRES: dict[str, Any] = {"session_expiry_interval": 100}


def told(packets: list[Any]) -> list[tuple[str, int | None]]:
    """Return the topic and the alias of each publish."""
    return [(f.topic, f.properties.get("topic_alias")) for f in packets if isinstance(f, p.Publish)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_first_topics(qos: int) -> None:
    """A device that takes aliases is told its first topics once, and the others each time."""
    with site() as s:
        device = s.device(properties={"topic_alias_maximum": 2})
        device.subscribe("#", qos=qos)
        other = s.device("other")
        for number in range(1, 7):
            name = ("topic/a", "topic/b", "topic/c")[number % 3]
            other.ask(p.Publish(name, b"%d" % number, qos, packet_id=number if qos else 0))
        found = device.hear()
    assert told(found) == [
        ("topic/b", 1), ("topic/c", 2), ("topic/a", None), ("", 1), ("", 2), ("topic/a", None),
    ]  # fmt: skip
    assert [f.payload for f in found] == [b"1", b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize(
    ("protocol", "asked", "most"),
    [(p.V5, {}, 16), (p.V311, {}, 16), (p.V5, {"topic_alias_maximum": 9}, 0)],
    ids=["unless it takes them", "nor in 3.1.1", "nor where the settings say 0"],
)
def test_no_aliases(protocol: int, asked: dict[str, Any], most: int) -> None:
    """A device is told the topic each time, unless it said that it takes aliases."""
    with site(topic_aliases=most) as s:
        device = s.device(protocol=protocol, properties=asked)
        device.subscribe("a")
        s.device("other").ask(p.Publish("a", b"1"), p.Publish("a", b"2"))
        assert told(device.hear()) == [("a", None), ("a", None)]


def test_each_device_has_its_own() -> None:
    """What one device was told is not what another, or its own next connection, was told."""
    with site() as s:
        first = s.device("first", properties={"topic_alias_maximum": 5, **EXPIRES})
        first.subscribe("+", qos=1)
        other = s.device("other")
        other.ask(p.Publish("a", b""))
        second = s.device("second", properties={"topic_alias_maximum": 5})
        second.subscribe("+", qos=1)
        plain = s.device("plain")
        plain.subscribe("+", qos=1)
        other.ask(p.Publish("b", b"", 1, packet_id=1), p.Publish("a", b"", 1, packet_id=2))
        assert told(first.hear()) == [("a", 1), ("b", 2), ("", 1)]
        assert told(second.hear()) == [("b", 1), ("a", 2)]
        assert told(plain.hear()) == [("b", None), ("a", None)]
        first.client.cut()
        again = s.device(
            "first", clean_start=False, properties={"topic_alias_maximum": 5, **EXPIRES}
        )
        assert told(again.hello) == [("b", None), ("a", None)]  # sent again: as they are
        other.ask(p.Publish("a", b""))
        assert told(again.hear()) == [("a", 1)]


def test_what_defines_one_is_not_dropped() -> None:
    """A device that reads too slowly loses messages, and never what an alias stands for."""
    with site(slow_consumer="drop_oldest", gateway={"outbox_messages": 4}) as s:
        device = s.device(properties={"topic_alias_maximum": 3})
        device.subscribe("+")
        other = s.device("other")
        device.client.hold(0)
        other.ask(p.Publish("first", b"0"))
        for number in range(30):
            other.ask(p.Publish("abcde"[number % 5], b"%d" % number))
        device.client.release()
        found = device.hear()
        assert s.dropped()["slow"] > 10
        known: set[int] = set()
        for topic, alias in told(found):
            assert topic or alias in known
            known.add(alias or 0)
        assert len(known) == 4


def test_a_packet_that_would_be_too_large_with_one() -> None:
    """A message that the device takes only without an alias has none."""
    with site() as s:
        size = 40
        device = s.device(properties={"topic_alias_maximum": 3, "maximum_packet_size": size})
        device.subscribe("topic")
        other = s.device("other")
        room = size - 2 - 2 - len("topic") - 1  # fixed header, topic's length, properties' length
        other.ask(p.Publish("topic", b"x" * room), p.Publish("topic", b"y"))
        assert told(device.hear()) == [("topic", None), ("topic", 1)]


def test_one_publish_for_many() -> None:
    """One publish for many, some with aliases: each gets its own frame."""
    with site() as s:
        devices: list[Device] = []
        for number in range(3):
            device = s.device(f"d{number}", properties={"topic_alias_maximum": 4})
            device.subscribe("x", f"only/{number}")
            devices.append(device)
        other = s.device("other")
        other.ask(p.Publish("only/1", b""), p.Publish("x", b"1"), p.Publish("x", b"2"))
        assert told(devices[0].hear()) == [("x", 1), ("", 1)]
        assert told(devices[1].hear()) == [("only/1", 1), ("x", 2), ("", 2)]
