"""The engine of one gateway process: everything between its plugins and one `Edge`.

How a transport uses it (``context`` is the plugin's `PluginContext`)::

    connection = context.attach(session, wire, Peer(client=…, server=…))
    connection.received(data)      # input, for session.received; ignored once it is closing
    connection.writable(False)     # the outgoing buffer is full …
    connection.writable(True)      # … and empty again: what waited is sent, acks are answered
    connection.eof()               # the peer will send no more
    connection.run(actions)        # actions of a method that the transport called itself
    connection.lost()              # once, whoever ended it; context.detach does the same

and is driven by it through its `Wire`: ``write``, ``close``, ``pause``, ``resume``.
``session.opened`` is called within ``attach``, so a wire may be written to before ``attach``
has returned. Whatever a transport calls from within a wire's method is put off until the
session has returned: a session is never called while it is being called.

Open, accepted, over
    A plugin whose ``KINDS`` has ``connect`` emits that first; its group messages wait for
    `Accepted`, which registers the connection, so that one disconnect message follows,
    whatever ends it. Any other (http) is open from the start, is never registered, and emits
    what it has to say of the end itself, before ``lost``.

What waits when it ends
    If the peer's own input (``received``, ``eof``) or the transport alone led to the end,
    what the session has emitted is still delivered, in order, and then the disconnect.
    If the application, a timeout, an error or the gateway ended it, what waits is dropped,
    counted ``closed``; the disconnect waits only for what is in a consumer's hands.

Room and workers
    A message that finds its channel full, or no worker at all, waits: a connect or a
    request ``queue_timeout``, any other ``full_timeout`` for room and
    ``unavailable_timeout`` for a worker. Then the session hears ``refused(token, FULL)``
    or ``outcome(token, released)``. While the layer is away a connect or request is refused
    ``UNAVAILABLE`` at once; what was in flight is refused likewise, and its connection closes.
    A ``connect``, ``subscribe`` or ``recipient`` that nobody routes is ``accepted`` where the
    plugin's ``receive`` is routed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.core import farewell
from gateway.core.access import AccessLog
from gateway.core.attached import Connection
from gateway.core.config import GatewaySettings
from gateway.core.context import PluginContext
from gateway.core.conversation import Conversation
from gateway.core.deadlines import Deadlines
from gateway.core.errors import PluginError
from gateway.core.flow import Flow
from gateway.core.gathering import Gathered
from gateway.core.groups import Announced, Groups
from gateway.core.layers import codec
from gateway.core.layers.base import Layer, Outcome
from gateway.core.layers.edge import (
    ANNOUNCED,
    DOWN,
    FENCED,
    FULL,
    GAP,
    GROUP,
    HANDLED,
    JOIN,
    MESSAGE,
    OUTCOME,
    PART,
    UP,
    Edge,
    Item,
)
from gateway.core.listen import Listen
from gateway.core.metrics import Drop, Metrics
from gateway.core.names import process_of
from gateway.core.outbox import GONE
from gateway.core.pinning import pinned_late
from gateway.core.plugin import Message, ProtocolPlugin
from gateway.core.relay import PREFIX, Relay
from gateway.core.reply import ack_of
from gateway.core.singletons import Singletons
from gateway.core.tls import Tls
from gateway.core.web import Claim

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode

FAREWELL: Final = 1.0
"""Seconds before the end of the grace at which a peer is answered no more, but told why: a close
and the peer's own take a round trip or two."""
LOOK: Final = 0.02
"""Seconds between two looks at what a shutdown waits for."""


