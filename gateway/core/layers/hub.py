"""The hub: the memory layer's state, served to other processes on a Unix socket.

It runs on an event loop: inside a gateway process, which uses `Hub.layer` directly, or
alone (``gateway hub``). Payloads pass unread; what one turn of the loop has for a client
leaves in one write.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from gateway.core.errors import LayerError
from gateway.core.layers import wire
from gateway.core.layers.journalfile import JournalFile
from gateway.core.layers.memory import MemoryLayer, Shared
from gateway.core.layers.memoryedge import TICK
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Entry, Link, Reader
from gateway.core.layers.verbs import OPS
from gateway.core.metrics import Metrics

log = logging.getLogger("gateway.hub")

TELL_TIME: Final = 1.0
"""Seconds that gateway processes have to say their numbers; who is stuck longer is left out."""
FLUSH_BYTES: Final = 1024 * 1024
"""While a client leaves so much unread, its inbox waits in the state, bounded there."""


class Hub:
    """A layer state and the clients of its socket."""

    def __init__(
        self,
        options: LayerOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or LayerOptions()
        self.shared = Shared(self.options, clock)
        self.clients: set[HubClient] = set()
        self.ops = [getattr(self.shared.state, name) for name in OPS]
        """The operations of the state, by their number on the wire."""
        self.sources: list[Callable[[], str]] = [self._numbers]
        """Where the text of `UnixLayer.metrics_text` comes from, in the Prometheus format."""
        self.journal: JournalFile | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._stopped = False

    def layer(self) -> MemoryLayer:
        """Return the layer for a process that lives where the hub does."""
        return MemoryLayer("memory://", self.options, shared=self.shared)

    def collect(self, answer: Callable[[str], None]) -> None:
        """Have ``answer`` told the numbers of the hub, and of every gateway process on it."""
        asked = [client for client in self.clients if client.is_edge]
        found = [source() for source in self.sources]
        waited: asyncio.TimerHandle | None = None

        def told(client: HubClient | None, text: str) -> None:
            if client in asked:
                asked.remove(client)
                found.append(text)
            elif client is not None or not asked:
                return  # too late
            else:
                asked.clear()
            if not asked:
                if waited is not None:
                    waited.cancel()
                answer("".join(found))

        if not asked:
            answer("".join(found))
            return
        waited = asyncio.get_running_loop().call_later(TELL_TIME, told, None, "")
        for client in list(asked):
            client.ask(partial(told, client))

    def _numbers(self) -> str:
        """Return the layer's numbers in the Prometheus text format."""
        state = self.shared.state
        with self.shared.lock:
            found = state.total()
            metrics = Metrics()
            for name, value in (
                ("gateway_layer_messages_total", found.messages),
                ("gateway_layer_full_total", found.full),
                ("gateway_layer_pending", found.pending),
                ("gateway_layer_pending_bytes", found.pending_bytes),
                ("gateway_layer_in_hand", found.in_hand),
                ("gateway_layer_processes", len(state.processes)),
                ("gateway_layer_groups", len(state.groups)),
                ("gateway_layer_disconnects", len(state.lasting)),
                ("gateway_layer_history", len(state.kept)),
                ("gateway_layer_history_bytes", state.kept_bytes),
                ("gateway_layer_journal_bytes", self.journal.size if self.journal else 0),
            ):
                metrics.count(name, value)
            for cause, number in found.drops.items():
                metrics.count("gateway_layer_drops_total", number, cause=cause)
            for version, number in state.versions().items():
                metrics.count("gateway_workers", number, version=version)
        return metrics.text()

    def keep_journal(self, path: str, mode: int = 0o600, group: str = "") -> None:
        """Keep a journal at ``path``, and take over what a predecessor left there.

        Before `serve`, and before any process joined. A journal that cannot be read or written
        is logged, and stops nothing.
        """
        found = JournalFile(path, mode=mode, group=group, wake=self._wake)
        killed = os.path.exists(path)  # noqa: PTH110 - a socket's path stays a str throughout
        left = found.read()
        state = self.shared.state
        with self.shared.lock:
            state.successor = killed
            # No hub of this machine has given a tag of this millisecond before.
            state.inherit(left, time.time_ns() // 1_000_000 << 20, found)
            found.open(state.to_journal)
        self.journal = found
        if left:
            log.info(
                "the hub before this one was killed: %d disconnects are to be delivered, and %d "
                "more unless their gateway processes come back within %g s",
                len(left.orphans) + len(left.offered),
                sum(map(len, left.owned.values())),
                self.options.lease,
            )

    def _wake(self) -> None:
        """Have the journal written in this turn of the loop."""
        if self._loop is None:
            return  # nobody was served yet; what is said now is written with the first turn
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.write_journal)
        else:
            self._loop.call_soon_threadsafe(self.write_journal)

    def write_journal(self) -> None:
        """Write what the journal was told: before a frame that follows from it leaves."""
        if self.journal is not None and self.journal.pending:
            with self.shared.lock:
                self.journal.flush()

    async def serve(self, sock: socket.socket) -> None:
        """Accept clients on a bound Unix socket. Raises OSError."""
        loop = self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._server = await loop.create_unix_server(lambda: HubClient(self), sock=sock)
        self._tick()

    async def stop(self) -> None:
        """Accept no more, and let the clients go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in list(self.clients):
            client.flush()
        if self.journal is not None:
            with self.shared.lock:
                owed = self.shared.state.owes
                self.journal.close(keep=owed > 0)
            if owed:
                log.info("%d disconnects are left to the next hub here", owed)
        # Those that go now may come back to the next hub: their leases do not end here.
        self._stopped = True
        for client in list(self.clients):
            client.transport.close()

    def hung_up(self, link: Link) -> None:
        """Hear that a connection has ended."""
        if not self._stopped:
            with self.shared.lock:
                self.shared.state.cut(link)

    def _tick(self) -> None:
        with self.shared.lock:
            self.shared.state.tick()
        self.write_journal()
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)


def bind(path: str, mode: int = 0o600) -> socket.socket:
    """Return a bound, listening Unix socket, never open to others than ``mode`` says.

    The directory is made if missing (0700). Raises OSError.
    """
    folder = os.path.dirname(path)  # noqa: PTH120 - a socket's path stays a str throughout
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock


class HubClient(asyncio.Protocol):
    """One connection of one process."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._state = hub.shared.state
        self._lock = hub.shared.lock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._frames = wire.Frames()
        self._out: list[Any] = []
        self._scheduled = False
        self._paused = False
        self._link: Link | None = None
        self._intakes: dict[int, Reader] = {}
        self._pulls: dict[int, Reader] = {}
        self._asked: dict[int, Callable[[str], None]] = {}
        """Who waits for this process's numbers."""
        self._questions = itertools.count(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=FLUSH_BYTES)
        self._hub.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.clients.discard(self)
        asked, self._asked = self._asked, {}
        for told in asked.values():
            told("")
        if self._link is not None:
            self._hub.hung_up(self._link)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    # ---------------------------------------------------------------- outwards

    def _say(self, event: Any) -> None:
        self._out.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def _notify(self) -> None:
        """Hear that the inbox of an edge has items, on any thread of the process."""
        if not self._scheduled:
            self._scheduled = True
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self.flush)
            else:
                self._loop.call_soon_threadsafe(self.flush)

    def flush(self) -> None:
        """Write what is to be said."""
        self._scheduled = False
        link = self._link
        if link is not None and link.process.edge is link and not self._paused:
            with self._lock:
                items = self._state.drain(link.process, FLUSH_BYTES)
            if items:
                self._out.append((wire.ITEMS, wire.pack_items(items)))
                if link.process.inbox:
                    self._notify()
        if self._out and not self.transport.is_closing():
            out, self._out = self._out, []
            self._hub.write_journal()
            self.transport.write(wire.pack(out))

    # ---------------------------------------------------------------- inwards

    def data_received(self, data: bytes) -> None:
        try:
            commands = self._frames.feed(data)
        except (ValueError, msgspec.DecodeError) as error:
            log.error("a client of the hub sent what is no frame: %s", error)  # noqa: TRY400
            self.transport.abort()
            return
        with self._lock:
            self._hub.shared.tick()
            if self._link is not None:
                self._link.process.still = 0.0
            for command in commands:
                try:
                    self._do(command)
                except (LayerError, ValueError, TypeError, LookupError) as error:
                    self._failed(command, error)

    def _failed(self, command: list[Any], error: Exception) -> None:
        rid = command[1] if len(command) > 1 else 0
        if rid:
            self._say((wire.ERROR, rid, *wire.pack_error(error)))
        if self._link is not None and not self._link.process.alive:
            self._say((wire.ENDED,))
        elif not rid:
            log.error("a command of %s failed: %s", self._name(), error)

    def _name(self) -> str:
        return "a client" if self._link is None else self._link.process.name

    def _do(self, command: list[Any]) -> None:
        code = command[0]
        if code == wire.SETTLE:
            link = self._link or self._here()
            if not link.process.alive:
                self._say((wire.ENDED,))
            outcomes = command[3]
            if outcomes.__class__ is int:
                self._state.accept(link, command[2], outcomes, command[4])
            else:
                self._state.settle(link, command[2], wire.unpack_outcomes(outcomes), command[4])
        elif code < len(OPS):
            result = self._hub.ops[code](self._link or self._here(), *command[2:])
            if command[1]:
                if isinstance(result, frozenset):
                    result = sorted(result)
                self._say((wire.REPLY, command[1], result))
        else:
            _CONTROL[code](self, command[1], *command[2:])

    def _here(self) -> Link:
        if self._link is None:
            raise ValueError("the first command is HELLO")
        return self._link

    def _hello(self, rid: int, version: int, name: str) -> None:
        if version != wire.VERSION:
            raise ValueError(f"this hub speaks version {wire.VERSION}, not {version}")
        known = name in self._state.processes
        self._link = self._state.join(name, leased=True)
        process = self._link.process
        self._say(
            (wire.REPLY, rid, [process.name, known, msgspec.to_builtins(self._state.options)])
        )

    def _beat(self, rid: int) -> None:
        """Take a sign of life: every frame is one."""
        if not self._here().process.alive:
            self._say((wire.ENDED,))

    def _subscribe(self, rid: int, intake: int, channels: list[str], credit: int) -> None:
        def push(entry: Entry) -> None:
            payloads = entry.payloads[entry.done :] if entry.done else entry.payloads
            self._say((wire.DELIVER, intake, entry.tag, entry.name, payloads, entry.tries + 1))

        reader = Reader(self._here(), credit, push, standing=True)
        self._intakes[intake] = reader
        self._state.read(reader, channels)

    def _credit(self, rid: int, intake: int, more: int) -> None:
        reader = self._intakes.get(intake)
        if reader is not None:
            self._state.credit(reader, more)

    def _close(self, rid: int, intake: int) -> None:
        reader = self._intakes.pop(intake, None)
        if reader is not None:
            self._state.close_intake(reader)
        self._say((wire.REPLY, rid, True))

    def _pull(self, rid: int, channels: list[str], inbox: bool, wait: bool) -> None:
        link = self._here()
        entry = self._state.pull_any(link, channels, inbox=inbox)
        if entry is not None or not wait:
            self._say((wire.REPLY, rid, _handed(entry)))
            return

        def push(entry: Entry) -> None:
            self._state.unread(self._pulls.pop(rid))
            self._say((wire.REPLY, rid, _handed(entry)))

        reader = self._pulls[rid] = Reader(link, 1, push, standing=False)
        self._state.read(reader, channels)
        if inbox and rid in self._pulls:
            self._state.read_inbox(reader)

    def _unpull(self, rid: int, pull: int) -> None:
        reader = self._pulls.pop(pull, None)
        if reader is not None:
            self._state.unread(reader)
            self._say((wire.REPLY, pull, None))

    def _put_back(self, rid: int, tag: int, name: str = "", payload: bytes = b"") -> None:
        if tag:
            self._state.give_back(self._here(), tag)
        else:
            self._state.put_back(self._here().process, name, payload)

    def _edge(self, rid: int) -> None:
        self._state.open_edge(self._here(), self._notify)

    def _listen(self, rid: int, channel: str) -> None:
        self._state.listen(self._here(), channel)

    def _unlisten(self, rid: int, channel: str) -> None:
        self._state.unlisten(self._here(), channel)

    def _aside(self, rid: int, tag: int) -> None:
        self._state.set_aside(self._here(), tag)

    def _metrics(self, rid: int) -> None:
        self._hub.collect(lambda text: self._say((wire.REPLY, rid, text)))

    @property
    def is_edge(self) -> bool:
        """Whether this is a gateway process."""
        return self._link is not None and self._link.process.edge is self._link

    def ask(self, told: Callable[[str], None]) -> None:
        """Ask a gateway process for its numbers."""
        number = next(self._questions)
        self._asked[number] = told
        self._say((wire.TELL, number))

    def _told(self, rid: int, number: int, text: str) -> None:
        told = self._asked.pop(number, None)
        if told is not None:
            told(text)

    def _bye(self, rid: int) -> None:
        self._state.end_process(self._here().process)


