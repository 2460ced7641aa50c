"""Brokers that are killed, frozen, cut off; connections that are lost with something in hand."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.layers.base import OK, Outcome
from gateway.plugins.mqtt.client.terms import Arrived
from gateway.testing.stage import wait_until
from tests.plugins.mqtt.client.conftest import joined, member, subscribed
from tests.plugins.mqtt.client.mosquitto import MISSING, Device, Mosquitto

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def arrivals(it):
    return member(it)._session._arrivals


def rejoined(it):
    """Settle connects and disconnects until the link is up again."""
    wait_until(lambda: member(it)._link.is_up, 10)
    subscribed(it)


def restart(it, broker):
    broker.stop(signal.SIGKILL)
    wait_until(lambda: not member(it)._link.is_up)
    broker.start()
    rejoined(it)


def receives(it, count):
    """Take so many messages of the broker's; settle what tells of connections."""
    found = []
    while len(found) < count:
        heard = it.hear()
        if heard.kind == "receive":
            found.append(heard.message)
        heard.settle()
    return found


@VERSIONS
def test_what_is_in_hand_is_not_handed_in_twice(own, version):
    """What a consumer has in hand when the broker is killed comes again, and is not run twice."""
    with joined(own.where, subscribe=("a/#",), version=version) as it:
        with Device(own) as device:
            device.publish("a/1", b"1")
        delivery = it.worker.take(["mqtt.receive"], block=5)
        own.save()
        restart(it, own)
        wait_until(lambda: len(arrivals(it)) == 1)
        it.worker.settle(delivery, [OK])
        wait_until(lambda: len(arrivals(it)) == 0)
        with Device(own) as device:
            device.publish("a/1", b"2")
        [message] = receives(it, 1)
        assert message["bytes"] == b"2"
        counted = it.metrics.snapshot()
        assert counted['gateway_mqtt_duplicates_total{broker="plant"}'] == 1


@VERSIONS
def test_what_was_done_meanwhile_is_acknowledged_then(own, version):
    """What is done while there is no connection is acknowledged by the next one, unrun."""
    with joined(own.where, subscribe=("a/#",), version=version) as it:
        with Device(own) as device:
            device.publish("a/1", b"1")
        delivery = it.worker.take(["mqtt.receive"], block=5)
        own.save()
        own.stop(signal.SIGKILL)
        wait_until(lambda: not member(it)._link.is_up)
        it.worker.settle(delivery, [OK])
        wait_until(lambda: arrivals(it).in_hand == 0)
        own.start()
        rejoined(it)
        wait_until(lambda: "Received PUBACK" in own.log)
        with Device(own) as device:
            device.publish("a/1", b"2")
        [message] = receives(it, 1)
        assert message["bytes"] == b"2"


def test_a_session_that_is_not_kept(own):
    """Where the broker has forgotten the session everything is subscribed to again."""
    with joined(own.where, subscribe=("a/#",), session_expiry=0) as it:
        with Device(own) as device:
            device.publish("a/1", b"1")
        delivery = it.worker.take(["mqtt.receive"], block=5)
        restart(it, own)
        assert len(arrivals(it)) == 0
        it.worker.settle(delivery, [OK])
        wait_until(lambda: arrivals(it).in_hand == 0)
        with Device(own) as device:
            device.publish("a/1", b"2")
        [message] = receives(it, 1)
        assert message["bytes"] == b"2"
        assert message["order"] == 1


def test_a_frozen_broker_is_noticed(own):
    """A broker that says nothing any more is left, after its keep-alive, and joined again."""
    with joined(own.where, keepalive=5) as it:
        own.freeze()
        try:
            wait_until(lambda: not member(it)._link.is_up, 15)
        finally:
            own.freeze(False)
        rejoined(it)


