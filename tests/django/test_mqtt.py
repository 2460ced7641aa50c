"""MQTT in Django: topics as filters, a class with topics, messages that are handled once."""

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from django_gateway import Message, MqttConsumer, idempotent, route_class
from django_gateway.credentials import credentials_of
from django_gateway.routing import Router


class Sensors(MqttConsumer):
    topics = ("t/+name", "h/+name")
    heard = []

    def connect(self, message):
        self.heard.append("connect")

    def receive(self, message, name):
        self.heard.append(name)


def test_topics_of_a_class():
    """A class gets the messages of its topics alone, and every other kind whatever the topic."""
    router = Router([route_class(Sensors)])
    for content, channel, expected in (
        ({"topic": "t/1"}, "mqtt.receive", {"name": "1"}),
        ({"topic": "h/2"}, "mqtt.receive", {"name": "2"}),
        ({"topic": "x/2"}, "mqtt.receive", None),
        ({"client_id": "d"}, "mqtt.connect", {}),
    ):
        match = router.match(Message(content, channel))
        assert (None if match is None else match[1]) == expected


def test_topics_are_a_list():
    """One topic as a text is refused: each of its characters would be a topic."""
    with pytest.raises(ImproperlyConfigured, match="is a list of topic filters"):
        route_class(type("Wrong", (MqttConsumer,), {"topics": "a/b", "receive": Sensors.receive}))


def test_idempotent():
    """What has run does not run again: by the application's id always, else where it is marked."""
    caches["default"].clear()
    runs = []

    @idempotent
    def consumer(message):
        runs.append(message.get("bytes"))

    def said(payload, **content):
        consumer(Message({"client_id": "d", "bytes": payload, **content}, "mqtt.receive"))

    said(b"1", packet_id=1)
    said(b"1", packet_id=1, duplicate=True)
    said(b"1", packet_id=1)  # not marked: the identifier is used again
    said(b"2", packet_id=1, duplicate=True)
    said(b"3", user_properties=[["id", "x"]], packet_id=2)
    said(b"4", user_properties=[["id", "x"]], packet_id=3)
    said(b"5")
    said(b"5")
    assert runs == [b"1", b"1", b"2", b"3", b"5", b"5"]


def test_idempotent_after_a_failure():
    """A consumer that raised has not handled its message."""
    caches["default"].clear()
    runs = []

    @idempotent(seconds=60)
    def consumer(message):
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("once")

    message = Message({"user_properties": [["id", "y"]]}, "mqtt.receive")
    with pytest.raises(RuntimeError, match="once"):
        consumer(message)
    consumer(message)
    consumer(message)
    assert len(runs) == 2


async def _acalled(consumer, message):
    await consumer(message)
    await consumer(message)


def test_idempotent_async():
    """An async consumer likewise."""
    import asyncio

    caches["default"].clear()
    runs = []

    @idempotent
    async def consumer(message):
        runs.append(1)

    message = Message({"user_properties": [["id", "z"]]}, "mqtt.receive")
    asyncio.run(_acalled(consumer, message))
    assert runs == [1]


def test_password_is_text():
    """MQTT's password is bytes; who authenticates gets text, or None for what is no UTF-8."""
    for raw, expected in ((b"secret", "secret"), (b"\xff", None), (None, None)):
        content = {"username": "u", "password": raw}
        assert credentials_of("mqtt.connect", content, None, "").password == expected
