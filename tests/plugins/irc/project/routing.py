"""A room for people with IRC and for people with a page."""

from django_gateway import Group, Reject, route
from gateway.plugins.irc.messages import channel_group

ROOM = channel_group("#room")


def connect(message):
    if message["nick"] == "troll":
        raise Reject(465, "not again")


def receive(message):
    if "spam" in message.text:
        raise Reject(404, "no spam")
    if message.text == "!ping":
        message.reply("pong")


def page_connect(message):
    Group(ROOM).add(message.reply_channel, meta={"nick": "page"})


def page_receive(message):
    Group(ROOM).send({"text": message.text, "irc": {"nick": "page"}})


routing = [
    route("irc.connect", connect),
    route("irc.receive", receive),
    route("websocket.connect", page_connect),
    route("websocket.receive", page_receive),
]
