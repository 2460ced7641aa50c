"""SUBSCRIBE and UNSUBSCRIBE of a connection, in their order. Pure.

A SUBSCRIBE is decided by the application; what comes behind it waits for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.core.plugin import ACCEPTED, REJECTED, Action, Drop, Emit, Outcome, Timer, Write
from gateway.plugins.mqtt import codec, reasons
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import (
    NO_LOCAL,
    QOS,
    RETAIN_AS_PUBLISHED,
    RETAIN_HANDLING,
    V5,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from gateway.plugins.mqtt.server.device import Device
from gateway.plugins.mqtt.server.house import House
from gateway.plugins.mqtt.server.subscriptions import Subscription
from gateway.plugins.mqtt.topics import share_of

NEW_ONLY: Final = 0x10
NEVER: Final = 0x20
"""Retain handling 1 and 2 (section 3.8.3.1)."""


class Asked:
    """One SUBSCRIBE that waits for its decision, or what waits behind it."""

    __slots__ = ("code", "decided", "packet")

    def __init__(self, packet: Subscribe | Unsubscribe) -> None:
        self.packet = packet
        self.decided = False
        self.code = 0
        """Why it is refused."""


class Requests:
    """What one connection asked for."""

    __slots__ = ("_config", "_device", "_house", "_protocol", "_waiting")

    def __init__(self, config: MqttConfig, device: Device, protocol: int, house: House) -> None:
        self._config = config
        self._device = device
        self._protocol = protocol
        self._house = house
        self._waiting: deque[Asked] = deque()

    def take(self, packet: Subscribe | Unsubscribe) -> Iterable[Action]:
        """Take one."""
        asked = Asked(packet)
        first = not self._waiting
        self._waiting.append(asked)
        if isinstance(packet, Subscribe):
            filters = [(name, options & QOS) for name, options in packet.filters]
            message = {"client_id": self._device.client_id, "filters": filters}
            emit = Emit("subscribe", message, asked)
            return (Timer("asked", self._config.decision_timeout), emit) if first else (emit,)
        asked.decided = True
        return self._answer() if first else ()

    def outcome(self, asked: Asked, outcome: Outcome) -> Iterable[Action]:
        """Hear the decision about one."""
        if asked.decided:
            return ()
        asked.decided = True
        if outcome.kind == REJECTED:
            asked.code = reasons.NOT_AUTHORIZED
            if outcome.code is not None:
                if outcome.code in reasons.OF_SUBACK:
                    asked.code = outcome.code
                else:
                    self._house.drop(Drop.FOREIGN_CODE)
        elif outcome.kind != ACCEPTED:
            asked.code = reasons.UNSPECIFIED
            if outcome.cause == "full":
                asked.code = reasons.QUOTA_EXCEEDED
            elif outcome.kind == "unrouted":
                asked.code = reasons.NOT_AUTHORIZED
        return self._answer()

    def overdue(self) -> Iterable[Action]:
        """Refuse what nobody decided in time."""
        for asked in self._waiting:
            if not asked.decided:
                asked.decided = True
                asked.code = reasons.UNSPECIFIED
        return self._answer()

    def _answer(self) -> Iterator[Action]:
        waiting = self._waiting
        while waiting and waiting[0].decided:
            asked = waiting.popleft()
            packet = asked.packet
            if isinstance(packet, Subscribe):
                yield from self._subscribe(packet, asked.code)
            else:
                yield from self._unsubscribe(packet)
        if not waiting:
            yield Timer("asked", None)

    def _subscribe(self, packet: Subscribe, refused: int) -> Iterator[Action]:
        codes: list[int] = []
        fresh: dict[str, None] = {}
        ids = tuple(packet.properties.get("subscription_identifiers", ()))
        for name, options in packet.filters:
            if code := refused or self._fault(name):
                codes.append(code if self._protocol == V5 else reasons.ERROR)
                continue
            subscription = Subscription(
                options & QOS,
                bool(options & NO_LOCAL),
                bool(options & RETAIN_AS_PUBLISHED),
                ids,
            )
            existed = self._house.subscribe(self._device, name, subscription)
            codes.append(subscription.qos)
            handling = options & RETAIN_HANDLING
            if handling != NEVER and not (handling == NEW_ONLY and existed):
                fresh[name] = None
        yield Write(codec.encode(Suback(packet.packet_id, codes), self._protocol))
        for name in fresh:
            if not name.startswith("$share/"):  # section 4.8.2: none are sent for a shared one
                self._house.recall(self._device, name)

    def _fault(self, name: str) -> int:
        """Return why a filter is refused, 0 for one that is good."""
        config = self._config
        try:
            share_of(name)
        except ValueError:
            return reasons.BAD_FILTER
        if len(name.encode()) > config.max_topic or name.count("/") >= config.max_topic_levels:
            return reasons.BAD_FILTER
        held = self._device.subscriptions
        if held is not None and name not in held and len(held) >= config.max_subscriptions:
            self._house.drop(Drop.LIMITED)
            return reasons.QUOTA_EXCEEDED
        return 0

    def _unsubscribe(self, packet: Unsubscribe) -> Iterator[Action]:
        codes = [
            0 if self._house.unsubscribe(self._device, name) else reasons.NO_SUBSCRIPTION_EXISTED
            for name in packet.filters
        ]
        if self._protocol != V5:
            codes = []
        yield Write(codec.encode(Unsuback(packet.packet_id, codes), self._protocol))
        if self._house.routed("unsubscribe"):
            message = {"client_id": self._device.client_id, "filters": packet.filters}
            yield Emit("unsubscribe", message)
