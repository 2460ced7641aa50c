"""Consumers that several tests of the client need."""

from django_gateway import Group, route


def echo(message):
    message.reply(message.text)


async def aecho(message):
    message.reply(message.text)


def join(message):
    message.accept()
    Group("room").add(message.reply_channel)


def tell(message):
    Group("room").send({"text": message.text}, exclude=[message.reply_channel])


ECHO = route("websocket.receive", echo)


class Told:
    """A consumer that notes what it was called with."""

    def __init__(self, consumer=None):
        self.messages = []
        self._consumer = consumer

    def __call__(self, message):
        self.messages.append(dict(message.items()))
        if self._consumer is not None:
            self._consumer(message)
