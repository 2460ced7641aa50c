"""What http sounds like, for `gateway.testing.plugin_suite`: ``gateway conformance http``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from gateway.core.plugin import Message
from gateway.plugins.http.server import HttpPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn

_VARIES: Final = re.compile(rb"\r\n(?:date: [^\r]+|connection: close)")
"""Header lines that depend on the moment: the second, and whether the gateway shuts down."""


def own(line: bytes, content: bytes) -> Answer:
    """Return an answer of the gateway's own."""
    return re.compile(
        rb"HTTP/1\.1 %b\r\n(?:[a-z-]+: [^\r]+\r\n)+\r\n%b" % (re.escape(line), re.escape(content))
    )


class HttpSuite(PluginSuite):
    """Requests and responses over HTTP/1.1."""

    plugin = HttpPlugin
    conversation: ClassVar = (
        Turn(
            b"GET /a%20b?c=d HTTP/1.1\r\nHost: example\r\nX-Y: z\r\n\r\n",
            ("request", {"method": "GET", "path": "/a b", "query_string": b"c=d", "body": b""}),
            replies=({"status": 200, "headers": [(b"x-a", b"b")], "content": b"hello"},),
            answer=b"HTTP/1.1 200 OK\r\nx-a: b\r\n"
            b"content-length: 5\r\nserver: gateway\r\n\r\nhello",
        ),
        Turn(
            b"POST / HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\n\r\nhello",
            ("request", {"method": "POST", "body": b"hello", "body_channel": None}),
            replies=({"text": "thanks"},),
            answer=b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: 6\r\nserver: gateway\r\n\r\nthanks",
        ),
        Turn(
            b"PUT / HTTP/1.1\r\nHost: example\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            ("request", {"method": "PUT", "body": b"abcde"}),
            replies=(
                {"status": 200, "content": b"abc", "more_content": True},
                {"offset": 3, "content": b"de"},
            ),
            answer=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nserver: gateway\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        ),
        Turn(
            b"HEAD / HTTP/1.1\r\nHost: example\r\n\r\n",
            ("request", {"method": "HEAD"}),
            replies=({"status": 304},),
            answer=b"HTTP/1.1 304 Not Modified\r\nserver: gateway\r\n\r\n",
        ),
    )
    question = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    replies = ({"status": 204},)
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": b"HTTP/1.1 204 No Content\r\nserver: gateway\r\n\r\n",
        "rejected": own(b"403 Forbidden", b"403 Forbidden\n"),
        "failed": own(b"500 Internal Server Error", b"500 Internal Server Error\n"),
        "released": own(b"503 Service Unavailable", b"503 Service Unavailable\n"),
        "unrouted": own(b"404 Not Found", b"404 Not Found\n"),
    }
    full = own(b"503 Service Unavailable", b"503 Service Unavailable\n")
    too_much = b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: example\r\n\r\n"
    too_much_answer = own(
        b"414 Request-URI Too Long", b"the request line is too long (request-line-size)\n"
    )

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without what depends on the moment."""
        return _VARIES.sub(b"", data)

    def chatter(self, number: int) -> Message:
        """Return a response that goes on and on."""
        content = b"x" * 100
        if not number:
            return {"status": 200, "content": content, "more_content": True}
        return {"offset": number * len(content), "content": content, "more_content": True}

    def disconnects(self, turns: int, *, asked: bool = False) -> int:
        """Return one for a client that left before its response was complete, else none."""
        return int(asked)
