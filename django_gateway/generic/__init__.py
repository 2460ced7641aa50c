"""Consumers that are classes: a method for each kind of message, an instance for each message."""

from __future__ import annotations

from django_gateway.generic.base import BaseConsumer, Consumer
from django_gateway.generic.email import EmailConsumer
from django_gateway.generic.http import HttpConsumer
from django_gateway.generic.irc import IrcConsumer
from django_gateway.generic.longpoll import JsonLongpollConsumer, LongpollConsumer
from django_gateway.generic.mqtt import MqttConsumer
from django_gateway.generic.multiplexing import Demultiplexer, Multiplexer
from django_gateway.generic.sse import JsonSseConsumer, SseConsumer
from django_gateway.generic.websockets import (
    JsonWebsocketConsumer,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
)

__all__ = [
    "BaseConsumer",
    "Consumer",
    "Demultiplexer",
    "EmailConsumer",
    "HttpConsumer",
    "IrcConsumer",
    "JsonLongpollConsumer",
    "JsonSseConsumer",
    "JsonWebsocketConsumer",
    "LongpollConsumer",
    "MqttConsumer",
    "Multiplexer",
    "SseConsumer",
    "WebsocketConsumer",
    "WebsocketDemultiplexer",
    "WebsocketMultiplexer",
]
