"""The session with one broker, as messages of the application. Pure: no socket, no clock.

It outlives every connection to the broker: a conversation is one topic of the session, and what
a consumer has in hand when the connection is lost is acknowledged by the next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Accepted,
    Action,
    Again,
    Close,
    Done,
    Emit,
    Forget,
    LocalProtocolError,
    Message,
    Outcome,
    Peer,
    Refusal,
    Session,
    Write,
)
from gateway.plugins.mqtt import reasons
from gateway.plugins.mqtt.client.arrivals import Arrival, Arrivals
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.places import place
from gateway.plugins.mqtt.client.terms import (
    SKIPPED,
    Arrived,
    Down,
    Publish,
    Published,
    Reading,
    Subscribed,
    Up,
)
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.topics import matches, topic_fault

LONGEST: Final = 60.0
"""Seconds between two attempts at most: an operator who repairs something watches that long."""
NEVER_RAN: Final = frozenset(("no_worker", "unavailable", "full"))
"""Causes of an outcome that no consumer had a part in: it is waited, and no attempt is lost."""


class Dead:
    """An arrival that was given up, on its way to ``mqtt.failed``."""

    __slots__ = ("arrival",)

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival


class BrokerSession(Session):
    """``name`` is the broker's, ``default`` whether it is the one of `mqtt.publish`."""

    acknowledges: ClassVar[bool] = True
    drains_itself: ClassVar[bool] = True

    def __init__(
        self, name: str, broker: Broker, config: MqttConfig, client_id: str, *, default: bool
    ) -> None:
        self.name = name
        self.client_id = client_id
        self._broker = broker
        self._config = config
        self._label = "" if default else name
        self._arrivals = Arrivals(once=broker.qos == 2)
        self._filters: frozenset[str] = frozenset()
        self._busy: dict[str, int] = {}
        """How many of each topic are not done."""
        self._idle: OrderedDict[str, None] = OrderedDict()
        """The topics of which nothing is in hand, the longest silent first."""
        self._reading = True
        self._up = False
        self._draining = False

    def opened(self, peer: Peer) -> Iterator[Action]:
        """Begin: there is nobody to be asked."""
        yield Accepted(registered=False)

    # ------------------------------------------------ what the broker says

    def received(self, data: Any) -> Iterator[Action]:
        """Take what happened: one of `gateway.plugins.mqtt.client.terms`."""
        kind = data.__class__
        if kind is Arrived:
            yield from self._arrived(data)
        elif kind is Published:
            yield Done(data.token, _outcome(data))
        elif kind is Subscribed:
            self._filters = data.filters
        elif kind is Up:
            self._up = self._reading = True
            self._arrivals.up(resumed=data.resumed)
        elif kind is Down:
            self._up = False
            self._arrivals.down()
            yield from self._parted()

    def _arrived(self, arrived: Arrived) -> Iterator[Action]:
        if self._draining:
            return  # unacknowledged, it comes again to who is there next
        message = arrived.message
        topic = message["topic"]
        token = None
        if arrived.qos:
            token = self._arrivals.take(
                message, arrived.packet_id, arrived.qos, duplicate=arrived.duplicate
            )
            if token is None:
                yield Write(SKIPPED)
                yield from self._acknowledge()
                return
            self._busy[topic] = self._busy.get(topic, 0) + 1
            self._idle.pop(topic, None)
        else:
            yield from self._rest(topic)
        yield Emit("receive", message, token, topic, reply_channel=self._place(message))
        if (
            self._broker.version != "5"  # whose broker knows it as its Receive Maximum
            and self._reading
            and len(self._arrivals) >= self._broker.receive_maximum
        ):
            self._reading = False
            yield Write(Reading(on=False))

    def _rest(self, topic: str) -> Iterator[Action]:
        """Note that nothing of a topic is in hand; forget the one that rests longest."""
        if topic not in self._busy:
            self._idle[topic] = None
            self._idle.move_to_end(topic)
            if len(self._idle) > self._broker.max_topics:
                yield Forget(self._idle.popitem(last=False)[0])

    def _place(self, message: Message) -> str | None:
        """Return where a message is answered; None: in its conversation, as it is too long."""
        topic, correlation = self._answer_to(message)
        if correlation is not None:
            return place(self.name, topic, correlation)
        return place(self._label, topic)

    def _answer_to(self, message: Message) -> tuple[str, bytes | None]:
        """Return the topic of an answer, and the correlation data that it carries."""
        asked = message.get("response_topic")
        if asked is None or not any(matches(f, asked) for f in self._broker.reply_topics):
            asked = self._config.reply_topic.replace("{topic}", message["topic"]).replace(
                "{client_id}", self.client_id
            )
        return asked, message.get("correlation_data")

    # ------------------------------------------------ what consumers make of it

    def outcome(self, token: Any, outcome: Outcome) -> Iterator[Action]:
        """Acknowledge what is done with, in its turn; hand in again what is not."""
        if token.__class__ is Dead:
            yield from self._buried(token.arrival, outcome)
        elif outcome.kind == ACCEPTED:
            yield from self._finished(token)
        elif outcome.kind == REJECTED:
            code = reasons.NOT_AUTHORIZED if outcome.code is None else outcome.code
            foreign = code not in reasons.OF_PUBACK
            yield from self._finished(token, reasons.NOT_AUTHORIZED if foreign else code, foreign)
        elif outcome.kind == UNROUTED and not self._is_wanted(token.topic):
            yield from self._finished(token)  # of a subscription that there was once
        elif outcome.kind == RELEASED and outcome.cause in NEVER_RAN:
            token.waits += 1
            yield self._again(token, token.waits)
        else:
            yield from self._failed(token, outcome)

    def refused(self, token: Any, refusal: Refusal) -> Iterator[Action]:
        """Wait for room; acknowledge what can never be handed in."""
        if refusal is Refusal.DRAINING:
            return iter(())  # it comes again to who is there next
        if refusal in {Refusal.TOO_BIG, Refusal.BROKEN} and token.__class__ is Arrival:
            return self._finished(token, reasons.QUOTA_EXCEEDED)
        return self.outcome(token, Outcome(RELEASED, cause=refusal.value))

    def _is_wanted(self, topic: str) -> bool:
        return any(matches(found, topic) for found in self._filters)

    def _finished(self, arrival: Arrival, code: int = 0, foreign: bool = False) -> Iterator[Action]:
        self._arrivals.finish(arrival, code, foreign=foreign)
        left = self._busy[arrival.topic] - 1
        if left:
            self._busy[arrival.topic] = left
        else:
            del self._busy[arrival.topic]
            yield from self._rest(arrival.topic)
        yield from self._acknowledge()
        yield from self._parted()

    def _acknowledge(self) -> Iterator[Action]:
        if self._up:
            for found in self._arrivals.acknowledged():
                yield Write(found)
            if not self._reading and len(self._arrivals) <= self._broker.receive_maximum >> 1:
                self._reading = True
                yield Write(Reading(on=True))

    def _again(self, arrival: Arrival, times: int) -> Again:
        seconds = min(self._config.retry_wait * 2.0 ** min(times - 1, 10), LONGEST)
        return Again("receive", arrival.message, arrival, arrival.topic, seconds)

    def _failed(self, arrival: Arrival, outcome: Outcome) -> Iterator[Action]:
        arrival.tries += 1
        message = arrival.message
        if arrival.tries < self._config.attempts:
            message["attempt"] = arrival.tries + 1
            message["duplicate"] = True
            yield self._again(arrival, arrival.tries)
        elif self._config.on_failure == "dead_letter":
            reason = outcome.reason or outcome.cause or outcome.kind
            yield Emit("failed", {**message, "reason": reason}, Dead(arrival))
        else:
            yield Close()

    def _buried(self, arrival: Arrival, outcome: Outcome) -> Iterator[Action]:
        """Acknowledge what a consumer of ``mqtt.failed`` has taken; keep it where none has."""
        if outcome.kind in {ACCEPTED, REJECTED}:
            yield from self._finished(arrival)
        else:
            yield Close()

    # ------------------------------------------------ what the application says

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterator[Action]:
        """Publish."""
        if "text" not in reply and "bytes" not in reply:
            raise LocalProtocolError(
                "nothing to publish: it needs 'text' or 'bytes', which may be empty"
            )
        topic = reply.get("topic")
        correlation = reply.get("correlation_data")
        if topic is None:
            if conversation is None:
                raise LocalProtocolError("a publish needs a 'topic'")
            arrival = self._arrivals.first_of(conversation)
            asked = {"topic": conversation} if arrival is None else arrival.message
            topic, given = self._answer_to(asked)
            correlation = given if correlation is None else correlation
        self._check(topic)
        if (wrong := reply.get("response_topic")) and (fault := topic_fault(wrong)):
            raise LocalProtocolError(f"'response_topic' is {fault}")
        text = reply.get("text")
        yield Write(
            Publish(
                topic,
                reply["bytes"] if text is None else text.encode(),
                reply.get("qos", 0),
                reply.get("retain", False),
                reply.get("expiry"),
                text is not None,
                reply.get("content_type"),
                reply.get("response_topic"),
                correlation,
                tuple(map(tuple, reply.get("user_properties", ()))),
                token,
            )
        )

    def _check(self, topic: str) -> None:
        """Raise LocalProtocolError where nothing may be published to a topic."""
        broker = self._broker
        if fault := topic_fault(topic):
            raise LocalProtocolError(f"'topic' is {fault}")
        if len(topic.encode()) > 65_535:
            raise LocalProtocolError("'topic' is over 65535 bytes")
        if broker.publish and not any(matches(found, topic) for found in broker.publish):
            raise LocalProtocolError(
                f"'topic' is outside of what mqtt.brokers.{self.name}.publish allows"
            )
        if broker.hears_itself and not broker.allow_loop and self._is_wanted(topic):
            raise LocalProtocolError(
                "'topic' is subscribed to, and the broker would send it back; if that is wanted, "
                f"set mqtt.brokers.{self.name}.allow_loop"
            )

    # ------------------------------------------------ the end

    def draining(self, retry_after: float) -> Iterator[Action]:
        """Take nothing more; end once what is in hand is acknowledged."""
        self._draining = True
        yield from self._parted()

    def _parted(self) -> Iterator[Action]:
        if self._draining and not (self._up and self._arrivals.in_hand):
            yield Close()

    def ended(self) -> Mapping[str, Any]:
        """Return nothing: what ends is told by the connections (`Joined`)."""
        return {}


