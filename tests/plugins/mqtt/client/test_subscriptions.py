"""What is subscribed to: the settings' topics, and those that workers want."""

from __future__ import annotations

import pytest

from gateway.core.layers.base import OK, Outcome
from gateway.core.names import wanted
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.subscriptions import GRACE, Subscriptions, overlap
from gateway.plugins.mqtt.topics import matches
from gateway.testing.stage import wait_until
from tests.plugins.mqtt.client.conftest import joined, member
from tests.plugins.mqtt.client.mosquitto import Device
from tests.plugins.mqtt.client.test_surviving import receives, restart


def announce(it, *topics):
    """Have the worker announce its channels, and what it wants."""
    wants = [wanted("mqtt.receive", one) for one in topics]
    it.worker.announce([*it.channels, *wants])


def confirmed(it):
    return set(member(it)._subscriptions._confirmed)


def test_what_workers_want(own):
    """The topics of the routing table are subscribed to while a worker has them, and again."""
    with joined(own.where, subscribe=("s/#",)) as it, Device(own) as device:
        announce(it, "a/+", "b/#")
        wait_until(lambda: confirmed(it) == {"s/#", "a/+", "b/#"})
        for topic in ("s/1", "a/1", "b/1/2"):
            device.publish(topic, topic)
        assert {m["topic"] for m in receives(it, 3)} == {"s/1", "a/1", "b/1/2"}
        announce(it, "a/+", "c/+")
        wait_until(lambda: "c/+" in confirmed(it))
        assert "b/#" in confirmed(it)  # a worker may be about to come back


def test_after_a_restart_of_the_broker(own):
    """A session that the broker has lost has the topics of workers again."""
    with joined(own.where, session_expiry=0) as it:
        announce(it, "a/+")
        wait_until(lambda: confirmed(it) == {"a/+"})
        restart(it, own)
        with Device(own) as device:
            device.publish("a/1", b"1")
        receives(it, 1)


def test_routes_off(broker):
    """A broker may be none of the routing table's business."""
    with joined(broker.where, routes=False, subscribe=("s/#",)) as it:
        announce(it, "a/+")
        it.call(member(it)._look)
        assert member(it)._subscriptions.filters == {"s/#"}


def test_given_up_after_a_while():
    """What no worker wants any more is given up after a while, unless it is wanted again."""
    it = Subscriptions(Broker(connect="h:1", subscribe=("s",)))
    assert it.want(None, 0.0) == frozenset()
    it.want(frozenset({"a", "b"}), 1.0)
    assert it.filters == {"s", "a", "b"}
    assert it.want(frozenset({"a"}), 2.0) == frozenset()
    assert it.want(None, GRACE * 3) == frozenset()
    it.want(frozenset({"a", "b"}), 3.0)
    it.want(frozenset({"a"}), 4.0)
    assert it.want(frozenset({"a"}), 4.0 + GRACE - 1) == frozenset()
    assert it.want(frozenset({"a"}), 4.0 + GRACE) == {"b"}
    assert it.filters == {"s", "a"}
    assert it.want(frozenset({"a/b#"}), 5.0 + GRACE) == frozenset()


def test_what_would_loop():
    """Where the broker sends our publishes back, what overlaps them is not subscribed to."""
    plain = Broker(connect="h:1", version="3.1.1", publish=("lamps/+/set",))
    it = Subscriptions(plain)
    it.want(frozenset({"lamps/#", "sensors/#"}), 0.0)
    assert it.filters == {"sensors/#"}
    assert it.looping == {"lamps/#"}
    it = Subscriptions(Broker(connect="h:1", publish=("lamps/+/set",)))
    it.want(frozenset({"lamps/#"}), 0.0)
    assert it.filters == {"lamps/#"}


def test_looping_topics_are_said(broker, caplog):
    """A topic of a worker that would loop is logged, and makes health say so."""
    with joined(broker.where, version="3.1.1", publish=("lamps/+/set",)) as it:
        announce(it, "lamps/#")
        wait_until(lambda: not it.plugin.health()["ok"])
        assert it.plugin.health()["client"]["brokers"]["plant"]["looping"] == ["lamps/#"]
        wait_until(lambda: "'lamps/#' is not subscribed to" in caplog.text)


def test_no_local(broker):
    """A broker of MQTT 5 does not send back what the gateway publishes."""
    with joined(broker.where, subscribe=("l/#",)) as it, Device(broker, "l/#") as device:
        it.worker.send("mqtt.publish", {"topic": "l/1", "text": "ours", "qos": 1})
        device.payloads(1)
        device.publish("l/1", b"theirs")
        assert [m["bytes"] for m in receives(it, 1)] == [b"theirs"]


@pytest.mark.parametrize("allow_loop", [False, True])
def test_it_hears_itself(broker, allow_loop):
    """One of 3.1.1 would; so it is refused, unless it is wanted."""
    with (
        joined(broker.where, subscribe=("h/#",), version="3.1.1", allow_loop=allow_loop) as it,
        Device(broker) as device,
    ):
        it.worker.send("mqtt.publish", {"topic": "h/1", "text": "ours", "qos": 1})
        if allow_loop:
            assert [m["bytes"] for m in receives(it, 1)] == [b"ours"]
        else:
            wait_until(lambda: it.metrics.dropped() == {"invalid": 1})
            device.publish("h/1", b"theirs")
            assert [m["bytes"] for m in receives(it, 1)] == [b"theirs"]


def test_what_is_left_of_an_earlier_subscription(own):
    """What matches no subscription and no route is acknowledged, counted: it would come for ever."""
    with joined(own.where, subscribe=("old/#",), client_id="stays"):
        pass
    with joined(own.where, subscribe=("new/#",), client_id="stays") as it, Device(own) as device:
        device.publish("old/1", b"x")
        it.hear().settle(Outcome("unrouted"))
        wait_until(lambda: len(member(it)._session._arrivals) == 0)
        assert it.metrics.dropped() == {"unrouted": 1}
        device.publish("new/1", b"x")
        it.hear().settle(Outcome("unrouted"))
        heard = it.hear()
        assert heard.message["attempt"] == 2
        heard.settle(OK)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "+/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("+/a", "$x/a", False),
        ("a/+", "a/b/c", False),
        ("a/b", "a/c", False),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_overlaps(one, other, expected):
    """Two filters overlap where a topic can match both."""
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected
    if "+" not in other and "#" not in other:
        assert matches(one, other) is expected