def test_numbered_messages(own):
    """Of numbered messages none is lost while the broker is killed again and again, none unmarked."""
    with joined(own.where, subscribe=("n/#",), qos=1) as it:
        sent, heard, over = [], [], threading.Event()

        def consume():
            while not over.is_set():
                delivery = it.worker.take(it.channels, block=0.2)
                if delivery is not None:
                    if delivery.channel == "mqtt.receive":
                        heard.extend((int(m["bytes"]), m["duplicate"]) for m in delivery.messages)
                    it.worker.settle(delivery, [OK] * len(delivery.messages))

        consumer = threading.Thread(target=consume)
        consumer.start()
        try:
            for round_ in range(4):
                with Device(own) as device:
                    for number in range(round_ * 100, round_ * 100 + 100):
                        device.publish("n/1", str(number))
                        sent.append(number)
                if round_ < 3:
                    own.save()
                    restart(it, own)
            wait_until(lambda: {n for n, _ in heard} == set(sent), 10)
        finally:
            over.set()
            consumer.join()
        first = {}
        for position, (number, duplicate) in enumerate(heard):
            if number in first:
                assert duplicate, number
            first.setdefault(number, position)
        assert sorted(first, key=first.get) == sent


@pytest.mark.parametrize("qos", [1, 2])
def test_one_that_was_acknowledged(own, qos):
    """What comes again by a packet that was acknowledged is marked; with qos 2 not handed in."""
    with joined(own.where, subscribe=("a/#",), qos=qos) as it:
        with Device(own) as device:
            device.publish("a/1", b"1")
        [message] = receives(it, 1)
        wait_until(lambda: len(arrivals(it)) == 0)
        ours = ("order", "reply_channel", "client", "server")
        again = {k: v for k, v in message.items() if k not in ours} | {"duplicate": True}
        arrived = Arrived(again, 1, message["packet_id"], duplicate=True)
        it.call(member(it)._connection.received, arrived)
        heard = it.hear_any()
        assert (heard is None) == (qos == 2)
        if heard is not None:
            assert heard.message["duplicate"] is True
            heard.settle()


def test_an_id_of_the_applications(own):
    """With qos 2 what has an id that was handled is not handed in again, whoever sends it."""
    with joined(own.where, subscribe=("a/#",), qos=2) as it, Device(own) as device:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("id", "order-7")]
        device.publish("a/1", b"x", properties=properties)
        device.publish("a/1", b"x", properties=properties)
        device.publish("a/1", b"y")
        assert [m["bytes"] for m in receives(it, 2)] == [b"x", b"y"]
        device.publish("a/2", b"x", properties=properties)
        device.publish("a/2", b"z")
        assert [m["bytes"] for m in receives(it, 1)] == [b"z"]
        wait_until(lambda: len(arrivals(it)) == 0)
        counted = it.metrics.snapshot()
        assert counted['gateway_mqtt_duplicates_total{broker="plant"}'] == 2


def test_a_drain(own):
    """At a shutdown what is in hand is acknowledged, and then the gateway says goodbye."""
    with joined(own.where, subscribe=("a/#",)) as it, Device(own) as device:
        device.publish("a/1", b"1")
        heard = it.hear()
        it.drain()
        device.publish("a/1", b"2")
        assert member(it)._link.is_up
        heard.settle()
        wait_until(lambda: "Received DISCONNECT from gateway" in own.log)
        log = own.log
        assert log.index("Received PUBACK from gateway") < log.index(
            "Received DISCONNECT from gate"
        )
        assert log.count("Received PUBACK from gateway") == 1


def test_last_words(own):
    """What consumers say to the last messages is published before the gateway says goodbye."""
    with joined(own.where, subscribe=("a/#",)) as it, Device(own, "#") as device:
        device.publish("a/1", b"1")
        heard = it.hear()
        it.drain()
        it.worker.send("mqtt.publish", {"topic": "last", "text": "words", "qos": 1})
        heard.settle(OK, {"text": "answer", "qos": 1})
        wait_until(lambda: "Received DISCONNECT from gateway" in own.log)
        found = {one.topic: bytes(one.payload) for one in device.heard}
        assert found["last"] == b"words"
        assert found.get("a/1/reply") in {b"answer", None}  # or it waits for who is there next


