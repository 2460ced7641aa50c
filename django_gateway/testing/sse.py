"""The test's end of an event stream."""

from __future__ import annotations

import base64
import json
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from django_gateway.testing.conversation import ANY, Event, fits, wanted_as
from django_gateway.testing.opened import Posting, Reader
from gateway.testing import talk
from gateway.testing.events import Events, ServerEvent
from gateway.testing.line import Line
from gateway.testing.talk import Response

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


class _Stream(Reader):
    """Reads the head of a stream, then its events."""

    def __init__(self, events: list[Event], last_event_id: str, *, posts: bool) -> None:
        super().__init__(events, last_event_id)
        self._posts = posts
        self._chunks: talk.Chunks | None = None
        self.stream = Events()
        self.head = b""
        self.open: Response | None = None
        self.over = False
        self.location: str | None = None
        self.keep_alive: float | None = None

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        if self.open is None:
            self.head += data
            head, mark, data = self.head.partition(b"\r\n\r\n")
            begun = talk.response(head + mark, "HEAD", ended=True)
            if begun is None or not _is_stream(begun):
                return
            self.open = begun
            if any(name.lower() == "transfer-encoding" for name, _ in begun.headers):
                self._chunks = talk.Chunks()
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.over = self._chunks.over
        for event in self.stream.feed(data):
            self._take(event)
        self.last_event_id = self.stream.last_event_id or self.last_event_id

    def _take(self, event: ServerEvent) -> None:
        id_, retry = event.id or "", event.retry
        if event.name == "open" and self._posts and self.location is None:
            told = json.loads(event.data)
            self.location, self.keep_alive = told["location"], told["keep_alive"]
        elif event.name == "bytes":
            self.events.append(Event("bytes", base64.b64decode(event.data), id_, "", retry))
        elif event.name == "missed":
            self.events.append(Event("missed", True, id_))
        elif event.name == "close":
            told = json.loads(event.data)
            self.events.append(Event("close", (told["code"], told["reason"])))
        else:
            name = "" if event.name == "message" else event.name
            self.events.append(Event("text", event.data, id_, name, retry))

    def response(self) -> Response | None:
        """Return what accepted or refused it."""
        if self.open is not None or self.line is None:
            return self.open
        return talk.response(self.head, "GET", ended=self.line.ended)


class EventStream(Posting):
    """An event stream of a `GatewayClient`, as an EventSource reads it.

    It does not come back by itself: ask for another, with ``last_event_id=stream.last_event_id``.
    With ``posts=True`` it is told a `location`, and may send.
    """

    protocol = "sse"
    takes = "posts, "

    def __init__(
        self, client: GatewayClient, path: str, *, posts: bool = False, **asked: Any
    ) -> None:
        super().__init__(client, path, **asked)
        self._posts = posts
        self._reader = self._stream = _Stream(self.received, self._since or "", posts=posts)

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        more = [(b"Accept", b"text/event-stream"), (b"Cache-Control", b"no-store")]
        self._asked = asked = self._begun(self._plan(cookies), more)
        if self._posts:
            mark = b"&" if b"?" in asked.target else b"?"
            target = asked.target + mark + b"gateway_connection=new"
            self._asked = asked._replace(target=target)
        return self._connect(asked)

    def _hello(self, line: Line) -> None:
        self._say(talk.request("GET", self._asked.target, self._asked.headers))

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        return self._stream.open is not None

    @property
    def response(self) -> Response | None:
        """The head of the stream, or the HTTP response that refused it: ``status``, ``headers``."""
        return self._stream.response()

    @property
    def closed(self) -> bool:
        """Whether it is over, whoever ended it."""
        return self._stream.over or super().closed

    @property
    def location(self) -> str | None:
        """Where it posts, a path and a query; None until it is told, and without ``posts``."""
        return self._stream.location

    @property
    def keep_alive(self) -> float | None:
        """With ``posts``: the seconds from one sign of life to the next, as it is told."""
        return self._stream.keep_alive

    @property
    def retry(self) -> int | None:
        """The milliseconds after which the stream wants its client to come back, if it said so."""
        return self._stream.stream.retry

    @property
    def comments(self) -> list[str]:
        """The comments that came: an empty one keeps the stream alive."""
        return self._stream.stream.comments

    # ------------------------------------------------ expecting

    def expect_event(self, name: str, data: Any = ANY) -> Event:
        """Return the next event, which has this name, and its data where that is given."""
        found: Event = self._settled("expect_event", lambda: self._expect_event(name, data))
        return found

    async def aexpect_event(self, name: str, data: Any = ANY) -> Event:
        """Async twin of `expect_event`."""
        found: Event = await self._asettled(lambda: self._expect_event(name, data))
        return found

    def _expect_event(self, name: str, data: Any) -> Event:
        wanted = f"event {name}" if data is ANY else f"event {name} {wanted_as(data)}"
        event = self._next(wanted)
        if event.name != name or not fits(event.value, data):
            self._fail(f"expected {wanted}, got {event}")
        return event

    # ------------------------------------------------ the end

    def close(self) -> None:
        """Close it, as a page does; nothing happens where it is over already."""
        self._act("close", self._end)

    async def aclose(self) -> None:
        """Async twin of `close`."""
        await self._aact(self._end)


def _is_stream(response: Response) -> bool:
    kinds = [value for name, value in response.headers if name.lower() == "content-type"]
    return any(kind.partition(";")[0] == "text/event-stream" for kind in kinds)
