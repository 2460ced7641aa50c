"""What a broker has given us and has no acknowledgement of yet. Pure.

::

    Arrived ──► in hand ──outcome──► done ──all before it are done──► acknowledged
                  │                    │
                  └── connection gone ─┴── it comes again by the next one: the same, not a second

Acknowledgements leave in the order of receipt (MQTT 5, section 4.6). What is in hand when the
connection is lost stays so: the broker cannot have given its packet identifier to anything else,
since it was never acknowledged, so that what comes again by it is the same message.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from gateway.core.plugin import Message
from gateway.plugins.mqtt.client.terms import Acknowledge

REMEMBERED: Final = 10_000
"""Ids of the application's, and packets, that are known again after they were acknowledged: some
2 MB, and far more than brokers have unacknowledged with one client."""


class Arrival:
    """One publish of QoS 1 or 2."""

    __slots__ = (
        "also",
        "code",
        "done",
        "foreign",
        "identity",
        "message",
        "packet_id",
        "qos",
        "topic",
        "tries",
        "waits",
    )

    def __init__(self, message: Message, packet_id: int, qos: int, identity: str | None) -> None:
        self.message = message
        self.topic: str = message["topic"]
        self.packet_id = packet_id
        """0: it cannot be acknowledged any more."""
        self.qos = qos
        self.identity = identity
        """The application's own id of it."""
        self.tries = 0
        """How often it has failed."""
        self.waits = 0
        """How often it was waited for room or a worker."""
        self.done = False
        self.code = 0
        """The reason code to acknowledge it with."""
        self.foreign = False
        self.also: list[Arrival] | None = None
        """The same message in other packets: done when this is."""


class Arrivals:
    """The arrivals of one session. ``once``: whether what comes a second time is not wanted."""

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._by_packet: dict[int, Arrival] = {}
        self._order: deque[Arrival] = deque()
        """In order of receipt by this connection."""
        self._by_identity: dict[str, Arrival] = {}
        """Those with an id that are not done."""
        self._packets: OrderedDict[int, int] = OrderedDict()
        """What was acknowledged by each packet identifier."""
        self._identities: OrderedDict[str, None] = OrderedDict()
        """The ids of what was handled."""
        self.in_hand = 0
        """How many are not done."""

    def __len__(self) -> int:
        """Return how many are unacknowledged on this connection."""
        return len(self._order)

    # ------------------------------------------------ the connection

    def up(self, *, resumed: bool) -> None:
        """Hear that there is a connection. Not resumed, no packet identifier means anything."""
        self._order.clear()
        if not resumed:
            for arrival in self._by_packet.values():
                arrival.packet_id = 0
            self._by_packet.clear()
            self._packets.clear()

    def down(self) -> None:
        """Hear that it is gone: nothing can be acknowledged now."""
        self._order.clear()

    # ------------------------------------------------ what comes

    def take(
        self, message: Message, packet_id: int, qos: int, *, duplicate: bool
    ) -> Arrival | None:
        """Take a publish; return what is to be handed in, None for what was before.

        What is returned None for is acknowledged in its turn: see `acknowledged`.
        """
        known = self._by_packet.get(packet_id)
        if known is not None:
            if duplicate and _same(known.message, message):
                self._order.append(known)
                return None
            known.packet_id = 0  # the broker has forgotten it, and never asks for it again
        identity = next((v for k, v in message["user_properties"] if k == "id"), None)
        arrival = Arrival(message, packet_id, qos, identity)
        self._by_packet[packet_id] = arrival
        self._order.append(arrival)
        if not duplicate:
            self._packets.pop(packet_id, None)
        if self._once and self._was_before(arrival, duplicate=duplicate):
            return None
        self.in_hand += 1
        return arrival

    def _was_before(self, arrival: Arrival, *, duplicate: bool) -> bool:
        if arrival.identity is not None:
            if arrival.identity in self._identities:
                arrival.done = True
                return True
            first = self._by_identity.setdefault(arrival.identity, arrival)
            if first is not arrival:
                first.also = [*(first.also or ()), arrival]
                return True
            return False
        if duplicate and self._packets.get(arrival.packet_id) == _print(arrival.message):
            arrival.done = True
        return arrival.done

    # ------------------------------------------------ what becomes of it

    def finish(self, arrival: Arrival, code: int = 0, *, foreign: bool = False) -> None:
        """Note that an arrival is done with."""
        self.in_hand -= 1
        self._done(arrival, code, foreign=foreign)
        for other in arrival.also or ():
            self._done(other, code, foreign=foreign)
        if self._once and arrival.identity is not None:
            self._by_identity.pop(arrival.identity, None)
            self._identities[arrival.identity] = None
            if len(self._identities) > REMEMBERED:
                self._identities.popitem(last=False)

    def _done(self, arrival: Arrival, code: int, *, foreign: bool) -> None:
        arrival.done = True
        arrival.code = code
        arrival.foreign = foreign
        if not arrival.packet_id:
            arrival.message = {}

    def acknowledged(self) -> Iterator[Acknowledge]:
        """Yield the acknowledgements that may leave now, in order."""
        order = self._order
        while order and order[0].done:
            arrival = order.popleft()
            packet_id = arrival.packet_id
            if packet_id:
                if self._by_packet.get(packet_id) is arrival:
                    del self._by_packet[packet_id]
                if self._once:
                    self._packets[packet_id] = _print(arrival.message)
                    self._packets.move_to_end(packet_id)
                    if len(self._packets) > REMEMBERED:
                        self._packets.popitem(last=False)
                yield Acknowledge(packet_id, arrival.qos, arrival.code, arrival.foreign)

    def first_of(self, topic: str) -> Arrival | None:
        """Return the earliest arrival of a topic that is not done: what a consumer has in hand."""
        for arrival in self._order:
            if arrival.topic == topic and not arrival.done:
                return arrival
        return None


def _same(one: Message, other: Message) -> bool:
    return all(one.get(key) == other.get(key) for key in ("topic", "text", "bytes"))


def _print(message: Message) -> int:
    """Return what tells a message from others that had its packet identifier."""
    return hash((message.get("topic"), message.get("text"), message.get("bytes")))
