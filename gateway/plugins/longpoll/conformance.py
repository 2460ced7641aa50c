"""What longpoll sounds like, for `gateway.testing.plugin_suite`: ``gateway conformance longpoll``.

A client of long-polling is two lines: one says what the suite has it say, the other polls. What the
suite says and hears has ``LOCATION`` where a location stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from gateway.plugins.longpoll import LongpollPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn
from gateway.testing.rig import Client, Rig

LOCATION: Final = b"LOCATION"
_FOUND: Final = re.compile(rb"longpoll\.p_[A-Za-z0-9]{12}\.[A-Za-z0-9]{22}")
_OPENED: Final = re.compile(rb"\r\nlocation: ([^\r]+)")
_DATE: Final = re.compile(rb"\r\n(?:date: [^\r]+|connection: close)")
_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d+) [^\r]+\r\n((?:[^\r]+\r\n)*)\r\n")
_LENGTH: Final = re.compile(rb"content-length: (\d+)\r\n")
_TAG: Final = re.compile(rb"etag: ([^\r]+)")
_VARY: Final = b"vary: origin\r\n"


def asked(method: bytes, target: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    """Return a request."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: example", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def posted(body: bytes, *headers: bytes) -> bytes:
    """Return a message of a client's."""
    return asked(b"POST", b"/room?gateway_connection=" + LOCATION, body, *headers)


def own(line: bytes, content: bytes) -> Answer:
    """Return an answer of the gateway's own."""
    return re.compile(
        rb"HTTP/1\.1 %b\r\n(?:[a-z-]+: [^\r]+\r\n)+\r\n%b" % (re.escape(line), re.escape(content))
    )


