"""The chat: one class, whatever the protocol."""

from django_gateway import Consumer, Group, Message

room = Group("room")


def say(text: str) -> None:
    """Tell everybody in the room, and who comes back to it later."""
    room.send({"text": text}, history=100)


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