class Engine:
    """The connections of one gateway process over one edge of the layer.

    ``layer`` is a `Layer`, whose edge is opened, or an `Edge` that hands its items to
    ``deliver``. ``unavailable_timeout`` (seconds) is ``[layer] unavailable_timeout``. With
    ``access`` each connection's end is told to that. ``protocols`` are the names of all plugins
    that there are, served here or not: keys of a reply that are one protocol's own.
    """

    def __init__(
        self,
        layer: Layer | Edge,
        settings: GatewaySettings,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        *,
        unavailable_timeout: float = 30.0,
        access: AccessLog | None = None,
        protocols: Iterable[str] = (),
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.loop = loop
        self.access = access
        self.protocols = frozenset(protocols)
        self.deadlines = Deadlines(loop)
        self.layer = layer
        self.edge = layer.edge(self.deliver) if isinstance(layer, Layer) else layer
        self.settles = not isinstance(layer, Layer) or "deliveries" in layer.extensions
        """Whether the layer says what became of a message."""
        self.singletons = Singletons(layer if isinstance(layer, Layer) else None)
        self.flow = Flow(self.edge, settings, loop, unavailable_timeout)
        self.groups = Groups(self)
        self.relay = Relay(self)
        self.process = self.edge.process
        self.by_channel: dict[str, Conversation] = {}
        """Every living conversation by its reply channel."""
        self.parting: dict[str, Connection] = {}
        """Those that are lost with something unsettled, where their plugin's may be pinned."""
        self.late: dict[str, Callable[[bytes], None]] = {}
        """By reply channel: who hears what comes to a conversation that is gone."""
        self.plugins: set[str] = set()
        """The names of those that have a context."""
        self.attached = 0
        """How many connections there have been; the last one's number."""
        self.branches = 0
        """How many conversations within connections there have been; the last one's number."""
        self.acks = 0
        """How many acknowledgements were asked for; the last one's token."""
        self.draining = False
        self.outbound = True
        """Whether plugins may connect out."""
        self._ends: list[tuple[str, str, bytes | None, str | None]] = []
        """Ends that the layer could not be told, for when it is back."""
        self._leaves: list[Announced] = []
        """The memberships that ended with them and whose leaves are to be told."""
        self._listeners: dict[str, tuple[str, Callable[[str, Message], None]]] = {}
        self.gathered: list[Gathered] = []
        """The groups that plugins serve themselves."""
        self._buses: dict[str, Callable[[Message], None]] = {}
        """By group: who hears what the same plugin tells in any process."""
        metrics.gauge("gateway_unsettled", lambda: len(self.flow.flights))

    def context(
        self,
        plugin_class: type[ProtocolPlugin],
        config: Any,
        *,
        listeners: Sequence[Listen] = (),
        claims: Sequence[Claim] = (),
        tls: Tls | None = None,
    ) -> PluginContext:
        """Return the context of a plugin to start. ``claims`` may grow until it is started.

        Raises PluginError where its messages module lacks ``KINDS`` or ``REPLY``.
        """
        self.plugins.add(plugin_class.name)
        return PluginContext(self, plugin_class, config, listeners, claims, tls)

    @property
    def available(self) -> bool:
        """Whether the layer can be reached now."""
        return self.edge.available

    # ------------------------------------------------ what the layer says

    def deliver(self, items: list[Item]) -> None:
        """Take what the edge hears, in order. A failure costs one item, not the rest."""
        for item in items:
            try:
                code = item[0]
                if code == OUTCOME:
                    if self.groups.busy:
                        self._catch_up(item[1])
                    self.flow.outcome(item[1], item[2], item[3])
                elif code == MESSAGE:
                    conversation = self.by_channel.get(item[1])
                    if conversation is None:
                        self._other(item[1], item[2])
                    else:
                        if self.groups.busy:
                            self.groups.catch_up(conversation)
                        conversation.owner.reply(conversation, item[2])
                elif code == HANDLED:
                    if self.groups.busy:
                        self._catch_up(item[1])
                    self.flow.handled(item[1], item[2], item[3])
                else:
                    self._seldom(code, item)
            except Exception:
                self.metrics.count("gateway_errors_total")
                log.exception("what the layer said could not be done")
        if self.groups.replays.begun:
            self.groups.replays.begin()

    def _seldom(self, code: int, item: Item) -> None:
        if code == GROUP:
            bus = self._buses.get(item[1]) if self._buses else None
            if bus is None:
                self.groups.send(*item[1:])
            else:
                bus(codec.decode(item[2]))
        elif code == JOIN:
            resumed = item[5] if len(item) > 5 else None
            self.groups.join(item[1], item[2], item[3], announce=item[4], resumed=resumed)
        elif code == PART:
            self.groups.part(item[1], item[2])
        elif code == GAP:
            self.groups.gap(item[1])
        elif code == FULL:
            self.flow.refused(item[1], item[2])
        elif code == ANNOUNCED:
            self.flow.announce(item[1])
        elif code == DOWN:
            self.flow.down()
            self.relay.down()
        elif code == UP:
            self._up(rejoined=item[1])
        elif code == FENCED:
            self._fenced()

    def _catch_up(self, receipt: int) -> None:
        conversation = self.flow.flights.get(receipt)
        if conversation is not None:
            self.groups.catch_up(conversation)

    def _other(self, channel: str, payload: bytes) -> None:
        """Take a message for no living conversation: of a listener, or for one that is gone."""
        listener = self._listeners.get(channel)
        if listener is None and "!" in channel:
            listener = self._listeners.get(channel[: channel.index("!") + 1])
        if listener is not None:
            listener[1](channel, codec.decode(payload))
            return
        if channel.startswith(PREFIX) and process_of(channel) is not None:
            self.relay.heard(channel, payload)
            return
        if self.gathered and any(one.heard(channel) for one in self.gathered):
            return
        if (late := self.late.get(channel)) is not None:
            late(payload)
            return
        if (parting := self.parting.get(channel)) is not None and pinned_late(parting, payload):
            return
        self.metrics.drop(Drop.GONE, where=channel.partition(".")[0])
        self.answer(payload, channel, GONE)

    def _up(self, *, rejoined: bool) -> None:
        self.process = self.edge.process
        if rejoined:
            # Whatever was in flight was refused when the layer went away; what it forgot:
            self.singletons.claim()
            for channel in self._listeners:
                self.edge.listen(channel)
            for group in self._buses:
                self.edge.group_add(group, f"{group}.{self.process}!")
            for connection in self._connections():
                connection.register()
            self.groups.rejoin()
            for gathered in self.gathered:
                gathered.rejoin()
            for group, channel, meta in self._leaves:
                self.edge.group_add(group, channel, meta, announce=True, again=True)
        self._leaves.clear()
        ends, self._ends = self._ends, []
        for end in ends:
            self._end(*end)
        self.flow.up()

    def _fenced(self) -> None:
        """Close every connection and emit nothing: somebody else speaks for them now."""
        log.error("the lease of %s has ended: every connection is closed", self.process)
        self.singletons.lose()
        self.relay.fenced()
        self.flow.forget()
        self.groups.clear()
        for gathered in self.gathered:
            gathered.fenced()
        self.parting.clear()
        self._ends.clear()
        self._leaves.clear()
        for connection in self._connections():
            connection.silence()
        self.process = self.edge.process

    # ------------------------------------------------ what connections say

    def acknowledge(self, ack: int, channel: str, reply_channel: str, outcome: Outcome) -> None:
        """Answer the ``ack`` of a reply."""
        answer = {
            "ack": ack,
            "outcome": outcome.kind,
            "code": outcome.code,
            "reason": outcome.reason,
            "reply_channel": reply_channel,
        }
        self.edge.send(channel, _encode(answer))

    def answer(self, payload: bytes, reply_channel: str, outcome: Outcome) -> None:
        """Answer the ``ack`` of a reply that no session had, if it wants one."""
        if (ack := ack_of(payload)) is not None:
            self.acknowledge(*ack, reply_channel, outcome)

    def ended(self, connection: Connection, disconnect: bytes | None) -> None:
        """Forget a connection of which nothing is unsettled, and offer its disconnect."""
        groups = connection.groups
        if groups is not None:
            left = self.groups.leave(connection)
            if not self.edge.available:
                self._leaves += left
            for channel in {member.reply_channel for _, member in groups}:
                if channel != connection.reply_channel:
                    self._end(channel, "", None, None)
        if disconnect is not None:
            name = connection.context.disconnect
            self._end(connection.reply_channel, name, disconnect, connection.pin)
        elif groups is not None:
            self._end(connection.reply_channel, "", None, None)

    def _end(
        self, reply_channel: str, channel: str, disconnect: bytes | None, pin: str | None
    ) -> None:
        if not self.edge.available:
            self._ends.append((reply_channel, channel, disconnect, pin))
            return
        if pin is not None:
            self.edge.pin(reply_channel, pin)  # said before, unless it was never registered
        self.edge.end(reply_channel, channel, disconnect)

    def listen(self, name: str, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Read a channel for the plugin ``name``. Raises PluginError if another one does."""
        if channel in self._listeners:
            other = self._listeners[channel][0]
            raise PluginError(f"plugins {other!r} and {name!r} both read channel {channel!r}")
        self._listeners[channel] = (name, deliver)
        self.edge.listen(channel)

    def unlisten(self, name: str, channel: str | None = None) -> None:
        """Read a channel no more for the plugin ``name``; without one, none."""
        for one, (owner, _) in list(self._listeners.items()):
            if owner == name and channel in {None, one}:
                del self._listeners[one]
                self.edge.unlisten(one)

    def board(self, group: str, deliver: Callable[[Message], None]) -> None:
        """Have ``deliver`` called with what is sent to a group of gateway processes."""
        self._buses[group] = deliver
        self.edge.group_add(group, f"{group}.{self.process}!")

    def alight(self, group: str) -> None:
        """Hear a group of gateway processes no more. Idempotent."""
        if self._buses.pop(group, None) is not None:
            self.edge.group_discard(group, f"{group}.{self.process}!")

    # ------------------------------------------------ shutting down

    async def drain(self, grace: float) -> None:
        """Tell every session to end, wait up to ``grace`` seconds, then cut off what is left.

        From now on connects and requests are refused ``DRAINING``; nothing must be listening
        any more. Whom a consumer is about to answer hears it after that, or when the grace is
        about to end. What consumers have in hand may still be unsettled when it returns:
        `settled` waits for that.
        """
        self.draining = True
        self.relay.drain()
        spread = self.settings.reconnect_spread
        for connection in self._connections():
            farewell.begin(connection, random.uniform(0, spread))  # noqa: S311 - it spreads, it hides nothing
        last = min(FAREWELL, grace / 2)
        await self._wait(lambda: not self.by_channel, grace - last)
        for connection in self._connections():
            farewell.say(connection)
        await self._wait(lambda: not self.by_channel, last)
        for connection in self._connections():
            connection.cut_off()

    async def settled(self, grace: float) -> bool:
        """Wait up to ``grace`` seconds until nothing is unsettled; return whether it is so."""
        return await self._wait(lambda: not self.flow.flights and not self.by_channel, grace)

    async def _wait(self, done: Callable[[], bool], grace: float) -> bool:
        deadline = self.loop.time() + grace
        while not done():
            if self.loop.time() >= deadline:
                return False
            await asyncio.sleep(LOOK)
        return True

    def _connections(self) -> list[Connection]:
        return [found for found in self.by_channel.values() if isinstance(found, Connection)]
