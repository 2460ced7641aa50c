"""A plugin of datagrams under `PluginSuite`."""

from __future__ import annotations

import types
from typing import Annotated, ClassVar, TypedDict

import msgspec
from msgspec import Meta

from gateway.core.datagram import DatagramPlugin
from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import Accepted, Close, Emit, Session, Write
from gateway.testing import PluginSuite, Turn


class Receive(TypedDict):
    text: str


class Disconnect(TypedDict):
    asked: int


class Reply(TypedDict, total=False):
    bytes: bytes
    close: bool
    ack: int
    ack_channel: str


class Asks(Session):
    """``? text`` asks; what became of it is the answer."""

    def __init__(self):
        self.asked = 0

    def opened(self, peer):
        return [Accepted()]

    def received(self, data):
        if not data.startswith(b"? ") or len(data) > 100:
            raise RemoteProtocolError("no question", b"what?")
        self.asked += 1
        return [Emit("receive", {"text": data[2:].decode("utf-8", "replace")}, data[2:])]

    def outcome(self, token, outcome):
        return [Write(token + b" " + outcome.kind.encode())]

    def refused(self, token, refusal):
        return [Write(token + b" " + refusal.value.encode())]

    def send(self, conversation, reply, token):
        if "bytes" in reply:
            yield Write(reply["bytes"])
        if reply.get("close"):
            yield Close()

    def ended(self):
        return {"asked": self.asked}


class AskConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[str, Meta(description="Where.")] = "udp:127.0.0.1:7000"


class Ask(DatagramPlugin):
    name = "ask"
    Config = AskConfig
    messages = types.SimpleNamespace(
        KINDS={"receive": Receive, "disconnect": Disconnect}, REPLY=Reply
    )

    def session(self, peer):
        return Asks()


class TestAsk(PluginSuite):
    """Over UDP on loopback, in virtual time."""

    plugin = Ask
    cuttable = False
    conversation = (
        Turn(b"? a", ("receive", {"text": "a"}), answer=b"a accepted"),
        Turn(
            b"? b", ("receive", {"text": "b"}), replies=[{"bytes": b"hm"}], answer=b"hmb accepted"
        ),
    )
    question = b"? q"
    answers: ClassVar = {
        kind: b"q " + kind.encode()
        for kind in ("accepted", "rejected", "failed", "released", "unrouted")
    }
    full = b"q full"
    unavailable = b"q unavailable"
    too_much = b"? " + b"x" * 5000
    too_much_answer = b"what?"
