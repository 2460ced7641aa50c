"""A session of MQTT (section 4.1): what is known of a device, connected or not. Pure.

It outlives connections: subscriptions, QoS 1 and 2 messages on their way to the device, and the
identifiers of QoS 2 messages of the device that are not completed. While the device is away
messages wait in ``queue``, bounded; towards a device that is there at most ``window`` are
unacknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from gateway.core.plugin import FAILED, OK, REJECTED, Action, Done, Drop, Outcome
from gateway.plugins.mqtt import codec, reasons
from gateway.plugins.mqtt.packets import PUBACK, PUBCOMP, PUBREC, PUBREL, Ack
from gateway.plugins.mqtt.server.aliases import Told
from gateway.plugins.mqtt.server.publication import Halves, Publication
from gateway.plugins.mqtt.server.subscriptions import Subscription

NO_ROOM: Final = Outcome(FAILED, reason="too much waits for the device", cause="slow")
TOO_BIG: Final = Outcome(FAILED, reason="the device takes no packet of that size", cause="too_big")
EXPIRED: Final = Outcome(FAILED, reason="its time is over", cause="expired")

DUPLICATE: Final = 0x08
"""The flag of a PUBLISH that is sent again (section 3.3.1.1)."""


class Line:
    """A connection as its device uses it; `write` and `push` send bytes, or queue them."""

    __slots__ = ("aliases", "max_packet", "protocol", "push", "run", "window", "write")

    def __init__(
        self,
        protocol: int,
        write: Callable[[bytes], None],
        push: Callable[[bytes, int], None],
        run: Callable[[Iterable[Action]], None],
        window: int,
        max_packet: int,
        aliases: int = 0,
    ) -> None:
        self.protocol = protocol
        self.write = write
        """Sends at once; for what has a window of its own."""
        self.push = push
        """Sends, or lets it wait in the connection's outbox."""
        self.run = run
        """Runs actions of its session."""
        self.window = window
        self.max_packet = max_packet
        self.aliases = Told(aliases) if aliases else None
        """Where the device takes any."""

    def halves(
        self, publication: Publication, qos: int, ids: tuple[int, ...], now: float, *, retain: bool
    ) -> tuple[Halves, bool]:
        """Return the frame of a publication for this device, as short as it may be.

        True: it says for the first time what an alias stands for, and must not be dropped.
        """
        aliases = self.aliases
        alias = 0 if aliases is None else aliases.of(publication.topic)
        found = publication.halves(self.protocol, qos, ids, now, retain=retain, alias=alias)
        if alias <= 0 or aliases is None:
            return found, False
        if len(found[0]) + len(found[1]) + 2 > self.max_packet:
            return publication.halves(self.protocol, qos, ids, now, retain=retain), False
        aliases.define(publication.topic, alias)
        return found, True


class Outgoing:
    """A QoS 1 or 2 message on its way to a device."""

    __slots__ = ("ids", "publication", "qos", "received", "retain", "token")

    def __init__(
        self,
        publication: Publication,
        qos: int,
        ids: tuple[int, ...],
        token: Any = None,
        *,
        retain: bool,
    ) -> None:
        self.publication = publication
        self.qos = qos
        self.ids = ids
        self.retain = retain
        self.token = token
        """Of a reply that wants an ``ack``; of the connection that it came by."""
        self.received = False
        """QoS 2: whether the device has said PUBREC."""


class Limits(msgspec.Struct, frozen=True):
    """What bounds a device's queue, and who counts what is dropped."""

    messages: int
    size: int
    now: Callable[[], float]
    drop: Callable[[Drop], None]


