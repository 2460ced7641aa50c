"""`MqttConsumer`: what devices publish, by topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from django_gateway.channel import Channel
from django_gateway.filters import mqtt_topic
from django_gateway.generic.base import Consumer
from django_gateway.routing import Route
from gateway.core import names


class MqttConsumer(Consumer):
    """A consumer of MQTT: ``receive`` gets the messages of its ``topics``, with what they name.

    ::

        class Temperature(MqttConsumer):
            topics = ["sensors/+id/temp"]

            def receive(self, message, id):
                self.publish("alerts", text=f"{id}: {message.text}", qos=1)

    Its other methods (``connect``, ``subscribe``, ``unsubscribe``, ``failed``, ``disconnect``) get
    those of all devices; where several classes have one, the first of the table does.
    """

    protocols: ClassVar[Any] = ("mqtt",)
    topics: ClassVar[Sequence[str]] = ()
    """Topic filters, as `mqtt_topic` reads them. Empty: all topics."""

    @staticmethod
    def publish(topic: str, **content: Any) -> None:
        """Publish to whoever subscribes to a topic: ``publish("alerts", text="…", qos=1)``.

        ``content`` are keys of a reply. Buffered inside a consumer; outside it acts at once.
        """
        try:
            channel = names.address("mqtt.publish", topic)
        except ValueError:
            channel, content = "mqtt.publish", {**content, "topic": topic}
        Channel(channel).send(content)

    @classmethod
    def routes(cls) -> list[Route]:
        """Return the routes of the class: those of ``receive`` and ``failed`` once a topic."""
        if isinstance(cls.topics, str):
            raise ImproperlyConfigured(
                f"{cls.__name__}.topics is a list of topic filters: [{cls.topics!r}]"
            )
        filters = [mqtt_topic(topic) for topic in cls.topics]
        found: list[Route] = []
        for route in super().routes():
            if filters and any(
                channel in {"mqtt.receive", "mqtt.failed"} for channel in route.channels
            ):
                found += [route.under({"topic": (one,)}) for one in filters]
            else:
                found.append(route)
        return found
