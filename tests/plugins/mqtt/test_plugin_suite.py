"""The server role is a plugin like any other."""

from __future__ import annotations

from gateway.plugins.mqtt.conformance import MqttSuite


class TestMqtt(MqttSuite):
    pass
