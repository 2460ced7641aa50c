"""What the application publishes at a broker: where, how, and how it hears of it."""

from __future__ import annotations

import re
import signal

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.layers.base import OK
from gateway.core.names import address
from gateway.testing.stage import wait_until
from tests.plugins.mqtt.client.conftest import joined, member
from tests.plugins.mqtt.client.mosquitto import Device, Mosquitto

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def ack(it, number=1):
    """Return the keys that ask for an acknowledgement, and what takes it."""
    channel = it.worker.new_channel("test.acks?")

    def answer():
        found = it.worker.receive([channel], block=5)[1]
        assert found is not None, "no acknowledgement"
        return found

    return {"ack": number, "ack_channel": channel}, answer


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_at_an_address(broker, version, qos):
    """What is sent to an address is published, and its ack is answered once the broker has it."""
    with (
        joined(broker.where, version=version) as it,
        Device(broker, f"lamp/{version}/{qos}") as listener,
    ):
        keys, answer = ack(it, 7)
        where = address("mqtt.publish", f"lamp/{version}/{qos}")
        it.worker.send(where, {"text": "on", "qos": qos, **keys})
        assert answer() == {
            "ack": 7,
            "outcome": "accepted",
            "code": None,
            "reason": "",
            "reply_channel": where,
        }
        assert listener.payloads(1) == [b"on"]
        assert listener.heard[0].qos == qos


def test_the_normal_channel(broker):
    """The normal channel needs a topic; everything that MQTT 5 can say of a publish is there."""
    with joined(broker.where) as it, Device(broker, "n/#") as listener:
        it.worker.send(
            "mqtt.publish",
            {
                "topic": "n/1",
                "bytes": b"\xff",
                "qos": 1,
                "expiry": 100,
                "content_type": "x/y",
                "user_properties": [["a", "b"], ["a", "c"]],
                "response_topic": "n/answers",
                "correlation_data": b"7",
            },
        )
        assert listener.payloads(1) == [b"\xff"]
        said = listener.heard[0].properties
        assert said.ContentType == "x/y"
        assert said.UserProperty == [("a", "b"), ("a", "c")]
        assert said.ResponseTopic == "n/answers"
        assert said.CorrelationData == b"7"
        assert 0 < said.MessageExpiryInterval <= 100
        it.worker.send("mqtt.publish", {"topic": "n/2", "text": "ü"})
        listener.payloads(2)
        assert listener.heard[1].properties.PayloadFormatIndicator == 1