def test_after_a_restart(own):
    """A new process goes on with the session of the last one: what came meanwhile is there."""
    with joined(own.where, subscribe=("a/#",), client_id="stays"):
        pass
    with Device(own) as device:
        device.publish("a/1", b"meanwhile")
    with joined(own.where, subscribe=("a/#",), client_id="stays") as it:
        [message] = receives(it, 1)
        assert message["bytes"] == b"meanwhile"


def test_bounds_where_the_broker_has_none(tmp_path):
    """Of a 3.1.1 broker without bounds no more is read than may be in hand."""
    if MISSING:
        pytest.skip(MISSING)
    with (
        Mosquitto(tmp_path, "max_inflight_messages 0", "max_queued_messages 10000") as broker,
        joined(broker.where, subscribe=("a/#",), version="3.1.1", receive_maximum=8) as it,
        Device(broker) as device,
    ):
        for number in range(60):
            device.publish(f"a/{number}", str(number))
        most = 0
        numbers = []
        for _ in range(60):
            heard = it.hear()
            most = max(most, len(arrivals(it)))
            numbers.append(int(heard.message["bytes"]))
            heard.settle()
        assert numbers == list(range(60))
        assert most <= 8


def test_slow_consumers(own):
    """While consumers are slow the connection lives on, and nothing is lost or out of order."""
    with (
        joined(own.where, subscribe=("a/#",), keepalive=5, staged={"inbox_messages": 4}) as it,
        Device(own) as device,
    ):
        for number in range(100):
            device.publish("a/1", str(number))
        first = it.hear()
        assert member(it)._link.is_up
        first.settle()
        numbers = [int(message["bytes"]) for message in receives(it, 99)]
        assert numbers == list(range(1, 100))
        assert it.metrics.dropped() == {}


def test_a_layer_that_is_lost(own):
    """What no consumer took since the connection was ended by the core comes again by the next."""
    with joined(own.where, subscribe=("a/#",)) as it, Device(own) as device:
        device.publish("a/1", b"1")
        delivery = it.worker.take(["mqtt.receive"], block=5)
        it.call(member(it)._connection.end)
        while (heard := it.hear()).kind != "receive":
            heard.settle()
        assert heard.message["duplicate"] is True
        heard.settle(Outcome("accepted"))
        it.worker.settle(delivery, [OK])
        wait_until(lambda: member(it)._session is not None and len(arrivals(it)) == 0)


class Proxy:
    """Stands between; it may be cut, or let nothing through while it stays connected."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.stalled = threading.Event()
        self._to = port
        self._pairs = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if not self.stalled.is_set():
                    other.sendall(data)

    def cut(self):
        for pair in self._pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        self._pairs.clear()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(5)
        self.cut()


def test_a_network_that_fails(own):
    """Whether the network cuts connections or swallows what they carry: nothing is lost, in order."""
    with (
        contextlib.closing(Proxy(own.port)) as proxy,
        joined(proxy.where, subscribe=("a/#",), keepalive=5) as it,
        Device(own) as device,
    ):
        messages = []
        for round_ in range(3):
            for number in range(10):
                device.publish("a/1", str(round_ * 10 + number))
            messages += receives(it, 5)
            if round_ == 0:
                proxy.cut()
            elif round_ == 1:
                proxy.stalled.set()
                wait_until(lambda: not member(it)._link.is_up, 15)
                proxy.stalled.clear()
        while {int(m["bytes"]) for m in messages} != set(range(30)):
            messages += receives(it, 1)
        first = list(dict.fromkeys(int(m["bytes"]) for m in messages))
        assert first == list(range(30))
        seen = set()
        for message in messages:
            assert message["duplicate"] or message["bytes"] not in seen
            seen.add(message["bytes"])
