"""All that the author of a protocol plugin imports: hooks, vocabulary, contracts. Pure.

A plugin is a module with a function marked `hookimpl`::

    from gateway.core.plugin import ProtocolPlugin, hookimpl


    class Sensor(ProtocolPlugin): ...


    @hookimpl
    def gateway_plugin():
        return Sensor

The heart of it is a `Session`: pure code that turns input into actions (`Action`). It never sees
the layer, the clock or a socket. The core runs the actions: it adds the common keys to
messages, waits for window and room, keeps order, tells outcomes, registers and ends
connections, applies limits, drains and counts.

For a protocol of lines or packets over a stream, a session on `LineSession` or
`LengthSession`, handed to `gateway.core.stream.StreamPlugin`, is the whole plugin.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import msgspec
import pluggy

from gateway.core.deadlines import Deadlines
from gateway.core.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from gateway.core.framing import LengthSession, LineSession
from gateway.core.gathering import Gathered, Gathering
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Layer,
    Outcome,
)
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Drop, Histogram
from gateway.core.relay import Ask, Asked, Location, Unanswered
from gateway.core.session import (
    Accepted,
    Action,
    Again,
    Close,
    Done,
    Emit,
    End,
    Forget,
    Message,
    Peer,
    Refusal,
    Session,
    Summary,
    Timer,
    Write,
)
from gateway.core.singletons import Held
from gateway.core.uniform import UniformReply
from gateway.core.web import Claim, Exchange

if TYPE_CHECKING:
    from gateway.core.listen import Listen
    from gateway.core.tls import Offer

__all__ = [
    "ACCEPTED",
    "FAILED",
    "OK",
    "REJECTED",
    "RELEASED",
    "UNROUTED",
    "Accepted",
    "Action",
    "Again",
    "Application",
    "Ask",
    "Asked",
    "Close",
    "ConfigError",
    "Connection",
    "Context",
    "Done",
    "Drop",
    "Emit",
    "End",
    "Forget",
    "Gathered",
    "Gathering",
    "Held",
    "Histogram",
    "LayerOptions",
    "LengthSession",
    "LineSession",
    "LocalProtocolError",
    "Location",
    "Message",
    "Messages",
    "NoConfig",
    "Outcome",
    "Peer",
    "ProtocolPlugin",
    "Refusal",
    "RemoteProtocolError",
    "RunningWorker",
    "Session",
    "Summary",
    "Timer",
    "Traffic",
    "Unanswered",
    "UniformReply",
    "Wire",
    "Write",
    "hookimpl",
    "hookspec",
]

hookspec = pluggy.HookspecMarker("gateway")
hookimpl = pluggy.HookimplMarker("gateway")


class Traffic:
    """Bytes that went through a transport, for the access log."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


@runtime_checkable
class Wire(Protocol):
    """The transport as the core drives it; a plugin with its own transport implements it.

    Bytes that pass are counted for the access log. A wire whose input or output is something
    else may have an attribute ``traffic``, a `Traffic` that it counts in while
    `Context.recording`, or None where its sessions tell it in their `Summary`. One that tells
    operators of its end may have a method ``blame(reason)``, which is called before ``close``
    where a `RemoteProtocolError` ends it.
    """

    def write(self, output: Any) -> None:
        """Send what a Session's ``Write`` or ``frame`` carries. Ignored when closing."""

    def close(self, data: Any, *, abort: bool) -> None:
        """End, after sending ``data`` (which is ``b""`` for nothing); with ``abort``, at once."""

    def pause(self) -> None:
        """Read no more for now: the connection's inbox is full."""

    def resume(self) -> None:
        """Read on."""


