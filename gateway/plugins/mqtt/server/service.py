"""`Server`: the server role of one gateway process: listeners, sessions, what is published.

All gateway processes hear each publish on their bus, once, and each finds the subscribers that
it has itself: one message of the layer a process, however many subscribe.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import length_hint
from typing import Any, Final

import msgspec

from gateway.core.accept import Acceptor
from gateway.core.arrivals import Arrivals, Arrived
from gateway.core.deadlines import Deadline
from gateway.core.errors import LocalProtocolError, MessageTooLarge
from gateway.core.listen import bind
from gateway.core.names import parse_address
from gateway.core.places import Places
from gateway.core.plugin import (
    FAILED,
    OK,
    Connection,
    Context,
    Drop,
    Message,
    Outcome,
    Peer,
)
from gateway.plugins.mqtt import messages, translate
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import Will
from gateway.plugins.mqtt.server.device import Device, Limits
from gateway.plugins.mqtt.server.homes import Home, Homes
from gateway.plugins.mqtt.server.house import Claim
from gateway.plugins.mqtt.server.publication import Publication
from gateway.plugins.mqtt.server.retained import Retained
from gateway.plugins.mqtt.server.shares import TELL_BYTES, TELL_EVERY, Shares
from gateway.plugins.mqtt.server.subscriptions import Subscription, Subscriptions
from gateway.plugins.mqtt.server.testament import Nobody, Testament
from gateway.plugins.mqtt.server.wire import MqttWire
from gateway.plugins.mqtt.topics import SHARE

SLICE: Final = 500
"""Subscribers served in one turn of the loop: about 5 ms."""
INVALID: Final = Outcome(FAILED, reason="the message is not valid", cause="invalid")
HELLO: Final = 5.0
"""Seconds that the layer may take for that; if it is away the others hear of us later."""
ALPN: Final = ("mqtt",)
"""The protocol's name in TLS (IANA's registry)."""

Targets = list[tuple[Device, Subscription]]


class Server:
    """The server role of one gateway process."""

    def __init__(self, config: MqttConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self.pending = 0
        self.burst = config.message_burst if config.message_rate else math.inf
        self.now = time.time
        self.drop = context.drop
        self.places = Places(config.max_connections, config.max_connections_per_address)
        self._acceptors: list[Acceptor] = []
        self._arrivals: list[Arrivals] = []
        self._dirty: list[MqttWire] = []
        """Connections that have something to write at the end of this turn."""
        self._subscriptions = Subscriptions()
        self._retained = Retained(config.max_retained, config.max_retained_bytes)
        self._fans: deque[tuple[Publication, Targets, int]] = deque()
        """What has not reached all its subscribers yet, and how many it has."""
        self._shares = Shares(context.loop.time)
        self._telling = Deadline(self._tell_again)
        self._others: set[str] = set()
        """The other gateway processes that there are, or were: without any nothing is told."""
        self._heard = asyncio.Event()
        """Set once what this process tells has come back to it."""
        self._number = secrets.randbits(32)
        """The number of the last publish of this process, for whose turn it is."""
        limits = Limits(config.max_queued, config.max_queued_bytes, self.now, context.drop)
        self._homes = Homes(context, limits, self._tell, self._move, self._arrive)
        self._away = 0
        """Sessions whose device is away."""

    def _tell(self, message: Message) -> None:
        try:
            self._bus(message)
        except MessageTooLarge:
            self.drop(Drop.TOO_BIG)

    # ------------------------------------------------ start and stop

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError that names the setting."""
        self._bus = self.context.bus(self._hear)
        self._tell({"shares?": self._homes.name})
        self._tell({"here": self._homes.name})
        with suppress(TimeoutError):
            # The others know of us before what they publish then: it comes to them the same way.
            async with asyncio.timeout(HELLO):
                await self._heard.wait()
        self.context.gauge("sessions", lambda: len(self._homes.here))
        self.context.gauge("subscriptions", lambda: self._subscriptions.count)
        self.context.gauge("retained", lambda: len(self._retained))
        if self.config.max_retained:
            self._tell({"retained?": self._homes.name})
        for endpoint in self.context.endpoints():
            if endpoint.kind == "twisted":
                raise endpoint.error(
                    "mqtt listens at tcp:, unix:, fd: and systemd: endpoints, with tls: before it "
                    "or without"
                )
            tls = self.context.tls(ALPN) if endpoint.tls else None
            arrivals = Arrivals(self.context, self.serve, self.places, tls=tls)
            self._arrivals.append(arrivals)
            self._acceptors.append(
                Acceptor(bind(endpoint), arrivals.take, self.context, spare=endpoint.spare)
            )

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a connection that is there, whoever accepted it."""
        return MqttWire(self, arrived)

    async def stop(self) -> None:
        """Accept nothing more; return when the last connection is gone."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()
        for arrivals in self._arrivals:
            await arrivals.stop()
        await self.context.idle()
        if self._others:
            self._tell({"gone": self._homes.name})
        await self._homes.close(others=bool(self._others))

    def health(self) -> Mapping[str, Any]:
        """Return how much there is."""
        return {
            "ok": True,
            "connections": self.places.open,
            "sessions": len(self._homes.here),
            "subscriptions": self._subscriptions.count,
            "retained": len(self._retained),
        }

    # ------------------------------------------------ what sessions ask for

    def new_client_id(self) -> str:
        """Return a client id for a device that has none."""
        return f"gateway-{secrets.token_hex(8)}"

    def routed(self, kind: str) -> bool:
        """Return whether the application hears of such things."""
        return bool(self.context.routed(kind))

    def heard(self, topic: str) -> bool:
        """Return whether anybody may hear what is published to a topic."""
        return bool(self._others) or self._subscriptions.find(topic).any

    def subscribe(self, device: Device, found: str, subscription: Subscription) -> bool:
        """Subscribe a device; return whether it had that subscription already."""
        if device.subscriptions is None:
            device.subscriptions = {}
        device.subscriptions[found] = subscription
        existed = self._subscriptions.add(found, device, subscription)
        self._share((found,))
        return existed

    def unsubscribe(self, device: Device, found: str) -> bool:
        """End a subscription; return whether there was one."""
        held = device.subscriptions
        if held is None or held.pop(found, None) is None:
            return False
        existed = self._subscriptions.remove(found, device)
        self._share((found,))
        return existed

    def _share(self, filters: Iterable[str]) -> None:
        """Tell all processes, together, who of those of the filters that are shared is here."""
        own = self._shares.own
        before = bool(own)
        told: dict[str, list[int]] = {}
        size = 0
        for found in filters:
            if not found.startswith(SHARE):
                continue
            members = self._subscriptions.sharing(found)
            (own.add if members else own.discard)(found)
            if size > TELL_BYTES:
                self._tell({"shares": told, "from": self._homes.name})
                told, size = {}, 0
            there = sum(1 for device in members if device.line is not None)
            told[found] = [there, len(members)]
            size += len(found)
        if told:
            self._tell({"shares": told, "from": self._homes.name})
        if own and not before:
            self.context.deadlines.set(self._telling, TELL_EVERY)
        elif before and not own:
            self.context.deadlines.forget(self._telling)

    def _tell_again(self) -> None:
        """Tell it again, now and then: who is not heard of any more is not counted on."""
        self.context.deadlines.set(self._telling, TELL_EVERY)
        self._share(self._shares)

    def recall(self, device: Device, found: str) -> None:
        """Send a device the retained messages that one of its filters matches."""
        matching = self._retained.find(found, self.now())
        if matching:
            self._recall(device, found, iter(matching))

    def _recall(self, device: Device, found: str, rest: Iterator[Publication]) -> None:
        again = partial(self._recall, device, found, rest)
        subscription = (device.subscriptions or {}).get(found)
        for one in islice(rest, SLICE):
            if subscription is None:
                return
            if self._retained.has(one):  # else it had what is newer already
                qos = min(one.qos, subscription.qos)
                device.send(one, qos, subscription.ids, retain=True)
            if device.waiting and device.line is not None and subscription.qos:
                device.then(again)  # at the device's pace: there may be more than may wait
                return
        if length_hint(rest):
            self.context.loop.call_soon(again)

    # ------------------------------------------------ what is published

    def publish(self, channel: str, message: Message) -> None:
        """Publish what was sent to ``mqtt.publish`` or to an address."""
        try:
            publication = self._publication(channel, message)
        except (LocalProtocolError, ValueError) as error:
            self.drop(Drop.INVALID)
            self.context.log.warning("%s: invalid publish dropped: %s", channel, error)
            self.context.answer(channel, message, INVALID)
            return
        self.relay(publication)
        self.context.answer(channel, message, OK)

    @staticmethod
    def _publication(channel: str, message: Message) -> Publication:
        msgspec.convert(message, messages.Reply)
        if unknown := message.keys() - messages.Reply.__annotations__.keys():
            raise LocalProtocolError(f"unknown key {min(unknown)!r}")
        if message.get("text") is not None and message.get("bytes") is not None:
            raise LocalProtocolError("both 'text' and 'bytes'")
        topic = message.get("topic")
        if topic is None and "!" in channel:
            topic = parse_address(channel)[1]
        return Publication(
            translate.checked_topic(topic),
            translate.payload(message),
            message.get("qos", 0),
            retain=message.get("retain", False),
            properties=translate.properties(message),
            expires=message.get("expiry"),
        )

    def relay(self, publication: Publication) -> None:
        """Publish to the subscribers of all gateway processes; ``expires`` is in seconds."""
        if publication.expires is not None:
            publication.expires += self.now()
        self._number += 1
        if not self._others:
            self._take(publication, self._number)
            return
        self._tell({"publish": publication.packed(), "number": self._number})

    def _take(self, publication: Publication, number: int) -> None:
        """Keep what is retained, and serve the subscribers of this process."""
        if publication.retain and not self._retained.keep(publication):
            self.drop(Drop.LIMITED)
        self._fan_out(publication, number)

    def _hear(self, message: Message) -> None:
        """Take what any gateway process tells."""
        if "publish" in message:
            self._take(Publication.unpacked(message["publish"]), message["number"])
        elif "here" in message:
            if message["here"] == self._homes.name:
                self._heard.set()
            elif message["here"] not in self._others:
                self._others.add(message["here"])
                self._tell({"here": self._homes.name})
        elif "gone" in message:
            self._others.discard(message["gone"])
            self._shares.forget(message["gone"])
        elif "shares" in message:
            for found, members in message["shares"].items():
                self._shares.told(found, message["from"], *members)
        elif "shares?" in message:
            self._share(self._shares)
        elif "retained?" in message:
            if message["retained?"] != self._homes.name:
                for publication in self._retained:
                    self._tell({"retained": publication.packed(), "to": message["retained?"]})
        elif "retained" in message:
            if message["to"] == self._homes.name:
                publication = Publication.unpacked(message["retained"])
                if not self._retained.find(publication.topic, self.now()):
                    self._retained.keep(publication)
        else:
            self._homes.hear(message)

    def _fan_out(self, publication: Publication, number: int) -> None:
        found = self._subscriptions.find(publication.topic)
        targets = found.members
        if found.shared:
            targets = targets + [
                one for share in found.shared if (one := self._one_of(*share, number)) is not None
            ]
        if self._fans or len(targets) > SLICE:
            self._fans.append((publication, targets, 0))
            if len(self._fans) == 1:
                self._slice()
        else:
            self._serve(publication, targets)

    def _slice(self) -> None:
        publication, targets, done = self._fans.popleft()
        self._serve(publication, targets[done : done + SLICE])
        done += SLICE
        if done < len(targets):
            self._fans.appendleft((publication, targets, done))
        if self._fans:
            self.context.loop.call_soon(self._slice)

    def _one_of(
        self, found: str, members: Targets, number: int
    ) -> tuple[Device, Subscription] | None:
        """Return whose turn it is in a shared subscription, if it is one of this process."""
        chosen = self._shares.choose(found, number)
        if chosen is None or chosen[0] != self._homes.name:
            return None
        there = [one for one in members if one[0].line is not None] or members
        return there[chosen[1] % len(there)]

    def _serve(self, publication: Publication, targets: Targets) -> None:
        """Hand a publication to subscribers; this loop is what it costs."""
        most, retain, source = publication.qos, publication.retain, publication.source
        now = self.now()
        if publication.has_expired(now):
            return
        halves = publication.halves
        for device, subscription in targets:
            if subscription.no_local and device.client_id == source:
                continue
            kept = retain and subscription.as_published
            qos = min(most, subscription.qos)
            line = device.line
            if not qos and line is not None and line.aliases is None:
                frame = halves(line.protocol, 0, subscription.ids, now, retain=kept)[0]
                if len(frame) <= line.max_packet:
                    line.push(frame, len(frame))
                    continue
            device.send(publication, qos, subscription.ids, retain=kept)

    def soon(self, wire: MqttWire) -> None:
        """Have a connection flushed at the end of this turn."""
        if not self._dirty:
            self.context.loop.call_soon(self._flush)
        self._dirty.append(wire)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            try:
                wire.flush()
            except Exception:
                self.context.log.exception("a connection could not be written to")

    # ------------------------------------------------ sessions come and go

    def claim(self, wire: MqttWire, claim: Claim) -> None:
        """Get the session of MQTT that a connection asked for."""

        def begin(home: Home, wire: MqttWire, found: bool) -> None:
            self._begin(home, wire, found=found, clean=claim.clean)

        self._homes.claim(wire, claim.client_id, begin)

    def _begin(self, home: Home, wire: MqttWire, *, found: bool, clean: bool) -> None:
        connection = wire.connection
        if connection is None or self.context.draining:
            return
        old, home.wire = home.wire, None
        if old is not None:
            ended = not home.device.expiry  # with the connection that it had
            self._take_over(old, home, over=ended or clean)
            if ended:
                self._clear(home)
                found = False
        if home.deadline is not None:
            self.context.deadlines.forget(home.deadline)
            home.deadline = None
            self._away -= 1
        if home.last_will is not None and not clean:
            self.context.deadlines.forget(home.last_will)
            home.last_will = None
        if clean and found:
            self._clear(home)
        device = home.device
        self._subscribe_all(device)
        home.wire = wire
        wire.session.line = wire.line()
        connection.run(wire.session.begin(device, present=found and not clean))
        wire.let_in()
        self._share_all(device)

    def _subscribe_all(self, device: Device) -> None:
        for name, subscription in (device.subscriptions or {}).items():
            self._subscriptions.add(name, device, subscription)

    def _share_all(self, device: Device) -> None:
        """Tell all processes that a member of shared subscriptions has come or gone."""
        self._share(device.subscriptions or ())

    def _take_over(self, old: MqttWire, home: Home, *, over: bool) -> None:
        """End a connection in favour of a newer one; ``over``: its session ends with it."""
        home.device.disconnected()
        will, old.session.will = old.session.will, None
        if old.connection is not None:
            old.connection.run(old.session.taken_over())
        if will is not None and (over or not will.properties.get("will_delay_interval")):
            # section 3.1.3.2.2: who comes back to its session in time wants it no more
            self._publish_will(home.device.client_id, will, old.peer)

    def left(self, wire: MqttWire) -> None:
        """Hear that a connection is gone."""
        session = wire.session
        home = self._homes.here.get(session.client_id)
        if home is None or home.wire is not wire:
            return
        home.wire = None
        device = home.device
        device.disconnected()
        will, session.will = session.will, None
        delay = 0
        if will is not None:
            delay = min(will.properties.get("will_delay_interval", 0), device.expiry)
            if delay:
                self._delay_will(home, will, delay, wire.peer)
            else:
                self._publish_will(device.client_id, will, wire.peer)
        self._keep(home)

    def _keep(self, home: Home) -> None:
        """Keep a session whose device is away, for as long as it may be."""
        device = home.device
        if not device.expiry:
            self._end(home)
            return
        home.deadline = Deadline(lambda: self._expire(home))
        if device.expiry < 0xFFFFFFFF:  # section 3.1.2.11.2: that one does not expire
            self.context.deadlines.set(home.deadline, device.expiry)
        self._away += 1
        self._share_all(device)
        if self._away > self.config.max_sessions:
            oldest = next(one for one in self._homes.here.values() if one.deadline is not None)
            self.drop(Drop.LIMITED)
            self._expire(oldest)

    def _arrive(self, home: Home) -> None:
        """Keep a session that came from another gateway process for a device that has left."""
        self._subscribe_all(home.device)
        self._keep(home)

    def _delay_will(self, home: Home, will: Will, delay: int, peer: Peer) -> None:
        def due() -> None:
            home.last_will = None
            self._publish_will(home.device.client_id, will, peer)

        home.last_will = Deadline(due)
        self.context.deadlines.set(home.last_will, delay)

    def _publish_will(self, client_id: str, will: Will, peer: Peer) -> None:
        """Hand a will to the application, and what it accepts to subscribers."""
        relay = self.relay if self.config.relay == "accepted" else None
        attached: list[Connection] = []

        def gone() -> None:
            self.context.loop.call_soon(attached[0].lost)

        session = Testament(client_id, will, relay)
        attached.append(self.context.attach(session, Nobody(gone), peer))

    def _expire(self, home: Home) -> None:
        self._away -= 1
        self._end(home)

    def _clear(self, home: Home) -> None:
        """Let a session begin anew: what it had is gone (section 3.1.2.4)."""
        device = home.device
        for name in device.subscriptions or ():
            self._subscriptions.remove(name, device)
        self._share(device.subscriptions or ())
        if lost := device.forget():
            self.context.drop(Drop.GONE, lost)
        self._homes.renew(home)
        if (last_will := home.last_will) is not None:
            self.context.deadlines.forget(last_will)
            home.last_will = None
            last_will.due()  # section 3.1.3.2.2: when the session ends, if that is first

    def _end(self, home: Home) -> None:
        self._clear(home)
        self._homes.end(home)

    def _move(self, home: Home) -> None:
        """End what is here of a session that moves to another gateway process."""
        device = home.device
        for name in device.subscriptions or ():
            self._subscriptions.remove(name, device)
        self._share(device.subscriptions or ())
        if home.deadline is not None:
            self._away -= 1
        wire, home.wire = home.wire, None
        if wire is not None:
            self._take_over(wire, home, over=not device.expiry)
