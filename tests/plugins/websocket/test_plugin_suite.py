"""websocket does what every plugin must, whatever its clients speak."""

from typing import ClassVar

from gateway.plugins.websocket.conformance import WebsocketSuite, said
from gateway.testing import talk
from gateway.testing.plugin_suite import Turn


class TestWebsocket(WebsocketSuite):
    """Over the http port."""


class TestObjects(WebsocketSuite):
    """With a client that speaks message objects."""

    opening: ClassVar = (
        Turn(
            talk.handshake(b"/room/", [(b"Host", b"example")], ["gateway.v1"]),
            ("connect", {"path": "/room/", "subprotocols": ["gateway.v1"], "last_event_id": ""}),
            answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"Sec-WebSocket-Protocol: gateway.v1\r\nserver: gateway\r\n\r\n"
            + said(talk.TEXT, b'{"keep_alive":20.0}'),
        ),
    )
    conversation: ClassVar = (
        Turn(
            talk.frame(talk.TEXT, b"hello"),
            ("receive", {"path": "/room/", "text": "hello"}),
            replies=({"text": "welcome"}, {"text": "é", "id": "1-2"}),
            answer=said(talk.TEXT, b'{"text":"welcome"}')
            + said(talk.TEXT, '{"text":"é","id":"1-2"}'.encode()),
        ),
        Turn(
            talk.frame(talk.BINARY, b"\x00\xff"),
            ("receive", {"bytes": b"\x00\xff"}),
            replies=({"bytes": b"\xff"}, {"bytes": b"\xfe", "id": "1-3"}, {"id": "1-4"}),
            answer=said(talk.BINARY, b"\xff")
            + said(talk.TEXT, b'{"bytes":"/g==","id":"1-3"}')
            + said(talk.TEXT, b'{"id":"1-4"}'),
        ),
        Turn(talk.frame(talk.PING, b"there?"), answer=said(talk.PONG, b"there?")),
    )

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without heartbeats, which come whatever is checked."""
        return super().normal(data).replace(said(talk.TEXT, b"{}"), b"")
