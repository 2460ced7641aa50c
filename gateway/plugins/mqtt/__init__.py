"""MQTT 3.1.1 and 5: devices connect to the gateway, and the gateway joins brokers.

A consumer for what devices say, and others where they are to be asked::

    def connect(message):            # mqtt.connect: who is let in
        if not known(message["client_id"], message["password"]):
            raise Reject

    def subscribe(message):          # mqtt.subscribe: who may hear what
        ...

    def receive(message):            # mqtt.receive: acknowledged once this returns
        save(message["topic"], message.get("bytes") or message["text"])

**Server role**: devices connect at ``mqtt.listen``. Their CONNECT and SUBSCRIBE are decided by
consumers where those are routed; a QoS 1 or 2 message is acknowledged once its consumer has
returned. What it accepted reaches the devices that subscribe to its topic (``relay``); what the
application sends to ``mqtt.publish!TOPIC``, from anywhere, does too.

**Client role**: for each ``[mqtt.brokers.NAME]`` the gateway is a client of that broker.

**Over WebSocket** devices and pages connect to the http port, at ``/mqtt``, by the subprotocol
``mqtt``, where the plugin http is served beside this one.

The settings stand in the table ``[mqtt]``: `gateway.plugins.mqtt.config.MqttConfig`.
"""

from __future__ import annotations

from gateway.core.plugin import Context, ProtocolPlugin, hookimpl
from gateway.core.web import Claim
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.plugin import MqttPlugin, http_claims


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin's class."""
    return MqttPlugin


@hookimpl
def gateway_http_claims(config: MqttConfig, context: Context) -> list[Claim]:
    """Claim handshakes for MQTT over WebSocket, before the websocket plugin does."""
    return http_claims(config, context)
