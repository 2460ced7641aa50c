"""What a device publishes, until it is acknowledged. Pure.

::

    PUBLISH ──emit──► with a consumer ──accepted──► PUBACK / PUBREC   (in the order of receipt)
                       │  ▲                    └──► relayed
                       failed, released, unrouted: again, later; at last `on_failure`

QoS 2 is exactly-once hand-over to this process while the session lives: a PUBLISH that comes
again before its PUBREL is not handled again. To consumers all QoS are at-least-once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    Action,
    Again,
    Drop,
    Emit,
    Message,
    Outcome,
    Write,
)
from gateway.plugins.mqtt import codec, reasons, translate
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import PUBACK, PUBREC, V5, Publish
from gateway.plugins.mqtt.server.device import Device
from gateway.plugins.mqtt.server.publication import Publication, kept

SMALL: Final = 256
"""Bytes of a payload that an idle device may keep of what it published last."""
NO_MESSAGE: Final[Message] = {}
"""In the place of one; never written to."""


class Incoming(msgspec.Struct, eq=False):
    """One PUBLISH of a device; the token of its Emit."""

    packet: Publish
    topic: str
    message: Message = NO_MESSAGE
    """What was emitted; the core has completed it."""
    attempt: int = 1
    done: bool = False
    """Whether its acknowledgement may leave."""
    code: int = 0
    reason: str = ""
    again: Inbound | None = None
    """The last connection that it came by again, where the first one is gone."""
    dead: bool = False
    """Whether it is on its way to ``mqtt.failed``."""


class Failed(Exception):  # noqa: N818 - an end, decided by a setting
    """A message failed for good: the connection ends without its acknowledgement."""


class Inbound:
    """The publishes of one connection."""

    __slots__ = (
        "_config",
        "_device",
        "_drop",
        "_heard",
        "_ids",
        "_last",
        "_pending",
        "_protocol",
        "_relay",
        "_unsettled",
        "over",
    )

    def __init__(
        self,
        config: MqttConfig,
        device: Device,
        protocol: int,
        relay: Callable[[Publication], None] | None,
        heard: Callable[[str], bool],
        drop: Callable[[Drop], None],
    ) -> None:
        self._config = config
        self._device = device
        self._protocol = protocol
        self._relay = relay
        self._heard = heard
        self._drop = drop
        self._pending: deque[Incoming] = deque()
        """QoS 1 and 2, not yet acknowledged, in the order of receipt."""
        self._ids: set[int] = set()
        """Their packet identifiers."""
        self._unsettled: deque[Incoming] = deque()
        """All that consumers have, or will have, in their order."""
        self._last: Incoming | None = None
        """The last that one had."""
        self.over = False
        """Whether the connection is: then nothing is acknowledged, or tried again, by it."""

    @property
    def unacknowledged(self) -> int:
        """How many count against the Receive Maximum (section 4.9)."""
        incoming = self._device.incoming
        return len(self._pending) + (0 if incoming is None else len(incoming))

    @property
    def answered(self) -> Incoming | None:
        """The message that a reply answers: replies come before the outcome of their message."""
        return self._unsettled[0] if self._unsettled else self._last

    def take(self, packet: Publish, topic: str) -> list[Action]:
        """Take a PUBLISH whose topic is good."""
        if packet.qos:
            packet_id = packet.packet_id
            incoming = self._device.incoming
            if packet.qos == 2 and incoming is not None and packet_id in incoming:
                # section 4.3.3: acknowledged again, not handled again
                return [Write(codec.ack(PUBREC, packet_id, 0, self._protocol))]
            ids = self._ids
            if packet_id in ids:
                return []  # it is in hand, and is acknowledged then
            ids.add(packet_id)
        entry = Incoming(packet, topic)
        if packet.qos:
            self._pending.append(entry)
            if packet.qos == 2:
                in_hand = self._device.in_hand
                if in_hand is None:
                    in_hand = self._device.in_hand = {}
                elif (before := in_hand.get(packet.packet_id)) is not None:
                    self._pending[-1] = before  # a consumer has it since an earlier connection
                    before.again = self
                    return []
                in_hand[packet.packet_id] = entry
        self._unsettled.append(entry)
        entry.message = self._message(entry)
        return [Emit("receive", entry.message, entry)]

    def refuse(self, packet: Publish, code: int) -> list[Action]:
        """Acknowledge what nobody is asked about, with an error where there are any."""
        self._drop(Drop.INVALID)
        if not packet.qos or packet.packet_id in self._ids:
            return []
        entry = Incoming(packet, "")
        entry.done = True
        entry.code = code
        self._pending.append(entry)
        self._ids.add(packet.packet_id)
        return self._acknowledge()

    def _message(self, entry: Incoming) -> Message:
        packet = entry.packet
        message = translate.receive(
            packet,
            entry.topic,
            duplicate=packet.duplicate or entry.attempt > 1,
            attempt=entry.attempt,
        )
        message["client_id"] = self._device.client_id
        return message

    # ------------------------------------------------ what became of it

    def outcome(self, entry: Incoming, outcome: Outcome) -> list[Action]:
        """Hear an outcome. Raises `Failed` where it was the last."""
        kind = outcome.kind
        unsettled = self._unsettled
        if unsettled and unsettled[0] is entry:
            unsettled.popleft()
        else:
            unsettled.remove(entry)
        self._last = entry
        if self.over and kind != ACCEPTED and (kind != REJECTED or entry.dead):
            self._give_up(entry)
            return []
        if entry.dead:
            if kind != ACCEPTED:
                raise Failed(entry.reason)
            return self._finish(entry)
        if kind == ACCEPTED:
            relay = self._relay
            if relay is not None and (entry.packet.retain or self._heard(entry.topic)):
                relay(self._publication(entry))
            return self._finish(entry)
        if not entry.packet.qos:
            return self._finish(entry)
        if kind == REJECTED:
            entry.code = self._code(outcome.code)
            return self._finish(entry)
        entry.reason = outcome.reason or outcome.cause or kind
        if entry.attempt < self._config.attempts:
            wait = self._config.retry_wait * (1 << entry.attempt - 1)
            entry.attempt += 1
            self._unsettled.appendleft(entry)
            entry.message["attempt"] = entry.attempt
            entry.message["duplicate"] = True
            return [Again("receive", entry.message, entry, seconds=wait)]
        if self._config.on_failure == "close":
            raise Failed(entry.reason)
        entry.dead = True
        self._unsettled.appendleft(entry)
        return [Emit("failed", {**self._message(entry), "reason": entry.reason}, entry)]

    def accepted(self, entries: Sequence[Incoming]) -> list[Action]:
        """Hear that several were accepted: what they are acknowledged by leaves together."""
        unsettled, relay, heard = self._unsettled, self._relay, self._heard
        for entry in entries:
            if unsettled[0] is entry:
                unsettled.popleft()
            else:
                unsettled.remove(entry)
            self._last = entry
            if relay is not None and (entry.packet.retain or heard(entry.topic)) and not entry.dead:
                relay(self._publication(entry))
            self._done(entry)
        return [] if self.over else self._acknowledge()

    def _code(self, code: int | None) -> int:
        if code is None:
            return reasons.NOT_AUTHORIZED
        if code in reasons.OF_PUBACK:
            return code
        self._drop(Drop.FOREIGN_CODE)
        return reasons.NOT_AUTHORIZED

    def _publication(self, entry: Incoming) -> Publication:
        packet = entry.packet
        lifetime = packet.properties.get("message_expiry_interval")
        return Publication(
            entry.topic,
            packet.payload,
            packet.qos,
            retain=packet.retain,
            properties=kept(packet.properties),
            expires=lifetime,
            source=self._device.client_id,
        )

    def _finish(self, entry: Incoming) -> list[Action]:
        self._done(entry)
        return self._acknowledge() if entry.packet.qos and not self.over else []

    def _done(self, entry: Incoming) -> None:
        """Have it acknowledged when its turn comes, or by whatever connection it came again."""
        entry.done = True
        entry.message = NO_MESSAGE
        packet = entry.packet
        if len(packet.payload) > SMALL:
            entry.packet = msgspec.structs.replace(packet, payload=b"")
        if packet.qos == 2 and self._device.in_hand:
            self._device.in_hand.pop(packet.packet_id, None)
        if self.over:
            again = entry.again
            if again is not None and not again.over:
                again.nudge()
            elif packet.qos == 2:
                self._know(entry)

    # ------------------------------------------------ when its connection is gone

    def end(self) -> None:
        """Hear that the connection is over; what consumers have still comes to its end."""
        if not self.over:
            self.over = True
            for entry in self._pending:
                if entry.done and entry.packet.qos == 2:
                    self._know(entry)

    def nudge(self) -> None:
        """Acknowledge what an earlier connection was told of."""
        self._run(self._acknowledge())

    def _give_up(self, entry: Incoming) -> None:
        """Let go of what was not handled: the device sends it again, or has done so already."""
        in_hand = self._device.in_hand
        if entry.packet.qos != 2 or not in_hand:
            return
        in_hand.pop(entry.packet.packet_id, None)
        if entry.again is not None and not entry.again.over:
            entry.again.hand_in(entry)

    def hand_in(self, entry: Incoming) -> None:
        """Hand in what came by this connection, too, and was given up by an earlier one."""
        entry.again = None
        entry.dead = False
        entry.attempt = min(entry.attempt + 1, self._config.attempts)
        in_hand = self._device.in_hand
        if in_hand is None:
            in_hand = self._device.in_hand = {}
        in_hand[entry.packet.packet_id] = entry
        self._unsettled.append(entry)
        entry.message = self._message(entry)
        self._run([Emit("receive", entry.message, entry)])

    def _run(self, actions: list[Action]) -> None:
        """Run what came of something that an earlier connection was told of."""
        if self._device.line is not None:
            self._device.line.run(actions)

    def _acknowledge(self) -> list[Action]:
        """Acknowledge what may be, in the order of receipt (section 4.6)."""
        out = bytearray()
        pending, ids = self._pending, self._ids
        protocol = self._protocol
        while pending and pending[0].done:
            entry = pending.popleft()
            packet = entry.packet
            packet_id = packet.packet_id
            ids.discard(packet_id)
            code = entry.code if protocol == V5 else 0
            if packet.qos == 2:
                self._know(entry)
                out += codec.ack(PUBREC, packet_id, code, protocol)
            elif code:
                out += codec.ack(PUBACK, packet_id, code, protocol)
            else:
                out += codec.PUBACK_HEAD
                out += packet_id.to_bytes(2, "big")
        return [Write(bytes(out))] if out else []

    def _know(self, entry: Incoming) -> None:
        """Know a QoS 2 message until its PUBREL comes, unless it was refused (section 4.3.3)."""
        if self._protocol == V5 and entry.code >= reasons.ERROR:
            return
        incoming = self._device.incoming
        if incoming is None:
            incoming = self._device.incoming = set()
        incoming.add(entry.packet.packet_id)
