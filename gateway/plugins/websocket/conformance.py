"""What websocket sounds like, for `gateway.testing.plugin_suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from gateway.plugins.websocket import WebsocketPlugin
from gateway.testing import talk
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn

_DATE: Final = re.compile(rb"\r\ndate: [^\r]+")
_HOST: Final = [(b"Host", b"example")]


def said(opcode: int, payload: bytes) -> bytes:
    """Return a short frame of the server's (RFC 6455 section 5.2)."""
    return bytes((0x80 | opcode, len(payload))) + payload


def closed(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame of the server's (RFC 6455 section 5.5.1)."""
    return said(talk.CLOSE, code.to_bytes(2, "big") + reason)


class WebsocketSuite(PluginSuite):
    """Messages over the http port."""

    plugin = WebsocketPlugin
    opening: ClassVar = (
        Turn(
            talk.handshake(b"/room/?a=b", _HOST, ["chat"]),
            ("connect", {"path": "/room/", "query_string": b"a=b", "subprotocols": ["chat"]}),
            answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"server: gateway\r\n\r\n",
        ),
    )
    conversation: ClassVar = (
        Turn(
            talk.frame(talk.TEXT, b"hello"),
            ("receive", {"path": "/room/", "text": "hello"}),
            replies=({"text": "welcome"},),
            answer=said(talk.TEXT, b"welcome"),
        ),
        Turn(
            talk.frame(talk.BINARY, b"\x00\xff"),
            ("receive", {"bytes": b"\x00\xff"}),
            replies=({"bytes": b"\xff"}, {"text": "é"}),
            answer=said(talk.BINARY, b"\xff") + said(talk.TEXT, "é".encode()),
        ),
        Turn(talk.frame(talk.PING, b"there?"), answer=said(talk.PONG, b"there?")),
        Turn(talk.frame(talk.TEXT, b"x" * 300), ("receive", {"text": "x" * 300})),
    )
    question = talk.frame(talk.TEXT, b"?")
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": b"",
        "rejected": closed(1008),
        "failed": closed(1011, b"the application failed"),
        "released": closed(1012, b"nobody was there to answer"),
        "unrouted": closed(1011, b"the application failed"),
    }
    closes = frozenset({"rejected", "failed", "released", "unrouted", "full", "unavailable"})
    full = closed(1013, b"the application is busy")
    unavailable = closed(1012, b"the application cannot be reached")
    too_much = talk.frame(talk.TEXT, b"x" * 2_000_000)
    too_much_answer = closed(1009, b"a frame of over 1000000 bytes")
    farewell = re.compile(
        rb"\x88.\x03\xf4the gateway is shutting down; retry-after=\d+(?:\.\d)?", re.DOTALL
    )

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without its dates."""
        return _DATE.sub(b"", data)
