"""Ready I/O for protocols that connect out: a `Session` for each connection that is kept.

A plugin on it is a name, a config that says where, messages and a session::

    class Ticker(ClientPlugin):
        name = "ticker"
        Config = TickerConfig          # its ``connect``: "tls:ticker.example:7000"
        messages = messages

        def session(self, target: Target) -> Session:
            return TickerSession(self.config)

It connects when the gateway has started, and again whenever the connection ends: at once, then
later and later, at random, so that not all come back together. The session is as in
`gateway.core.stream`: bytes in, actions out, one session for each connection.

Conversations have addresses, ``NAME.send!ADDRESS`` (`gateway.core.names.address`), which last
longer than any connection and may be stored: ``Emit(…, conversation="lobby")`` says in its
``reply_channel`` where that conversation is answered, and what anybody sends there comes to
``Session.send("lobby", …)``, whether or not anything has come from there before. While there is no
connection it is dropped, counted ``gone``, and its ``ack`` says so.

Of several gateway processes one has the connections (`ClientPlugin.alone`); if it dies another
takes over within seconds, and what is sent to an address meanwhile waits for it.

A plugin over a library of its own uses `keep_connected` alone.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gateway.core.arrivals import Arrived
from gateway.core.bridge import Bridge
from gateway.core.errors import ConfigError, RemoteProtocolError
from gateway.core.names import address, parse_address
from gateway.core.places import Place, Places
from gateway.core.plugin import Connection, Context, Message, Peer, ProtocolPlugin, Session
from gateway.core.stream import StreamProtocol
from gateway.core.target import Target, client_tls, target

__all__ = [
    "ClientPlugin",
    "Dial",
    "Dialer",
    "Link",
    "Outgoing",
    "Target",
    "client_tls",
    "keep_connected",
    "target",
]

TIMEOUT: Final = 10.0
"""Seconds for a connection to be there, where the plugin's settings say nothing: three lost
packets of a handshake, and TLS."""
FIRST_WAIT: Final = 0.5
"""Seconds to wait at most after the first failure; each further one doubles it."""
LONGEST_WAIT: Final = 60.0
"""Seconds to wait at most, where the plugin's settings say nothing: what a peer that is back may
be without us, and no load for one that is down."""
STEADY: Final = 30.0
"""Seconds after which a connection counts as a good one, so that its end is a first failure: a
peer that takes connections and ends them at once is not to be asked twice a second."""


class Link:
    """How one kept connection is; what `keep_connected` says of it."""

    __slots__ = ("attempts", "error", "least", "state")

    def __init__(self) -> None:
        self.state = "idle"
        """``idle``, ``connecting``, ``connected``, or ``waiting`` to try again."""
        self.attempts = 0
        """How often it was tried to connect, since it was begun."""
        self.error = ""
        """Why the last attempt, or the last connection, ended."""
        self.least = 0.0
        """Seconds to wait at least before the next attempt, once: the peer does not want us back
        sooner."""

    def facts(self) -> Mapping[str, Any]:
        """Return that for a health check."""
        facts: dict[str, Any] = {"state": self.state, "attempts": self.attempts}
        if self.error and self.state != "connected":
            facts["error"] = self.error
        return facts


Connect = Callable[[Callable[[], None]], Awaitable[None]]
"""``connect(connected)``: connects, calls ``connected()``, and returns, or raises, at its end."""


async def keep_connected(
    connect: Connect,
    context: Context,
    link: Link,
    *,
    label: str = "",
    patience: float = TIMEOUT,
    longest: float = LONGEST_WAIT,
) -> None:
    """Run ``connect`` again and again, for ever: until it is cancelled.

    ``connect(connected)`` is awaited. It connects to the peer, calls ``connected()`` once that is
    so, and returns, or raises, when the connection has ended. Before ``connected()`` it has
    ``patience`` seconds, and is cancelled then; a library that blocks belongs on a thread
    (`asyncio.to_thread`), so that the loop goes on. After a failure it is waited, up to
    half a second at first, then up to twice as long each time, ``longest`` seconds at most;
    a connection that lasted half a minute begins that anew. ``link`` is kept current; if its
    ``least`` was set, that is waited at least.

    Counted are ``gateway_NAME_connect_attempts_total`` and
    ``gateway_NAME_connect_failures_total``. In a test's gateway (`Context.outbound`) nothing is
    connected to.
    """
    if not context.outbound:
        link.error = "a test's gateway connects to nobody"
        await asyncio.Event().wait()
    wait = FIRST_WAIT
    labels = {"target": label} if label else {}
    whom = f"{label}: " if label else ""
    try:
        while True:
            link.state = "connecting"
            link.attempts += 1
            context.count("connect_attempts_total", 1, **labels)
            since = await _once(connect, context, link, patience, labels)
            if since is not None and context.loop.time() - since >= STEADY:
                wait = FIRST_WAIT
            link.state = "waiting"
            # Anywhere in the second half: spread, and yet later each time.
            pause = wait * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads, it hides nothing
            pause, link.least = max(pause, link.least), 0.0
            what = "cannot connect" if since is None else "the connection has ended"
            context.log.warning("%s%s (%s); again in %.1f s", whom, what, link.error, pause)
            await asyncio.sleep(pause)
            wait = min(wait * 2, longest)
    finally:
        link.state = "idle"


async def _once(
    connect: Connect, context: Context, link: Link, seconds: float, labels: Mapping[str, str]
) -> float | None:
    """Connect once, to the connection's end; return since when it was there, None for never."""
    since: float | None = None
    link.error = "the peer closed it"
    try:
        async with asyncio.timeout(seconds) as deadline:

            def connected() -> None:
                nonlocal since
                since = context.loop.time()
                deadline.reschedule(None)
                link.state = "connected"
                context.log.info("connected%s", f" to {labels['target']}" if labels else "")

            await connect(connected)
    except TimeoutError as error:
        link.error = _reason(error) if since is not None else f"no connection within {seconds:g} s"
    except (OSError, RemoteProtocolError, ConfigError) as error:
        link.error = _reason(error)
    except Exception as error:
        link.error = f"{type(error).__name__}: {error}"
        context.log.exception("connecting failed in the plugin")
    if since is None:
        context.count("connect_failures_total", 1, **labels)
    return since


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    return str(error) or type(error).__name__


