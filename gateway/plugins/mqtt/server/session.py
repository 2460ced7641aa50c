"""One connection of a device, from its CONNECT to its end. Pure.

::

    NEW ──CONNECT──► PENDING ──accepted──► CLAIMING ──the session is ours──► OPEN ──► CLOSED
     └─────────────────┴──refused: CONNACK, end──────────────────────────────────────► │

``received`` takes the packets of `gateway.plugins.mqtt.codec`. ``Write`` carries bytes, or a
`Claim`: the transport gets the session of MQTT for that client id, from wherever it is, and
answers by ``begin``. What the application or the device says before that waits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    Accepted,
    Action,
    Close,
    Done,
    Drop,
    Emit,
    Message,
    Outcome,
    Refusal,
    Session,
    Summary,
    Timer,
    Write,
)
from gateway.plugins.mqtt import codec, reasons, translate
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import (
    NOTHING,
    PINGREQ,
    V5,
    V311,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Fault,
    Packet,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
)
from gateway.plugins.mqtt.server import answers, hello
from gateway.plugins.mqtt.server.aliases import BadAlias, Heard
from gateway.plugins.mqtt.server.device import Device, Line
from gateway.plugins.mqtt.server.house import Claim, House
from gateway.plugins.mqtt.server.inbound import Failed, Inbound, Incoming
from gateway.plugins.mqtt.server.proof import METHOD, PROVING, Proof, Step, Unproven
from gateway.plugins.mqtt.server.requests import Asked, Requests

CONNECT: Final = "connect"
"""The token of the connect."""
DECISION: Final = "decision"
ALIVE: Final = "alive"
ASKED: Final = "asked"
"""Timers."""
EARLY: Final = 256
"""Packets that may wait for the decision: more than a client sends before it was let in."""
SILENCES: Final = 3
"""Halves of the keep alive without a sign: "one and a half times" (section 3.1.2.10)."""


class State(enum.Enum):
    """Where a connection stands."""

    NEW = "new"
    PENDING = "pending"
    CLAIMING = "claiming"
    OPEN = "open"
    CLOSED = "closed"


NEW, PENDING, CLAIMING, OPEN, CLOSED = State


class MqttSession(Session):
    """One connection of a device."""

    __slots__ = (
        "_aliases",
        "_assigned",
        "_code",
        "_config",
        "_early",
        "_hello",
        "_house",
        "_inbound",
        "_keepalive",
        "_late",
        "_proof",
        "_reason",
        "_requests",
        "_silent",
        "client_id",
        "device",
        "excused",
        "line",
        "protocol",
        "state",
        "will",
    )

    acknowledges = True
    heeds_late = True
    """What was accepted is relayed, although its device has left meanwhile."""

    def __init__(self, config: MqttConfig, house: House) -> None:
        self._config = config
        self._house = house
        self.state = NEW
        self.client_id = ""
        self.protocol = V311
        self.device: Device | None = None
        self.line: Line | None = None
        """How the transport sends for the device; set by it before ``begin``."""
        self.will: Will | None = None
        """What is published unless the device leaves as it should."""
        self.excused: Callable[[], bool] = bool
        """Whether the transport reads nothing now, so that silence says nothing; set by it."""
        self._hello: Connect | None = None
        self._assigned = False
        self._keepalive = 0
        self._silent = 0
        self._early: list[Packet | Fault] | None = None
        self._late: list[tuple[Message, Any]] | None = None
        self._aliases: Heard | None = None
        self._inbound: Inbound | None = None
        self._requests: Requests | None = None
        self._proof: Proof | None = None
        self._code = reasons.UNSPECIFIED
        self._reason = ""

    # ------------------------------------------------ the device

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet that the device is let in."""
        return self.state is PENDING or self.state is CLAIMING

    def received(self, data: list[Packet | Fault]) -> Iterable[Action]:
        """Take packets in order."""
        self._silent = 0
        actions: list[Action] = []
        for packet in data:
            if self.state is OPEN:
                if packet.__class__ is Publish:
                    actions += self._publish(packet)
                else:
                    actions += self._packet(packet)
            elif self.state is NEW:
                actions += self._first(packet)
            elif self.state is not CLOSED:
                actions += self._too_early(packet)
        return actions

    def _first(self, packet: Packet | Fault) -> Iterable[Action]:
        if isinstance(packet, Fault):
            return self._refuse(packet.code, packet.reason)
        if not isinstance(packet, Connect):
            return self._refuse(reasons.PROTOCOL_ERROR, "the first packet is no CONNECT")
        self.protocol = packet.protocol
        if wrong := hello.fault(packet, self._config, authenticates=self._house.routed("auth")):
            self._hello = packet
            return self._refuse(*wrong)
        self.client_id = packet.client_id
        if not packet.client_id:
            self.client_id = self._house.new_client_id()
            self._assigned = True
        self._hello = packet
        if self._house.pending >= self._config.max_pending:
            self._house.drop(Drop.LIMITED)
            return self._refuse(reasons.QUOTA_EXCEEDED, "too many wait for a decision")
        self._house.pending += 1
        self.state = PENDING
        if METHOD in packet.properties:
            self._proof = Proof(packet, self.client_id, self._config, self._house)
            due = Timer(DECISION, self._config.decision_timeout)
            return (due, self._proof.begin(packet.properties))
        return self._knock(packet)

    def _knock(self, first: Connect) -> tuple[Action, ...]:
        """Ask whether a device is let in."""
        return (
            Timer(DECISION, self._config.decision_timeout),
            Emit("connect", translate.connect(first, self.client_id), CONNECT),
        )

    def _prove(self, step: Callable[..., list[Action]], *said: Any) -> list[Action]:
        """Take a step of the device's authentication, and go on where it was the last."""
        proof, first, known = self._proof, self._hello, self.state is OPEN
        before = proof is not None and proof.underway
        try:
            actions = step(*said, known=known)
        except Unproven as wrong:
            end = self._close if known else self._refuse
            return end(wrong.code, str(wrong))
        if before and proof is not None and first is not None and not proof.underway:
            actions += self._knock(first)
        return actions

    def _too_early(self, packet: Packet | Fault) -> Iterable[Action]:
        """Keep what a client sends before it is let in (section 3.1.4)."""
        if self._proof is not None:
            if isinstance(packet, Disconnect):
                return self.eof()
            return self._prove(self._proof.heard, packet)
        early = self._early = self._early or []
        early.append(packet)
        if len(early) > EARLY:
            self._house.drop(Drop.LIMITED)
            return self._refuse(reasons.QUOTA_EXCEEDED, "too much before the CONNACK")
        return ()

    def _packet(self, packet: Packet | Fault) -> Iterable[Action]:
        device = self.device
        if device is None or self._requests is None:
            raise RuntimeError("an open connection has a session of MQTT")
        if isinstance(packet, Ack):
            answer = device.heard(packet, self.protocol)
            return (Write(answer),) if answer else ()
        if isinstance(packet, Ping) and packet.type == PINGREQ:
            return (Write(codec.PINGRESP_BYTES),)
        if isinstance(packet, Subscribe | Unsubscribe):
            return self._requests.take(packet)
        if isinstance(packet, Disconnect):
            return self._leaves(packet, device)
        if isinstance(packet, Fault):
            return self._close(packet.code, packet.reason)
        if isinstance(packet, Auth):
            if self._proof is None:
                # section 4.12.1-1: only where the CONNECT had a method
                return self._close(reasons.PROTOCOL_ERROR, "AUTH without a method")
            return self._prove(self._proof.heard, packet)
        return self._close(reasons.PROTOCOL_ERROR, "a packet that a server does not get")

    def _publish(self, packet: Publish) -> Iterable[Action]:
        inbound = self._inbound
        if inbound is None:
            raise RuntimeError("an open connection takes publishes")
        topic = packet.topic
        if packet.properties and "topic_alias" in packet.properties:
            if self._aliases is None:
                self._aliases = Heard(self._config.topic_aliases)
            try:
                topic = self._aliases.topic(packet.properties["topic_alias"], topic)
            except BadAlias as wrong:
                return self._close(wrong.code, str(wrong))
        if packet.properties and "subscription_identifiers" in packet.properties:
            # section 3.3.4-6
            return self._close(reasons.PROTOCOL_ERROR, "a publish with a subscription identifier")
        if (
            packet.qos
            and self.protocol == V5
            and not packet.duplicate
            and inbound.unacknowledged >= self._config.receive_maximum
        ):
            return self._close(
                reasons.RECEIVE_MAXIMUM_EXCEEDED,
                f"over {self._config.receive_maximum} messages are unacknowledged",
            )
        if packet.retain and not self._config.max_retained:
            return self._close(reasons.RETAIN_UNSUPPORTED, "nothing is retained here")
        if len(topic) > 64 or topic[0] == "$":
            if topic[0] == "$":
                # section 4.7.2: not for clients to exchange messages with
                return inbound.refuse(packet, reasons.NOT_AUTHORIZED)
            if hello.topic_limit(topic, self._config):
                return inbound.refuse(packet, reasons.BAD_TOPIC)
        elif topic.count("/") >= self._config.max_topic_levels:
            return inbound.refuse(packet, reasons.BAD_TOPIC)
        return inbound.take(packet, topic)

    def _leaves(self, packet: Disconnect, device: Device) -> Iterable[Action]:
        expiry = packet.properties.get("session_expiry_interval")
        if expiry is not None:
            if expiry and not device.expiry:
                # section 3.14.2.2.2
                return self._close(reasons.PROTOCOL_ERROR, "a session that was to end lives on")
            device.expiry = min(expiry, self._config.max_session_expiry)
        if packet.code != reasons.DISCONNECT_WITH_WILL and packet.code < reasons.ERROR:
            self.will = None
        self._over(packet.properties.get("reason_string", ""), packet.code)
        return (Close(),)

    def eof(self) -> Iterable[Action]:
        """End: the device left without a word."""
        self._over("left without a DISCONNECT")
        return (Close(),)

    def _over(self, reason: str, code: int = reasons.UNSPECIFIED) -> None:
        if self.state is PENDING:
            self._decided()
        if self.state is not CLOSED:
            self._code, self._reason = code, reason
        self.state = CLOSED
        if self._inbound is not None:
            self._inbound.end()

    def gone(self) -> None:
        """Hear that the transport is gone."""
        self._over("left without a DISCONNECT")

    def ended(self) -> Message:
        """Return the disconnect."""
        return {"client_id": self.client_id, "code": self._code, "reason": self._reason}

    def summary(self) -> Summary:
        """Return what the access log says."""
        return Summary(self._code, method="CONNECT", path=self.client_id)

    # ------------------------------------------------ the decision

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Decide what is pending, acknowledge what was handled."""
        if isinstance(token, Incoming):
            if self._inbound is None:
                return ()
            try:
                return self._inbound.outcome(token, outcome)
            except Failed:
                return self._close(reasons.IMPLEMENTATION_ERROR, "a message could not be handled")
        if isinstance(token, Asked):
            requests = self._requests if self.state is OPEN else None
            return () if requests is None else requests.outcome(token, outcome)
        if isinstance(token, Step):
            proof = self._proof if self.state in {PENDING, OPEN} else None
            return () if proof is None else self._prove(proof.outcome, token, outcome)
        return self._decide(outcome) if self.state is PENDING else ()

    def accepted_together(self, tokens: Sequence[Any]) -> Iterable[Action]:
        """Acknowledge together what was handled together."""
        if self._inbound is None or not isinstance(tokens[0], Incoming):
            return super().accepted_together(tokens)
        return self._inbound.accepted(tokens)

    def refused(self, token: Any, refusal: Refusal) -> Iterable[Action]:
        """Hear that something never reached the application."""
        if token == CONNECT or (isinstance(token, Step) and self.state is not OPEN):
            return self._refuse(*hello.UNREACHED[refusal]) if self.state is PENDING else ()
        if refusal is Refusal.TOO_BIG and isinstance(token, Incoming) and self._inbound:
            return self._inbound.outcome(token, Outcome(REJECTED, reasons.QUOTA_EXCEEDED))
        return super().refused(token, refusal)

    def _decide(self, outcome: Outcome) -> Iterable[Action]:
        kind = outcome.kind
        if kind == ACCEPTED:
            implicit = self._config.implicit_accept or outcome.cause == "unannounced"
            return self._let_in() if implicit else ()
        if kind == REJECTED:
            return self._refuse(self._connack_code(outcome.code), outcome.reason)
        return self._refuse(*hello.undecided(outcome))

    def _connack_code(self, said: Any) -> int:
        code = hello.code_of(said)
        if code is None:
            self._house.drop(Drop.FOREIGN_CODE)
            return reasons.NOT_AUTHORIZED
        return code

    def _decided(self) -> None:
        self._house.pending -= 1

    def _let_in(self) -> list[Action]:
        first = self._hello
        if first is None:
            raise RuntimeError("what is pending has said CONNECT")
        self._decided()
        self.state = CLAIMING
        again = Timer(DECISION, self._config.decision_timeout)
        return [again, Write(Claim(self.client_id, first.clean_start))]

    def _refuse(self, code: int, reason: str) -> list[Action]:
        """Refuse a CONNECT, or what should have been one."""
        if self.state is PENDING:
            self._decided()
        known = self._hello is not None
        self.state = CLOSED
        self._code, self._reason = code, reason
        self._hello = None
        answer = hello.refusal(code, reason, self.protocol, known=known)
        return [Timer(DECISION, None), Close(answer)]

    # ------------------------------------------------ open

    def begin(self, device: Device, *, present: bool) -> Iterator[Action]:
        """Begin with the session of MQTT that was claimed; ``present``: it has a past."""
        first, line = self._hello, self.line
        if first is None or line is None or self.state is not CLAIMING:
            return
        self._hello = None
        self.state = OPEN
        self.device = device
        self.will = first.will
        config = self._config
        device.expiry = hello.expiry(first, config)
        relay = self._house.relay if config.relay == "accepted" else None
        self._inbound = Inbound(
            config, device, self.protocol, relay, self._house.heard, self._house.drop
        )
        self._requests = Requests(config, device, self.protocol, self._house)
        self._keepalive = hello.keepalive(first, config)
        yield Timer(DECISION, None)
        yield Accepted()
        if self._keepalive:
            yield Timer(ALIVE, self._keepalive / 2)
        properties = NOTHING
        if self.protocol == V5:
            assigned = self.client_id if self._assigned else ""
            properties = hello.terms(first, config, self._keepalive, assigned)
            if self._proof is not None:
                properties.update(self._proof.terms)
        yield Write(codec.encode(Connack(0, present, properties), self.protocol))
        device.connected(line)
        late, self._late = self._late, None
        for reply, token in late or ():
            yield from self.send(None, reply, token)
        early, self._early = self._early, None
        if early:
            yield from self.received(early)

    def bounds(self) -> tuple[int, int, int]:
        """Return what the device takes: so many unacknowledged messages, so large packets, so
        many topic aliases.
        """  # noqa: D205 - one sentence
        return hello.bounds(
            NOTHING if self._hello is None else self._hello.properties, self._config
        )

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what a reply says. Raises `LocalProtocolError` where it makes no sense now."""
        talks = translate.says(reply)
        close = reply.get("close", False)
        if self.state is PENDING:
            if reply.get("accept") is False or (close is not False and not talks):
                return self._refuse(self._connack_code(close), reply.get("reason", ""))
            if "auth" in reply or (self._proof is not None and self._proof.underway):
                return self._proves(reply, token)
            if not talks and not reply.get("accept"):
                raise LocalProtocolError("the device is not let in yet")
            return [*self._let_in(), *self._wait(reply, token)]
        if self.state is CLAIMING:
            return self._wait(reply, token)
        if self.state is not OPEN or self.device is None:
            raise LocalProtocolError("the connection is over")
        if "auth" in reply or ("accept" in reply and self._proof and self._proof.underway):
            return self._proves(reply, token)
        if reply.get("accept") is False:
            raise LocalProtocolError("the device is let in already")
        actions: list[Action] = []
        if talks or "topic" in reply:
            actions += self._say(reply, token, self.device)
        elif token is not None:
            actions.append(Done(token))
        if close is not False:
            actions += self._close(self._close_code(close), reply.get("reason", ""))
        return actions

    def _proves(self, reply: Message, token: Any) -> list[Action]:
        """Do what a reply says of an authentication."""
        if self._proof is None:
            raise LocalProtocolError("the device asked for no authentication by steps")
        return self._prove(self._proof.said, reply, token)

    def _wait(self, reply: Message, token: Any) -> list[Action]:
        reply = {key: value for key, value in reply.items() if key != "accept"}
        if reply:
            if self._late is None:
                self._late = []
            self._late.append((reply, token))
            return []
        return [] if token is None else [Done(token)]

    def _say(self, reply: Message, token: Any, device: Device) -> list[Action]:
        """Publish to this device alone."""
        answered = None if self._inbound is None else self._inbound.answered
        publication = answers.publication(
            reply, answered, self.client_id, self._config, self._house.now()
        )
        line = device.line
        if publication.qos or line is None:
            device.send(publication, publication.qos, (), token, retain=False)
            return []
        frame, _ = publication.halves(self.protocol, 0, (), self._house.now(), retain=False)
        if len(frame) > line.max_packet:
            self._house.drop(Drop.TOO_BIG)
            raise LocalProtocolError("the device takes no packet of that size")
        return [Write(frame)] if token is None else [Write(frame), Done(token)]

    def _close_code(self, close: Any) -> int:
        if close is True or close == 0:
            return 0
        if close in reasons.OF_DISCONNECT:
            return int(close)
        self._house.drop(Drop.FOREIGN_CODE)
        return 0

    def _close(self, code: int, reason: str = "") -> list[Action]:
        if self.state is CLOSED:
            return []
        self._over(reason, code)
        self._code = code
        if self.protocol != V5:
            return [Close()]
        properties = {"reason_string": reason[: hello.WORDS]} if reason else NOTHING
        return [Close(codec.encode(Disconnect(code, properties), V5))]

    def taken_over(self) -> Iterable[Action]:
        """Hear that another connection has the session of MQTT now (section 3.1.4-3)."""
        return self._close(reasons.TAKEN_OVER, "another connection has taken the session over")

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Refuse what nobody decided, end who is silent."""
        if name == DECISION:
            if self.undecided:
                return self._refuse(reasons.UNAVAILABLE, "nobody decided in time")
            return ()
        if self.state is not OPEN:
            return ()
        if name == PROVING:
            return self._close(reasons.NOT_AUTHORIZED, "it was not authenticated in time")
        if name == ASKED:
            return () if self._requests is None else self._requests.overdue()
        if self.excused():
            self._silent = 0
        self._silent += 1
        if self._silent > SILENCES:
            return self._close(reasons.KEEP_ALIVE_TIMEOUT, "no sign of life in its keep alive")
        return (Timer(ALIVE, self._keepalive / 2),)

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Refuse what is pending, end what is open: clients come back by themselves."""
        self.will = None
        if self.undecided:
            return self._refuse(reasons.UNAVAILABLE, "the gateway is shutting down")
        if self.state is OPEN:
            return self._close(reasons.SHUTTING_DOWN, "the gateway is shutting down")
        self._over("the gateway is shutting down", reasons.SHUTTING_DOWN)
        return (Close(),)
