"""Rooms that IRC, pages and event streams share."""

from typing import ClassVar

from django_gateway import (
    Consumer,
    Group,
    IrcConsumer,
    Reject,
    WebsocketConsumer,
    irc_channel,
    path,
    route_class,
)


class Irc(IrcConsumer):
    commands: ClassVar = {"!roll <int:sides>": "roll"}

    def connect(self, message):
        if message["nick"] == "mallory":
            raise Reject(reason="not you")

    def join(self, message):
        if message["channel"] == "#closed":
            raise Reject(reason="come back tomorrow")

    def roll(self, message, sides):
        self.say(f"{message['nick']} rolled {sides}")

    def receive(self, message):
        if "spam" in message["text"]:
            raise Reject(reason="not here")


class Page(WebsocketConsumer):
    def connect(self, message, room, nick):
        message.accept()
        Group(irc_channel(f"#{room}")).add(message.reply_channel, {"nick": nick})

    def receive(self, text=None, bytes=None, *, room, nick):  # noqa: A002 - as pages send it
        said = {"text": f"<{nick}> {text}", "irc": {"text": text, "nick": nick}}
        Group(irc_channel(f"#{room}")).send(
            said | {"sse": {"event": "said", "text": text}}, exclude=[self.reply_channel]
        )


class Listener(Consumer):
    protocols = ("sse",)

    def connect(self, message, room):
        message.accept()
        Group(irc_channel(f"#{room}")).add(message.reply_channel)


routing = [
    route_class(Irc),
    route_class(Page, path=path("rooms/<slug:room>/<slug:nick>/")),
    route_class(Listener, path=path("rooms/<slug:room>/")),
]
