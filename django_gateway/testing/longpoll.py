"""The test's end of a long-poll connection."""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final

from django_gateway.testing.conversation import Event, event_of
from django_gateway.testing.opened import Posting, Reader
from gateway.testing import talk
from gateway.testing.line import Line
from gateway.testing.talk import Header, Response

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient

WAIT: Final = 25
"""Seconds that a poll waits: as messages.md has it, and below what proxies cut."""


class _Answers(Reader):
    """Reads the answers of one line: that which tells the location, then those of polls.

    ``polls``: whether it polls again with each.
    """

    def __init__(self, events: list[Event], last_event_id: str, *, polls: bool) -> None:
        super().__init__(events, last_event_id)
        self._polls = polls
        self._came = b""
        self._tag: str | None = None
        self.headers: list[Header] = []
        """Those of every poll."""
        self.opened: Response | None = None
        self.location: str | None = None
        self.waits = False
        """Whether a poll is not answered yet."""
        self.over = False

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        line = self.line
        self._came += data
        method = "GET" if self.waits else "POST"
        response = talk.response(self._came, method, ended=line is not None and line.ended)
        if response is None or line is None:
            return
        if self.waits:
            self._answered(response)
        elif self.opened is None:
            self.opened = response
            if response.status == 201:
                self.location = json.loads(response.content)["location"]
        self._came, self.waits = b"", False
        if self._polls and self.location is not None and not self.over:
            line.soon(line.send, self.poll(WAIT))

    def _answered(self, response: Response) -> None:
        """Take the answer of a poll."""
        headers = {name.lower(): value for name, value in response.headers}
        self._tag = headers.get("etag", self._tag)
        if response.status != 200:
            self.over = self.over or response.status != 204
            return
        for found in json.loads(response.content):
            self.last_event_id = found.get("id", self.last_event_id)
            if (event := event_of(found)) is not None:
                self.events.append(event)
                self.over = self.over or event.kind == "close"

    def poll(self, wait: int) -> bytes:
        """Return the request that asks for what is new, to be sent at once."""
        self.waits = True
        headers = [*self.headers, (b"Prefer", b"wait=%d" % wait)]
        if self._tag is not None:
            headers.append((b"If-None-Match", self._tag.encode()))
        return talk.request("GET", (self.location or "").encode(), headers)


class LongPoll(Posting):
    """A long-poll connection of a `GatewayClient`.

    It polls by itself, as the client of a page does: what was sent to it has come when a verb
    returns. With ``polls=False`` it does so where the test says `poll`, and is gone if that does
    not happen for a minute of the client's clock.
    """

    protocol = "longpoll"
    takes = "polls, "

    def __init__(
        self, client: GatewayClient, path: str, *, polls: bool = True, **asked: Any
    ) -> None:
        super().__init__(client, path, **asked)
        self._polls = polls
        self._reader = self._answers = _Answers(self.received, self._since or "", polls=polls)

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        more = [(b"Prefer", b"respond-async"), (b"Content-Length", b"0")]
        self._asked = self._begun(self._plan(cookies), more)
        self._answers.headers = self._first.headers
        return self._connect(self._asked)

    def _hello(self, line: Line) -> None:
        self._say(talk.request("POST", self._asked.target, self._asked.headers))

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        return self._answers.location is not None

    @property
    def response(self) -> Response | None:
        """The HTTP response that accepted or refused it: ``status``, ``headers``, ``content``."""
        return self._answers.opened

    @property
    def closed(self) -> bool:
        """Whether it is over, whoever ended it: a poll has said so, or the client left."""
        over = self._answers.over or self._left
        return over or ((self._polls or not self.accepted) and super().closed)

    @property
    def location(self) -> str | None:
        """Where it polls and posts, a path and a query; None until it is accepted."""
        return self._answers.location

    # ------------------------------------------------ polling

    def poll(self, wait: int = 0) -> list[Event]:
        """Poll, where that is left to the test; return what came, which may be expected, too.

        One that has to wait is answered as time passes: ``client.clock.advance(wait)``.
        """
        before = len(self.received)
        self._act("poll", lambda: self._poll(wait))
        return self.received[before:]

    async def apoll(self, wait: int = 0) -> list[Event]:
        """Async twin of `poll`."""
        before = len(self.received)
        await self._aact(lambda: self._poll(wait))
        return self.received[before:]

    def _poll(self, wait: int) -> None:
        if self._polls:
            raise RuntimeError("it polls by itself: longpoll(…, polls=False) leaves it to the test")
        if self._answers.waits:
            raise RuntimeError("a poll waits already, until something comes or its time is over")
        if not self.accepted or self.closed:
            self._fail("it is not open: there is nothing to poll")
        if self._line is None or self._line.ended:  # a gateway keeps no idle line for a minute
            self._line = self._connect(self._asked)
        self._say(self._answers.poll(wait))

    # ------------------------------------------------ the end

    def close(self) -> None:
        """Say that it leaves (DELETE); nothing happens where it is over already."""
        self._act("close", self._end)

    async def aclose(self) -> None:
        """Async twin of `close`."""
        await self._aact(self._end)

    def _goodbye(self) -> None:
        if self.accepted:
            exchange = self._ask("DELETE")
            self._answers.over = True
            exchange.begin()
        else:
            self._hang_up()