def _handed(entry: Entry | None) -> Any:
    if entry is None:
        return None
    return [entry.tag, entry.name, entry.payloads[entry.done :], entry.tries + 1]


_CONTROL: Final[dict[int, Callable[..., None]]] = {
    wire.HELLO: HubClient._hello,  # noqa: SLF001 - its own table
    wire.BEAT: HubClient._beat,  # noqa: SLF001
    wire.SUBSCRIBE: HubClient._subscribe,  # noqa: SLF001
    wire.CREDIT: HubClient._credit,  # noqa: SLF001
    wire.CLOSE: HubClient._close,  # noqa: SLF001
    wire.PULL: HubClient._pull,  # noqa: SLF001
    wire.UNPULL: HubClient._unpull,  # noqa: SLF001
    wire.PUT_BACK: HubClient._put_back,  # noqa: SLF001
    wire.EDGE: HubClient._edge,  # noqa: SLF001
    wire.LISTEN: HubClient._listen,  # noqa: SLF001
    wire.UNLISTEN: HubClient._unlisten,  # noqa: SLF001
    wire.BYE: HubClient._bye,  # noqa: SLF001
    wire.ASIDE: HubClient._aside,  # noqa: SLF001
    wire.METRICS: HubClient._metrics,  # noqa: SLF001
    wire.TOLD: HubClient._told,  # noqa: SLF001
}
