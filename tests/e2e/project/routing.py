"""Consumers that misbehave on demand."""

import os
import random
import signal
import time
from pathlib import Path

from django_gateway import Channel, ConsumeLater, Group, Reject, include, route

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


def tell(message):
    """Say what this connection's reply channel is, or send a text to another's."""
    to, _, text = message.text.partition(" ")
    if to == "who":
        message.reply(str(message.reply_channel))
    else:
        Channel(to).send({"text": text})


routing = [
    include("transfers.routing"),
    include("deployed.routing"),
    route("websocket.connect", refuse, path=r"^/refused$"),
    route("websocket.connect", where, path=r"^/where$"),
    route("websocket.connect", connect),
    route("websocket.disconnect", disconnect),
    route("websocket.receive", ordered, path=r"^/ordered"),
    route("websocket.receive", tell, path=r"^/tell$"),
    route("websocket.receive", echo, path=r"^/echo$"),
    route("websocket.receive", aecho, path=r"^/aecho$"),
    route("websocket.receive", buffered, path=r"^/buffered$"),
    route("websocket.receive", mixed, path=r"^/mixed$"),
    route("websocket.receive", later, path=r"^/later$"),
    route("websocket.receive", hold, path=r"^/hold$"),
    route("websocket.receive", burst, path=r"^/burst$"),
]
