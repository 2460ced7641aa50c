"""Several gateway processes: a device finds its session, and its messages, at any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.plugins.mqtt import MqttPlugin
from gateway.plugins.mqtt.config import MqttConfig
from gateway.testing.stage import Staged, wait_until
from tests.plugins.mqtt.test_peers import Application, Client


@pytest.fixture
def two() -> Iterator[tuple[Staged, Staged, Application]]:
    """Two gateway processes on one layer, and one application."""
    with Staged(MqttPlugin, MqttConfig()) as one:
        application = Application(one)
        with Staged(MqttPlugin, MqttConfig(), announced=None, beside=one) as other:
            yield one, other, application
        application.close()


def lasting(port: int, client_id: str) -> Client:
    """Return a client whose session lives on."""
    client = Client(port, client_id)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 600
    client.options = {"clean_start": False, "properties": properties}
    return client


def subscribe(client: Client, found: str, qos: int = 1) -> None:
    client.subscribe(found, qos)
    wait_until(lambda: client.granted)


def payloads(client: Client) -> list[bytes]:
    return [message.payload for message in client.got]


def test_publish_across(two: Any) -> None:
    """What is published at one process reaches who subscribes at another."""
    one, other, _ = two
    with Client(one.port, "a") as a, Client(other.port, "b") as b:
        subscribe(b, "t/#")
        for number in range(20):
            a.publish("t/x", str(number), 1)
        wait_until(lambda: len(b.got) == 20)
    assert payloads(b) == [str(number).encode() for number in range(20)]


def test_take_over_across(two: Any) -> None:
    """A device that comes to another process has its session taken there; the first one ends."""
    one, other, application = two
    first = lasting(one.port, "d")
    first.reconnect_delay_set(60, 60)
    with first:
        subscribe(first, "t")
        with lasting(other.port, "d") as second:
            assert second.codes == [(True, 0)]
            wait_until(lambda: first.lost)
            assert first.lost == [0x8E]
            with Client(one.port, "a") as a:
                a.publish("t", "x", 1)
                wait_until(lambda: second.got)
            wait_until(lambda: "disconnect" in application.kinds())
            gone = [heard.message for heard in application.heard if heard.kind == "disconnect"]
            assert 0x8E in [message["code"] for message in gone]


def test_session_follows(two: Any) -> None:
    """What came for a device that is away follows it to another process."""
    one, other, _ = two
    with lasting(one.port, "d") as first:
        subscribe(first, "t")
    with Client(one.port, "a") as a:
        for number in range(3):
            a.publish("t", str(number), 1)
        wait_until(lambda: len(a.acked) == 3)
    with lasting(other.port, "d") as second:
        assert second.codes == [(True, 0)]
        wait_until(lambda: len(second.got) == 3)
        assert payloads(second) == [b"0", b"1", b"2"]
        with Client(one.port, "a") as a:
            a.publish("t", "3", 1)
            wait_until(lambda: len(second.got) == 4)


def test_retained_is_known_to_a_later_process() -> None:
    """A process that starts later learns what is retained."""
    with Staged(MqttPlugin, MqttConfig()) as one:
        application = Application(one)
        with Client(one.port, "a") as a:
            a.publish("kept", "here", 1, retain=True)
            wait_until(lambda: a.acked)
        with (
            Staged(MqttPlugin, MqttConfig(), announced=None, beside=one) as other,
            Client(other.port, "b") as b,
        ):
            subscribe(b, "#")
            wait_until(lambda: b.got)
            assert payloads(b) == [b"here"]
        application.close()


def test_a_rolling_restart(two: Any) -> None:
    """What waits for a device that is away outlives the end of the process that had it."""
    one, _, _ = two
    with Staged(MqttPlugin, MqttConfig(), announced=None, beside=one) as leaving:
        with lasting(leaving.port, "d") as first:
            subscribe(first, "t")
        with Client(leaving.port, "a") as a:
            a.publish("t", "x", 1)
            wait_until(lambda: a.acked)
    with Client(one.port, "a") as a:
        a.publish("t", "y", 1)
        wait_until(lambda: a.acked)
    with lasting(one.port, "d") as second:
        assert second.codes == [(True, 0)]
        wait_until(lambda: len(second.got) == 2)
        assert payloads(second) == [b"x", b"y"]


def test_who_is_alone_again(two: Any) -> None:
    """A process that has ended is told nothing more: what is published does not take the layer."""
    one, _, _ = two
    with Staged(MqttPlugin, MqttConfig(), announced=None, beside=one):
        server = one.plugin._server  # type: ignore[attr-defined]
        assert len(server._others) == 2
    wait_until(lambda: len(server._others) == 1)


def test_shared_across(two: Any) -> None:
    """Of a shared subscription each message goes to one, whatever process its members are at."""
    one, other, _ = two
    with Client(one.port, "a") as a, Client(one.port, "b") as b, Client(other.port, "c") as c:
        subscribe(b, "$share/g/t")
        subscribe(c, "$share/g/t")
        for number in range(40):
            a.publish("t", str(number), 1)
        wait_until(lambda: len(a.acked) == 40 and len(b.got) + len(c.got) >= 40)
        assert sorted(map(int, payloads(b) + payloads(c))) == list(range(40))
        assert b.got
        assert c.got
