"""The chat: people come by whatever their browser speaks, by IRC and by mail, devices by MQTT."""

import re

from django_gateway import (
    Consumer,
    EmailConsumer,
    Group,
    IrcConsumer,
    Message,
    MqttConsumer,
    irc_channel,
)
from gateway import address

room = Group(irc_channel("#room"))
topic = address("mqtt.publish", "room")


def say(text: str) -> None:
    """Tell everybody in the room, who comes back to it later, and devices at the topic ``room``.

    To clients of IRC whoever is named before a colon is who says it.
    """
    content: dict[str, object] = {"text": text}
    if found := re.fullmatch(r"([A-Za-z][\w-]{0,19}): (.*)", text, re.DOTALL):
        content["irc"] = {"nick": found[1], "text": found[2]}
    room.add(topic)
    room.send(content, history=100)


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


class Irc(IrcConsumer):
    """Clients of IRC sit in the channel ``#room``, which is the room: what they say it hears."""

    def join(self, message: Message) -> None:
        room.add(topic)


class Mail(EmailConsumer):
    """Mail to room@localhost is read out; with the subject "join" its sender gets all by mail."""

    mailboxes = ["room@localhost"]

    def receive(self, message: Message) -> None:
        sender = message["mail_from"] or "nobody@localhost"
        name = sender.partition("@")[0]
        if message["subject"].lower() == "join":
            room.add(address("email.send", sender))
            say(f"* {name} reads along by mail *")
        else:
            say(f"{name}: {(message.text or message['subject']).strip()}")
