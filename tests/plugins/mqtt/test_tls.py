"""Devices over TLS, with certificates of their own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.plugins.mqtt import MqttPlugin
from gateway.plugins.mqtt.config import MqttConfig
from gateway.testing.stage import Staged, wait_until
from tests.certificates import Authority
from tests.plugins.mqtt.test_peers import Application


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def served(authority: Authority) -> Iterator[Application]:
    """A gateway that knows the devices of one authority, and lets in those without certificate."""
    tls = authority.tls(client_ca=authority.path, client_certificates="optional")
    with Staged(MqttPlugin, MqttConfig(), listen="tls:127.0.0.1:0", tls=tls) as staged:
        application = Application(staged)
        yield application
        application.close()


def publish(served: Application, *args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    port = str(served.staged.port)
    return subprocess.run(
        ["mosquitto_pub", "-h", "localhost", "-p", port, "-q", "1", "-t", "a", "-m", "b", *args],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def messages(served: Application, kind: str) -> list[dict[str, Any]]:
    return [heard.message for heard in served.heard if heard.kind == kind]


def test_certificate(served: Application, authority: Authority) -> None:
    """A device's certificate is its identity in each of its messages; without one it has none."""
    crt, key = authority.issue_pair("pump", "pump-7.example", common_name="pump-7")
    trusted = ("--cafile", authority.path)
    found = publish(served, *trusted, "--cert", crt, "--key", key)
    assert found.returncode == 0, found.stderr
    wait_until(lambda: messages(served, "disconnect"))
    for kind in ("connect", "receive", "disconnect"):
        [message] = messages(served, kind)
        assert message["identity"].startswith("CN=pump-7,")
    served.heard.clear()
    found = publish(served, *trusted)
    assert found.returncode == 0, found.stderr
    [message] = messages(served, "connect")
    assert "identity" not in message


def test_stranger(served: Application, authority: Authority, tmp_path: Path) -> None:
    """A certificate of another authority, or no TLS, is refused before any CONNECT, counted."""
    other = tmp_path / "other"
    other.mkdir()
    crt, key = Authority(other).issue_pair("pump", "pump-7.example")
    found = publish(served, "--cafile", authority.path, "--cert", crt, "--key", key)
    assert found.returncode != 0
    assert publish(served).returncode != 0
    wait_until(lambda: served.staged.plugin.health()["server"]["connections"] == 0)
    assert not served.heard
    counted = served.staged.metrics.snapshot()
    assert [value for name, value in counted.items() if "tls_failures" in name] == [1, 1]
