"""Whole gateways and workers that are killed in the middle of numbered messages."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.e2e.serving import Served, wait_until
from tests.plugins.mqtt.client.mosquitto import MISSING, Device, Mosquitto

pytestmark = [
    pytest.mark.timeout(90),  # five processes start, and some twice
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "there is one"),
]
PROJECT = Path(__file__).parent / "project"


def serve(folder, broker, more="", **settings):
    brokers = f'{{plant = {{connect = "{broker.where}", client_id = "us"{more}}}}}'
    options = ("--plugins", "http,mqtt", "--set", f"mqtt.brokers={brokers}")
    return Served(
        folder,
        *options,
        "--set",
        "mqtt.listen=[]",
        "--set",
        "mqtt.default=plant",
        project=PROJECT,
        **settings,
    )


def seen(served):
    """What was written down: (topic, number, duplicate) in order."""
    if not served.seen.exists():
        return []
    lines = [line.split() for line in served.seen.read_text().splitlines()]
    return [
        (topic, int(number), duplicate == "1")
        for topic, number, duplicate in lines
        if topic.isdigit()
    ]


def holders(served):
    """The numbers of the gateways that are joined."""
    joined = "gateway_mqtt_broker_connected{"
    return [name for name, value in served.numbers().items() if name.startswith(joined) and value]


def holder(served, broker):
    """The process that has a connection to the broker."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    end = f"0100007F:{broker.port:04X}"
    inodes = {f"socket:[{row[9]}]" for row in rows if row[2] == end}
    [found] = [p for p in served.processes()["gateway"] if inodes.intersection(served.files(p))]
    return found


class Publisher:
    """Publishes numbered messages on several topics until it is told to stop."""

    def __init__(self, broker):
        self.sent = []
        self._over = threading.Event()
        self._device = Device(broker)
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.wait(0.005):
            number = len(self.sent)
            self._device.publish(f"n/{number % 3}", str(number))
            self.sent.append((str(number % 3), number))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(10)
        self._device.close()


def judge(served, sent):
    """Nothing is lost; what was run twice is marked; within a topic first runs are in order."""
    wait_until(lambda: {(t, n) for t, n, _ in seen(served)} >= set(sent), 30)
    runs = {}
    for topic, number, duplicate in seen(served):
        runs.setdefault((topic, number), []).append(duplicate)
    unmarked = {key: marks for key, marks in runs.items() if len(marks) > 1 and not any(marks)}
    assert not unmarked
    return sum(len(marks) - 1 for marks in runs.values())


def test_workers_that_are_killed(tmp_path):
    """A worker that is killed in the middle costs no message, and no connection."""
    with Mosquitto(tmp_path) as broker, serve(tmp_path, broker, workers=2) as served:
        wait_until(lambda: holders(served))
        wait_until(lambda: "Received SUBSCRIBE" in broker.log)  # to what the routing table wants
        with Publisher(broker) as publisher:
            for _ in range(3):
                wanted = len(publisher.sent) + 60
                wait_until(lambda wanted=wanted: len(publisher.sent) > wanted, 20)
                os.kill(served.processes()["worker"][0], signal.SIGKILL)
            wait_until(lambda: len(served.processes()["worker"]) == 2)
        judge(served, publisher.sent)
        assert broker.log.count("New client connected from 127.0.0.1") == 2


def test_gateways_that_are_killed(tmp_path):
    """If the gateway that is joined is killed another takes its session over, and loses nothing."""
    with Mosquitto(tmp_path) as broker, serve(tmp_path, broker, gateways=2) as served:
        wait_until(lambda: len(holders(served)) == 1)
        wait_until(lambda: "Received SUBSCRIBE" in broker.log)
        with Publisher(broker) as publisher:
            for _ in range(2):
                wanted = len(publisher.sent) + 60
                wait_until(lambda wanted=wanted: len(publisher.sent) > wanted, 20)
                joins = broker.log.count(" as us (")
                os.kill(holder(served, broker), signal.SIGKILL)
                wait_until(lambda joins=joins: broker.log.count(" as us (") > joins, 15)
                wait_until(lambda: len(holders(served)) == 1, 15)
        judge(served, publisher.sent)
        lines = served.seen.read_text()
        wait_until(lambda: served.seen.read_text().count("disconnect plant") == 2)
        assert lines.count("connect plant") >= 3


def test_shared(tmp_path):
    """Two gateways that share a broker are joined both, by client ids that they keep."""
    more = ', mode = "shared", subscribe = ["n/#"], routes = false'
    with Mosquitto(tmp_path) as broker, serve(tmp_path, broker, more, gateways=2) as served:
        wait_until(lambda: len(holders(served)) == 2, 20)
        wait_until(lambda: broker.log.count("$share/gateway/n/#") >= 2)
        assert " as us (" in broker.log
        assert " as us-1 (" in broker.log
        with Publisher(broker) as publisher:
            wait_until(lambda: len(publisher.sent) > 100, 20)
        assert judge(served, publisher.sent) == 0
        for name in ("us", "us-1"):
            assert f"Received PUBACK from {name} " in broker.log
