"""Whoever asks is answered, where it was asked."""

from django_gateway import route


def receive(message):
    if message["type"] != "notice":
        message.reply(f"you said {message['text']}")


routing = [route("irc.receive", receive, text="!")]
