"""The WebSocket consumers under the gateway, as `peer_consumers` has them in Channels 4."""

from django_gateway import Channel, Consumer, Group, Message, WebsocketConsumer
from gateway import address


def echo(message: Message) -> None:
    message.reply(message.text)


class Echo(Consumer):
    protocols = ("websocket",)

    def receive(self, message: Message) -> None:
        message.reply(message.text)


class FrameEcho(WebsocketConsumer):
    def receive(self, text: str | None = None, bytes: bytes | None = None) -> None:  # noqa: A002 - the argument's name
        self.send(text=text, bytes=bytes)


class StatefulEcho(FrameEcho):
    stateful = True


async def echo_async(message: Message) -> None:
    message.reply(message.text)


def join(message: Message) -> None:
    Group("bench").add(message.reply_channel)


def tell(message: Message) -> None:
    Group("bench").send({"text": message.text})


def take(message: Message) -> None:
    if message["bytes"] == b"last":
        Channel(address("mqtt.publish", "bench/done")).send({"bytes": b"", "qos": 1})


def take_line(message: Message) -> None:
    if message["text"] == "last":
        message.reply("done")
