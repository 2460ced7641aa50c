"""What a broker has for us: given to consumers, acknowledged after them."""

from __future__ import annotations

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.layers.base import OK, Outcome
from gateway.testing.stage import wait_until
from tests.plugins.mqtt.client.conftest import joined, member
from tests.plugins.mqtt.client.mosquitto import Device

FAILED = Outcome("failed", cause="ValueError")
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def unacknowledged(it) -> int:
    return len(member(it)._session._arrivals)


@VERSIONS
def test_a_message(broker, device, version):
    """A message is handed in with what MQTT says of it, and answered at an address."""
    with joined(broker.where, subscribe=("a/+/temp",), version=version, client_id="me") as it:
        device.publish("a/1/temp", b"20.5", qos=1)
        heard = it.hear()
        assert heard.kind == "receive"
        message = heard.message
        assert message["topic"] == "a/1/temp"
        assert message["bytes"] == b"20.5"
        assert message["qos"] == 1
        assert message["order"] == 0
        assert message["attempt"] == 1
        assert message["duplicate"] is False
        assert message["broker"] == "plant"
        assert message["client_id"] == "me"
        assert message["reply_channel"] == "mqtt.publish!a_2f1_2ftemp_2freply"
        assert unacknowledged(it) == 1
        heard.settle()
        wait_until(lambda: unacknowledged(it) == 0)


