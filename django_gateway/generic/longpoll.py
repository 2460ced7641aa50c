"""`LongpollConsumer` and `JsonLongpollConsumer`: a WebSocket's, for clients of plain requests."""

from __future__ import annotations

from typing import Any, ClassVar

from django_gateway.generic.websockets import JsonWebsocketConsumer, WebsocketConsumer


class LongpollConsumer(WebsocketConsumer):
    """A consumer of long-poll connections, whose messages and replies are a WebSocket's.

    One class serves both where it says ``protocols = ["websocket", "longpoll"]``. `Reject` in
    ``receive`` answers what was posted, by an HTTP status, and closes nothing.
    """

    protocols: ClassVar[Any] = ("longpoll",)


class JsonLongpollConsumer(JsonWebsocketConsumer):
    """A consumer of long-poll connections that speak JSON: ``receive`` gets what a post holds.

    A post that is no JSON is answered 400, one of bytes 415; override `decode_json` for anything
    else.
    """

    protocols: ClassVar[Any] = ("longpoll",)
    not_valid: ClassVar[int] = 400
    not_taken: ClassVar[int] = 415
