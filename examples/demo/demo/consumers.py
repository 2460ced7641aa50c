"""The chat: one class, whatever the protocol."""

from django_gateway import Consumer, Group, Message

room = Group("room")


class Room(Consumer):
    """What a WebSocket says, and what a plain POST says, everybody in the room hears."""

    protocols = ["websocket", "http"]
    groups = [room.name]

    def receive(self, message: Message) -> None:
        room.send({"text": message.text})

    def request(self, message: Message) -> None:
        room.send({"text": message["body"].decode(errors="replace")})
        self.reply(f"said to {room.count()}\n")
