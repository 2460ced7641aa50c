"""What sse sounds like, for `gateway.testing.plugin_suite`: ``gateway conformance sse``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from gateway.core.layers.base import ACCEPTED
from gateway.core.plugin import Message
from gateway.plugins.sse import SsePlugin
from gateway.plugins.sse.config import SseConfig
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn
from gateway.testing.rig import Client, Rig

_DATE: Final = re.compile(rb"\r\ndate: [^\r]+")
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"cache-control: no-store, no-transform\r\nx-accel-buffering: no\r\nvary: origin\r\n"
    b"transfer-encoding: chunked\r\nserver: gateway\r\nconnection: close\r\n\r\n"
)


def asked(target: bytes, *headers: bytes) -> bytes:
    """Return a request for a stream; if it is refused, the connection ends."""
    lines = (b"Host: example", b"Accept: text/event-stream", b"Connection: close", *headers)
    return b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (target, b"\r\n".join(lines))


def chunk(content: bytes) -> bytes:
    """Return a piece of a stream."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def own(line: bytes, content: bytes) -> Answer:
    """Return an answer of the gateway's own."""
    return re.compile(
        rb"HTTP/1\.1 %b\r\n(?:[a-z-]+: [^\r]+\r\n)+\r\n%b" % (re.escape(line), re.escape(content))
    )


class SseSuite(PluginSuite):
    """Event streams over HTTP/1.1."""

    plugin = SsePlugin
    config = SseConfig(keep_alive=3600)
    conversation: ClassVar = (
        Turn(
            asked(b"/news?a=b", b"Last-Event-ID: 1-2a"),
            ("connect", {"path": "/news", "query_string": b"a=b", "last_event_id": "1-2a"}),
            replies=(
                {"text": "one\ntwo", "event": "greeting", "id": "7", "retry": 1500},
                {"bytes": b"\x00\xff"},
                {"comment": "é"},
            ),
            answer=_HEAD
            + chunk(
                b":\n\nretry: 1500\nid: 7\nevent: greeting\ndata: one\ndata: two\n\n"
                b"event: bytes\ndata: AP8=\n\n: \xc3\xa9\n\n"
            ),
        ),
    )
    question = asked(b"/news")
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": _HEAD + chunk(b":\n\n"),
        "rejected": own(b"403 Forbidden", b"403 Forbidden\n"),
        "failed": own(b"500 Internal Server Error", b"the application failed\n"),
        "released": own(b"503 Service Unavailable", b"nobody was there to answer\n"),
        "unrouted": own(b"404 Not Found", b"404 Not Found\n"),
    }
    closes = frozenset({"rejected", "failed", "released", "unrouted", "full", "unavailable"})
    full = own(b"503 Service Unavailable", b"the application is busy\n")
    unavailable = own(b"503 Service Unavailable", b"the application cannot be reached\n")
    too_much = asked(b"/news", b"X: " + b"x" * 100_000)
    too_much_answer = own(
        b"431 Request Header Fields Too Large",
        b"the request's head is too large (header-size)\n",
    )
    farewell = re.compile(
        rb"[0-9a-f]+\r\nretry: \d+\n\n\r\n0\r\n\r\n"
        rb"|HTTP/1\.1 503 Service Unavailable\r\n(?:[a-z-]+: [^\r]+\r\n)*retry-after: \d+\r\n"
        rb"(?:[a-z-]+: [^\r]+\r\n)*\r\nthe gateway is shutting down\n"
    )
    pipelined = False

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without its dates."""
        return _DATE.sub(b"", data)

    def chatter(self, number: int) -> Message:
        """Return an event."""
        return {"text": f"event {number}", "event": "tick"}

    def ready(self, rig: Rig, client: Client, after: str) -> Client:
        """Return a client that may ask: a new one, since a connection carries one stream."""
        return self.opened(rig) if after == ACCEPTED else super().ready(rig, client, after)