class Connection(ABC):
    """One attached session, as the transport sees it. Made by `Context.attach`.

    The transport calls ``received`` for input, ``writable(False)`` and ``writable(True)`` as
    its outgoing buffer fills and empties, ``eof`` for a half-close, and ``lost`` once, when
    it is gone, whoever ended it.
    """

    __slots__ = ()

    reply_channel: str
    session: Session

    @property
    @abstractmethod
    def unsettled(self) -> bool:
        """Whether anything that the session emitted has no outcome yet."""

    @abstractmethod
    def received(self, data: Any) -> None:
        """Hand input to the session and run its actions."""

    @abstractmethod
    def run(self, actions: Iterable[Action]) -> None:
        """Run actions that the transport got from the session by a method of its own."""

    @abstractmethod
    def writable(self, yes: bool) -> None:
        """Say whether the transport takes more now."""

    @abstractmethod
    def push(self, frame: Any, size: int) -> None:
        """Write what the plugin itself has for the peer, as a group's ready frame is written.

        At once, or, while the peer takes no more, from the bounded outbox, under its
        ``slow_consumer``. ``size`` is counted there, in bytes.
        """

    @abstractmethod
    def eof(self) -> None:
        """Say that the peer will send no more."""

    @abstractmethod
    def lost(self) -> None:
        """Say that the transport is gone. Idempotent."""


class NoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a plugin that has none."""


class Context(ABC):
    """What the core gives to one started plugin."""

    name: str
    """The plugin's name: its messages go to ``NAME.kind``."""
    log: logging.Logger
    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    """The coarse timers of the process, for a transport's own timeouts."""

    @abstractmethod
    def attach(
        self,
        session: Session,
        wire: Wire,
        peer: Peer,
        exchange: Exchange | None = None,
        names: Callable[[str | None], str | None] | None = None,
    ) -> Connection:
        """Begin a connection: give it a reply channel and call ``session.opened``.

        ``exchange`` is the request that it came by, if it came by one. ``names``, of a plugin
        that connects out, gives the address of a conversation (None: of the connection
        itself) by which it is answered instead, and None for one without.
        """

    @abstractmethod
    def emit(self, connection: Connection, emit: Emit) -> None:
        """Emit for a session from outside its methods (a transport's own event)."""

    @abstractmethod
    def detach(self, connection: Connection) -> None:
        """End a connection from the plugin's side, as if the transport were gone."""

    @abstractmethod
    def meet(self, connection: Connection, peer: Peer) -> None:
        """Say who is at the other end, where more is known of it now: by STARTTLS, a password."""

    @abstractmethod
    def listen(self, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Have ``deliver(channel, message)`` called for what comes to a channel of ``reads``.

        It is a normal channel, or a prefix of addresses, which ends in ``!``. Several gateway
        processes that read it share what comes. A message is settled as it is handed over;
        an exception costs that message. Keys that are other protocols' own are not in it, and
        what is this one's own is laid over it. Raises PluginError for a channel that the plugin's
        class does not name in ``reads``, and for one that another plugin reads.
        """

    @abstractmethod
    def read(self, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Have ``deliver(channel, message)`` called for what comes to a single-reader channel.

        One that a message has named: what is too large for a message comes there, piece by piece.
        Whoever named it sends there, and nobody else reads it. To `unlisten` it for a while has
        the sender wait, as what is sent stays there. Raises ValueError for any other channel,
        PluginError for one that is being read.
        """

    @abstractmethod
    def unlisten(self, channel: str) -> None:
        """Read a channel no more: what comes waits for whoever reads it next. Idempotent."""

    @abstractmethod
    def reply(
        self,
        connection: Connection,
        conversation: str | None,
        message: Message,
        channel: str | None = None,
    ) -> None:
        """Hand a message that came to an address to a connection, as a reply of the application.

        It is checked by the plugin's ``REPLY`` and comes to ``session.send(conversation, …)``.
        With ``channel``, the address that it came to, that is what its ``ack`` names, and no
        conversation is begun for it.
        """

    @abstractmethod
    def outlive(
        self, connection: Connection, conversation: str, deliver: Callable[[str, Message], None]
    ) -> Callable[[], None]:
        """Have ``deliver(channel, reply)`` called with what comes to a conversation once it is
        gone: forgotten, or its connection ended. Call what this returns when that is over.

        The reply fits the plugin's ``REPLY``; `answer` answers its ``ack``.
        """  # noqa: D205 - one sentence

    @abstractmethod
    def undelivered(self, channel: str, message: Message) -> None:
        """Count (``gone``) what came to an address where nobody is, and answer its ``ack``."""

    @abstractmethod
    def answer(self, channel: str, message: Message, outcome: Outcome) -> None:
        """Answer the ``ack`` of a message that came to ``channel``, if it wants one."""

    @abstractmethod
    def bus(self, deliver: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return what tells the same plugin in all gateway processes, this one among them.

        ``deliver(message)`` is called with what any of them tells, in the order of each. One
        message of the layer a process, whatever it leads to there. Once, at start; it ends with
        the plugin. What is told while the layer is away is lost; MessageTooLarge for one that is
        over ``layer.message_bytes``.
        """

    @abstractmethod
    def gather(self, prefix: str, gathering: Gathering, own: type[Session]) -> Gathered:
        """Have ``gathering`` serve the groups whose names begin with ``prefix``: ``NAME.…``.

        Members whose session is of the class ``own`` it serves itself. Once, at start; it ends
        with the plugin. Raises PluginError for another prefix.
        """

    @abstractmethod
    def locate(self, deliver: Callable[[Ask], None]) -> Location:
        """Return a new location, where ``deliver(ask)`` is called for what is asked of it.

        For what outlives the request that made it. ``location.text`` (the plugin's name, letters,
        digits, ``_`` and ``.``) may stand in a URL: whoever knows it may ask, nobody can guess it,
        and every gateway process on the layer finds it by `ask`. ``ask.message`` is what was asked;
        ``ask.answer(message)`` answers, once, now or later; ``ask.on_gone(callback)`` calls back if
        nobody wants the answer any more. An exception answers `Unanswered.BROKEN`. Call
        ``location.close()`` when it is over.
        """

    @abstractmethod
    def ask(
        self,
        location: str,
        message: Message,
        heard: Callable[[Message | Unanswered], None],
        seconds: float,
        *,
        waits: bool = False,
    ) -> Asked:
        """Ask what has a location of this plugin, in whatever gateway process.

        ``heard`` is called once, with the answer or with why there is none, perhaps before this
        returns: at once for a text that was never a location, within a round trip of the layer for
        one that is no more, within ``seconds`` in any case. Call ``forget()`` on what it returns
        when the answer is not wanted any more. ``waits`` says that it waits for something to
        happen: where another process is asked, a shutdown of this one ends it.
        """

    @abstractmethod
    def routed(self, kind: str) -> bool | None:
        """Return whether a living worker routes ``NAME.kind``; None while no worker lives."""

    @property
    @abstractmethod
    def message_bytes(self) -> int:
        """The most bytes of one encoded message that the layer takes."""

    @abstractmethod
    def wanted(self, kind: str) -> frozenset[str] | None:
        """Return what living workers want of ``NAME.kind`` (topics, say), as their routes say it.

        None while no worker lives. The same object until something has changed.
        """

    @abstractmethod
    def endpoints(self) -> list[Listen]:
        """Return the plugin's listeners, bound or to bind (`gateway.core.listen.bind`)."""

    @abstractmethod
    def tls(self, alpn: Sequence[str] = ()) -> Offer:
        """Return what connections of ``tls:`` endpoints begin with.

        ``alpn`` are the protocols to agree on, the best first. Raises ConfigError where the
        site has no certificate.
        """

    @abstractmethod
    def spawn(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until the plugin stops; its exceptions are logged."""

    @abstractmethod
    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add to the plugin's counter ``gateway_NAME_name``."""

    @abstractmethod
    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Have ``read()`` asked for ``gateway_NAME_name``, a gauge, when somebody looks."""

    @abstractmethod
    def histogram(self, name: str, bounds: tuple[float, ...], **labels: str) -> Histogram:
        """Return the plugin's histogram ``gateway_NAME_name``, to ``observe(value)`` in.

        ``bounds`` are the upper bounds of its buckets; they count at its first use.
        """

    @abstractmethod
    def drop(self, cause: Drop, n: int = 1) -> None:
        """Count ``n`` dropped things by cause."""

    @property
    @abstractmethod
    def settles(self) -> bool:
        """Whether the layer says what became of a message.

        One with the simple face alone does not: a plugin that promises its peers to have handled
        what it acknowledges raises PluginError at its start there.
        """

    @property
    @abstractmethod
    def outbound(self) -> bool:
        """Whether there is anything to connect out to: not in the gateway of a test.

        A plugin that connects out keeps there what it would send, and waits for nobody.
        """

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""

    @property
    @abstractmethod
    def recording(self) -> bool:
        """Whether there is an access log."""

    @abstractmethod
    def record(self, peer: Peer, summary: Summary, seconds: float = 0.0) -> None:
        """Tell the access log of what had no session: a request refused before it had one.

        Connections are told of by the core when they end.
        """

    @abstractmethod
    def claims(self) -> list[Claim]:
        """Return the claims on requests of the http port, highest priority first."""

    @abstractmethod
    def connections(self) -> Iterator[Connection]:
        """Iterate over the plugin's living connections."""

    @abstractmethod
    async def idle(self) -> None:
        """Return once the plugin has no connection any more; what its ``stop`` waits for."""

    @abstractmethod
    def singleton(self, key: str, tries: int | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold ``key`` alone among all gateway processes: ``async with … as held``.

        Waits until no other process holds it, and releases it at the end of the block. When a
        holder dies another has it within seconds. ``held.lost``, an `asyncio.Event`, is set once
        another process may hold it, since this one's lease has ended: leave the block then, at
        once. While the layer is away it stays held. ``held.epoch`` is higher for each next
        holder. Raises PluginError where the layer has no such thing. With ``tries``, TimeoutError
        where it was not given it in so many: another has it, or the layer is away.
        """


class Messages(Protocol):
    """A plugin's messages module, or whatever has the same two names."""

    @property
    def KINDS(self) -> Mapping[str, Any]:  # noqa: N802 - a constant of the module
        """What it emits: kind -> TypedDict."""

    @property
    def REPLY(self) -> Any:  # noqa: N802 - as above
        """What it understands: a TypedDict."""


class ProtocolPlugin(ABC):
    """A protocol. One instance per gateway process.

    ``name`` is the first part of its channels and its settings table, ``Config`` a frozen
    `msgspec.Struct` that forbids unknown fields and describes each with ``Meta``,
    ``messages`` the plugin's messages module: ``KINDS`` (kind -> TypedDict of what it emits)
    and ``REPLY`` (TypedDict of what it understands). Its methods have the settings as
    ``self.config`` and what the core gives it as ``self.context``.
    """

    name: ClassVar[str]
    Config: ClassVar[type[msgspec.Struct]] = NoConfig
    messages: Messages
    """Said as ``messages = messages``, of the class."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Plugins that this one brings with it."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Channels that it may read by `Context.listen`: normal ones (``NAME.publish``), and
    addresses by their prefix (``NAME.publish!``). None that begins with another plugin's name."""
    listens: ClassVar[tuple[str, ...]] = ("listen",)
    """Its settings that name endpoints; `Listen.setting` says which one an endpoint is from."""
    datagrams: ClassVar[bool] = False
    """Whether its ``listen`` names ``udp:`` endpoints, and no others."""

    def __init__(self, config: Any, context: Context) -> None:
        self.config = config
        self.context = context

    @classmethod
    def warnings(cls, config: Any) -> Iterable[str]:  # noqa: ARG003 - subclasses use it
        """Return what an operator should know of this installation: slow parts, risky settings.

        Logged at start and shown by ``gateway check``.
        """
        return ()

    @classmethod  # noqa: B027 - few have anything to check
    def check(cls, config: Any, layer: LayerOptions) -> None:
        """Raise ConfigError where the settings do not fit each other, or those of ``[layer]``."""

    @abstractmethod
    async def start(self) -> None:
        """Return once traffic can flow. A failure stops the gateway's start."""

    @abstractmethod
    async def stop(self) -> None:
        """Refuse new work, tell peers, let what runs finish, release. Safe after a failed start."""

    async def reload(self) -> None:  # noqa: B027 - most plugins have nothing to load again
        """Load again what was read from files at the start: SIGHUP asks for it.

        What is being served is not disturbed; where a file is broken the old content stays.
        Certificates are not the plugin's business (`Context.tls`).
        """

    def health(self) -> Mapping[str, Any]:
        """Return facts for a health check; ``{"ok": False, …}`` marks the gateway unhealthy.

        Asked whenever somebody looks (`gateway_healthy` in ``gateway stats``); cheap, no I/O.
        """
        return {"ok": True}


@runtime_checkable
class Application(Protocol):
    """What the gateway serves. django_gateway implements it."""

    source: str
    """Where `settings` come from, for error texts: ``Django settings shop.settings``."""

    def settings(self) -> Mapping[str, Any]:
        """Return settings from the application's own configuration, as nested tables.

        Shaped as ``gateway.toml`` is: ``{"plugins": […], "layer": {"url": …}, "http": {…}}``.
        Must be cheap: called without starting the application.
        """

    def channels(self) -> list[str]:
        """Return the channels that the application routes."""

    def routes(self) -> list[tuple[str, str, str]]:
        """Return (channel, filters, consumer) rows for ``gateway routes``."""

    def warnings(self) -> list[str]:
        """Return what an operator should know although it stops nothing, for ``gateway check``."""

    def run_worker(self, layer: Layer, config: Any) -> int:
        """Run a worker alone until SIGTERM or SIGINT; return the exit status.

        ``config`` is the gateway's `gateway.core.config.Settings`. Called on the main thread.
        """

    def start_worker(self, layer: Layer, config: Any) -> RunningWorker:
        """Start a worker on threads of this process and return at once.

        For ``--workers 0`` and for the supervisor's workers. Touches no signal handler; may be
        called on another thread than the main one.
        """


class RunningWorker(Protocol):
    """A worker on threads of this process."""

    ready: threading.Event
    """To be set once its channels are announced (with ``config.workers.version``) and taken: only
    then an old worker ends that this one replaces."""

    def handled(self) -> int:
        """Return how many messages it has run, for ``workers.max_requests``. Cheap."""

    def stop(self, grace: float) -> bool:
        """Take no more, let what runs finish for up to ``grace`` seconds; say whether all did.

        Blocks; may be called on a thread of its own.
        """


# ---------------------------------------------------------------- hook specifications


@hookspec
def gateway_plugin() -> type[ProtocolPlugin]:  # type: ignore[empty-body]
    """Return the plugin's class. Called once, when it is loaded."""


@hookspec
def gateway_http_claims(config: Any, context: Context) -> list[Claim]:  # type: ignore[empty-body]
    """Return claims on requests of the http port. Once, at start.

    ``config`` is the plugin's settings, ``context`` its context.
    """


@hookspec(firstresult=True)
def gateway_application(config: Any) -> Application | None:
    """Return the application to serve, or None if there is none of this kind here.

    ``config`` is the `gateway.core.project.Project`; its directory is on ``sys.path`` and
    ``DJANGO_SETTINGS_MODULE`` is set already, where one was found.
    """


@hookspec
def gateway_commands() -> dict[str, Callable[[list[str], Any], int | None]]:  # type: ignore[empty-body]
    """Return commands by their words: ``gateway NAME WORD …`` calls ``command(arguments, config)``.

    ``arguments`` are the words after it, ``config`` the plugin's settings as `gateway run` would
    read them here. No gateway is started and no loop runs. It returns the exit status, None for
    0; a `GatewayError` is shown without a traceback, status 2. The first line of its docstring
    is its help. The names of the gateway's own commands go before a plugin's.
    """


@hookspec
def gateway_layers() -> dict[str, str]:  # type: ignore[empty-body]
    """Return layer classes by URL scheme: ``{"redis": "package.module:Class"}``."""