def test_by_the_name_of_a_broker(broker):
    """An address may name a broker, and a message too; one that is not there is said so."""
    with joined(broker.where) as it, Device(broker, "w/#") as listener:
        it.worker.send(address("mqtt.at", "plant", "w/a.b"), {"text": "1"})
        it.worker.send("mqtt.publish", {"topic": "w/c", "text": "2", "broker": "plant"})
        assert listener.payloads(2) == [b"1", b"2"]
        keys, answer = ack(it)
        it.worker.send("mqtt.publish", {"topic": "w/c", "text": "2", "broker": "other", **keys})
        assert answer()["outcome"] == "failed"
        it.worker.send("mqtt.at!plant", {"text": "2", **keys})
        assert answer()["outcome"] == "failed"
        assert it.metrics.dropped() == {"gone": 2}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"topic": "a/+", "text": "x"}, "'topic' is a topic with a wildcard"),
        ({"topic": "a/#", "text": "x"}, "'topic' is a topic with a wildcard"),
        ({"topic": "", "text": "x"}, "'topic' is an empty topic"),
        ({"topic": "a\0", "text": "x"}, "'topic' is a topic with U+0000"),
        ({"topic": "a" * 65_536, "text": "x"}, "'topic' is over 65535 bytes"),
        ({"text": "x"}, "a publish needs a 'topic'"),
        ({"topic": "a"}, "nothing to publish"),
        ({"topic": "a", "text": "x", "qos": 3}, "at `$.qos`"),
        ({"topic": "a", "text": "x", "response_topic": "a/#"}, "'response_topic' is a topic with"),
        ({"topic": "secret/x", "text": "x"}, "mqtt.brokers.plant.publish"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_published(broker, caplog, message, said):
    """A publish that cannot be is invalid: counted, logged with its reason, answered."""
    with joined(broker.where, publish=("a", "a/#", "lamp/+")) as it:
        keys, answer = ack(it)
        it.worker.send("mqtt.publish", {**message, **keys})
        if "qos" not in message:
            assert answer() == {**answer_of("failed"), "reply_channel": "mqtt.publish"}
        wait_until(lambda: it.metrics.dropped() == {"invalid": 1})
        wait_until(lambda: said in caplog.text)


def answer_of(outcome):
    return {"ack": 1, "outcome": outcome, "code": None, "reason": "the reply is not valid"}


def test_keys_that_mean_nothing(broker):
    """A publish may say close, as any uniform reply; it is counted and means nothing."""
    with joined(broker.where) as it, Device(broker, "k/#") as listener:
        it.worker.send(address("mqtt.publish", "k/1"), {"text": "bye", "close": True})
        assert listener.payloads(1) == [b"bye"]
        assert it.metrics.snapshot()['gateway_mqtt_ignored_keys_total{key="close"}'] == 1
        assert member(it)._link.is_up


def test_answers(broker):
    """An answer goes to the response topic with its correlation data, where that is allowed."""
    with (
        joined(broker.where, subscribe=("q/#",), reply_topics=("answers/#",)) as it,
        Device(broker, "answers/#", "q/+/reply", "evil") as device,
    ):
        for topic, response in (("q/1", "answers/a"), ("q/2", "evil"), ("q/3", None)):
            properties = Properties(PacketTypes.PUBLISH)
            if response is not None:
                properties.ResponseTopic = response
                properties.CorrelationData = b"42"
            device.publish(topic, b"?", properties=properties)
            it.hear().settle(OK, {"text": topic})
        heard = {}
        wait_until(lambda: len(device.heard) == 3)
        for message in device.heard:
            correlation = getattr(message.properties, "CorrelationData", None)
            heard[message.topic] = (bytes(message.payload), correlation)
        assert heard == {
            "answers/a": (b"q/1", b"42"),
            "q/2/reply": (b"q/2", b"42"),
            "q/3/reply": (b"q/3", None),
        }


def test_the_answer_to_a_long_topic(broker):
    """An answer whose address would be too long goes by the connection; correlation is its own."""
    topic = "l/" + "ü" * 100
    with (
        joined(broker.where, subscribe=("l/#",), reply_topics=("#",)) as it,
        Device(broker, "back") as device,
    ):
        for number in (b"1", b"2"):
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = "back"
            properties.CorrelationData = number * 150
            device.publish(topic, number, properties=properties)
        for _ in range(2):
            heard = it.hear()
            assert heard.message["reply_channel"].startswith("mqtt.send.p_")
            heard.settle(OK, {"bytes": heard.message["bytes"]})
        device.payloads(2)
        for message in device.heard:
            assert message.properties.CorrelationData == bytes(message.payload) * 150


def test_retained(broker):
    """A publish may be retained; an empty one ends that."""
    with joined(broker.where) as it:
        keys, answer = ack(it)
        it.worker.send(
            "mqtt.publish", {"topic": "kept", "text": "x", "retain": True, "qos": 1, **keys}
        )
        answer()
        with Device(broker, "kept") as late:
            assert late.payloads(1) == [b"x"]
        it.worker.send(
            "mqtt.publish", {"topic": "kept", "bytes": b"", "retain": True, "qos": 1, **keys}
        )
        answer()
        with Device(broker, "kept", "other") as late, Device(broker) as device:
            device.publish("other", b"y")
            assert late.payloads(1) == [b"y"]


@VERSIONS
def test_while_the_broker_is_away(own, version):
    """While the broker is away what is published waits, in order, and is acked when it has come."""
    with joined(own.where, version=version) as it:
        own.stop(signal.SIGKILL)
        wait_until(lambda: not member(it)._link.is_up)
        keys, answer = ack(it)
        for number in range(30):
            more = keys if number == 29 else {}
            it.worker.send("mqtt.publish", {"topic": "w/1", "text": str(number), "qos": 1, **more})
        own.start()
        assert answer()["outcome"] == "accepted"
        wait_until(lambda: len(member(it)._outgoing) == 0)
        assert (
            re.findall(r"Received PUBLISH from gateway.* \((\d) bytes", own.log)
            == ["1"] * 10 + ["2"] * 20
        )


def test_there_is_a_bound(own):
    """More than is to wait is dropped, counted, and said in the ack."""
    with joined(own.where, max_queued=3) as it:
        own.stop(signal.SIGKILL)
        wait_until(lambda: not member(it)._link.is_up)
        keys, answer = ack(it)
        for number in range(5):
            more = keys if number == 4 else {}
            it.worker.send("mqtt.publish", {"topic": "w/1", "text": str(number), **more})
        found = answer()
        assert found["outcome"] == "failed"
        assert it.metrics.dropped() == {"slow": 2}
        assert it.metrics.snapshot()['gateway_mqtt_broker_unsent{broker="plant"}'] == 3
    assert it.metrics.dropped() == {"slow": 2, "gone": 3}


def test_what_expires_meanwhile(own):
    """What waits longer than its expiry is dropped, counted."""
    with joined(own.where) as it:
        own.stop(signal.SIGKILL)
        wait_until(lambda: not member(it)._link.is_up)
        it.worker.send("mqtt.publish", {"topic": "w/1", "text": "old", "expiry": 1, "qos": 1})
        it.worker.send("mqtt.publish", {"topic": "w/1", "text": "new", "qos": 1})
        wait_until(lambda: len(member(it)._outgoing) == 2)
        wait_until(lambda: it.metrics.dropped() == {"expired": 1})
        own.start()
        wait_until(lambda: len(member(it)._outgoing) == 0)


def test_too_large_for_the_broker(tmp_path):
    """What the broker has said it does not take is not sent to it: it would close."""
    with Mosquitto(tmp_path, "max_packet_size 1000") as small, joined(small.where) as it:
        keys, answer = ack(it)
        it.worker.send("mqtt.publish", {"topic": "a", "bytes": b"x" * 2000, **keys})
        assert answer()["outcome"] == "failed"
        assert it.metrics.dropped() == {"too_big": 1}
        assert member(it)._link.is_up


def test_refused_by_the_broker(tmp_path):
    """What the broker refuses is told in the ack, with its code."""
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write allowed/#\n")
    acl.chmod(0o600)
    with Mosquitto(tmp_path, f"acl_file {acl}") as strict, joined(strict.where) as it:
        keys, answer = ack(it)
        it.worker.send("mqtt.publish", {"topic": "x", "text": "x", "qos": 1, **keys})
        found = answer()
        assert (found["outcome"], found["code"]) == ("rejected", 0x87)
        counted = it.metrics.snapshot()
        assert counted['gateway_mqtt_publishes_refused_total{broker="plant"}'] == 1


def test_the_connect_message_is_answered(broker):
    """Who hears that a broker was joined may publish by that message's reply channel."""
    with joined(broker.where, wait=False) as it, Device(broker, "status") as listener:
        heard = it.hear()
        assert heard.kind == "connect"
        assert heard.message["broker"] == "plant"
        assert heard.message["protocol"] == 5
        keys, answer = ack(it)
        heard.settle(OK, {"topic": "status", "text": "online", "qos": 1, **keys})
        assert listener.payloads(1) == [b"online"]
        assert answer()["outcome"] == "accepted"
