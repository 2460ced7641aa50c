"""A broker for each module, and the plugin joined to it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest

from gateway.core import client
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.plugin import MqttPlugin
from gateway.testing.stage import Staged, wait_until
from tests.plugins.mqtt.client.mosquitto import MISSING, Device, Mosquitto

_numbers = itertools.count()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that is there for the whole module."""
    if MISSING:
        pytest.skip(MISSING)
    with Mosquitto(tmp_path_factory.mktemp("broker")) as made:
        yield made


@pytest.fixture
def own(tmp_path):
    """A broker that the test may kill."""
    if MISSING:
        pytest.skip(MISSING)
    with Mosquitto(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Failures are waited after for a moment only."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.05)


def config(where: str, more: dict | None = None, **broker) -> MqttConfig:
    """The settings of a gateway that joins one broker."""
    # A session of its own: a broker keeps the subscriptions of earlier ones.
    broker.setdefault("client_id", f"gateway-{next(_numbers)}")
    broker.setdefault("retry_longest", 0.2)
    settings = {"listen": (), "retry_wait": 0.05, **(more or {})}
    return MqttConfig(brokers={"plant": Broker(connect=where, **broker)}, **settings)


@contextlib.contextmanager
def joined(where: str, more: dict | None = None, wait: bool = True, **broker) -> Iterator[Staged]:
    """The plugin, joined to a broker as ``plant``, with the connect message taken."""
    announced = broker.pop("announced", ("connect", "receive", "disconnect", "failed"))
    staged_settings = broker.pop("staged", {})
    with Staged(
        MqttPlugin, config(where, more, **broker), announced=announced, **staged_settings
    ) as it:
        if wait:
            heard = it.hear()
            assert heard.kind == "connect"
            heard.settle()
            subscribed(it)
        yield it


def member(it: Staged):
    return it.plugin._roles["client"]._members["plant"]


def subscribed(it: Staged) -> None:
    """Wait until the broker has confirmed everything."""
    wanted = member(it)._subscriptions
    wait_until(lambda: wanted.filters <= wanted._confirmed | wanted.refused.keys())


@pytest.fixture
def device(broker):
    with Device(broker) as made:
        yield made
