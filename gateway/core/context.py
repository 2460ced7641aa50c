"""What one started plugin has of the engine: its `Context`, and what is computed once for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec

from gateway.core import plugin
from gateway.core.attached import GATEWAY, Connection
from gateway.core.conversation import Branch
from gateway.core.emission import branch
from gateway.core.errors import ConfigError, PluginError
from gateway.core.gathering import Gathered, Gathering
from gateway.core.kinds import Kind
from gateway.core.layers import codec
from gateway.core.layers.base import OK, Outcome
from gateway.core.listen import Listen
from gateway.core.metrics import Drop, Histogram
from gateway.core.names import escape, process_of, wanted_of
from gateway.core.outbox import GONE, INVALID
from gateway.core.plugin import Emit, Message, Peer, ProtocolPlugin, Session, Summary, Wire
from gateway.core.recorded import Recorded
from gateway.core.relay import Ask, Asked, Location, Unanswered
from gateway.core.reply import InvalidReply, ReplyReader, is_ack_channel
from gateway.core.singletons import Held
from gateway.core.tls import Offer, Tls
from gateway.core.web import Claim, Exchange

if TYPE_CHECKING:
    from gateway.core.connection import Engine

SERVER_LOST: Final = "server-lost"
"""What a disconnect says that the layer offers for a process that is lost."""


class PluginContext(plugin.Context):
    """The context of one plugin. Made by `Engine.context`.

    A plugin's ``Config`` may have the fields ``window``, ``inbox_messages``, ``inbox_bytes``,
    ``outbox_messages``, ``outbox_bytes``, ``slow_consumer``, ``full_timeout`` and
    ``queue_timeout`` (seconds that a connect or request waits for room); each that it lacks
    is taken from ``[gateway]``, ``queue_timeout`` from ``full_timeout``. With ``close_timeout``
    (seconds) a peer is cut off that does not read what stands before a ``close``; with
    ``farewell_timeout`` one that does not come for its replies is not waited for at a shutdown.
    """

    def __init__(
        self,
        engine: Engine,
        plugin_class: type[ProtocolPlugin],
        config: Any,
        listeners: Sequence[Listen],
        claims: Sequence[Claim],
        tls: Tls | None,
    ) -> None:
        self.engine = engine
        self.name = plugin_class.name
        self.prefix = f"{self.name}."
        """What the names of its channels begin with."""
        self.log = logging.getLogger(f"gateway.plugins.{self.name}")
        self.loop = engine.loop
        self.deadlines = engine.deadlines
        self.open = 0
        """Its living connections."""
        self._emptied: asyncio.Event | None = None
        self._listeners = listeners
        self._claims = claims
        self._connection = Connection if engine.access is None else Recorded
        self._tls = tls
        self._reads = plugin_class.reads
        self._wanted: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._read_bounds(config)
        self._read_schemas(plugin_class.messages)
        engine.metrics.gauge("gateway_connections", lambda: self.open, plugin=self.name)

    def _read_bounds(self, config: Any) -> None:
        settings = self.engine.settings

        def setting(name: str) -> Any:
            own = getattr(config, name, None)
            return getattr(settings, name) if own is None else own

        self.window: int = setting("window")
        self.inbox_messages: int = setting("inbox_messages")
        self.inbox_bytes: int = setting("inbox_bytes")
        self.outbox_messages: int = setting("outbox_messages")
        self.outbox_bytes: int = setting("outbox_bytes")
        self.slow_consumer: str = setting("slow_consumer")
        self.full_timeout: float = setting("full_timeout")
        queue_timeout = getattr(config, "queue_timeout", None)
        self.queue_timeout: float = self.full_timeout if queue_timeout is None else queue_timeout
        self.close_timeout: float | None = getattr(config, "close_timeout", None)
        self.farewell_timeout: float | None = getattr(config, "farewell_timeout", None)

    def _read_schemas(self, messages: Any) -> None:
        try:
            kinds: dict[str, Any] = messages.KINDS
            self.reader = ReplyReader(messages.REPLY, self.name, self.engine.protocols)
            self.pins = "pin" in get_type_hints(messages.REPLY)
        except (AttributeError, TypeError) as error:
            raise PluginError(
                f"plugin {self.name!r}: its messages module needs KINDS (kind -> TypedDict) and "
                f"REPLY (TypedDict): {error}"
            ) from None
        metrics = self.engine.metrics
        self.accepts_all = "connect" not in kinds
        """Whether its connections are open from the start: nothing decides on them."""
        self.kinds: dict[str, Kind] = {}
        for name in kinds:
            opening = self.accepts_all or name == "connect"
            self.kinds[name] = Kind(
                self.name,
                name,
                opening=opening,
                patience=self.queue_timeout if opening else self.full_timeout,
                emitted=metrics.counter("gateway_messages_total", plugin=self.name, kind=name),
            )
        self.replies = metrics.counter("gateway_replies_total", plugin=self.name)
        self.fanned_out = metrics.counter("gateway_group_deliveries_total", plugin=self.name)
        self.replayed = metrics.counter("gateway_replayed_messages_total", plugin=self.name)
        self.missed = metrics.counter("gateway_replays_missed_total", plugin=self.name)
        self.disconnect = f"{self.name}.disconnect"
        self.server_lost = _server_lost(kinds.get("disconnect"))

    # ------------------------------------------------ connections

    def attach(
        self,
        session: Session,
        wire: Wire,
        peer: Peer,
        exchange: Exchange | None = None,
        names: Callable[[str | None], str | None] | None = None,
    ) -> Connection:
        """Begin a connection: give it a reply channel and call ``session.opened``."""
        engine = self.engine
        engine.attached = number = engine.attached + 1
        reply_channel = f"{self.name}.send.{engine.process}!{number:x}"
        connection = self._connection(self, reply_channel, session, wire, peer)
        if exchange is not None and isinstance(connection, Recorded):
            connection.came_by(exchange)
        if names is not None:
            connection.names = names
            branch(connection, None)
        engine.by_channel[reply_channel] = connection
        self.open += 1
        connection.enter(GATEWAY, session.opened, peer)
        return connection

    def emit(self, connection: plugin.Connection, emit: Emit) -> None:
        """Emit for a session from outside its methods (a transport's own event)."""
        connection.run((emit,))

    def detach(self, connection: plugin.Connection) -> None:
        """End a connection from the plugin's side, as if the transport were gone."""
        connection.lost()

    def meet(self, connection: plugin.Connection, peer: Peer) -> None:
        """Say who is at the other end, where more is known of it now."""
        if isinstance(connection, Connection):
            connection.peer = peer

    def connections(self) -> Iterator[Connection]:
        """Iterate over the plugin's living connections, as they are now."""
        for found in list(self.engine.by_channel.values()):
            if isinstance(found, Connection) and found.context is self:
                yield found

    # ------------------------------------------------ channels

    def listen(self, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Have ``deliver(channel, message)`` called for what comes to a channel of ``reads``."""
        if channel not in self._reads:
            said = ", ".join(map(repr, self._reads)) or "none"
            raise PluginError(
                f"plugin {self.name!r} may not read channel {channel!r}: its class names {said} in "
                f"'reads'; write {channel!r} there"
            )
        owner, _, verb = channel.partition(".")
        foreign = owner != self.name and owner in self.engine.plugins
        if foreign or process_of(channel) is not None or "?" in channel:
            raise PluginError(
                f"plugin {self.name!r} may not read channel {channel!r}, which is somebody else's; "
                f"name one in 'reads' that begins with '{self.name}.'"
            )
        if owner == self.name and verb in self.kinds:
            raise PluginError(
                f"plugin {self.name!r} may not read channel {channel!r}: that is what it emits, "
                "and for the application; take another word"
            )
        self.engine.listen(self.name, channel, partial(self._hear, deliver))

    def _hear(
        self, deliver: Callable[[str, Message], None], channel: str, message: Message
    ) -> None:
        """Hand over what came to a channel of ``reads``, as far as it is for this protocol."""
        reader = self.reader
        if not reader.protocols.isdisjoint(message):
            try:
                own = reader.own(message)
            except InvalidReply as error:
                self.drop(Drop.INVALID)
                self.log.warning("%s: invalid message dropped: %s", channel, error)
                self.answer(channel, message, INVALID)
                return
            if own is None:
                self.answer(channel, message, OK)
                return
            message = own
        deliver(channel, message)

    def read(self, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Have ``deliver(channel, message)`` called for what comes to a single-reader channel."""
        if not is_ack_channel(channel):
            raise ValueError(f"{channel[:40]!r} is no single-reader channel: it has no '?'")
        self.engine.listen(self.name, channel, deliver)

    def unlisten(self, channel: str) -> None:
        """Read a channel no more: what comes waits for whoever reads it next."""
        self.engine.unlisten(self.name, channel)

    def reply(
        self,
        connection: plugin.Connection,
        conversation: str | None,
        message: Message,
        channel: str | None = None,
    ) -> None:
        """Hand a message that came to an address to a connection, as a reply."""
        if not isinstance(connection, Connection):
            return
        if channel is None:
            found = branch(connection, conversation)
        else:
            found = Branch(connection, conversation, channel)
        connection.reply(found, codec.encode(message))

    def outlive(
        self,
        connection: plugin.Connection,
        conversation: str,
        deliver: Callable[[str, Message], None],
    ) -> Callable[[], None]:
        """Have replies to a conversation delivered once it is gone; return what ends that."""
        if not isinstance(connection, Connection):
            raise TypeError(f"not a connection of this context: {connection!r}")
        channel = branch(connection, conversation).reply_channel

        def heard(payload: bytes) -> None:
            self.replies.value += 1
            try:
                reply = self.reader.read(payload)
            except InvalidReply as error:
                self.drop(Drop.INVALID)
                self.log.warning("%s: invalid reply dropped: %s", channel, error)
                return
            if reply is None:
                self.engine.answer(payload, channel, OK)
            else:
                deliver(channel, reply)

        self.engine.late[channel] = heard
        return partial(self._forget, channel)

    def _forget(self, channel: str) -> None:
        self.engine.late.pop(channel, None)

    def undelivered(self, channel: str, message: Message) -> None:
        """Count what came to an address where nobody is, and answer its ``ack``."""
        self.drop(Drop.GONE)
        self.answer(channel, message, GONE)

    def answer(self, channel: str, message: Message, outcome: Outcome) -> None:
        """Answer the ``ack`` of a message that came to ``channel``, if it wants one."""
        ack, ack_channel = message.get("ack"), message.get("ack_channel")
        if type(ack) is int and isinstance(ack_channel, str) and is_ack_channel(ack_channel):
            self.engine.acknowledge(ack, ack_channel, channel, outcome)

    def bus(self, deliver: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return what tells the same plugin in all gateway processes, this one among them."""
        engine, group = self.engine, f"{self.name}.gateways"
        engine.board(group, deliver)

        def tell(message: Message) -> None:
            engine.edge.group_send(group, codec.encode(message, self.message_bytes))

        return tell

    def gather(self, prefix: str, gathering: Gathering, own: type[Session]) -> Gathered:
        """Have ``gathering`` serve the groups whose names begin with ``prefix``."""
        if not prefix.startswith(self.prefix):
            raise PluginError(
                f"plugin {self.name!r} may not gather groups {prefix!r}, which may be somebody "
                f"else's; take a prefix that begins with {self.prefix!r}"
            )
        gathered = Gathered(self.engine, self, prefix, gathering, own)
        self.engine.gathered.append(gathered)
        return gathered

    def locate(self, deliver: Callable[[Ask], None]) -> Location:
        """Return a new location, at which requests of any gateway process find ``deliver``."""
        return self.engine.relay.locate(self.name, deliver)

    def ask(
        self,
        location: str,
        message: Message,
        heard: Callable[[Message | Unanswered], None],
        seconds: float,
        *,
        waits: bool = False,
    ) -> Asked:
        """Ask what has a location of this plugin, in whatever gateway process."""
        relay = self.engine.relay
        return relay.ask(self.name, location, message, heard, seconds, waits=waits)

    def routed(self, kind: str) -> bool | None:
        """Return whether a living worker routes ``NAME.kind``; None while no worker lives."""
        announced = self.engine.flow.announced
        return None if announced is None else f"{self.name}.{kind}" in announced

    def wanted(self, kind: str) -> frozenset[str] | None:
        """Return what living workers want of ``NAME.kind``; None while no worker lives."""
        announced = self.engine.flow.announced
        if announced is None:
            return None
        last, found = self._wanted.get(kind, (None, frozenset()))
        if last is not announced:
            found = wanted_of(f"{self.name}.{kind}", announced)
            self._wanted[kind] = (announced, found)
        return found

    # ------------------------------------------------ the rest

    @property
    def message_bytes(self) -> int:
        """The most bytes of one encoded message that the layer takes."""
        return self.engine.edge.options.message_bytes

    def endpoints(self) -> list[Listen]:
        """Return the plugin's listeners, bound or to bind."""
        return list(self._listeners)

    def tls(self, alpn: Sequence[str] = ()) -> Offer:
        """Return what TLS connections begin with. Raises ConfigError where ``[tls]`` is empty."""
        if self._tls is None:
            raise ConfigError(
                "there is no certificate: set tls.certificate to a PEM file (and tls.key, unless "
                "the key stands in it)"
            )
        return self._tls.offer(alpn)

    def claims(self) -> list[Claim]:
        """Return the claims on requests of the http port, highest priority first."""
        return sorted(self._claims, key=lambda claim: -claim.priority)

    @property
    def settles(self) -> bool:
        """Whether the layer says what became of a message."""
        return self.engine.settles

    @property
    def outbound(self) -> bool:
        """Whether there is anything to connect out to."""
        return self.engine.outbound

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""
        return self.engine.draining

    async def idle(self) -> None:
        """Return once the plugin has no connection any more; for its ``stop``."""
        if self.open:
            # One for all that wait: a plugin may have several parts.
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def left(self) -> None:
        """Count a connection less."""
        self.open -= 1
        if not self.open and self._emptied is not None:
            self._emptied.set()
            self._emptied = None

    def spawn(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until the plugin stops; its exceptions are logged."""
        task = self.loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(partial(_ended, self._tasks, self.log))
        return task

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add to the plugin's counter ``gateway_NAME_name``."""
        self.engine.metrics.count(f"gateway_{self.name}_{name}", n, **labels)

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Have ``read()`` asked for the plugin's gauge ``gateway_NAME_name``."""
        self.engine.metrics.gauge(f"gateway_{self.name}_{name}", read, **labels)

    def histogram(self, name: str, bounds: tuple[float, ...], **labels: str) -> Histogram:
        """Return the plugin's histogram ``gateway_NAME_name``."""
        return self.engine.metrics.histogram(f"gateway_{self.name}_{name}", bounds, **labels)

    def drop(self, cause: Drop, n: int = 1) -> None:
        """Count ``n`` dropped things by cause."""
        self.engine.metrics.drop(cause, n, where=self.name)

    @property
    def recording(self) -> bool:
        """Whether there is an access log."""
        return self.engine.access is not None

    def record(self, peer: Peer, summary: Summary, seconds: float = 0.0) -> None:
        """Tell the access log of what had no session."""
        if self.engine.access is not None:
            self.engine.access.add(self.name, peer, summary, end="gateway", seconds=seconds)

    def singleton(self, key: str, tries: int | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold ``key`` alone among all gateway processes."""
        return self.engine.singletons.hold(f"{self.name}.{escape(key)}", tries)

    async def close(self) -> None:
        """End its tasks and its listening. Called after the plugin's ``stop``."""
        self.engine.unlisten(self.name)
        self.engine.alight(f"{self.name}.gateways")
        self.engine.gathered[:] = [one for one in self.engine.gathered if one.context is not self]
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ended(tasks: set[asyncio.Task[None]], log: logging.Logger, task: asyncio.Task[None]) -> None:
    tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the plugin failed", exc_info=error)


def _server_lost(schema: Any) -> Message:
    """Return what marks the disconnect of a lost process, as far as its schema allows it."""
    hints = {} if schema is None else get_type_hints(schema)
    for key in ("code", "reason"):
        if key in hints:
            try:
                msgspec.convert(SERVER_LOST, hints[key])
            except msgspec.ValidationError:
                continue
            return {key: SERVER_LOST}
    return {}
