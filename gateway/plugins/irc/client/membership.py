"""One network: its connections one after the other, and what outlives them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from twisted.python.failure import Failure

from gateway.core.client import Dial, Outgoing, Target, client_tls, target
from gateway.core.deadlines import Deadline
from gateway.core.escape import escaped
from gateway.core.metrics import Drop
from gateway.core.plugin import Context, Message, Session
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.rooms import Rooms
from gateway.plugins.irc.client.session import NetworkSession
from gateway.plugins.irc.client.terms import Dropped, Ignored, NoEntry, Remark, Skipped, Wanted
from gateway.plugins.irc.lines import fold
from gateway.plugins.irc.places import place

STALL: Final = 15.0
"""Seconds for which a network is not read while consumers are behind, so that nothing is lost where
a worker is restarted. Then it is read on, and what has no room is dropped: a network throws out
who does not answer its PING, and after one or two minutes that would be us."""


class Membership:
    """The gateway as a client of one network."""

    def __init__(self, context: Context, name: str, network: Network) -> None:
        self.context = context
        self.config = network
        self.name = name
        self.living: NetworkSession | None = None
        """The session of the connection that there is, or was last."""
        self.dial = NetworkDial(self, target(network.connect, f"{self.where}.connect", name))
        self._rooms = Rooms(network, fold)

    @property
    def where(self) -> str:
        """What its settings are called."""
        return f"irc.networks.{self.name}"

    def session(self, target: Target) -> Session:
        """Return the session of a new connection."""
        self._rooms.lost()
        host = target.host or target.path
        clock = self.context.loop.time
        self.living = NetworkSession(self.name, self.config, self._rooms, clock, host=host)
        return self.living

    def name_of(self, target: Target, conversation: str | None) -> str | None:
        """Return the address of a conversation, None where it has none."""
        return place(self.name, conversation)

    def want(self, wanted: frozenset[str] | None) -> None:
        """Hear what living workers want: ``#room``, and ``NETWORK #room`` of one network."""
        channels = None
        if wanted is not None:
            split = (one.rpartition(" ") for one in wanted)
            channels = frozenset(one for name, _, one in split if name in {"", self.name})
        if self.dial.connection is not None:
            self.dial.connection.received(Wanted(channels))

    def reply(self, target: str | None, message: Message, channel: str) -> None:
        """Say what was sent to ``channel``, an address; ``target`` is to whom."""
        if self.dial.connection is None or self.living is None:
            self.context.undelivered(channel, message)
        else:
            key = None if target is None else self.living.standing.fold(target)
            self.context.reply(self.dial.connection, key, message, channel)

    def unsent(self) -> float:
        """Return how many lines wait for their turn: a gauge."""
        return 0.0 if self.living is None else float(len(self.living.speech.throttle))

    def facts(self) -> Mapping[str, Any]:
        """Return facts for a health check."""
        facts = dict(self.dial.link.facts())
        if self.living is not None and self.dial.connection is not None:
            facts |= self.living.facts()
        return facts

    def is_registered(self) -> float:
        """Return 1 while the network has let us in, else 0: a gauge."""
        return float(bool(self.facts().get("registered")))


class NetworkDial(Dial):
    """Its connections."""

    def __init__(self, membership: Membership, target: Target) -> None:
        super().__init__(membership, target, None)
        self._membership = membership

    def tls(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with: certificates as they are now."""
        of = self._membership
        return client_tls(of.where, of.config) if self.target.tls else None

    def outgoing(self) -> Outgoing:
        """Return the protocol of a new connection."""
        return Carrier(self, self._membership)


class Carrier(Outgoing):
    """One connection: what carries the lines of its session, and counts what does not go on."""

    def __init__(self, dial: NetworkDial, membership: Membership) -> None:
        super().__init__(dial)
        self._membership = membership
        self._stall = Deadline(self.resume)

    def write(self, output: Any) -> None:
        """Send bytes, or count what the session says."""
        kind = output.__class__
        if kind is bytes:
            super().write(output)
            return
        context, name = self._context, self._membership.name
        if kind is Skipped:
            context.count("lines_skipped_total", network=name, why=output.why)
        elif kind is NoEntry:
            context.count("joins_refused_total", network=name, code=output.code)
            where, why = escaped(output.channel), escaped(output.reason)
            context.log.warning("%s: cannot join %s: %s %s", name, where, output.code, why)
        elif kind is Remark:
            context.log.warning("%s: %s", name, escaped(output.text))
        elif kind is Ignored:
            context.count("ignored_keys_total", network=name, key=output.key)
        elif kind is Dropped:
            context.drop(output.cause)

    def pause(self) -> None:
        """Read no more, for a while."""
        super().pause()
        self._context.deadlines.set(self._stall, STALL)

    def resume(self) -> None:
        """Read on."""
        self._context.deadlines.clear(self._stall)
        super().resume()

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802 - Twisted's name
        """Hear that it is gone; say why, and what is lost with it."""
        self._context.deadlines.forget(self._stall)
        super().connectionLost(reason)
        session, link = self._membership.living, self._dial.link
        if session is None:
            return
        if session.standing.reason:
            link.error = escaped(session.standing.reason)
        if session.standing.unwelcome:
            link.least = self._membership.config.retry_longest
        lost = [line for line in session.speech.throttle.withdraw() if line.token is None]
        if lost:
            self._context.drop(Drop.GONE, len(lost))
