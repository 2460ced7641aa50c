"""Django behind the gateway: routes, consumers, views, and the worker that runs them.

Importing it needs no configured settings::

    from django_gateway import Group, route


    def receive(message):
        Group("chat").send({"text": message.text})


    routing = [route("websocket.receive", receive, path=r"^/chat/$")]
"""

from __future__ import annotations

from django_gateway.channel import Channel, Group
from django_gateway.exceptions import ConsumeLater, Reject, ResponseLater
from django_gateway.message import Message
from django_gateway.routing import include, route

__all__ = [
    "Channel",
    "ConsumeLater",
    "Group",
    "Message",
    "Reject",
    "ResponseLater",
    "include",
    "route",
]
