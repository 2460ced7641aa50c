"""A whole HTTP/1 connection without socket, loop or layer: bytes in, messages and bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from gateway.core.layers.base import OK
from gateway.plugins.http import HttpPlugin
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.port import Port
from gateway.plugins.http.transport import HttpProtocol
from gateway.testing.fakes import FakeEdge, ManualClock, Post

STAMP = b"\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: gateway"


class FakeTransport(asyncio.Transport):
    """Keeps what is written. Its client reads everything at once, and sends on after a close,
    as it may over TLS."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.ended = False
        self.reading = True

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.ended, "written after the end"
        self.written += data

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Driven:
    """One connection, and an application that answers each request with what it saw."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]], **settings: Any) -> None:
        self._answer = answer
        self.clock = ManualClock()
        self.edge = FakeEdge({"http.request", "http.disconnect"})
        self.engine = self.edge.engine(self.clock)
        config = HttpConfig(**settings)
        self.port = Port(config, self.engine.context(HttpPlugin, config))
        self.port.site = self.port.site._replace(stamp=lambda: STAMP)
        self.transport = FakeTransport()
        self.protocol = HttpProtocol(self.port)
        self.protocol.connection_made(self.transport)
        self.requests: list[dict[str, Any]] = []
        """The requests that the application saw, with the whole of their bodies."""
        self.channels: dict[str, dict[str, Any]] = {}

    def feed(self, pieces: Iterable[bytes], *, at_once: bool = True) -> None:
        """Let bytes come; the application answers at once, or when all of them have come."""
        for piece in pieces:
            # As a transport does: a socket that is paused is not read.
            self._work() if not self.transport.reading else None
            self.protocol.data_received(piece)
            if at_once:
                self._work()
        self._work()

    def _work(self) -> None:
        while posts := self.edge.take():
            for post in posts:
                self._take(post)

    def _take(self, post: Post) -> None:
        (message,) = post.messages
        if post.channel == "http.request":
            self.requests.append(message)
            if message["body_channel"] is not None:
                self.channels[message["body_channel"]] = message
            else:
                self._reply(message)
        elif post.channel.startswith("http.request.body?"):
            request = self.channels[post.channel]
            if "content" in message:
                assert message["offset"] == len(request["body"])
                request["body"] += message["content"]
                if not message["more_content"]:
                    self._reply(request)
            else:
                request["cut"] = True
        if post.receipt is not None:
            self.edge.settle(post, OK)

    def _reply(self, message: dict[str, Any]) -> None:
        self.edge.reply(message["reply_channel"], self._answer(message))

    @property
    def over(self) -> bool:
        """Whether the server has said its last word."""
        return self.transport.ended

    def close(self) -> None:
        """Let the client leave."""
        self.protocol.connection_lost(None)
        self._work()
        assert not self.engine.by_channel, "a conversation is left"
        assert not self.engine.flow.flights, "a delivery is left"
        assert not self.port.connections, "the connection is left"
        assert len(self.engine.deadlines) == 0, "a deadline is left"


def seen(message: dict[str, Any]) -> dict[str, Any]:
    """Answer with the request's own words, so that no two requests have one answer."""
    said = [message["method"].encode(), message["raw_path"], message["query_string"]]
    return {"status": 200, "headers": [], "content": b" ".join(said) + b"\n" + message["body"]}
