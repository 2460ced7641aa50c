"""What keeps something of each connection on ``self``."""

import os
import weakref

from django.http import JsonResponse

from django_gateway import WebsocketConsumer, path, route_class

alive = weakref.WeakSet()
"""The instances that this process has."""


class Brittle(WebsocketConsumer):
    """Counts what a connection says, and cannot go on with another's count."""

    stateful = True

    def connect(self, message):
        alive.add(self)
        self.count = 0
        self.accept()

    def receive(self, text=None, **kwargs):
        self.count += 1
        self.send(f"{os.getpid()} {self.count}")


class Going(Brittle):
    """Goes on from 1000."""

    def reconnected(self, message):
        alive.add(self)
        self.count = 1000


class Async(Brittle):
    async def receive(self, text=None, **kwargs):
        super().receive(text)

    async def reconnected(self, message):
        alive.add(self)
        self.count = 1000


def kept(request):
    return JsonResponse({"pid": os.getpid(), "kept": len(alive)})


routing = [
    route_class(Brittle, path=path("brittle")),
    route_class(Going, path=path("going")),
    route_class(Async, path=path("going/async")),
]
