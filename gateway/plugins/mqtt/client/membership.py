"""One broker: its session, its connections one after the other, its subscriptions and publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.core.client import Link as Kept
from gateway.core.client import Target, keep_connected
from gateway.core.metrics import Drop
from gateway.core.plugin import Close, Connection, Context, Message, Peer
from gateway.plugins.mqtt import reasons
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.library import Client, Tls, named, received
from gateway.plugins.mqtt.client.link import Link
from gateway.plugins.mqtt.client.outgoing import Outgoing
from gateway.plugins.mqtt.client.session import BrokerSession, Joined
from gateway.plugins.mqtt.client.subscriptions import Subscriptions
from gateway.plugins.mqtt.client.terms import (
    Acknowledge,
    Arrived,
    Down,
    Publish,
    Published,
    Reading,
    Subscribed,
    Up,
)
from gateway.plugins.mqtt.config import MqttConfig

TICK: Final = 1.0
"""Seconds between two looks at what workers want, and at what expires: both are in seconds."""
FAREWELL: Final = 1.0
"""Seconds for what is on its way to the broker to be acknowledged, once the session is to end."""
INFLIGHT: Final = 20
"""Publishes of QoS 1 and 2 in flight where a broker says nothing: what brokers of 3.1.1 take."""


class Membership:
    """The gateway as a client of one broker. It is the wire of its `BrokerSession`.

    ``leaving`` is called once it takes nothing more to publish, as the gateway is to stop.
    """

    def __init__(
        self,
        context: Context,
        config: MqttConfig,
        name: str,
        target: Target,
        tls: Tls,
        client_id: str,
        *,
        default: bool,
        leaving: Callable[[], None],
    ) -> None:
        self.name = name
        self.broker: Broker = config.brokers[name]
        self.kept = Kept()
        self.tried = asyncio.Event()
        """Set once there was a connection, or an attempt that failed."""
        self._context = context
        self._config = config
        self._leaving = leaving
        self._client_id = client_id
        self._default = default
        self._client = Client(self.broker, target, client_id, tls)
        self._client.max_inflight_messages_set(65_535)  # `Outgoing` counts them
        self._link = Link(context, self._client, self, self.broker.keepalive)
        self._subscriptions = Subscriptions(self.broker)
        self._outgoing = Outgoing(self.broker.max_queued, self.broker.max_queued_bytes)
        self._connection: Connection | None = None
        self._session: BrokerSession | None = None
        self._joined: Joining | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._closing = False
        """Whether the session is ending."""
        self._stopping = False
        self._first = True
        """Whether this process has not joined before."""
        self._most = 0
        """The bytes of a packet that the broker takes; 0: any."""
        self._best_qos = 2
        self._retains = True

    # ------------------------------------------------ from the start to the end

    async def keep(self) -> None:
        """Be joined until cancelled."""
        self._task = asyncio.current_task()
        self._tick()
        try:
            await keep_connected(
                self._once,
                self._context,
                self.kept,
                label=self.name,
                patience=self.broker.connect_timeout,
                longest=self.broker.retry_longest,
            )
        finally:
            self._end()

    async def _once(self, connected: Callable[[], None]) -> None:
        if self._connection is None:
            self._begin()
        try:

            def joined() -> None:
                connected()
                self.tried.set()

            await self._link.join(joined)
        finally:
            self.tried.set()

    def _begin(self) -> None:
        """Begin a session with the application."""
        self._closing = False
        self._session = session = BrokerSession(
            self.name, self.broker, self._config, self._client_id, default=self._default
        )
        self._connection = self._context.attach(session, self, Peer())
        self._connection.received(Subscribed(self._subscriptions.filters))

    def _end(self) -> None:
        """Have nothing any more: the task has ended, and others may join now."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._link.cut()
        if self._connection is not None:
            self._connection.run((Close(abort=True),))
            self._over()
        for _ in self._outgoing.lost():
            self._context.drop(Drop.GONE)

    def stop(self) -> None:
        """Be joined until what is in hand is acknowledged, and never again."""
        self._stopping = True
        if self._connection is None or not self._link.is_up:
            self._leave()

    def _leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._over()

    def _over(self) -> None:
        """Have the session ended: its transport is gone."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            connection.lost()

    def facts(self) -> Mapping[str, Any]:
        """Return facts for a health check."""
        facts = dict(self.kept.facts())
        if self._subscriptions.refused:
            facts["refused"] = dict(self._subscriptions.refused)
        if self._subscriptions.looping:
            facts["looping"] = sorted(self._subscriptions.looping)
        return {**facts, "unsent": len(self._outgoing)}

    @property
    def is_well(self) -> bool:
        """Whether everything that is wanted is subscribed to. To be away is no illness."""
        return not self._subscriptions.refused and not self._subscriptions.looping

    def is_connected(self) -> float:
        """Return 1 while there is a connection, else 0: a gauge."""
        return float(self._link.is_up)

    def waiting(self) -> float:
        """Return how many publishes are not done: a gauge."""
        return float(len(self._outgoing))

    # ------------------------------------------------ what the session writes

    def write(self, output: Any) -> None:
        """Do what the session says."""
        kind = output.__class__
        if kind is Acknowledge:
            self._acknowledge(output)
        elif kind is Publish:
            self._publish(output)
        elif kind is Reading:
            self._link.read(on=output.on)
        else:
            self._context.count("duplicates_total", broker=self.name)

    def _acknowledge(self, output: Acknowledge) -> None:
        if output.code:
            self._context.count("refusals_total", broker=self.name)
        if output.foreign:
            self._context.drop(Drop.FOREIGN_CODE)
        if self._link.is_up:
            self._client.acknowledge(output.packet_id, output.qos, output.code)

    def close(self, data: Any, *, abort: bool) -> None:
        """End the session: what is unacknowledged comes again by the next one."""
        self._closing = True
        if self._stopping:
            self._leaving()
        if self._link.is_up and not abort:
            # What consumers have said to the last messages goes out before.
            if self._outgoing:
                self._context.loop.call_later(FAREWELL, self._link.leave)
            else:
                self._link.leave()
        elif self._link.is_up:
            self._link.cut()
        else:
            self._context.loop.call_soon(self._closed, self._connection)

    def _closed(self, connection: Connection | None) -> None:
        if connection is not None and connection is self._connection:
            self._over()
            if self._stopping:
                self._leave()

    def pause(self) -> None:
        """Read no more for now."""
        self._link.read(on=False)

    def resume(self) -> None:
        """Read on."""
        self._link.read(on=True)

    # ------------------------------------------------ publishes

    def reply(self, message: Message, channel: str | None) -> None:
        """Take what was sent to an address, or to the normal channel."""
        if self._connection is None:
            self._context.undelivered(channel or "", message)
        else:
            self._context.reply(self._connection, None, message, channel)

    def _publish(self, publish: Publish) -> None:
        now = self._context.loop.time()
        if not self._outgoing.put(publish, now):
            self._lost(publish, Drop.SLOW)
        else:
            self._pump()

    def _lost(self, publish: Publish, cause: Drop) -> None:
        self._context.drop(cause)
        self._tell(publish.token, cause=cause.value)

    def _tell(self, token: Any, code: int = 0, cause: str = "") -> None:
        if token.__class__ is tuple:
            connection, token = token  # of what tells of one connection (`Joining`)
            connection.received(Published(token, code, cause))
        elif token is not None and self._connection is not None:
            self._connection.received(Published(token, code, cause))

    def _pump(self) -> None:
        """Send what waits, as far as it may be in flight."""
        now = self._context.loop.time()
        while self._link.is_writable and (entry := self._outgoing.next()) is not None:
            publish = entry.rest(now)
            size = len(publish.payload) + len(publish.topic.encode()) + 5
            if entry.is_over(now):
                self._lost(publish, Drop.EXPIRED)
            elif self._most and size > self._most:
                self._lost(publish, Drop.TOO_BIG)
            elif not self._say(publish):
                self._outgoing.back(entry)
                return

    def _say(self, publish: Publish) -> bool:
        """Have paho publish; False: not now."""
        try:
            info = self._client.say(publish, self._best_qos, retains=self._retains)
        except ValueError as error:
            self._context.log.warning("%s: a publish is dropped: %s", self.name, error)
            self._lost(publish, Drop.INVALID)
            return True
        if info.rc:
            return False  # its packet identifier is taken, or the connection has just gone
        self._context.count("published_total", broker=self.name)
        if publish.qos and self._best_qos:
            self._outgoing.sent(info.mid, publish)
        else:
            self._tell(publish.token)
        return True

    # ------------------------------------------------ what the link says

    def joined(self, *, resumed: bool, properties: Any) -> None:
        """Begin with a connection: the session goes on, what is missing is subscribed to."""
        said = named(properties)
        self._outgoing.inflight = said.get("receive_maximum", INFLIGHT)
        self._most = said.get("maximum_packet_size", 0)
        self._best_qos = said.get("maximum_qos", 2)
        self._retains = bool(said.get("retain_available", 1))
        self._context.count("joins_total", broker=self.name, resumed=str(resumed).lower())
        if self._connection is None or self._session is None:
            self._link.leave()  # it was ended meanwhile
            return
        self._joined = Joining(self._context, self._session, self, self._connect(said))
        self._connection.received(Up(resumed))
        # What an earlier process has subscribed to is not known: everything is said again.
        self._subscriptions.joined(resumed=resumed and not self._first)
        self._first = False
        self._look()
        self._subscribe(again=resumed)
        # Not before paho has sent again what was in flight, which it does when this returns.
        self._context.loop.call_soon(self._pump)

    def _connect(self, said: dict[str, Any]) -> Message:
        broker = self.broker
        return {
            "client_id": self._client_id,
            "protocol": 5 if broker.version == "5" else 4,
            "username": broker.username or None,
            "clean_start": False,
            "keepalive": said.get("server_keep_alive", broker.keepalive),
            "properties": said,
            "broker": self.name,
        }

    def parted(self, code: int, reason: str) -> None:
        """End with a connection: what is in hand stays."""
        joined, self._joined = self._joined, None
        if joined is not None:
            joined.end(code, reason)
        connection = self._connection
        if connection is None:
            return
        connection.received(Down())
        self._context.loop.call_soon(self._gone, connection)

    def _gone(self, connection: Connection) -> None:
        """End the session too, if it is closing: its last words are written."""
        if self._closing or self._stopping:
            self._closed(connection)

    def message(self, message: Any) -> None:
        """Take a publish of the broker's."""
        connection = self._connection
        if connection is None:
            return
        try:
            found = received(message, self._client_id, self.name)
        except UnicodeDecodeError:
            self._context.drop(Drop.INVALID)
            if message.qos:
                self._client.acknowledge(message.mid, message.qos, reasons.BAD_TOPIC)
            return
        connection.received(Arrived(found, message.qos, message.mid, duplicate=bool(message.dup)))

    def published(self, packet_id: int, code: int) -> None:
        """Take what the broker says of a publish."""
        if code >= reasons.ERROR:
            self._context.count("publishes_refused_total", broker=self.name)
        self._tell(self._outgoing.done(packet_id), code)
        if self._outgoing:
            self._pump()
        elif self._closing:
            self._link.leave()

    def writable(self) -> None:
        """Send what has waited."""
        if self._outgoing:
            self._pump()
        if self._closing and not self._outgoing:
            self._link.leave()

    def _tick(self) -> None:
        """Look at what is wanted, and what has waited too long; once a second."""
        self._ticking = self._context.loop.call_later(TICK, self._tick)
        if self._link.is_up:
            self._look()
            self._subscribe(again=True)
        for publish in list(self._outgoing.expired(self._context.loop.time())):
            self._lost(publish, Drop.EXPIRED)

    # ------------------------------------------------ subscriptions

    def _look(self) -> None:
        """Look at what workers want."""
        if not self.broker.routes:
            return
        before = self._subscriptions.filters
        looping = self._subscriptions.looping
        over = self._subscriptions.want(self._context.wanted("receive"), self._context.loop.time())
        for found in self._subscriptions.looping - looping:
            self._context.log.error(
                "%s: %r is not subscribed to: mqtt.brokers.%s.publish overlaps it, and the broker "
                "would send our publishes back; narrow one of the two, or set allow_loop",
                self.name,
                found,
                self.name,
            )
        if over:
            self._client.unsubscribe([self._subscriptions.written(found) for found in over])
        if self._subscriptions.filters != before and self._connection is not None:
            self._connection.received(Subscribed(self._subscriptions.filters))

    def _subscribe(self, *, again: bool) -> None:
        missing = self._subscriptions.missing()
        if missing and self._link.is_up:
            written = [self._subscriptions.written(found) for found in missing]
            packet_id = self._client.ask(written, again=again)
            if packet_id is not None:
                self._subscriptions.asked(packet_id, missing)

    def subscribed(self, packet_id: int, codes: list[int]) -> None:
        """Take the broker's answer."""
        for found in self._subscriptions.answered(packet_id, codes):
            self._context.count("subscriptions_refused_total", broker=self.name)
            self._context.log.error("%s: the broker refused the subscription %r", self.name, found)


class Joining:
    """The wire of a `Joined`: nothing is written to it that is not the session's."""

    def __init__(
        self, context: Context, session: BrokerSession, membership: Membership, connect: Message
    ) -> None:
        self._context = context
        self._membership = membership
        self._session = Joined(session, connect)
        self._connection = context.attach(self._session, self, Peer())

    def end(self, code: int, reason: str) -> None:
        """Tell the application that it is over."""
        self._session.code = code
        self._session.reason = reason
        self._connection.lost()

    def write(self, output: Any) -> None:
        """Have the membership publish."""
        if output.token is not None:
            output = msgspec.structs.replace(output, token=(self._connection, output.token))
        self._membership.write(output)

    def close(self, data: Any, *, abort: bool) -> None:
        """Be gone for the application; the connection is the session's to end."""
        self._context.loop.call_soon(self._connection.lost)

    def pause(self) -> None:
        """Nothing is read here."""

    def resume(self) -> None:
        """Nothing is read here."""