class Device:
    """A session of MQTT."""

    __slots__ = (
        "_last_id",
        "_limits",
        "_size",
        "_then",
        "client_id",
        "expiry",
        "in_hand",
        "incoming",
        "inflight",
        "line",
        "queue",
        "subscriptions",
    )

    def __init__(self, client_id: str, limits: Limits) -> None:
        self.client_id = client_id
        self.expiry = 0
        """Seconds that it outlives its connection."""
        self.line: Line | None = None
        self.subscriptions: dict[str, Subscription] | None = None
        """By filter."""
        self.inflight: dict[int, Outgoing] = {}
        """By packet identifier, in the order in which they were sent."""
        self.queue: deque[Outgoing] | None = None
        self.incoming: set[int] | None = None
        """The identifiers of QoS 2 messages that were handled and not released."""
        self.in_hand: dict[int, Any] | None = None
        """QoS 2 messages that consumers have, by their identifiers (`inbound.Incoming`)."""
        self._limits = limits
        self._size = 0
        self._last_id = 0
        self._then: list[Callable[[], None]] | None = None

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return 0 if self.queue is None else len(self.queue)

    # ------------------------------------------------ towards the device

    def send(
        self,
        publication: Publication,
        qos: int,
        ids: tuple[int, ...] = (),
        token: Any = None,
        *,
        retain: bool = False,
    ) -> None:
        """Send a message, or let it wait; QoS 0 is dropped while the device is away."""
        line = self.line
        if not qos:
            if line is None:
                self._limits.drop(Drop.GONE)
                return
            (frame, _), new = line.halves(publication, 0, ids, self._limits.now(), retain=retain)
            if len(frame) > line.max_packet:
                self._limits.drop(Drop.TOO_BIG)
                self._done(token, TOO_BIG)
                return
            if new:
                line.write(frame)
            else:
                line.push(frame, len(frame))
            self._done(token, OK)
            return
        outgoing = Outgoing(publication, qos, ids, token, retain=retain)
        if line is not None and not self.queue and len(self.inflight) < line.window:
            self._transmit(line, outgoing)
        else:
            self._wait(outgoing)

    def _wait(self, outgoing: Outgoing) -> None:
        limits = self._limits
        size = outgoing.publication.size
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        if len(queue) >= limits.messages or (queue and self._size + size > limits.size):
            limits.drop(Drop.SLOW)
            self._done(outgoing.token, NO_ROOM)
            return
        outgoing.publication.loose()
        queue.append(outgoing)
        self._size += size

    def _transmit(self, line: Line, outgoing: Outgoing) -> None:
        now = self._limits.now()
        publication = outgoing.publication
        if publication.has_expired(now):
            self._limits.drop(Drop.EXPIRED)
            self._done(outgoing.token, EXPIRED)
            return
        (head, tail), _ = line.halves(
            publication, outgoing.qos, outgoing.ids, now, retain=outgoing.retain
        )
        if len(head) + len(tail) + 2 > line.max_packet:
            # section 3.1.2.11.4: "as if it had completed sending"
            self._limits.drop(Drop.TOO_BIG)
            self._done(outgoing.token, TOO_BIG)
            return
        packet_id = self._next_id()
        self.inflight[packet_id] = outgoing
        line.write(head + packet_id.to_bytes(2, "big") + tail)

    def _next_id(self) -> int:
        packet_id = self._last_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self.inflight:
                self._last_id = packet_id
                return packet_id

    def _acknowledged(self, packet_id: int, outcome: Outcome) -> None:
        outgoing = self.inflight.pop(packet_id, None)
        if outgoing is not None:
            self._done(outgoing.token, outcome)
            self.go_on()

    def heard(self, packet: Ack, protocol: int) -> bytes:
        """Hear PUBACK, PUBREC, PUBREL or PUBCOMP; return what they are answered."""
        kind, packet_id = packet.type, packet.packet_id
        if kind in {PUBACK, PUBCOMP} or (kind == PUBREC and packet.code >= reasons.ERROR):
            self._acknowledged(packet_id, _said(packet.code))
            return b""
        if kind == PUBREC:
            outgoing = self.inflight.get(packet_id)
            known = outgoing is not None and outgoing.qos == 2
            if outgoing is not None and known:
                outgoing.received = True
            answer = PUBREL
        else:
            known = self.incoming is not None and packet_id in self.incoming
            if self.incoming is not None:
                self.incoming.discard(packet_id)
            answer = PUBCOMP
        return codec.ack(answer, packet_id, 0 if known else reasons.PACKET_ID_NOT_FOUND, protocol)

    def go_on(self) -> None:
        """Send what waits, as far as the device takes it."""
        line, queue = self.line, self.queue
        if line is None or queue is None:
            return
        while queue and len(self.inflight) < line.window:
            outgoing = queue.popleft()
            self._size -= outgoing.publication.size
            self._transmit(line, outgoing)
        if not queue:
            self.queue = None
            self._go_on_then()

    def then(self, call: Callable[[], None]) -> None:
        """Have something called once nothing waits to be sent any more, or its device leaves."""
        if self._then is None:
            self._then = []
        self._then.append(call)

    def _go_on_then(self) -> None:
        calls, self._then = self._then, None
        for call in calls or ():
            call()

    def connected(self, line: Line) -> None:
        """Send again what was not acknowledged (section 4.4), then what waited."""
        self.line = line
        now = self._limits.now()
        for packet_id, outgoing in list(self.inflight.items()):
            if outgoing.received:
                line.write(codec.ack(PUBREL, packet_id, 0, line.protocol))
                continue
            head, tail = outgoing.publication.halves(
                line.protocol, outgoing.qos, outgoing.ids, now, retain=outgoing.retain
            )
            again = bytes((head[0] | DUPLICATE,)) + head[1:]
            line.write(again + packet_id.to_bytes(2, "big") + tail)
        self.go_on()

    def disconnected(self) -> None:
        """Hear that its connection is gone: nobody waits for an ``ack`` of it any more."""
        self.line = None
        for outgoing in (*self.inflight.values(), *(self.queue or ())):
            outgoing.token = None
        self._go_on_then()

    def forget(self) -> int:
        """Drop what is on its way; return how many messages that were."""
        count = len(self.inflight) + self.waiting
        self.inflight.clear()
        self.queue = self._then = None
        self._size = 0
        return count

    def _done(self, token: Any, outcome: Outcome) -> None:
        if token is not None and self.line is not None:
            self.line.run((Done(token, outcome),))

    # ------------------------------------------------ from one gateway process to another

    def packed(self, most: int) -> list[dict[str, Any]]:
        """Return it in messages of about ``most`` bytes each, to be unpacked in their order."""
        first = {
            "expiry": self.expiry,
            "last_id": self._last_id,
            "subscriptions": {
                found: msgspec.to_builtins(one) for found, one in (self.subscriptions or {}).items()
            },
            "incoming": sorted(self.incoming or ()),
            "outgoing": [],
        }
        pieces: list[dict[str, Any]] = [first]
        room = most - _size_of(first)
        for packet_id, one in (*self.inflight.items(), *((0, one) for one in self.queue or ())):
            outgoing = {
                "packet_id": packet_id,
                "publication": one.publication.packed(),
                "qos": one.qos,
                "ids": one.ids,
                "retain": one.retain,
                "received": one.received,
            }
            size = _size_of(outgoing)
            room -= size
            if room < 0:
                pieces.append({"outgoing": []})
                room = most - size
            pieces[-1]["outgoing"].append(outgoing)
        return pieces

    def unpack(self, pieces: list[dict[str, Any]]) -> None:
        """Take over what `packed` made of it elsewhere."""
        first = pieces[0]
        self.expiry = first["expiry"]
        self._last_id = first["last_id"]
        self.subscriptions = {
            found: msgspec.convert(one, Subscription)
            for found, one in first["subscriptions"].items()
        }
        self.incoming = set(first["incoming"]) or None
        for one in (one for piece in pieces for one in piece["outgoing"]):
            outgoing = Outgoing(
                Publication.unpacked(one["publication"]),
                one["qos"],
                tuple(one["ids"]),
                retain=one["retain"],
            )
            outgoing.received = one["received"]
            if one["packet_id"]:
                self.inflight[one["packet_id"]] = outgoing
            else:
                self._wait(outgoing)


def _size_of(message: dict[str, Any]) -> int:
    return len(msgspec.msgpack.encode(message))


def _said(code: int) -> Outcome:
    """Return what an acknowledgement of a device says."""
    if code < reasons.ERROR:
        return OK
    return Outcome(REJECTED, code=code, reason="the device refused it")
