"""QoS 1 from a broker to whoever takes it: the gateway with a sync consumer, or paho alone.

::

    mosquitto_pub ──one hot topic──► mosquitto ──QoS 1──► taker ──the last one──► "bench/done"

Both takers are clients of one broker with a session and an acknowledgement for each message; the
gateway's comes after its consumer. Everything is with the broker before they begin.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.servers import ROOT
from tests.house.serving import free_port, wait_for_listener

TOPIC = "bench/hot"
BARE = "bench/bare"
DONE = "bench/done"
LAST = b"last"
PATIENCE = 60.0
"""Seconds after which a round is given up."""


@contextlib.contextmanager
def broker() -> Iterator[int]:
    """A broker that keeps nothing on disk and bounds nothing; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            "max_inflight_messages 0\n"
        )
        process = subprocess.Popen(
            ["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_listener(port)
            yield port
        finally:
            process.terminate()
            process.wait(5)


class Referee:
    """Feeds a taker, and hears when it has taken the last one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._done = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        ready = threading.Event()
        self._client.on_message = lambda *_: self._done.set()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(DONE, 1)
        assert ready.wait(5)

    def rate(self, topic: str, count: int, pids: Sequence[int]) -> float:
        """Return the messages a second that the taker takes whose processes those are.

        They stand still until everything is with the broker: neither the publisher nor what it
        costs has a part in the rate.
        """
        self._done.clear()
        lines = b"21.5\n" * (count - 1) + LAST + b"\n"
        with frozen(pids):
            subprocess.run(
                ["mosquitto_pub", "-p", str(self._port), "-t", topic, "-q", "1", "-l"],
                input=lines,
                check=True,
            )
            start = time.perf_counter()
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{topic}: not everything was taken in {PATIENCE:.0f} s")
        return count / (time.perf_counter() - start)

    def wait_for(self, topic: str) -> None:
        """Wait until somebody takes what is published to a topic, and the last one from before."""
        self._done.clear()
        end = time.monotonic() + PATIENCE
        while not self._done.wait(0.5):
            if time.monotonic() >= end:
                raise TimeoutError(f"{topic}: nobody takes anything")
            self._client.publish(topic, LAST, 1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Have processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def bare(port: int, topic: str) -> Iterator[int]:
    """paho with a callback, in a process of its own; yields its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mqtt_load", str(port), topic], cwd=ROOT
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(5)


def take(port: int, topic: str) -> None:
    """Take messages by a callback, acknowledged by paho when it has returned."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "bench-bare", protocol=paho.MQTTv5)

    def receive(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.payload == LAST:
            client.publish(DONE, b"", 1)

    client.on_message = receive
    client.connect("127.0.0.1", port)
    client.subscribe(topic, 1)
    client.loop_forever()


def options(port: int, topic: str) -> tuple[str, ...]:
    """Return what has a gateway join the broker."""
    found = f'{{bench = {{connect = "127.0.0.1:{port}", subscribe = ["{topic}"]}}}}'
    return ("--set", f"mqtt.brokers={found}", "--set", "mqtt.listen=[]")


if __name__ == "__main__":
    take(int(sys.argv[1]), sys.argv[2])
