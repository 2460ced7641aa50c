"""What the test's end of any connection has in common, whatever its protocol.

A protocol's client subclasses `Conversation`: it dials a `Line`, says how things are sent, and
makes `Event`s of what comes (see ``websocket.py``, ``stream.py``). Connecting, waiting, expecting,
outcomes, the end and the texts of failures stand here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self

from django_gateway.testing.story import report, short
from gateway.core.layers.base import Outcome
from gateway.testing.line import Line

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


class Event(NamedTuple):
    """Something that the peer was sent."""

    kind: str
    """"text", "bytes", "close", or "missed": more was missed than is kept."""
    value: Any
    """The text, the bytes, a close's code and reason."""
    id: str = ""
    """The id that it came with, where it is one of those that are kept."""
    name: str = ""
    """What an event stream calls it, if anything; the topic of a message of MQTT."""
    retry: int | None = None
    """What an event stream said with it: when to come back, in milliseconds."""

    def __str__(self) -> str:
        if self.kind == "close":
            code, reason = self.value
            return f"close {code}{f' {reason!r}' if reason else ''}"
        if self.kind == "missed":
            return "missed"
        words = [self.kind, short(self.value)]
        words += [
            f"{key}={value!r}" for key, value in (("name", self.name), ("id", self.id)) if value
        ]
        return " ".join(words)


def event_of(found: dict[str, Any]) -> Event | None:
    """Return what a message object says; None where that is a position, or nothing."""
    id_ = found.get("id", "")
    if "text" in found:
        return Event("text", found["text"], id_)
    if "bytes" in found:
        return Event("bytes", base64.b64decode(found["bytes"], validate=True), id_)
    if "close" in found:
        return Event("close", (found["close"], found.get("reason", "")), id_)
    return Event("missed", True, id_) if found.get("missed") else None


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANY: Final = _Anything()
"""Expect something of the kind, whatever it holds."""


class Conversation:
    """One connection of a `GatewayClient`; see the protocol's own class.

    It is connected by ``with`` (``async with``), whose end closes it unless it is closed already;
    or by `connect`. Every verb runs all that follows from it before it returns, and raises what a
    consumer raised; the twins with the prefix ``a`` are for tests that run on an event loop.
    """

    plugin: str
    """The plugin whose connections it is one of."""

    def __init__(self, client: GatewayClient, name: str, user: Any = None) -> None:
        self._client = client
        self._site = client.site
        self._name = name
        self._user = user
        self._line: Line | None = None
        self._address: tuple[str, int] | None = None
        """Whose messages are this connection's."""
        self._left = False
        self._expected = 0
        self.received: list[Event] = []
        """All that came, from the beginning."""

    # ------------------------------------------------ what a protocol does its own way

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        """Return a new connection to the gateway; ``cookies``: those of `user`, if one is given."""
        raise NotImplementedError

    def _hello(self, line: Line) -> None:
        """Say what a client says first."""

    def _goodbye(self) -> None:
        """Say what a client says last. The default hangs up."""
        self._hang_up()

    def _state(self) -> str:
        """Return what a failure says of the connection."""
        return ""

    # ------------------------------------------------ its life

    def __enter__(self) -> Self:
        self._client.check_sync("with")
        return self.connect()

    async def __aenter__(self) -> Self:
        return await self.aconnect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._act("close", self._end)
        else:
            self._hang_up()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self._aact(self._end)
        else:
            self._hang_up()

    def connect(self) -> Self:
        """Connect, and hear the decision."""
        self._client.check_sync("connect")
        cookies = None if self._user is None else self._client.cookies_of(self._user)
        self._act("connect", lambda: self._begin(cookies))
        return self

    async def aconnect(self) -> Self:
        """Async twin of `connect`."""
        cookies = None if self._user is None else await self._client.acookies_of(self._user)
        await self._aact(lambda: self._begin(cookies))
        return self

    def cut(self) -> None:
        """Vanish without a word, as a client does whose network is gone."""
        self._act("cut", self._hang_up)

    async def acut(self) -> None:
        """Async twin of `cut`."""
        await self._aact(self._hang_up)

    @property
    def closed(self) -> bool:
        """Whether it is over, whoever ended it."""
        return self._left or (self._line is not None and self._line.ended)

    @property
    def outcome(self) -> Outcome | None:
        """What became of the last message that a consumer had of this connection.

        Its ``kind`` is "accepted", "rejected", "failed", "unrouted" or "released", with ``code``,
        ``reason`` and ``cause``. None: no consumer had one.
        """
        return None if self._address is None else self._site.story.last_of(self._address)

    @property
    def waiting(self) -> list[Event]:
        """What came and was not yet expected."""
        return self.received[self._expected :]

    def _begin(self, cookies: SimpleCookie | None) -> None:
        if self._line is not None:
            raise RuntimeError(f"{self._name} was connected before: ask the client for another")
        self._line = line = self._dial(cookies)
        self._address = line.peer.client
        self._hello(line)

    def _end(self) -> None:
        if not self.closed:
            self._goodbye()

    def _say(self, data: bytes) -> None:
        line = self._line
        if line is not None and not line.is_closing():
            self._site.gateway.loop.call(line.send, data)

    def _hang_up(self) -> None:
        self._left = True
        line, loop = self._line, self._site.gateway.loop
        if line is not None and not line.is_closing() and not loop.closed:
            loop.call(line.cut)

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

    def receive(self) -> Event:
        """Return the next event, whatever it is: its ``kind``, ``value``, ``id`` and ``name``.

        AssertionError, at once, where nothing came.
        """
        found: Event = self._settled("receive", lambda: self._next("something"))
        return found

    async def areceive(self) -> Event:
        """Async twin of `receive`."""
        found: Event = await self._asettled(lambda: self._next("something"))
        return found

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

    def forget(self) -> None:
        """Let the next expectation begin with what comes from now on."""
        self._settled("forget", self._forget)

    async def aforget(self) -> None:
        """Async twin of `forget`."""
        await self._asettled(self._forget)

    def _forget(self) -> None:
        self._expected = len(self.received)

    def _next(self, wanted: str) -> Event:
        if self._expected == len(self.received):
            self._fail(f"expected {wanted}, and nothing came: nothing is left to do")
        event = self.received[self._expected]
        self._expected += 1
        return event

    def _expect(self, kind: str, value: Any) -> Any:
        wanted = kind if value is ANY else f"{kind} {wanted_as(value)}"
        event = self._next(wanted)
        if event.kind != kind or not fits(event.value, value):
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

    def _fail(self, sentence: str) -> NoReturn:
        cause = self._site.forget_failures()
        state = (
            "it is not connected: use it in a with block, or call connect()"
            if self._line is None
            else self._state()
        )
        text = report(
            f"{self._name}: {sentence}" + (f" ({state})" if state else ""),
            [
                ("it was sent", [str(event) for event in self.received]),
                *self._site.parts(),
            ],
        )
        raise AssertionError(text) from cause


def wanted_as(value: Any) -> str:
    """Return what an expected value is, in the words of a failure."""
    return f"like {value.pattern!r}" if isinstance(value, re.Pattern) else repr(value)


def fits(found: Any, value: Any) -> bool:
    """Return whether what came is what was expected."""
    if value is ANY:
        return True
    if isinstance(value, re.Pattern):
        return isinstance(found, str) and value.search(found) is not None
    return bool(found == value)
