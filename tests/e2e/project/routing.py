"""Consumers that misbehave on demand."""

import os
import random
import signal
import time
from pathlib import Path

from django.dispatch import receiver

from django_gateway import (
    Channel,
    ConsumeLater,
    Consumer,
    Group,
    Reject,
    include,
    route,
    route_class,
)
from django_gateway.asgi import channel_layers
from django_gateway.signals import presence_joined, presence_left

SEEN = os.environ.get("E2E_SEEN", "")


def seen(text):
    """Write down, past all buffers, what happened."""
    if SEEN:
        with Path(SEEN).open("a") as file:
            file.write(f"{text}\n")


def ordered(message):
    """Echo, after a random delay; ``die`` kills the worker before it has answered."""
    if message.text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(random.random() / 1000)
    message.reply(message.text)


def echo(message):
    message.reply(message.text)


async def aecho(message):
    message.reply(message.text)


def mirror(message):
    message.reply(message.get("text", message.get("bytes")))


def connect(message):
    message.accept()
    Group("all").add(message.reply_channel)


def disconnect(message):
    seen(f"disconnect {message.content['path']} {message.content.get('code')}")


def where(message):
    """Say where the connection came from."""
    content = message.content
    message.reply(f"{content['client']} {content['scheme']} {content['root_path']}")


def refuse(message):
    raise Reject(401, "who are you")


def buffered(message):
    """All of this vanishes: the consumer raises."""
    message.reply("never seen")
    Group("all").send({"text": "never seen either"})
    Channel("nowhere").send({"never": "stored"})
    raise RuntimeError("on purpose")


def mixed(message):
    """Direct and group sends take turns; each connection sees them in order."""
    for number in range(20):
        if number % 2:
            message.reply(str(number))
        else:
            Group("all").send({"text": str(number)})


def later(message):
    if message.content["order"] < 3 and not Path(SEEN).exists():
        seen("once")
        raise ConsumeLater(0.05)
    message.reply(message.text)


def hold(message):
    """Take as long as the text says, in milliseconds."""
    time.sleep(int(message.text) / 1000)
    message.reply(message.text)


def burst(message):
    """Answer with so many messages of 16 KiB."""
    for number in range(int(message.text)):
        message.reply(f"{number:06d}" + "x" * 16384)


counts: dict[str, int] = {}
"""What this process keeps of each connection that is pinned to it."""


def pin():
    return f"pin.{channel_layers['default'].process}"


def pinned_connect(message):
    counts[message["reply_channel"]] = 0
    message.accept(pin=pin())


def pinned(message):
    """Count in the process; say which one it is, and whether the connection was elsewhere."""
    name = message["reply_channel"]
    if name not in counts:
        message.reply(pin=pin())
    counts[name] = counts.get(name, 0) + 1
    message.reply(f"{os.getpid()} {counts[name]} {message.get('unpinned', False)}")


def pinned_disconnect(message):
    seen(f"left {os.getpid()} {counts.pop(message['reply_channel'], None)}")


def room(message):
    Group("room").add(message.reply_channel, {"query": str(message["query_string"])}, announce=True)


@receiver(presence_joined)
def joined(group, channel, meta, **kwargs):
    seen(f"joined {group} {channel} {meta}")


@receiver(presence_left)
async def left(group, channel, meta, **kwargs):
    seen(f"left {group} {channel} {meta}")


def tell(message):
    """Say what this connection's reply channel is, or send a text to another's."""
    to, _, text = message.text.partition(" ")
    if to == "who":
        message.reply(str(message.reply_channel))
    else:
        Channel(to).send({"text": text})


class Feed(Consumer):
    """Two groups, whose clients come back."""

    protocols = ("websocket",)
    groups = ("feed-a", "feed-b")


routing = [
    route_class(Feed, path=r"^/feed$"),
    include("transfers.routing"),
    include("deployed.routing"),
    include("keeping.routing"),
    route("websocket.connect", refuse, path=r"^/refused$"),
    route("websocket.connect", where, path=r"^/where$"),
    route("websocket.connect", pinned_connect, path=r"^/pinned$"),
    route("websocket.connect", room, path=r"^/room$"),
    route("websocket.connect", connect),
    route("websocket.disconnect", pinned_disconnect, path=r"^/pinned$"),
    route("websocket.disconnect", disconnect),
    route("websocket.receive", pinned, path=r"^/pinned$"),
    route("websocket.receive", ordered, path=r"^/ordered"),
    route("websocket.receive", tell, path=r"^/tell$"),
    route("websocket.receive", echo, path=r"^/echo$"),
    route("websocket.receive", aecho, path=r"^/aecho$"),
    route("websocket.receive", mirror, path=r"^/mirror$"),
    route("websocket.receive", buffered, path=r"^/buffered$"),
    route("websocket.receive", mixed, path=r"^/mixed$"),
    route("websocket.receive", later, path=r"^/later$"),
    route("websocket.receive", hold, path=r"^/hold$"),
    route("websocket.receive", burst, path=r"^/burst$"),
]
