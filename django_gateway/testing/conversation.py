"""What the test's end of any connection has in common, whatever its protocol.

A protocol's client subclasses `Conversation`: it connects a `Line`, says how things are sent, and
makes `Event`s of what comes. Waiting, expecting, outcomes and the texts of failures stand here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from django_gateway.testing.story import report, short
from gateway.core.layers.base import Outcome

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


class Event(NamedTuple):
    """Something that the peer was sent: ``kind`` is "text", "bytes" or "close"."""

    kind: str
    value: Any

    def __str__(self) -> str:
        if self.kind == "close":
            code, reason = self.value
            return f"close {code}{f' {reason!r}' if reason else ''}"
        return f"{self.kind} {short(self.value)}"


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANY: Final = _Anything()
"""Expect something of the kind, whatever it holds."""


class Conversation:
    """One connection of a `GatewayClient`; see the protocol's own class.

    Every verb runs all that follows from it before it returns, and raises what a consumer
    raised; the twins with the prefix ``a`` are for tests that run on an event loop.
    """

    def __init__(self, client: GatewayClient, name: str) -> None:
        self._client = client
        self._site = client.site
        self._name = name
        self.received: list[Event] = []
        """All that came, from the beginning."""
        self._expected = 0

    def _peer(self) -> tuple[str, int] | None:
        """Return the address that the application sees; None before it is connected."""
        raise NotImplementedError

    @property
    def outcome(self) -> Outcome | None:
        """What became of the last message that a consumer had of this connection.

        Its ``kind`` is "accepted", "rejected", "failed", "unrouted" or "released", with ``code``,
        ``reason`` and ``cause``. None: no consumer had one.
        """
        peer = self._peer()
        return None if peer is None else self._site.story.last_of(peer)

    @property
    def waiting(self) -> list[Event]:
        """What came and was not yet expected."""
        return self.received[self._expected :]

    # ------------------------------------------------ running

    def _act(self, verb: str, action: Callable[[], None]) -> None:
        self._client.run(verb, action)

    async def _aact(self, action: Callable[[], None]) -> None:
        await self._client.arun(action)

    def _settled(self, verb: str, expect: Callable[[], Any]) -> Any:
        self._client.run(verb)
        return expect()

    async def _asettled(self, expect: Callable[[], Any]) -> Any:
        await self._client.arun()
        return expect()

    # ------------------------------------------------ expecting

    def expect(self, kind: str, value: Any = ANY) -> Any:
        """Return the value of the next event, which is of ``kind`` and equals ``value``.

        A compiled regular expression is searched in a text. AssertionError, at once, where
        something else came, or nothing: all that the application had to do was done.
        """
        return self._settled("expect", lambda: self._expect(kind, value))

    async def aexpect(self, kind: str, value: Any = ANY) -> Any:
        """Async twin of `expect`."""
        return await self._asettled(lambda: self._expect(kind, value))

    def expect_text(self, text: Any = ANY) -> str:
        """Return the text that comes next. See `expect`."""
        return str(self._settled("expect_text", lambda: self._expect("text", text)))

    async def aexpect_text(self, text: Any = ANY) -> str:
        """Async twin of `expect_text`."""
        return str(await self.aexpect("text", text))

    def expect_bytes(self, data: Any = ANY) -> bytes:
        """Return the bytes that come next. See `expect`."""
        return bytes(self._settled("expect_bytes", lambda: self._expect("bytes", data)))

    async def aexpect_bytes(self, data: Any = ANY) -> bytes:
        """Async twin of `expect_bytes`."""
        return bytes(await self.aexpect("bytes", data))

    def expect_json(self, value: Any = ANY) -> Any:
        """Return what the text that comes next holds as JSON. See `expect`."""
        return self._settled("expect_json", lambda: self._expect_json(value))

    async def aexpect_json(self, value: Any = ANY) -> Any:
        """Async twin of `expect_json`."""
        return await self._asettled(lambda: self._expect_json(value))

    def expect_nothing(self) -> None:
        """Check that nothing more came."""
        self._settled("expect_nothing", self._expect_nothing)

    async def aexpect_nothing(self) -> None:
        """Async twin of `expect_nothing`."""
        await self._asettled(self._expect_nothing)

    def _next(self, wanted: str) -> Event:
        if self._expected == len(self.received):
            self._fail(f"expected {wanted}, and nothing came: nothing is left to do")
        event = self.received[self._expected]
        self._expected += 1
        return event

    def _expect(self, kind: str, value: Any) -> Any:
        wanted = kind if value is ANY else f"{kind} {_wanted(value)}"
        event = self._next(wanted)
        if event.kind != kind or not _fits(event.value, value):
            self._fail(f"expected {wanted}, got {event}")
        return event.value

    def _expect_json(self, value: Any) -> Any:
        wanted = "JSON" if value is ANY else f"JSON {value!r}"
        event = self._next(wanted)
        try:
            found = json.loads(event.value) if event.kind == "text" else ANY
        except ValueError:
            found = ANY
        if found is ANY or (value is not ANY and found != value):
            self._fail(f"expected {wanted}, got {event}")
        return found

    def _expect_nothing(self) -> None:
        if self.waiting:
            self._fail(f"expected nothing more, got {self.waiting[0]}")

    def _state(self) -> str:
        """Return what a failure says of the connection."""
        return ""

    def _fail(self, sentence: str) -> NoReturn:
        cause = self._site.forget_failures()
        state = self._state()
        text = report(
            f"{self._name}: {sentence}" + (f" ({state})" if state else ""),
            [
                ("it was sent", [str(event) for event in self.received]),
                *self._site.parts(),
            ],
        )
        raise AssertionError(text) from cause


def _wanted(value: Any) -> str:
    return f"like {value.pattern!r}" if isinstance(value, re.Pattern) else repr(value)


def _fits(found: Any, value: Any) -> bool:
    if value is ANY:
        return True
    if isinstance(value, re.Pattern):
        return isinstance(found, str) and value.search(found) is not None
    return bool(found == value)
