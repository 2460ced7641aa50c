"""The chat: three functions, whatever the protocol."""

from django_gateway import Group, Message

room = Group("room")


def join(message: Message) -> None:
    room.add(message.reply_channel)


def say(message: Message) -> None:
    """A WebSocket's frame and the body of a plain POST are said alike."""
    if message.channel_name == "http.request":
        message.reply("said\n")
        text = message["body"].decode(errors="replace")
    else:
        text = message.text
    room.send({"text": text})


def leave(message: Message) -> None:
    room.discard(message.reply_channel)
