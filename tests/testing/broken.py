"""Sensors, each broken in one way, and which checks of `PluginSuite` are to find it."""

from __future__ import annotations

import asyncio
import types
from typing import Annotated, Any, ClassVar, TypedDict

import msgspec
from msgspec import Meta

from gateway.core.bridge import Bridge
from gateway.core.layers import codec
from gateway.core.layers.base import RELEASED
from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    REJECTED,
    UNROUTED,
    Accepted,
    Close,
    Emit,
    Refusal,
    Write,
)
from gateway.core.stream import StreamProtocol
from tests.plugins.sensor import Sensor, messages
from tests.plugins.sensor.test_sensor import TestSensor
from tests.plugins.sensor.translate import CONNECT, SensorSession

QUESTION = 7
"""The number of the suite's question."""

CASES: list[Any] = []


def finds(*checks: str):
    """Have a broken session, plugin or suite found by these checks, and by no other."""

    def keep(broken):
        if issubclass(broken, SensorSession):
            made = broken
            plugin = type("Broken", (Sensor,), {"session": lambda self, peer: made()})
            suite = type(broken.__name__, (TestSensor,), {"plugin": plugin})
        elif issubclass(broken, Sensor):
            suite = type(broken.__name__, (TestSensor,), {"plugin": broken})
        else:
            suite = broken
        suite.__doc__ = broken.__doc__
        CASES.append((suite, set(checks)))
        return broken

    return keep


# ---------------------------------------------------------------- what is said


@finds(
    "conversation",
    "pieces",
    "any cutting",
    "messages fit their schemas",
    "replies fit their schema",
    "client leaves",
    "client vanishes",
    "metrics",
)
class SaysSomethingElse(SensorSession):
    """To nonsense it says another word."""

    def line(self, line):
        return [Write(b"PARDON\n")] if line == b"nonsense" else super().line(line)


@finds("pieces", "any cutting")
class LosesLoneEndings(SensorSession):
    """A line ending that comes alone is lost."""

    def received(self, data):
        return () if data == b"\n" else super().received(data)


@finds("pipelined")
class LosesTheFourth(SensorSession):
    """Of a piece it reads three lines."""

    def received(self, data):
        return super().received(
            b"\n".join(data.split(b"\n")[:3]) + b"\n" if data.count(b"\n") > 3 else data
        )


@finds("messages fit their schemas")
class SaysMoreThanItsSchema(SensorSession):
    """Its readings have a key that no schema has."""

    def line(self, line):
        for action in super().line(line):
            if isinstance(action, Emit):
                action.message["unit"] = "°C"
            yield action


@finds("messages fit their schemas")
class LiesAboutTypes(SensorSession):
    """Its readings have text for a number."""

    def line(self, line):
        for action in super().line(line):
            if isinstance(action, Emit) and action.message["seq"] == 2:
                action.message["seq"] = 2.0
            yield action


class Mute(TypedDict, total=False):
    close: bool | int
    accept: bool


@finds(
    "conversation",
    "pieces",
    "any cutting",
    "messages fit their schemas",
    "replies fit their schema",
    "group",
    "client leaves",
    "client vanishes",
    "slow client",
    "metrics",
)
class UnderstandsNoText(Sensor):
    """Its REPLY has no text, which its conversation shows."""

    messages = types.SimpleNamespace(KINDS=messages.KINDS, REPLY=Mute)


def wrong(kind):
    class Wrong(SensorSession):
        def outcome(self, token, outcome):
            if token == QUESTION and outcome.kind == kind:
                return [Write(b"HM 7\n")]
            return super().outcome(token, outcome)

    Wrong.__name__ = f"Wrong{kind.title()}"
    Wrong.__doc__ = f"To its question, {kind}, it says another word."
    return Wrong


for kind, more in (
    (
        ACCEPTED,
        (
            "full layer",
            "layer lost and back",
            "slow client",
            "fast client",
            "too much input",
            "garbage",
            "replies that break the schema",
            "replies that cannot be said",
            "drain in the middle",
        ),
    ),
    (REJECTED, ()),
    (FAILED, ()),
    (RELEASED, ()),
    (UNROUTED, ("nobody routes it",)),
):
    finds(kind, *more)(wrong(kind))


@finds("nobody routes it")
class KnowsNoUnannounced(SensorSession):
    """It says another word where nobody was there to say unrouted."""

    def outcome(self, token, outcome):
        if outcome.kind == UNROUTED and outcome.cause:
            return [Write(b"LATER 7\n")]
        return super().outcome(token, outcome)


@finds("group")
class FramesDifferently(SensorSession):
    """Its frame is not what it sends."""

    @classmethod
    def frame(cls, reply):
        return b"G" + (super().frame(reply) or b"\n")


@finds("ack")
class NeverDone(SensorSession):
    """It promises to say when a reply is done, and does not."""

    acknowledges = True


# ---------------------------------------------------------------- how it ends


@finds("client leaves", "layer lost and back")
class DisconnectsTwice(SensorSession):
    """It says a disconnect of its own."""

    def eof(self):
        return [Emit("disconnect", {"reason": "peer"}), Close()]


@finds(
    "group",
    "closed by a reply",
    "drain in the middle",
    "drain while idle",
    "layer lost and back",
    "slow client",
)
class NeverAccepts(SensorSession):
    """It greets, and tells the core nothing."""

    def outcome(self, token, outcome):
        return [a for a in super().outcome(token, outcome) if not isinstance(a, Accepted)]


@finds("connect is refused")
class AcceptsTheRefused(SensorSession):
    """It accepts whom the application refuses, and closes then."""

    def outcome(self, token, outcome):
        actions = list(super().outcome(token, outcome))
        return [Accepted(), *actions] if token == CONNECT else actions


