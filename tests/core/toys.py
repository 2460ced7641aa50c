"""A small protocol for the engine's tests: what goes in is emitted, what comes is written."""

from __future__ import annotations

import types
from typing import Annotated, Any, TypedDict

import msgspec

from gateway.core import names
from gateway.core.config import GatewaySettings
from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import Outcome
from gateway.core.metrics import Metrics
from gateway.core.plugin import (
    Accepted,
    Close,
    Emit,
    Peer,
    ProtocolPlugin,
    Session,
    Write,
)
from gateway.testing.fakes import FakeEdge, FakeWire, ManualClock


class Text(TypedDict):
    text: str


class Ended(TypedDict, total=False):
    code: int
    reason: str


class Reply(TypedDict, total=False):
    text: str
    bytes: bytes
    accept: bool
    close: bool | int
    ack: int
    ack_channel: str
    password: Annotated[str, msgspec.Meta(max_length=4)]


class TalkReply(Reply, total=False):
    pin: Annotated[str, msgspec.Meta(pattern=names.PIN_PATTERN)]


REQUESTS = types.SimpleNamespace(KINDS={"request": Text, "disconnect": Text}, REPLY=Reply)
TALKS = types.SimpleNamespace(
    KINDS={"connect": Text, "receive": Text, "subscribe": Text, "disconnect": Ended},
    REPLY=TalkReply,
)


class Plugin(ProtocolPlugin):
    async def start(self):
        pass

    async def stop(self):
        pass


class Requests(Plugin):
    """No connect: open from the start, as http."""

    name = "ask"
    messages = REQUESTS
    reads = ("ask.out", "ask.out!")


class Talks(Plugin):
    """With connect: decided, registered, disconnected, as websocket."""

    name = "talk"
    messages = TALKS
    reads = ("talk.outgoing",)


class Recorder(Session):
    """Emits ``receive`` for input; writes replies; keeps what it hears. Scriptable.

    Input that is a list of actions is those actions; an exception is raised.
    """

    def __init__(self, first=(), kind="receive", frames=True):
        self.first = first
        self.kind = kind
        self.heard: list[Any] = []
        self.on_outcome: dict[Any, Any] = {}

    def opened(self, peer):
        return self.first

    def received(self, data):
        if isinstance(data, Exception):
            raise data
        if isinstance(data, list):
            return data
        return [Emit(self.kind, {"text": data}, data)]

    def ended(self):
        return {"code": 1006, "reason": ""}

    def send(self, conversation, reply, token):
        if reply.get("text") == "impossible":
            raise LocalProtocolError("no such thing")
        if reply.get("text") == "answerable":
            raise LocalProtocolError("no such thing", (Write("sorry"),))
        if reply.get("text") == "broken":
            raise RuntimeError("a bug")
        if reply.get("close"):
            return [Close(b"bye")]
        where = reply.get("text", reply.get("bytes"))
        return [Write(where if conversation is None else (conversation, where))]

    def outcome(self, token, outcome):
        self.heard.append((token, outcome.kind))
        return self.on_outcome.get(token, ())

    def refused(self, token, refusal):
        self.heard.append((token, refusal))
        return self.on_outcome.get(token, ())

    def timeout(self, name):
        self.heard.append(("timeout", name))
        return self.on_outcome.get(name, ())

    def draining(self, retry_after):
        self.heard.append(("draining", retry_after))
        return (Close(b"restart"),)

    @classmethod
    def frame(cls, reply):
        if reply.get("text") == "impossible":
            raise LocalProtocolError("no such thing")
        return ("frame", reply["text"]) if "text" in reply else None


CONNECT = [Emit("connect", {"text": "hi"}, "connect")]


class World:
    """An engine over fakes, and one connection of it."""

    def __init__(
        self,
        plugin=Requests,
        announced=("ask.request", "ask.disconnect"),
        config=None,
        protocols=(),
        **settings,
    ):
        self.clock = ManualClock()
        self.edge = FakeEdge(announced)
        self.metrics = Metrics()
        self.engine = self.edge.engine(
            self.clock,
            GatewaySettings(**settings),
            self.metrics,
            unavailable_timeout=30.0,
            protocols=protocols,
        )
        self.context = self.engine.context(plugin, config)
        self.kind = "request" if plugin is Requests else "receive"
        self.session = Recorder(CONNECT if plugin is Talks else (), self.kind)
        self.connection, self.wire = self.attach(self.session)

    def attach(self, session=None, peer=None):
        wire = FakeWire()
        session = session or Recorder(kind=self.kind)
        peer = peer or Peer(client=("192.0.2.1", 1234), server=("192.0.2.2", 80))
        return self.context.attach(session, wire, peer), wire

    @property
    def dropped(self):
        return self.metrics.dropped()

    def texts(self):
        """What was posted since the last look: channel and texts."""
        return [(p.channel, [m["text"] for m in p.messages]) for p in self.edge.take()]

    def nothing_left(self):
        """Assert that no trace of any connection is left."""
        engine = self.engine
        assert not engine.by_channel
        assert not engine.parting
        assert not engine.flow.flights
        assert not engine.flow.loose
        assert not engine.flow.parked
        assert not len(engine.groups)
        assert self.context.open == 0
        self.clock.advance(60)
        assert not engine.flow.full
        assert not len(engine.deadlines)


def talking(accept=True, **settings):
    """A connection that was accepted by a consumer."""
    channels = ("talk.connect", "talk.receive", "talk.disconnect")
    world = World(Talks, channels, **settings)
    if accept:
        world.session.on_outcome["connect"] = [Accepted(), Write("welcome")]
        [post] = world.edge.take()
        world.edge.settle(post, Outcome("accepted"))
    return world
