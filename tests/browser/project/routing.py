"""Numbers for whoever joins; what a page says is written down."""

import os
from pathlib import Path

from django_gateway import Group, Reject, route

PROTOCOLS = ("websocket", "sse", "longpoll")


def join(message):
    """Everybody hears the numbers, from where they were."""
    message.accept()
    Group("numbers").add(message.reply_channel, since=message.content.get("last_event_id"))


def write_down(message):
    with Path(os.environ["E2E_SEEN"]).open("a") as file:
        file.write(f"{message.text}\n")


def members_only(message):
    raise Reject(403, "members only")


def answer(message):
    """Do as the page says."""
    if message.text == "close":
        message.reply(close=4000, reason="enough")
    elif message.text == "refuse":
        raise Reject(422, "not that")
    else:
        message.reply(message.text)


routing = [
    *(route(f"{name}.connect", join, path="^/numbers/") for name in PROTOCOLS),
    *(route(f"{name}.receive", write_down, path="^/numbers/") for name in PROTOCOLS),
    *(route(f"{name}.connect", members_only, path="^/club/") for name in PROTOCOLS),
    *(
        route(f"{name}.connect", lambda message: message.accept(), path="^/talk/")
        for name in PROTOCOLS
    ),
    *(route(f"{name}.receive", answer, path="^/talk/") for name in PROTOCOLS),
]
