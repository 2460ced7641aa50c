"""The server role and the clients that people use: mosquitto's, paho, MQTT.js."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.core.layers.base import OK, REJECTED, Outcome
from gateway.plugins.mqtt import MqttPlugin
from gateway.plugins.mqtt.config import MqttConfig
from gateway.testing.stage import Staged, wait_until

VERSIONS = ["mqttv311", "mqttv5"]


class Application:
    """A worker on a thread: accepts what it hears, unless it is told otherwise."""

    def __init__(self, staged: Staged, decide: Callable[[Any], Outcome] = lambda _: OK) -> None:
        self.staged = staged
        self.decide = decide
        self.replies: Callable[[Any], list[dict[str, Any]]] = lambda _: []
        self.heard: list[Any] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            heard = self.staged.hear_any(0.05)
            if heard is not None:
                heard.settle(self.decide(heard), *self.replies(heard))
                self.heard.append(heard)

    def kinds(self) -> list[str]:
        return [heard.kind for heard in self.heard]

    def received(self) -> list[dict[str, Any]]:
        return [heard.message for heard in self.heard if heard.kind == "receive"]

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)


@pytest.fixture
def served() -> Iterator[Application]:
    with Staged(MqttPlugin, MqttConfig(retry_wait=0.05)) as staged:
        application = Application(staged)
        yield application
        application.close()


def run(command: str, served: Application, *args: str, **options: Any) -> Any:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    return subprocess.run(
        [command, "-p", str(served.staged.port), *args],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        **options,
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto(served: Application, version: str, qos: str) -> None:
    """What mosquitto_pub publishes with any QoS the application hears, and mosquitto_sub gets."""
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto_sub is not installed")
    port = str(served.staged.port)
    with subprocess.Popen(
        ["mosquitto_sub", "-p", port, "-V", version, "-q", qos, "-t", "a/+/c", "-C", "3", "-v"],
        stdout=subprocess.PIPE,
        text=True,
    ) as subscriber:
        try:
            wait_until(lambda: "subscribe" in served.kinds())
            for number in range(3):
                found = run(
                    "mosquitto_pub", served, "-V", version, "-q", qos, "-t", "a/b/c",
                    "-m", f"n{number}",
                )  # fmt: skip
                assert found.returncode == 0, found.stderr
            out, _ = subscriber.communicate(timeout=10)
        finally:
            subscriber.kill()
    assert out.splitlines() == ["a/b/c n0", "a/b/c n1", "a/b/c n2"]
    assert [message["bytes"] for message in served.received()] == [b"n0", b"n1", b"n2"]
    assert {message["qos"] for message in served.received()} == {int(qos)}


@pytest.mark.parametrize("version", VERSIONS)
def test_retained(served: Application, version: str) -> None:
    """What is retained is there for who subscribes later; empty, it ends that."""
    run("mosquitto_pub", served, "-V", version, "-q", "1", "-r", "-t", "kept", "-m", "here")
    found = run("mosquitto_sub", served, "-V", version, "-t", "#", "-C", "1", "-F", "%r %p")
    assert found.stdout == "1 here\n"
    run("mosquitto_pub", served, "-V", version, "-q", "1", "-r", "-t", "kept", "-n")
    found = run("mosquitto_sub", served, "-V", version, "-t", "#", "-W", "1")
    assert found.stdout == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_refused(served: Application, version: str) -> None:
    """Who is rejected is told so, in the words of its version."""
    served.decide = lambda heard: Outcome(REJECTED, 0x86 if heard.kind == "connect" else None)
    found = run(
        "mosquitto_pub", served, "-V", version, "-u", "who", "-P", "x", "-t", "a", "-m", "b"
    )
    assert found.returncode != 0
    assert "user" in found.stderr.lower() or "Not authorized" in found.stderr
    connect = served.heard[0].message
    assert (connect["username"], connect["password"]) == ("who", b"x")
    assert "disconnect" not in served.kinds()


class Client(paho.Client):
    """A paho client that keeps what it hears."""

    def __init__(self, port: int, client_id: str = "", protocol: int = 5, **options: Any) -> None:
        if protocol == 4:
            options.setdefault("clean_session", True)
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion(protocol),
            **options,
        )
        self.codes: list[Any] = []
        self.got: list[Any] = []
        self.acked: list[int] = []
        self.granted: list[Any] = []
        self.lost: list[Any] = []
        self.on_connect = lambda *a: self.codes.append((a[2].session_present, a[3].value))
        self.on_message = lambda _c, _u, message: self.got.append(message)
        self.on_publish = lambda *a: self.acked.append((a[2], a[3].value))
        self.on_subscribe = lambda *a: self.granted.append([code.value for code in a[3]])
        self.on_disconnect = lambda *a: self.lost.append(a[3].value)
        self._at = port

    def __enter__(self) -> Self:
        self.connect("127.0.0.1", self._at, 60, **getattr(self, "options", {}))
        self.loop_start()
        wait_until(lambda: self.codes)
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        self.loop_stop()


@pytest.mark.parametrize("protocol", [4, 5])
def test_paho(served: Application, protocol: int) -> None:
    """paho publishes and subscribes with every QoS, and is acknowledged each time."""
    with Client(served.staged.port, "p", protocol) as client:
        assert client.codes == [(False, 0)]
        client.subscribe([("t/#", 2)] if protocol == 4 else "t/#", 2)
        wait_until(lambda: client.granted)
        for qos in (0, 1, 2):
            for number in range(5):
                client.publish(f"t/{qos}", str(number), qos)
        wait_until(lambda: len(client.got) == 15 and len(client.acked) == 15)
    for qos in (0, 1, 2):
        said = [(m.payload, m.qos) for m in client.got if m.topic == f"t/{qos}"]
        assert said == [(str(number).encode(), qos) for number in range(5)]
    wait_until(lambda: "disconnect" in served.kinds())
    assert served.heard[-1].message["code"] == 0


def test_many_numbered(served: Application) -> None:
    """A thousand QoS 1 messages arrive in order, none lost, each acknowledged."""
    with Client(served.staged.port, "p") as client:
        for number in range(1000):
            client.publish("n", str(number), 1)
        wait_until(lambda: len(client.acked) == 1000)
    assert [int(m["bytes"]) for m in served.received()] == list(range(1000))
