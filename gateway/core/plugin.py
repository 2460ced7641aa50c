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
import enum
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec
import pluggy

from gateway.core.deadlines import Deadlines
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
from gateway.core.metrics import Drop

__all__ = [
    "ACCEPTED",
    "FAILED",
    "OK",
    "REJECTED",
    "RELEASED",
    "UNROUTED",
    "Accepted",
    "Action",
    "Application",
    "Close",
    "Connection",
    "Context",
    "Done",
    "Drop",
    "Emit",
    "Message",
    "NoConfig",
    "Outcome",
    "Peer",
    "ProtocolPlugin",
    "Refusal",
    "RunningWorker",
    "Session",
    "Timer",
    "Wire",
    "Write",
    "hookimpl",
    "hookspec",
]

Message = dict[str, Any]

hookspec = pluggy.HookspecMarker("gateway")
hookimpl = pluggy.HookimplMarker("gateway")


# ---------------------------------------------------------------- actions


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Send ``message`` to the application, on the channel ``PLUGIN.kind``.

    ``kind`` is a key of the plugin's ``messages.KINDS``. The core adds ``reply_channel``,
    ``order``, ``client`` and ``server``. ``token`` is the author's own (a sequence number, a
    packet id): it comes back in ``outcome`` or ``refused``; without one nothing comes back.
    ``conversation`` is a str key within the connection (order and window count per
    conversation); None is the connection's own.

    ``connect`` is special: the first Emit of a connection whose plugin has that kind. Until
    it is decided (``Session.outcome``, or a reply with ``accept``) group messages wait.
    """

    kind: str
    message: Message
    token: Any = None
    conversation: str | None = None
    channel: str | None = None
    """A single-reader channel to send on instead: the message goes as it is, without common
    keys, outside order and window; what is unsettled when the connection ends is withdrawn."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """Send ``output`` to the peer: bytes in stream plugins, the plugin's own terms elsewhere."""

    output: Any


class Done(msgspec.Struct, frozen=True, gc=False):
    """The reply that came with ``token`` is done (a PUBACK came, it was spooled): answer its
    ``ack`` with this outcome. Replies that the session never says this of are answered
    once the transport took the bytes.
    """  # noqa: D205 - one sentence

    token: Any
    outcome: Outcome = OK


class Close(msgspec.Struct, frozen=True, gc=False):
    """End the connection, after sending ``data``; with ``abort``, at once and without it."""

    data: Any = b""
    abort: bool = False


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The connection is accepted: register it, so that it gets its one disconnect message,
    and let group messages through. Before the ``Write`` that tells the peer.
    """  # noqa: D205 - one sentence


class Timer(msgspec.Struct, frozen=True, gc=False):
    """Have ``Session.timeout(name)`` called in ``seconds`` (None: not any more).

    Precise to about a tenth of a second. Setting it again replaces it.
    """

    name: str
    seconds: float | None


Action = Emit | Write | Done | Close | Accepted | Timer


class Refusal(enum.Enum):
    """Why an Emit never reached a consumer."""

    FULL = "full"
    """The channel had no room for as long as the setting allows."""
    DRAINING = "draining"
    """The gateway is shutting down."""
    UNAVAILABLE = "unavailable"
    """The layer cannot be reached."""
    TOO_BIG = "too_big"
    """Over one MiB encoded."""
    TOO_SLOW = "too_slow"
    """The connection's inbox is over its bounds although reading was paused."""
    TIMEOUT = "timeout"
    """No outcome came within the conversation's time."""
    BROKEN = "broken"
    """The message does not fit its schema: a fault of the plugin."""


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end. Addresses are (host, port), None where there is none."""

    client: tuple[str, int] | None = None
    server: tuple[str, int] | None = None
    tls: bool = False
    identity: str | None = None
    """Who a certificate or the transport says it is."""


class Session(ABC):
    """One connection's (or one HTTP request's) protocol state. Pure.

    Every method returns an iterable of actions, which the core runs in order before it
    calls the next method. An exception costs this session only: it is logged, counted,
    and the connection closes; `RemoteProtocolError` closes it with the error's ``answer``,
    `LocalProtocolError` from ``send`` makes the reply invalid and closes nothing.
    """

    __slots__ = ()

    acknowledges: ClassVar[bool] = False
    """Whether it says `Done` of every token that ``send`` gives it. False: an ``ack`` is
    answered once the transport took what ``send`` wrote."""

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Begin. Called once, before anything else."""
        return ()

    @abstractmethod
    def received(self, data: Any) -> Iterable[Action]:
        """Take input: any cutting of the bytes must give the same messages."""

    def ended(self) -> Message:
        """Return the content of the disconnect message, as things stand. Changes nothing.

        Called when it is due; and at acceptance, for the disconnect that the layer offers if
        this process is lost: the core writes ``server-lost`` into that one's ``code`` (into
        its ``reason`` where the schema's code is a number).
        """
        return {}

    @abstractmethod
    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Answer a reply of the application, which fits the plugin's reply schema.

        ``token`` is not None where the reply wants an ``ack`` and is to be given to ``Done``
        by sessions that can tell when it is done. Raises `LocalProtocolError` where the
        protocol cannot do it.
        """

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Hear what became of the Emit with ``token``.

        Exactly one of this or ``refused``; neither once the connection is lost.
        """
        return ()

    def refused(self, token: Any, refusal: Refusal) -> Iterable[Action]:
        """Hear that the Emit with ``token`` never reached a consumer."""
        return ()

    def timeout(self, name: str) -> Iterable[Action]:
        """Hear that a `Timer` is due."""
        return ()

    def eof(self) -> Iterable[Action]:
        """Hear that the peer will send no more. The default closes."""
        return (Close(),)

    def draining(self) -> Iterable[Action]:
        """Hear that the gateway is shutting down: say so in the protocol's words.

        The default closes. What is in flight may still finish where a session does not
        close at once; the core closes it at the end of the grace time.
        """
        return (Close(),)

    @classmethod
    def frame(cls, reply: Message) -> Any:  # noqa: ARG003 - subclasses use it
        """Return what to write for a group's ``reply``, the same for every member, or None.

        Called once per group message and plugin, not once per member; members that are
        accepted and not congested get it by one write. None: each member's ``send`` is asked.
        """
        return None