class Polling:
    """A client that polls, over a second line, from when it has a location."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._line = connect()
        self._polls: Client | None = None
        self._location = b""
        self._held = b""
        self._heard = b""
        self._answer = b""
        self._tag = b""
        self._gone = False

    # ------------------------------------------------ what it says

    def send(self, data: bytes) -> None:
        """Say something, with its location where one is to stand."""
        self._look()
        data = (self._held + data).replace(LOCATION, self._location or LOCATION)
        kept = next((n for n in range(len(LOCATION) - 1, 0, -1) if data.endswith(LOCATION[:n])), 0)
        self._held = data[len(data) - kept :]
        if data := data[: len(data) - kept]:
            self._line.send(data)
        self._look()

    def leave(self) -> None:
        """End it politely."""
        if self._location and not self._gone:
            self._line.send(asked(b"DELETE", b"/room?gateway_connection=" + self._location))
        self._both(lambda line: line.leave())

    def cut(self) -> None:
        """Vanish."""
        self._both(lambda line: line.cut())

    def _both(self, end: Callable[[Client], None]) -> None:
        self._gone = True
        end(self._line)
        if self._polls is not None:
            end(self._polls)

    # ------------------------------------------------ what it hears

    def take(self) -> bytes:
        """Return what was answered, and what polls brought."""
        self._look()
        heard, self._heard = self._heard, b""
        return heard

    def _look(self) -> None:
        came = self._line.take()
        self._heard += came
        if not self._location and (found := _OPENED.search(came)):
            self._location = _FOUND.findall(found[1])[0]
            self._polls = self._connect()
            self._poll()
        while self._polls is not None and self._polled(self._polls):
            pass

    def _poll(self) -> None:
        if self._polls is not None and not self._gone:
            tag = (b"If-None-Match: " + self._tag,) if self._tag else ()
            target = b"/room?gateway_connection=" + self._location
            self._polls.send(asked(b"GET", target, b"", *tag))

    def _polled(self, polls: Client) -> bool:
        self._answer += polls.take()
        head = _HEAD.match(self._answer)
        if head is None:
            return False
        length = _LENGTH.search(head[2])
        end = head.end() + (0 if length is None else int(length[1]))
        if len(self._answer) < end:
            return False
        content, self._answer = self._answer[head.end() : end], self._answer[end:]
        if head[1] == b"200":
            self._heard += content
        if head[1] not in (b"200", b"204") or b'{"close":' in content:
            self._gone = True
        elif tag := _TAG.search(head[2]):
            self._tag = tag[1]
        self._poll()
        return True

    # ------------------------------------------------ its lines

    def hold(self, room: int) -> None:
        """Poll no more."""
        if self._polls is not None:
            self._polls.hold(room)

    def release(self) -> None:
        """Poll again."""
        if self._polls is not None:
            self._polls.release()

    @property
    def held(self) -> int:
        """How many bytes wait for it to read on."""
        return 0 if self._polls is None else self._polls.held

    @property
    def ended(self) -> bool:
        """Whether the gateway has ended it."""
        self._look()
        return self._gone or self._line.ended


class LongpollSuite(PluginSuite):
    """Connections over HTTP/1.1."""

    plugin = LongpollPlugin
    opening: ClassVar = (
        Turn(
            asked(b"POST", b"/room?a=b", b"", b"Prefer: respond-async", b"Last-Event-ID: 1-2a"),
            ("connect", {"path": "/room", "query_string": b"a=b", "last_event_id": "1-2a"}),
            answer=b"HTTP/1.1 201 Created\r\ncache-control: no-store\r\n"
            b"vary: origin\r\ncontent-type: application/json\r\n"
            b"location: /room?gateway_connection=LOCATION\r\n"
            b"preference-applied: respond-async\r\ncontent-length: 111\r\nserver: gateway\r\n\r\n"
            b'{"location":"/room?gateway_connection=LOCATION","wait":25,"expires":60.0}',
        ),
    )
    conversation: ClassVar = (
        Turn(
            posted(b"hello"),
            ("receive", {"path": "/room", "text": "hello"}),
            replies=({"text": "welcome", "id": "1-2b"}, {"bytes": b"\x00\xff"}),
            answer=b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n"
            b"vary: origin\r\nserver: gateway\r\n\r\n"
            b'[{"text":"welcome","id":"1-2b"},{"bytes":"AP8="}]',
        ),
        Turn(
            posted(b"\x00\xff", b"Content-Type: application/octet-stream"),
            ("receive", {"bytes": b"\x00\xff"}),
            replies=({"missed": True}, {"id": "1-2c"}),
            answer=b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n"
            b"vary: origin\r\nserver: gateway\r\n\r\n"
            b'[{"missed":true},{"id":"1-2c"}]',
        ),
    )
    question = posted(b"?")
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n"
        b"vary: origin\r\nserver: gateway\r\n\r\n",
        "rejected": own(b"403 Forbidden", b"403 Forbidden\n"),
        "failed": own(b"500 Internal Server Error", b"the application failed\n"),
        "released": own(b"503 Service Unavailable", b"nobody was there to answer\n"),
        "unrouted": own(b"500 Internal Server Error", b"the application failed\n"),
    }
    full = own(b"503 Service Unavailable", b"the application is busy\n")
    unavailable = own(b"503 Service Unavailable", b"the application cannot be reached\n")
    lost = re.compile(
        rb"HTTP/1\.1 503 Service Unavailable\r\n(?:[a-z-]+: [^\r]+\r\n)+\r\n"
        rb"the application cannot be reached\n"
        rb'\[{"close":1011,"reason":"the gateway failed"}\]'
    )
    too_much = posted(b"x" * 1_100_000)
    too_much_answer = own(b"413 Request Entity Too Large", b"over 1000000 bytes\n")
    confirms = b"\r\n"  # which says nothing to HTTP; but the client polls on
    farewell = re.compile(
        rb'\[{"close":1012,"reason":"the gateway is shutting down; retry-after=\d+\.\d"}\]'
    )

    def connect(self, rig: Rig) -> Client:
        """Return a client that polls."""
        return Polling(rig.connect)

    def normal(self, data: bytes) -> bytes:
        """Return what was heard without its dates, and the locations by one name."""
        return _FOUND.sub(LOCATION, _DATE.sub(b"", data))
