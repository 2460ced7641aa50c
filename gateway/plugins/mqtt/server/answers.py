"""What a reply to a device publishes, and where. Pure."""

from __future__ import annotations

from gateway.core.plugin import Message
from gateway.plugins.mqtt import translate
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import NOTHING
from gateway.plugins.mqtt.server.inbound import Incoming
from gateway.plugins.mqtt.server.publication import Publication


def publication(
    reply: Message, answered: Incoming | None, client_id: str, config: MqttConfig, now: float
) -> Publication:
    """Return it: for that device alone, whatever it subscribes to.

    Without a topic of its own it answers the message that was heard last: at its response topic,
    with its correlation data, else at ``reply_topic``. Raises LocalProtocolError.
    """
    request = NOTHING if answered is None else answered.packet.properties
    topic = reply.get("topic")
    properties = translate.properties(reply)
    if topic is None:
        topic = request.get("response_topic")
        data = request.get("correlation_data")
        if topic is None:
            last = client_id if answered is None else answered.topic
            topic = config.reply_topic.format(topic=last, client_id=client_id)
        elif data is not None and "correlation_data" not in properties:
            properties = {**properties, "correlation_data": data}
    expiry = reply.get("expiry")
    return Publication(
        translate.checked_topic(topic),
        translate.payload(reply),
        reply.get("qos", 0),
        properties=properties,
        expires=None if expiry is None else now + expiry,
    )