class Joined(Session):
    """One connection to a broker, as the application hears of it: a connect and a disconnect.

    ``connect`` is the content of the connect message.
    """

    acknowledges: ClassVar[bool] = True
    drains_itself: ClassVar[bool] = True

    def __init__(self, session: BrokerSession, connect: Message) -> None:
        self._session = session
        self._connect = connect
        self.code = reasons.UNSPECIFIED
        """The reason code of its end."""
        self.reason = ""

    def opened(self, peer: Peer) -> Iterator[Action]:
        """Tell of it: it is a fact, and nobody is asked."""
        yield Emit("connect", self._connect)
        yield Accepted()

    def received(self, data: Any) -> Iterator[Action]:
        """Hear what became of a publish; what comes is the session's."""
        yield Done(data.token, _outcome(data))

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterator[Action]:
        """Publish."""
        return self._session.send(None, reply, token)

    def draining(self, retry_after: float) -> Iterator[Action]:
        """Stay as long as the session needs it."""
        return iter(())

    def ended(self) -> Mapping[str, Any]:
        """Return what the disconnect says."""
        found = {"client_id": self._session.client_id, "broker": self._session.name}
        return {**found, "code": self.code, "reason": self.reason}


def _outcome(published: Published) -> Outcome:
    if published.cause:
        return Outcome(FAILED, reason="it never came to the broker", cause=published.cause)
    if published.code >= reasons.ERROR:
        return Outcome(REJECTED, published.code, "the broker refused it")
    return OK
