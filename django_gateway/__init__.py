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

_HOME = {
    "Channel": "channel",
    "ConsumeLater": "exceptions",
    "Group": "channel",
    "Message": "message",
    "Reject": "exceptions",
    "ResponseLater": "exceptions",
    "include": "routing",
    "route": "routing",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - wanted once for each name

    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found