@finds("connect is refused")
class KeepsTheRefused(SensorSession):
    """It closes nobody who is refused."""

    def outcome(self, token, outcome):
        if token == CONNECT and outcome.kind == REJECTED:
            return [Write(b"BYE\n")]
        return super().outcome(token, outcome)


@finds("closed by a reply")
class ClosesNobody(SensorSession):
    """It does not heed close."""

    def send(self, conversation, reply, token):
        return [a for a in super().send(conversation, reply, token) if not isinstance(a, Close)]


class Asked(SensorSession):
    asked = False

    def line(self, line):
        self.asked = True
        return super().line(line)


@finds("drain in the middle")
class StaysWhereAsked(Asked):
    """At a shutdown it does not end who has asked something."""

    def draining(self, retry_after):
        return () if self.asked else super().draining(retry_after)


@finds("drain while idle")
class StaysWhereIdle(Asked):
    """At a shutdown it does not end who has asked nothing."""

    def draining(self, retry_after):
        return super().draining(retry_after) if self.asked else ()


@finds("nothing is left")
class RemembersEverybody(Sensor):
    """It keeps every session."""

    kept: Any = None

    def session(self, peer):
        self.kept = self.kept or []
        self.kept.append(SensorSession())
        return self.kept[-1]


@finds("nothing is left")
class LeavesTasks(Sensor):
    """It has a task for each connection, which lasts."""

    def session(self, peer):
        self.context.spawn(asyncio.sleep(1e6))
        return super().session(peer)


@finds("nothing is left")
class LeavesTimers(Sensor):
    """It has a timer for each connection, which lasts."""

    def session(self, peer):
        self.context.loop.call_later(1e6, print)
        return super().session(peer)


@finds(
    "pieces",
    "any cutting",
    "client vanishes",
    "client leaves unanswered",
    "nothing is left",
    "garbage",
    "any garbage",
    "replies that cannot be said",
    "metrics",
)
class LeavesConnections(Sensor):
    """Its transport does not say that a connection was cut off."""

    def serve(self, arrived):
        class Deaf(StreamProtocol):
            def connectionLost(self, reason=None):
                if self._closing or self._ended:
                    super().connectionLost(reason)

            def readConnectionLost(self):
                self._ended = True
                super().readConnectionLost()

        return Bridge(Deaf(self, arrived))


# ---------------------------------------------------------------- too much


def refusing(refusal):
    class Wrong(SensorSession):
        def refused(self, token, found):
            return [Write(b"HM 7\n")] if found is refusal else super().refused(token, found)

    Wrong.__name__ = f"WrongWhere{refusal.name.title()}"
    Wrong.__doc__ = f"It says another word where a question is refused: {refusal.name}."
    return Wrong


finds("full layer")(refusing(Refusal.FULL))
finds("layer lost and back")(refusing(Refusal.UNAVAILABLE))


@finds("slow client")
class WritesOn(Sensor):
    """Its transport does not say that the client reads no further."""

    def serve(self, arrived):
        class Deaf(StreamProtocol):
            def pauseProducing(self):
                pass

        return Bridge(Deaf(self, arrived))


@finds("fast client")
class ReadsOn(Sensor):
    """Its transport reads on, whatever the core says."""

    def serve(self, arrived):
        class Deaf(StreamProtocol):
            def pause(self):
                pass

        return Bridge(Deaf(self, arrived))


@finds("too much input")
class SilentAboutTooMuch(SensorSession):
    """To much too long a line it says nothing."""

    def received(self, data):
        return () if len(data) > 500 else super().received(data)


# ---------------------------------------------------------------- nonsense


@finds("garbage", "any garbage")
class TrustsItsPeer(SensorSession):
    """It takes every line for ASCII."""

    def line(self, line):
        line.decode("ascii")
        return super().line(line)


@finds("replies that cannot be said")
class TrustsTheApplication(SensorSession):
    """It raises an error of its own for what it cannot say."""

    def send(self, conversation, reply, token):
        if "\n" in reply.get("text", ""):
            raise ValueError("a line of text has no line ending")
        return super().send(conversation, reply, token)


@finds("replies that break the schema")
class ChecksNoReply(Sensor):
    """It has the core check no reply."""

    def __init__(self, config, context):
        super().__init__(config, context)
        context.reader = types.SimpleNamespace(read=codec.decode)


# ---------------------------------------------------------------- its life


@finds("start stop start")
class ListensForever(Sensor):
    """It does not stop listening."""

    left: ClassVar[list[Any]] = []

    async def stop(self):
        self.left += self._acceptors
        self._acceptors = []
        await super().stop()


@finds("failed start")
class StartsInAnyCase(Sensor):
    """It starts, although it cannot listen."""

    async def start(self):
        try:
            await super().start()
        except Exception:
            self.context.log.exception("well")


@finds("failed start")
class FailsWithoutAWord(Sensor):
    """Its failed start does not say what is wrong."""

    async def start(self):
        try:
            await super().start()
        except Exception:
            raise RuntimeError("cannot start") from None


@finds("metrics")
class CountsByAnotherName(Sensor):
    """It has a metric that is not named after it."""

    def session(self, peer):
        self.context.engine.metrics.count("readings_total")
        return super().session(peer)


@finds("health")
class Unwell(Sensor):
    """It says that it is not well."""

    def health(self):
        return {"ok": False}


@finds("settings are described")
class Unwritten(Sensor):
    """It has a setting without a description."""

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        listen: Annotated[str, Meta(description="Where.")] = "127.0.0.1:7000"
        unit: str = "C"


class UnwrittenSuite(TestSensor):
    """It has a setting without a description."""

    plugin = Unwritten
    config = Unwritten.Config()


CASES[-1] = (UnwrittenSuite, CASES[-1][1])
