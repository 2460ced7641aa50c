"""Django behind the gateway: routes, consumers, views, and the worker that runs them.

Importing it needs no configured settings::

    from django_gateway import Group, route


    def receive(message):
        Group("chat").send({"text": message.text})


    routing = [route("websocket.receive", receive, path=r"^/chat/$")]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_gateway.channel import Channel, Group
from django_gateway.exceptions import ConsumeLater, Reject, ResponseLater
from django_gateway.filters import path
from django_gateway.message import Message
from django_gateway.routing import include, route, route_class

if TYPE_CHECKING:
    from django_gateway.generic import (
        Consumer,
        HttpConsumer,
        JsonWebsocketConsumer,
        WebsocketConsumer,
    )

__all__ = [
    "Channel",
    "ConsumeLater",
    "Consumer",
    "Group",
    "HttpConsumer",
    "JsonWebsocketConsumer",
    "Message",
    "Reject",
    "ResponseLater",
    "WebsocketConsumer",
    "include",
    "path",
    "route",
    "route_class",
]

_CLASSES = ("Consumer", "HttpConsumer", "JsonWebsocketConsumer", "WebsocketConsumer")


def __getattr__(name: str) -> Any:
    """Import a class at its first use: who only sends need not wait for Django's views."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django_gateway import generic  # noqa: PLC0415 - as above

    return getattr(generic, name)
