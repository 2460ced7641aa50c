"""A real broker, and others of its clients; all on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.testing.stage import wait_until
from tests.house.serving import free_port

MISSING = "" if shutil.which("mosquitto") else "there is no mosquitto"


class Mosquitto:
    """A broker; it may be killed, and started again with what it had kept."""

    def __init__(self, folder: Path, *lines: str, listener: str = "", **more: Any) -> None:
        self.port = free_port()
        self.folder = folder / f"mosquitto-{self.port}"
        self.folder.mkdir()
        self.folder.chmod(0o777)  # it gives root's rights up
        self._config = self.folder / "mosquitto.conf"
        anonymous = "true" if more.get("anonymous", True) else "false"
        self._config.write_text(
            "\n".join(
                (
                    "per_listener_settings false",
                    f"allow_anonymous {anonymous}",
                    "persistence true",
                    f"persistence_location {self.folder}/",
                    "user root",
                    f"listener {self.port} 127.0.0.1",
                    *lines,
                    "",
                )
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["mosquitto", "-v", "-c", self._config], stdout=log, stderr=log
            )
        wait_until(self._answers, 10)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        return b"running" in (self.folder / "log").read_bytes()

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None
            (self.folder / "log").rename(self.folder / f"log.{time.monotonic_ns()}")

    def save(self) -> None:
        """Have it write down what it is to remember when it is killed."""
        found = self.folder / "mosquitto.db"
        found.unlink(missing_ok=True)
        os.kill(self._process.pid, signal.SIGUSR1)
        wait_until(found.exists)  # it is written under another name first

    def freeze(self, frozen: bool = True) -> None:
        os.kill(self._process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


class Device:
    """Another client of the broker: publishes, and keeps what it hears."""

    def __init__(self, broker: Mosquitto, *filters: str, five: bool = True, **more: Any) -> None:
        version = paho.MQTTv5 if five else paho.MQTTv311
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, more.get("name", ""), protocol=version
        )
        if "password" in more:
            self.client.username_pw_set(more["username"], more["password"])
        self.heard: list[paho.MQTTMessage] = []
        self._filters = filters
        self._ready = threading.Event()
        self.client.on_message = lambda *args: self.heard.append(args[2])
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self._ready.wait(5), "no connection to the broker"

    def _connected(self, *_: Any) -> None:
        if self._filters:
            self.client.subscribe([(one, 2) for one in self._filters])
        else:
            self._ready.set()

    def publish(self, topic: str, payload: bytes | str = b"", qos: int = 1, **more: Any) -> None:
        """Publish, and return once the broker has it."""
        self.client.publish(topic, payload, qos, **more).wait_for_publish(5)

    def payloads(self, count: int, seconds: float = 5.0) -> list[bytes]:
        """Return the payloads that were heard, once there are so many."""
        wait_until(lambda: len(self.heard) >= count, seconds)
        return [bytes(one.payload) for one in self.heard]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