def test_properties(broker, device):
    """What MQTT 5 says of a message is there; its text is text where its publisher says so."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answers/7"
    properties.CorrelationData = b"\x00\x01"
    properties.UserProperty = [("id", "x"), ("id", "y")]
    with joined(broker.where, subscribe=("p/#",), reply_topics=("answers/+",)) as it:
        device.publish("p/q", "grüß", properties=properties)
        heard = it.hear()
        message = heard.message
        assert message["text"] == "grüß"
        assert "bytes" not in message
        assert message["content_type"] == "text/plain"
        assert message["response_topic"] == "answers/7"
        assert message["correlation_data"] == b"\x00\x01"
        assert message["user_properties"] == [["id", "x"], ["id", "y"]]
        assert message["reply_channel"] == "mqtt.at!plant.answers_2f7.0001"
        heard.settle()


@VERSIONS
def test_acknowledged_in_order(broker, device, version):
    """Acknowledgements leave in the order of receipt, whichever consumer is done first."""
    with joined(broker.where, subscribe=("o/#",), version=version) as it:
        for topic in ("o/1", "o/2", "o/3"):
            device.publish(topic, b"x")
        first, second, third = (it.worker.take(["mqtt.receive"], block=5) for _ in range(3))
        it.worker.settle(third, [OK])
        it.worker.settle(second, [OK])
        wait_until(lambda: member(it)._session._arrivals.in_hand == 1)
        assert unacknowledged(it) == 3
        it.worker.settle(first, [OK])
        wait_until(lambda: unacknowledged(it) == 0)


@VERSIONS
def test_failed_it_comes_again(broker, device, version):
    """What failed is handed in again, marked, unacknowledged until it has gone well."""
    with joined(broker.where, subscribe=("f/#",), version=version) as it:
        device.publish("f/1", b"1")
        device.publish("f/1", b"2")
        for attempt in (1, 2, 3):
            heard = it.hear()
            assert heard.message["bytes"] == b"1"
            assert heard.message["attempt"] == attempt
            assert heard.message["duplicate"] is (attempt > 1)
            assert heard.message["order"] == 0
            assert unacknowledged(it) == 2
            heard.settle(FAILED if attempt < 3 else OK)
        heard = it.hear()
        assert heard.message["bytes"] == b"2"
        heard.settle()
        wait_until(lambda: unacknowledged(it) == 0)
        assert it.metrics.dropped() == {}


def test_rejected(broker, device):
    """A rejection is an answer: it is acknowledged, with its code."""
    with joined(broker.where, subscribe=("r/#",)) as it:
        device.publish("r/1", b"1")
        it.hear().settle(Outcome("rejected", 0x99, "no"))
        wait_until(lambda: unacknowledged(it) == 0)
        device.publish("r/1", b"2")
        it.hear().settle(Outcome("rejected", 4711, "no"))
        wait_until(lambda: unacknowledged(it) == 0)
        assert it.metrics.dropped() == {"foreign_code": 1}
        assert it.metrics.snapshot()['gateway_mqtt_refusals_total{broker="plant"}'] == 2
        assert "PUBACK" in broker.log
        assert member(it)._link.is_up


def test_given_up_the_session_comes_again(broker, device):
    """What has failed too often ends the connection; the next one brings it again."""
    with joined(broker.where, {"attempts": 2}, subscribe=("g/#",)) as it:
        device.publish("g/1", b"1")
        it.hear().settle(FAILED)
        it.hear().settle(FAILED)
        kinds = []
        while "receive" not in kinds:
            heard = it.hear()
            kinds.append(heard.kind)
            heard.settle()
        assert sorted(kinds[:2]) == ["connect", "disconnect"]
        assert heard.message["bytes"] == b"1"
        assert heard.message["duplicate"] is True
        wait_until(lambda: unacknowledged(it) == 0)


def test_dead_letters(broker, device):
    """What has failed too often goes to mqtt.failed, and is acknowledged once that took it."""
    more = {"attempts": 2, "on_failure": "dead_letter"}
    with joined(broker.where, more, subscribe=("d/#",)) as it:
        device.publish("d/1", b"1")
        it.hear().settle(FAILED)
        it.hear().settle(FAILED)
        heard = it.hear()
        assert heard.kind == "failed"
        assert heard.message["bytes"] == b"1"
        assert heard.message["reason"] == "ValueError"
        assert unacknowledged(it) == 1
        heard.settle()
        wait_until(lambda: unacknowledged(it) == 0)


def test_dead_letters_that_nobody_takes(broker, device):
    """A dead letter that fails is not acknowledged: it stays with the broker."""
    more = {"attempts": 1, "on_failure": "dead_letter"}
    with joined(broker.where, more, subscribe=("e/#",)) as it:
        device.publish("e/1", b"1")
        it.hear().settle(FAILED)
        it.hear().settle(FAILED)
        while (heard := it.hear()).kind != "receive":
            heard.settle()
        assert heard.message["duplicate"] is True
        heard.settle()
        wait_until(lambda: unacknowledged(it) == 0)


def test_too_big(broker, device):
    """What the layer does not carry is refused for good, counted; the connection goes on."""
    with joined(broker.where, subscribe=("b/#",), version="3.1.1") as it:
        device.publish("b/1", b"x" * 2_000_000)
        device.publish("b/1", b"small")
        heard = it.hear()
        assert heard.message["bytes"] == b"small"
        heard.settle()
        assert it.metrics.dropped() == {"too_big": 1}
        wait_until(lambda: unacknowledged(it) == 0)


@pytest.mark.parametrize(
    "topic", ["/", "//a//", "x" * 1000, "spaces and !?.*", "ünï/☃", "-.-/_2f", "a/" * 60]
)
def test_topics_of_odd_shape(broker, device, topic):
    """A topic may be anything that MQTT allows; an answer to it arrives, whatever its length."""
    with (
        joined(broker.where, subscribe=("#",), reply_topics=("#",)) as it,
        Device(broker, f"{topic}/reply") as listener,
    ):
        device.publish(topic, b"x")
        heard = it.hear()
        while heard.message["topic"] != topic:
            heard.settle()
            heard = it.hear()
        heard.settle(OK, {"text": "answer"})
        assert listener.payloads(1) == [b"answer"]


def test_many_topics(broker, device):
    """Of topics of which nothing is in hand some are forgotten; their order begins anew."""
    with joined(broker.where, subscribe=("m/#",), max_topics=5) as it:
        for _ in range(2):
            for number in range(10):
                device.publish(f"m/{number}", b"x")
                heard = it.hear()
                assert heard.message["order"] == 0
                heard.settle()
                wait_until(lambda: unacknowledged(it) == 0)
        channels = it.call(lambda: len(it.engine.by_channel))
        assert channels < 12
