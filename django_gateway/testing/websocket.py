"""The test's end of a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from django_gateway.testing.conversation import Event, event_of
from django_gateway.testing.opened import Opened, Reader, encoded
from gateway.testing import talk
from gateway.testing.line import Line
from gateway.testing.talk import Response

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


OBJECTS: Final = "gateway.v1"
"""The subprotocol of message objects."""


class _Frames(Reader):
    """What the client's end does by itself: it reads frames, answers pings and close frames."""

    def __init__(self, events: list[Event], last_event_id: str) -> None:
        super().__init__(events, last_event_id)
        self._reader = talk.Frames()
        self._head = b""
        self.open = False
        self.closed = False
        self.response: Response | None = None
        self.subprotocol: str | None = None
        self.keep_alive: float | None = None
        self.heartbeats = 0

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        if not self.open:
            self._head += data
            head, mark, rest = self._head.partition(b"\r\n\r\n")
            if not mark or not head.startswith(b"HTTP/1.1 101 "):
                return
            self.response = talk.response(head + mark, "GET", ended=True)
            self.open = True
            if self.response is not None:
                self.subprotocol = dict(self.response.headers).get("Sec-WebSocket-Protocol")
            data = rest
        for opcode, content in self._reader.feed(data):
            if opcode == talk.PING:
                self._answer(talk.frame(talk.PONG, content))
            elif opcode == talk.CLOSE:
                self.events.append(Event("close", content))
                if not self.closed:
                    self.closed = True
                    code, reason = content
                    self._answer(talk.close_frame(None if code == talk.NO_CODE else code, reason))
            elif opcode in {talk.TEXT, talk.BINARY}:
                self._came(Event("text" if opcode == talk.TEXT else "bytes", content))

    def _came(self, event: Event) -> None:
        """Take an event as it comes, or the object in its text."""
        if event.kind != "text" or self.subprotocol != OBJECTS:
            self.events.append(event)
            return
        found = json.loads(event.value)
        self.keep_alive = found.get("keep_alive", self.keep_alive)
        self.heartbeats += not found
        self.last_event_id = found.get("id", self.last_event_id)
        if (said := event_of(found)) is not None:
            self.events.append(said)

    def _answer(self, data: bytes) -> None:
        line = self.line
        if line is not None:
            line.soon(line.send, data)

    def refused(self) -> Response | None:
        """Return the response that refused the handshake, if there is one."""
        if self.open or self.line is None:
            return None
        if self.response is None:
            self.response = talk.response(self._head, "GET", ended=self.line.ended)
        return self.response


class WebSocket(Opened):
    """A WebSocket of a `GatewayClient`.

    With ``gateway.v1`` among its ``subprotocols`` what comes are message objects, and are events
    as those of other clients: with their ``id``.
    """

    protocol = "websocket"
    takes = "subprotocols, "

    def __init__(
        self, client: GatewayClient, path: str, *, subprotocols: Iterable[str] = (), **asked: Any
    ) -> None:
        super().__init__(client, path, **asked)
        self._subprotocols = list(subprotocols)
        self._reader = self._frames = _Frames(self.received, self._since or "")

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        asked = self._plan(cookies)
        target = asked.target
        if self._since is not None:
            mark = b"&" if b"?" in target else b"?"
            target += mark + b"last_event_id=" + quote(self._since, safe="").encode()
        self._first = talk.handshake(target, asked.headers, self._subprotocols)
        return self._connect(asked)

    def _hello(self, line: Line) -> None:
        self._say(self._first)

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        return self._frames.open

    @property
    def response(self) -> Response | None:
        """The HTTP response that accepted or refused it: ``status``, ``headers``, ``content``."""
        return self._frames.response if self._frames.open else self._frames.refused()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was chosen."""
        return self._frames.subprotocol

    @property
    def keep_alive(self) -> float | None:
        """With ``gateway.v1``: the seconds from one heartbeat to the next, 0 if none come."""
        return self._frames.keep_alive

    @property
    def heartbeats(self) -> int:
        """With ``gateway.v1``: how many have come."""
        return self._frames.heartbeats

    @property
    def closed(self) -> bool:
        """Whether a close frame was sent, by either end, or the connection is gone."""
        return self._frames.closed or super().closed

    # ------------------------------------------------ sending

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self._act("send_text", self._sending(talk.TEXT, encoded(text)))

    async def asend_text(self, text: str) -> None:
        """Async twin of `send_text`."""
        await self._aact(self._sending(talk.TEXT, encoded(text)))

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        self._act("send_bytes", self._sending(talk.BINARY, data))

    async def asend_bytes(self, data: bytes) -> None:
        """Async twin of `send_bytes`."""
        await self._aact(self._sending(talk.BINARY, data))

    def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON, in a text message."""
        self._act("send_json", self._sending(talk.TEXT, json.dumps(value).encode()))

    async def asend_json(self, value: Any) -> None:
        """Async twin of `send_json`."""
        await self.asend_text(json.dumps(value))

    def _sending(self, opcode: int, payload: bytes) -> Callable[[], None]:
        def action() -> None:
            if not self.accepted or self.closed:
                self._fail("it is not open: nothing can be sent")
            self._say(talk.frame(opcode, payload))

        return action

    # ------------------------------------------------ the end

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close it, as a client does; nothing happens where it is closed already."""
        self._act("close", lambda: self._close(code, reason))

    async def aclose(self, code: int | None = 1000, reason: str = "") -> None:
        """Async twin of `close`."""
        await self._aact(lambda: self._close(code, reason))

    def _close(self, code: int | None, reason: str) -> None:
        if self.accepted and not self.closed:
            self._frames.closed = True
            self._say(talk.close_frame(code, reason))
        elif not self.accepted:
            self._hang_up()

    def _goodbye(self) -> None:
        self._close(1000, "")