@runtime_checkable
class Wire(Protocol):
    """The transport as the core drives it; a plugin with its own transport implements it."""

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
    def attach(self, session: Session, wire: Wire, peer: Peer) -> Connection:
        """Begin a connection: give it a reply channel and call ``session.opened``."""

    @abstractmethod
    def emit(self, connection: Connection, emit: Emit) -> None:
        """Emit for a session from outside its methods (a transport's own event)."""

    @abstractmethod
    def detach(self, connection: Connection) -> None:
        """End a connection from the plugin's side, as if the transport were gone."""

    @abstractmethod
    def listen(self, channel: str, deliver: Callable[[str, Message], None]) -> None:
        """Read a normal channel, or a prefix that ends in ``!``, that the plugin declares."""

    @abstractmethod
    def routed(self, kind: str) -> bool | None:
        """Return whether a living worker routes ``NAME.kind``; None while no worker lives."""

    @abstractmethod
    def endpoints(self) -> list[Any]:
        """Return the plugin's listeners (`gateway.core.listen.Listen`), bound or to bind."""

    @abstractmethod
    def spawn(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until the plugin stops; its exceptions are logged."""

    @abstractmethod
    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add to the plugin's counter ``gateway_NAME_name``."""

    @abstractmethod
    def drop(self, cause: Drop, n: int = 1) -> None:
        """Count ``n`` dropped things by cause."""

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Whether the gateway is shutting down."""

    @abstractmethod
    def claims(self) -> list[Any]:
        """Return the claims on requests of the http port, highest priority first."""

    @abstractmethod
    def connections(self) -> Iterator[Connection]:
        """Iterate over the plugin's living connections."""

    def singleton(self, key: str) -> AbstractAsyncContextManager[Any]:
        """Hold ``key`` alone among all gateways. Not offered by any layer yet."""
        raise LookupError(f"no layer offers singletons yet (asked for {key!r})")


class ProtocolPlugin(ABC):
    """A protocol. One instance per gateway process.

    ``name`` is the first part of its channels and its settings table, ``Config`` a frozen
    `msgspec.Struct` that forbids unknown fields and describes each with ``Meta``,
    ``messages`` the plugin's messages module: ``KINDS`` (kind -> TypedDict of what it emits)
    and ``REPLY`` (TypedDict of what it understands).
    """

    name: ClassVar[str]
    Config: ClassVar[type[msgspec.Struct]] = NoConfig
    messages: ClassVar[Any]
    requires: ClassVar[tuple[str, ...]] = ()
    """Plugins that this one brings with it."""

    def __init__(self, config: Any, context: Context) -> None:
        self.config = config
        self.context = context

    @classmethod
    def warnings(cls, config: Any) -> Iterable[str]:  # noqa: ARG003 - subclasses use it
        """Return what an operator should know of this installation: slow parts, risky settings.

        Logged at start and shown by ``gateway check``.
        """
        return ()

    @abstractmethod
    async def start(self) -> None:
        """Return once traffic can flow. A failure stops the gateway's start."""

    @abstractmethod
    async def stop(self) -> None:
        """Refuse new work, tell peers, let what runs finish, release. Safe after a failed start."""

    def health(self) -> Mapping[str, Any]:
        """Return facts for a health check; ``{"ok": False, …}`` marks the gateway unhealthy."""
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

    def run_worker(self, layer: Layer, config: Any) -> int:
        """Run a worker until SIGTERM or SIGINT; return the exit status.

        ``config`` is the gateway's `gateway.core.config.Settings`. Called on the main thread.
        """

    def start_worker(self, layer: Layer, config: Any) -> RunningWorker:
        """Start a worker on threads of this process and return at once; for ``--workers 0``.

        Touches no signal handler and may be called while an event loop runs.
        """


class RunningWorker(Protocol):
    """A worker inside the gateway's own process."""

    def stop(self, grace: float) -> None:
        """Take no more, let what runs finish for up to ``grace`` seconds, return when it ended.

        Blocks; called on a thread of its own.
        """


# ---------------------------------------------------------------- hook specifications


@hookspec
def gateway_plugin() -> type[ProtocolPlugin]:  # type: ignore[empty-body]
    """Return the plugin's class. Called once, when it is loaded."""


@hookspec
def gateway_http_claims(config: Any, context: Context) -> list[Any]:  # type: ignore[empty-body]
    """Return claims (`gateway.core.web.Claim`) on requests of the http port. Once, at start.

    ``config`` is the plugin's settings, ``context`` its context.
    """


@hookspec(firstresult=True)
def gateway_application(config: Any) -> Application | None:
    """Return the application to serve, or None if there is none of this kind here.

    ``config`` is the `gateway.core.project.Project`; its directory is on ``sys.path`` and
    ``DJANGO_SETTINGS_MODULE`` is set already, where one was found.
    """


@hookspec
def gateway_layers() -> dict[str, str]:  # type: ignore[empty-body]
    """Return layer classes by URL scheme: ``{"redis": "package.module:Class"}``."""