class ClientPlugin(ProtocolPlugin):
    """A protocol whose connections the gateway begins. A subclass makes the sessions.

    Its ``Config`` may have ``connect`` (an endpoint of a peer, or several), ``connect_timeout``,
    ``retry_longest`` (seconds), ``ca`` (a PEM file: whose certificates to trust beside the
    system's) and ``verify`` (False: any certificate will do).
    """

    alone: ClassVar[bool] = True
    """Whether one gateway process at a time has the connections. False: each has its own, and
    what is sent to an address comes to any of them."""

    verb: ClassVar[str] = "send"
    """The word of its addresses: ``NAME.verb!ADDRESS``."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        name = getattr(cls, "name", None)
        if name is not None and f"{name}.{cls.verb}!" not in cls.reads:
            cls.reads = (*cls.reads, f"{name}.{cls.verb}!")

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._dials: dict[str, Dial] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._standby = False

    @abstractmethod
    def session(self, target: Target) -> Session:
        """Return the session of a new connection to ``target``."""

    def targets(self) -> Sequence[Target]:
        """Return whom to be connected to; asked once, at the start.

        The default reads the setting ``connect``: one endpoint is a target without a name,
        several are called by what was written. Raises ConfigError.
        """
        written = getattr(self.config, "connect", ())
        setting = f"{self.name}.connect"
        if isinstance(written, str):
            return (target(written, setting),)
        return tuple(target(text, setting, text) for text in written)

    def address_of(self, target: Target, conversation: str | None) -> tuple[str, ...]:
        """Return the public name of a conversation with ``target``, in parts; () for none.

        None is the connection itself. The default: of a target with a name, that, and then
        the conversation; without one, the conversation alone.
        """
        return tuple(part for part in (target.name, conversation) if part)

    def conversation_of(self, parts: tuple[str, ...]) -> tuple[str, str | None]:
        """Return the target's name and the conversation that a public name means.

        Undoes `address_of`, for addresses that nothing was emitted for yet. Raises ValueError
        where there is no such thing.
        """
        if "" in self._dials:
            (key,) = parts
            return "", key
        name, *rest = parts
        return name, rest[0] if rest else None

    # ------------------------------------------------ from the start to the end

    async def start(self) -> None:
        """Begin to connect; return at once. Raises ConfigError for a setting that is wrong."""
        for one in self.targets():
            if one.name in self._dials:
                raise ConfigError(f"{self.name}.connect: {one.label!r} is there twice")
            self._dials[one.name] = Dial(self, one, self._tls(one))
        if len(self._dials) > 1 and "" in self._dials:
            raise ConfigError(f"{self.name}.connect: of several targets each needs a name")
        for dial in self._dials.values():
            label = {"target": dial.target.name} if dial.target.name else {}
            self.context.gauge("connected", dial.is_connected, **label)
        if self._dials:
            self._keeping = self.context.spawn(self._keep())

    def _tls(self, target: Target) -> ssl.SSLContext | None:
        return client_tls(self.name, self.config) if target.tls else None

    async def _keep(self) -> None:
        if not self.alone:
            await self._connect(asyncio.Event())
            return
        while True:
            self._standby = True
            async with self.context.singleton("connections") as held:
                self._standby = False
                await self._connect(held.lost)

    async def _connect(self, lost: asyncio.Event) -> None:
        """Keep all connections until ``lost`` is set, or the plugin stops."""
        prefix = f"{self.name}.{self.verb}!"
        for dial in self._dials.values():
            dial.tried.clear()
        try:
            async with asyncio.TaskGroup() as group:
                keeping = [group.create_task(dial.keep()) for dial in self._dials.values()]
                keeping.append(group.create_task(self._listen(prefix)))
                await lost.wait()
                self.context.log.warning("another gateway process may have the connections now")
                for task in keeping:
                    task.cancel()
        finally:
            self.context.unlisten(prefix)

    async def _listen(self, prefix: str) -> None:
        """Read what is sent to addresses: once there is somebody to hand it to, or cannot be."""
        for dial in self._dials.values():
            await dial.tried.wait()
        self.context.listen(prefix, self._deliver)

    async def stop(self) -> None:
        """Connect no more; return when the last connection has ended."""
        self.context.unlisten(f"{self.name}.{self.verb}!")
        for dial in self._dials.values():
            dial.stop()
        await self.context.idle()
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait({keeping})

    def serve(self, arrived: Arrived) -> Bridge:
        """Return the protocol of a connection that somebody else began, with a peer of its own.

        For tests: the target goes by the port of its client.
        """
        host, port = arrived.peer.client or ("", 0)
        dial = Dial(self, Target(name=str(port), host=host, port=port), None)
        if not self._dials:
            self.context.listen(f"{self.name}.{self.verb}!", self._deliver)
        self._dials[dial.target.name] = dial
        return Bridge(Outgoing(dial))

    def health(self) -> Mapping[str, Any]:
        """Return how each connection is. One that is not there is no illness of the gateway."""
        found = {dial.target.label: dial.link.facts() for dial in self._dials.values()}
        return {"ok": True, "standby": self._standby, "targets": found}

    # ------------------------------------------------ addresses

    def name_of(self, target: Target, conversation: str | None) -> str | None:
        """Return the address of a conversation, None where it has none."""
        parts = self.address_of(target, conversation)
        try:
            return address(f"{self.name}.{self.verb}", *parts) if parts else None
        except ValueError:  # over 200 characters: it is answered while the connection lasts
            return None

    def _deliver(self, channel: str, message: Message) -> None:
        """Take what was sent to an address that no living conversation goes by."""
        try:
            rest = channel.partition("!")[2]
            count = 1 if "" in self._dials else rest.count(".") + 1
            _, *parts = parse_address(channel, count)
            name, conversation = self.conversation_of(tuple(parts))
        except ValueError:
            name, conversation = "?", None
        dial = self._dials.get(name)
        connection = None if dial is None else dial.connection
        if connection is None:
            self.context.undelivered(channel, message)
        else:
            self.context.reply(connection, conversation, message)


class Dialer(Protocol):
    """Whose connections they are: a `ClientPlugin`, or what else makes sessions and gives names.

    ``config`` may have ``connect_timeout`` and ``retry_longest``.
    """

    config: Any
    context: Context

    def session(self, target: Target) -> Session:
        """Return the session of a new connection to ``target``."""

    def name_of(self, target: Target, conversation: str | None) -> str | None:
        """Return the address of a conversation, None where it has none."""


class Dial:
    """One target and its connection. Of a stream plugin it has what `StreamProtocol` uses."""

    def __init__(self, plugin: Dialer, target: Target, tls: ssl.SSLContext | None) -> None:
        self.context = plugin.context
        self.target = target
        self.link = Link()
        self.connection: Connection | None = None
        self.tried = asyncio.Event()
        """Set once there was a connection, or an attempt that failed."""
        self._plugin = plugin
        self._ssl = tls
        self._keeping: asyncio.Task[Any] | None = None
        self._stopping = False

    def is_connected(self) -> float:
        """Return 1 while there is a connection, else 0: a gauge."""
        return float(self.link.state == "connected")

    async def keep(self) -> None:
        """Keep it connected until cancelled, or until it is told to stop."""
        self._keeping = asyncio.current_task()
        config = self._plugin.config
        await keep_connected(
            self._once,
            self.context,
            self.link,
            label=self.target.name,
            patience=getattr(config, "connect_timeout", TIMEOUT),
            longest=getattr(config, "retry_longest", LONGEST_WAIT),
        )

    async def _once(self, connected: Callable[[], None]) -> None:
        protocol = self.outgoing()
        loop = self.context.loop
        target = self.target
        try:
            context = self.tls()
            name = None if context is None else target.host or "localhost"
            tls: dict[str, Any] = {"ssl": context, "server_hostname": name}
            if target.path:
                await loop.create_unix_connection(lambda: Bridge(protocol), target.path, **tls)
            else:
                await loop.create_connection(
                    lambda: Bridge(protocol), target.host, target.port, **tls
                )
            connected()
            self.tried.set()
            await protocol.ended.wait()
        finally:
            self.tried.set()
            protocol.cut_off()

    def tls(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with by the next connection, None for none."""
        return self._ssl

    def outgoing(self) -> Outgoing:
        """Return the protocol of a new connection."""
        return Outgoing(self)

    def stop(self) -> None:
        """Connect no more; a connection that is there ends in its own words."""
        self._stopping = True
        if self.connection is None:
            self.stopped()

    def stopped(self) -> None:
        """Keep nothing any more, if it is to stop."""
        if self._stopping and self._keeping is not None:
            self._keeping.cancel()

    # ------------------------------------------------ what the stream protocol asks

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""
        return self._plugin.session(self.target)

    def crowded(self) -> bytes:
        """Return nothing: there is always a place."""
        return b""

    def enter(self, client: tuple[str, int] | None) -> Place | None:
        """Return the place of the connection: it is not one of many."""
        return Places(1).take()

    def name_of(self, conversation: str | None) -> str | None:
        """Return the address of a conversation of this connection."""
        return self._plugin.name_of(self.target, conversation)


