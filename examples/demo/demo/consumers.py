"""The chat: people come by whatever their browser speaks, devices by MQTT."""

from django_gateway import Channel, Consumer, Group, Message, MqttConsumer
from gateway import address

room = Group("room")


def say(text: str) -> None:
    """Tell everybody in the room, who comes back to it later, and devices at the topic ``room``."""
    room.send({"text": text}, history=100)
    Channel(address("mqtt.publish", "room")).send({"text": text})


class Room(Consumer):
    """What anybody says, everybody in the room hears, by whatever the network lets through.

    The last hundred messages are kept for who was away and comes back.
    """

    protocols = ["websocket", "sse", "longpoll", "http"]
    groups = [room.name]

    def receive(self, message: Message) -> None:
        say(message.text)

    def request(self, message: Message) -> None:
        say(message["body"].decode(errors="replace"))
        self.reply(f"said to {room.count()}\n")


class Devices(MqttConsumer):
    """What devices publish at ``room/say``, the room hears."""

    topics = ["room/say"]

    def receive(self, message: Message) -> None:
        say(message.text)
