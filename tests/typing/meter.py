"""A plugin as a careful author types it: clean under mypy's and pyright's strict rules.

::

    M 12 20.5\\n      the reading 20.5 of meter 12: OK 12, or NO 12
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    Accepted,
    Action,
    Close,
    Context,
    Emit,
    LineSession,
    Message,
    Outcome,
    Peer,
    ProtocolPlugin,
    Refusal,
    Session,
    Timer,
    Write,
    hookimpl,
)
from gateway.core.stream import StreamPlugin
from gateway.core.web import Claim, Exchange, Head
from gateway.testing import PluginSuite, Turn
from tests.plugins.sensor import messages


class Receive(TypedDict):
    """A meter tells its reading."""

    meter: Annotated[int, Meta(description="The meter.")]
    value: Annotated[float, Meta(description="The reading.")]


class Disconnect(TypedDict):
    """A meter is gone."""

    readings: Annotated[int, Meta(description="How many it told.")]


class Reply(TypedDict, total=False):
    """A text is a line of the meter's display."""

    text: Annotated[str, Meta(description="What to show.")]
    close: Annotated[bool | int, Meta(description="End the connection.")]


class Messages:
    """Both directions; mostly a module of its own."""

    KINDS: Mapping[str, Any] = {"receive": Receive, "disconnect": Disconnect}
    REPLY = Reply


class MeterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[meter]``."""

    listen: Annotated[str, Meta(description="Where meters connect.")] = "127.0.0.1:7001"
    patience: Annotated[float, Meta(description="Seconds of silence.")] = 60.0


class MeterSession(LineSession):
    """One meter."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.readings = 0

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Begin."""
        return [Accepted(), Timer("silence", self.patience)]

    def line(self, line: bytes) -> Iterable[Action]:
        """Take a reading."""
        match line.decode("ascii", "replace").split():
            case ["M", meter, value] if meter.isdecimal():
                try:
                    reading = Receive(meter=int(meter), value=float(value))
                except ValueError:
                    raise RemoteProtocolError("no number", b"WHAT\n") from None
                self.readings += 1
                yield Timer("silence", self.patience)
                yield Emit("receive", reading, token=meter)
            case _:
                raise RemoteProtocolError("no reading", b"WHAT\n")

    def outcome(self, token: str, outcome: Outcome) -> Iterable[Action]:
        """Say what became of it."""
        word = "OK" if outcome.kind == ACCEPTED else "NO"
        return [Write(f"{word} {token}\n".encode())]

    def refused(self, token: str, refusal: Refusal) -> Iterable[Action]:
        """Say that nothing did."""
        return [Write(f"NO {token}\n".encode())]

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Show a text."""
        if "text" in reply:
            if "\n" in reply["text"]:
                raise LocalProtocolError("a display has one line")
            yield Write(f"T {reply['text']}\n".encode())
        if reply.get("close"):
            yield Close()

    def timeout(self, name: str) -> Iterable[Action]:
        """Give up a silent one."""
        return (Close(b"BYE\n"),)

    def ended(self) -> Disconnect:
        """Tell how much it told."""
        return {"readings": self.readings}


class Named(StreamPlugin):
    """A plugin whose messages are a module, as usual."""

    name = "named"
    messages = messages

    def session(self, peer: Peer) -> Session:
        """Return one's session."""
        return MeterSession(1.0)


class Meter(StreamPlugin):
    """The plugin."""

    name = "meter"
    Config = MeterConfig
    messages = Messages()

    def __init__(self, config: MeterConfig, context: Context) -> None:
        super().__init__(config, context)
        self.patience = config.patience

    def session(self, peer: Peer) -> Session:
        """Return one's session."""
        return MeterSession(self.patience)

    async def start(self) -> None:
        """Tell where it listens, and start; one process of all keeps the books."""
        for endpoint in self.context.endpoints():
            self.context.log.info("meters connect at %s", endpoint.text)
        await super().start()
        self.context.spawn(self.keep_books())

    async def keep_books(self) -> None:
        """Do what one process alone does."""
        async with self.context.singleton("books") as held:
            self.context.count("books_total")
            await held.lost.wait()


def is_reading(head: Head) -> bool:
    """Return whether a request is for the meters."""
    return head.method == "GET" and head.path == "/meters/"


def answer(exchange: Exchange) -> None:
    """Answer it."""
    exchange.respond(200, [(b"content-type", b"text/plain")])
    exchange.end()


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin."""
    return Meter


@hookimpl
def gateway_http_claims(config: MeterConfig, context: Context) -> list[Claim]:
    """Claim requests for the meters."""
    return [Claim(is_reading, answer)]


class MeterSuite(PluginSuite):
    """What it sounds like."""

    plugin = Meter
    conversation = (
        Turn(b"M 1 20.5\n", ("receive", {"meter": 1, "value": 20.5}), answer=b"OK 1\n"),
        Turn(
            b"M 2 7\n", ("receive", {"meter": 2}), replies=[{"text": "ho"}], answer=b"T ho\nOK 2\n"
        ),
    )
    question = b"M 7 1\n"
    answers = {
        "accepted": b"OK 7\n",
        "rejected": b"NO 7\n",
        "failed": b"NO 7\n",
        "released": b"NO 7\n",
        "unrouted": b"NO 7\n",
    }
    full = b"NO 7\n"
    too_much = b"x" * 10_000