class Outgoing(StreamProtocol):
    """One connection that we began."""

    def __init__(self, dial: Dial) -> None:
        super().__init__(dial)
        self._dial = dial
        self.ended = asyncio.Event()
        self._blamed = ""

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Begin a session."""
        self._arrived = Arrived(self.transport.peer(), self._dial.enter(None))
        super().connectionMade()
        if not self._closing:
            self._dial.connection = self._connection

    def _attach(self, session: Session, peer: Peer) -> Connection:
        return self._context.attach(session, self, peer, names=self._dial.name_of)

    def blame(self, reason: str) -> None:
        """Hear that it will be closed for a fault of the peer's."""
        self._blamed = reason

    def close(self, data: bytes, *, abort: bool) -> None:
        """End it; nothing is replied to any more."""
        self._dial.connection = None
        self._dial.link.error = self._blamed or "it was closed from this side"
        super().close(data, abort=abort)

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: N802 - Twisted's name
        """Hear that it is gone."""
        self._dial.connection = None
        error = None if reason is None else reason.value
        if error is not None and not self._closing and not isinstance(error, ConnectionDone):
            self._dial.link.error = str(error) or type(error).__name__
        super().connectionLost(reason)
        self.ended.set()
        self._dial.stopped()

    def cut_off(self) -> None:
        """End it at once, wherever it is."""
        self._dial.connection = None
        if self._connection is not None and not self.ended.is_set():
            self._closing = True
            self.transport.abortConnection()
            # Now, and not when the loop has closed it: its addresses are the next one's.
            self._connection.lost()
