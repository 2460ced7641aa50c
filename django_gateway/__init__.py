"""Django behind the gateway: routes, consumers, views, and the worker that runs them.

Importing it needs no configured settings, and imports no Django before a name is used::

    from django_gateway import Group, route


    def receive(message):
        Group("chat").send({"text": message.text})


    routing = [route("websocket.receive", receive, path=r"^/chat/$")]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_gateway.channel import Channel, Group
    from django_gateway.commands import command
    from django_gateway.exceptions import ConsumeLater, Reject, ResponseLater
    from django_gateway.filters import mqtt_topic, path
    from django_gateway.generic import (
        Consumer,
        Demultiplexer,
        EmailConsumer,
        HttpConsumer,
        IrcConsumer,
        JsonLongpollConsumer,
        JsonSseConsumer,
        JsonWebsocketConsumer,
        LongpollConsumer,
        MqttConsumer,
        Multiplexer,
        SseConsumer,
        WebsocketConsumer,
        WebsocketDemultiplexer,
        WebsocketMultiplexer,
    )
    from django_gateway.idempotency import idempotent
    from django_gateway.irc import irc_channel, irc_room
    from django_gateway.mailboxes import mailbox
    from django_gateway.message import Message
    from django_gateway.routing import include, route, route_class

__all__ = [
    "Channel",
    "ConsumeLater",
    "Consumer",
    "Demultiplexer",
    "EmailConsumer",
    "Group",
    "HttpConsumer",
    "IrcConsumer",
    "JsonLongpollConsumer",
    "JsonSseConsumer",
    "JsonWebsocketConsumer",
    "LongpollConsumer",
    "Message",
    "MqttConsumer",
    "Multiplexer",
    "Reject",
    "ResponseLater",
    "SseConsumer",
    "WebsocketConsumer",
    "WebsocketDemultiplexer",
    "WebsocketMultiplexer",
    "command",
    "idempotent",
    "include",
    "irc_channel",
    "irc_room",
    "mailbox",
    "mqtt_topic",
    "path",
    "route",
    "route_class",
]

_HOME = {
    "Channel": "channel",
    "ConsumeLater": "exceptions",
    "Consumer": "generic",
    "Demultiplexer": "generic",
    "EmailConsumer": "generic",
    "Group": "channel",
    "HttpConsumer": "generic",
    "IrcConsumer": "generic",
    "JsonLongpollConsumer": "generic",
    "JsonSseConsumer": "generic",
    "JsonWebsocketConsumer": "generic",
    "LongpollConsumer": "generic",
    "Message": "message",
    "MqttConsumer": "generic",
    "Multiplexer": "generic",
    "Reject": "exceptions",
    "ResponseLater": "exceptions",
    "SseConsumer": "generic",
    "WebsocketConsumer": "generic",
    "WebsocketDemultiplexer": "generic",
    "WebsocketMultiplexer": "generic",
    "command": "commands",
    "idempotent": "idempotency",
    "include": "routing",
    "irc_channel": "irc",
    "irc_room": "irc",
    "mailbox": "mailboxes",
    "mqtt_topic": "filters",
    "path": "filters",
    "route": "routing",
    "route_class": "routing",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - wanted once for each name

    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found
