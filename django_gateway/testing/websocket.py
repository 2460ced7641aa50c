"""The test's end of a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from django_gateway.testing.conversation import ANY, Conversation, Event
from gateway.testing import talk
from gateway.testing.line import Line
from gateway.testing.talk import Response

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


class _Frames:
    """What the client's end does by itself: it reads frames, answers pings and close frames."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._reader = talk.Frames()
        self._head = b""
        self.line: Line | None = None
        self.open = False
        self.closed = False
        self.response: Response | None = None

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        if not self.open:
            self._head += data
            head, mark, rest = self._head.partition(b"\r\n\r\n")
            if not mark or not head.startswith(b"HTTP/1.1 101 "):
                return
            self.response = talk.response(head + mark, "GET", ended=True)
            self.open = True
            data = rest
        for opcode, content in self._reader.feed(data):
            if opcode == talk.PING:
                self._answer(talk.frame(talk.PONG, content))
            elif opcode == talk.CLOSE:
                self._events.append(Event("close", content))
                if not self.closed:
                    self.closed = True
                    code, reason = content
                    self._answer(talk.close_frame(None if code == talk.NO_CODE else code, reason))
            elif opcode in {talk.TEXT, talk.BINARY}:
                kind = "text" if opcode == talk.TEXT else "bytes"
                self._events.append(Event(kind, content))

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


class WebSocket(Conversation):
    """A WebSocket of a `GatewayClient`."""

    plugin = "http"

    def __init__(
        self,
        client: GatewayClient,
        path: str,
        *,
        subprotocols: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        query_params: Any = None,
        user: Any = None,
        secure: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(client, path, user)
        if not path.startswith("/"):
            raise ValueError(f"websocket({path!r}): a path begins with '/': {'/' + path!r}")
        if unknown := [key for key in extra if not key.isupper()]:
            raise TypeError(
                f"websocket() takes no {unknown[0]!r}: subprotocols, headers, query_params, user, "
                "secure, and variables such as REMOTE_ADDR"
            )
        self._subprotocols = list(subprotocols)
        self._asked = {
            "path": path,
            "headers": headers,
            "query_params": query_params,
            "secure": secure,
            **extra,
        }
        self._frames = _Frames(self.received)

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        asked = self._client.plan("get", self._asked, cookies)
        self._first = talk.handshake(asked.target, asked.headers, self._subprotocols)
        self._frames.line = line = self._site.gateway.connect(
            self.plugin, self._frames.heard, host=asked.host, server=asked.server, tls=asked.secure
        )
        return line

    def _hello(self, line: Line) -> None:
        self._say(self._first)

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        return self._frames.open

    @property
    def rejected(self) -> int | None:
        """The HTTP status that refused it; None while nobody has."""
        response = self._frames.refused()
        return None if response is None else response.status

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet: let the clock of the client advance, or decide."""
        return self._line is not None and not self.accepted and self.rejected is None

    @property
    def response(self) -> Response | None:
        """The HTTP response that accepted or refused it: ``status``, ``headers``, ``content``."""
        return self._frames.response if self._frames.open else self._frames.refused()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the application chose."""
        response = self.response
        headers = {} if response is None else dict(response.headers)
        return headers.get("Sec-WebSocket-Protocol")

    @property
    def closed(self) -> bool:
        """Whether a close frame was sent, by either end, or the connection is gone."""
        return self._frames.closed or super().closed

    def _state(self) -> str:
        if self.rejected is not None:
            return f"it was refused: {self.rejected}"
        if not self.accepted:
            return "nobody has decided on it yet"
        return ""

    # ------------------------------------------------ sending

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self._act("send_text", self._sending(talk.TEXT, _encoded(text)))

    async def asend_text(self, text: str) -> None:
        """Async twin of `send_text`."""
        await self._aact(self._sending(talk.TEXT, _encoded(text)))

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

    def expect_close(self, code: Any = ANY, reason: Any = ANY) -> int:
        """Return the close code that the application's end sends next."""
        return int(self._settled("expect_close", lambda: self._expect_close(code, reason)))

    async def aexpect_close(self, code: Any = ANY, reason: Any = ANY) -> int:
        """Async twin of `expect_close`."""
        return int(await self._asettled(lambda: self._expect_close(code, reason)))

    def _expect_close(self, code: Any, reason: Any) -> int:
        wanted = " ".join(["close", *(str(part) for part in (code, reason) if part is not ANY)])
        event = self._next(wanted)
        if (
            event.kind != "close"
            or code not in {ANY, event.value[0]}
            or reason not in {ANY, event.value[1]}
        ):
            self._fail(f"expected {wanted}, got {event}")
        found: int = event.value[0]
        return found

    def _close(self, code: int | None, reason: str) -> None:
        if self.accepted and not self.closed:
            self._frames.closed = True
            self._say(talk.close_frame(code, reason))
        elif not self.accepted:
            self._hang_up()

    def _goodbye(self) -> None:
        self._close(1000, "")


def _encoded(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(
            f"send_text() takes a str, not {type(text).__name__}; there are send_bytes() and "
            "send_json()"
        )
    return text.encode()
