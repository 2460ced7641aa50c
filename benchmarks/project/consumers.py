"""The WebSocket consumers under the gateway, as `peer_consumers` has them in Channels 4."""

from django_gateway import Group, Message


def echo(message: Message) -> None:
    message.reply(message.text)


async def echo_async(message: Message) -> None:
    message.reply(message.text)


def join(message: Message) -> None:
    Group("bench").add(message.reply_channel)


def tell(message: Message) -> None:
    Group("bench").send({"text": message.text})
