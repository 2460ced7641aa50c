"""A channel layer with the simple face alone, which cannot say what became of a message."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import PluginError
from gateway.core.layers.memory import MemoryLayer
from gateway.plugins.mqtt import MqttPlugin
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.config import MqttConfig
from gateway.testing.stage import Staged


@pytest.fixture(autouse=True)
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the memory layer be one of the simple face alone, as far as it says."""
    monkeypatch.setattr(MemoryLayer, "extensions", MemoryLayer.extensions - {"deliveries"})


def broker(**more: Any) -> dict[str, Broker]:
    return {"plant": Broker(connect="127.0.0.1:1", mode="shared", **more)}


@pytest.mark.parametrize(
    ("config", "who"),
    [
        ({}, r"mqtt\.listen: devices publish with QoS 1 and 2"),
        ({"listen": (), "brokers": broker(qos=1)}, r"mqtt\.brokers\.plant: qos is 1"),
        ({"listen": (), "brokers": broker(qos=2)}, r"mqtt\.brokers\.plant: qos is 2"),
    ],
    ids=["devices", "a broker", "a broker, QoS 2"],
)
def test_refuses_to_start(config: dict[str, Any], who: str) -> None:
    """What promises QoS 1 does not start there, and is named."""
    with (
        pytest.raises(PluginError, match=rf"^{who}, and this channel layer .* set layer\.url"),
        Staged(MqttPlugin, MqttConfig(**config)),
    ):
        pass


def test_promises_nothing() -> None:
    """A broker that is joined with QoS 0 alone is."""
    with Staged(MqttPlugin, MqttConfig(listen=(), brokers=broker(qos=0))) as staged:
        assert list(staged.plugin.health()) == ["ok", "client"]
