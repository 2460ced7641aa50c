"""The signals of presence: routes that send them, behind the project's own.

A message of ``presence.join`` or ``presence.leave`` that no route of the project takes becomes
`presence_joined` or `presence_left`, where that has receivers when the worker starts. Without
receivers there is no route, and the layer drops what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.dispatch import Signal

from django_gateway.channel import Channel, Group
from django_gateway.message import Message
from django_gateway.routing import Route
from django_gateway.signals import presence_joined, presence_left


def routes() -> Iterator[Route]:
    """Yield a route for each signal that has receivers: for the loop if any is asynchronous."""
    for channel, signal, consumer, async_consumer in (
        ("presence.join", presence_joined, joined, ajoined),
        ("presence.leave", presence_left, left, aleft),
    ):
        if signal.has_listeners(Group):
            found: Callable[..., Any] = async_consumer if _any_async(signal) else consumer
            yield Route((channel,), found, {})


def joined(message: Message) -> None:
    """Send `presence_joined`."""
    presence_joined.send(Group, **_told(message))


async def ajoined(message: Message) -> None:
    """Send `presence_joined`, with asynchronous receivers."""
    await presence_joined.asend(Group, **_told(message))


def left(message: Message) -> None:
    """Send `presence_left`."""
    presence_left.send(Group, **_told(message))


async def aleft(message: Message) -> None:
    """Send `presence_left`, with asynchronous receivers."""
    await presence_left.asend(Group, **_told(message))


def _told(message: Message) -> dict[str, Any]:
    return {
        "group": Group(message["group"]),
        "channel": Channel(message["channel"]),
        "meta": message["meta"],
    }


def _any_async(signal: Signal) -> bool:
    return any(is_async for *_, is_async in signal.receivers)
