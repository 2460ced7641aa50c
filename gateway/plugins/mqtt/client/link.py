"""paho driven by our loop: connected on a thread, read and written by the loop.

::

    join() ──thread: DNS, TCP, TLS, CONNECT──► adopted by the loop ──CONNACK──► connected
      ▲                                                                            │
      └────────────────────────── ended, whoever ended it ◄────────────────────────┘
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import Context
from gateway.plugins.mqtt.client.library import Buffered, Client

PACKETS: Final = 64
"""Packets that are read in one turn of the loop, so that everything else gets its turn."""
TICK: Final = 1.0
"""Seconds between two looks at the keep-alive, whose unit is the second."""
FAREWELL: Final = 1.0
"""Seconds that a broker has to read our DISCONNECT, and what stands before it."""


class Owner(Protocol):
    """Who has the link: it is told what happens, on the loop."""

    def joined(self, *, resumed: bool, properties: Any) -> None:
        """Hear that the broker let us in."""

    def message(self, message: Any) -> None:
        """Take a publish of the broker's, in paho's terms."""

    def published(self, packet_id: int, code: int) -> None:
        """Hear what became of a publish of ours; of QoS 0: that it is written."""

    def subscribed(self, packet_id: int, codes: list[int]) -> None:
        """Hear what became of subscriptions."""

    def parted(self, code: int, reason: str) -> None:
        """Hear that the connection is gone."""

    def writable(self) -> None:
        """Hear that everything is written."""


class Link:
    """The connection of one client: none, or one at a time."""

    def __init__(self, context: Context, client: Client, owner: Owner, keepalive: int) -> None:
        self._context = context
        self._loop = context.loop
        self._client = client
        self._owner = owner
        self._keepalive = keepalive
        self._thread: asyncio.Future[None] | None = None
        """The attempt that was begun last."""
        self._joined: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self._why: tuple[int, str] = (0x80, "")
        self._sock: Buffered | None = None
        self._fd = -1
        self._watched = self._writing = self._paused = False
        self._turn: asyncio.Handle | None = None
        self._flush: asyncio.Handle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._inside = False
        """Whether paho is being called, or calls."""
        self._silent = 0.0
        """Seconds since the last sign of life while nothing is read."""
        self.is_up = False
        """Whether the broker has let us in, and the connection is there."""
        self._say()

    def _say(self) -> None:
        client: Any = self._client
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _, __, message: self._owner.message(message)
        client.on_publish = lambda _, __, mid, code, ___: self._owner.published(mid, code.value)
        client.on_subscribe = lambda _, __, mid, codes, ___: self._owner.subscribed(
            mid, [code.value for code in codes]
        )

    # ------------------------------------------------ one connection

    async def join(self, connected: Callable[[], None]) -> None:
        """Connect, and return, or raise, at the end of the connection. Never at once twice."""
        if self._thread is not None and not self._thread.done():
            await asyncio.wait({self._thread})  # one that was given up, and blocks still
        self._ended.clear()
        self._why = (0x80, "")
        self._joined = self._loop.create_future()
        self._thread = self._aside(self._client.join)
        try:
            await asyncio.shield(self._thread)
            self._adopt()
            await self._joined
            connected()
            await self._ended.wait()
        except asyncio.CancelledError:
            if not self._thread.done():
                self._thread.add_done_callback(self._given_up)
            raise
        finally:
            self.cut()
            if self._joined.done() and not self._joined.cancelled():
                self._joined.exception()  # it may have been raised before, by the thread
        if self._why[1]:
            raise RemoteProtocolError(self._why[1])

    def _aside(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Run what blocks on a thread that nobody waits for when the process ends."""
        future: asyncio.Future[None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def run() -> None:
            error: Exception | None = None
            try:
                work()
            except Exception as found:  # noqa: BLE001 - it is raised where it is waited for
                error = found
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=run, name="mqtt-connect", daemon=True).start()
        return future

    def _given_up(self, thread: asyncio.Future[None]) -> None:
        """Close what came of an attempt that nobody waits for any more."""
        thread.exception()
        self._client.cut()

    def _adopt(self) -> None:
        """Have the loop read and write."""
        self._sock = sock = self._client.buffered
        if sock is None:
            raise ConnectionError("the broker closed the connection at once")
        client: Any = self._client
        client.on_socket_register_write = self._to_write
        client.on_socket_close = self._forget
        self._fd = sock.fileno()
        self._paused = False
        self._watch()
        self._flush = self._loop.call_soon(self._write)
        self._tick = self._loop.call_later(TICK, self._ticks)

    def _forget(self, *_: Any) -> None:
        """Watch the socket no more: it is about to be closed."""
        client: Any = self._client
        client.on_socket_register_write = client.on_socket_close = None
        self._unwatch()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        for handle in (self._turn, self._flush, self._tick):
            if handle is not None:
                handle.cancel()
        self._turn = self._flush = self._tick = None
        self._sock = None

    def _on_connect(self, _: Any, __: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._joined is None or self._joined.done():
            return
        if reason.is_failure:
            error = f"the broker refused the connection: {reason}"
            self._joined.set_exception(RemoteProtocolError(error))
            return
        self.is_up = True
        self._joined.set_result(None)
        self._owner.joined(resumed=flags.session_present, properties=properties)

    def _on_disconnect(self, _: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._over(reason.value, f"the broker ended it: {reason}")
        else:
            self._over(0 if not reason.is_failure else 0x80, self._why[1])

    def _over(self, code: int, reason: str) -> None:
        if self._joined is not None and not self._joined.done():
            text = reason or "the broker closed the connection without an answer"
            self._joined.set_exception(RemoteProtocolError(text))
        if self.is_up:
            self.is_up = False
            self._why = (code, reason)
            self._owner.parted(code, reason)
        self._ended.set()

    def cut(self) -> None:
        """End it without a word. Idempotent."""
        self._forget()  # before paho calls for it, which it may not while it is in a callback
        if self._thread is not None and self._thread.done():
            self._client.cut()
        self._over(0x80, self._why[1])

    def leave(self) -> None:
        """End it in the protocol's words."""
        if not self.is_up:
            return
        sock = self._sock
        self._client.disconnect()
        if not self._inside:  # of a callback paho cannot call another
            self._write()
        if sock is self._sock:
            self._loop.call_later(FAREWELL, self._left, sock)

    def _left(self, sock: Buffered | None) -> None:
        if sock is not None and sock is self._sock:
            self.cut()

    # ------------------------------------------------ reading

    def read(self, *, on: bool) -> None:
        """Read on, or no more for now."""
        if self._paused is not on:
            return
        self._paused = not on
        self._silent = 0.0
        if self._sock is None:
            return
        if on:
            self._watch()
            if self._sock.unread and self._turn is None:
                self._turn = self._loop.call_soon(self._readable)
        else:
            self._unwatch()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._fd, self._readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        self._turn = None
        sock = self._sock
        if sock is None or self._paused:
            return
        self._inside = True
        try:
            for _ in range(PACKETS):
                self._client.loop_read()
                if sock is not self._sock or self._paused or not sock.unread:
                    return
        except Exception as error:  # noqa: BLE001 - what paho cannot read costs the connection
            self._fault(error)
            return
        finally:
            self._inside = False
        if self._turn is None:
            self._turn = self._loop.call_soon(self._readable)

    def _fault(self, error: Exception) -> None:
        self._context.count("client_errors_total")
        self._context.log.warning("the connection to a broker is closed", exc_info=error)
        self._why = (0x81, f"{type(error).__name__}: {error}")
        self.cut()

    # ------------------------------------------------ writing

    @property
    def is_writable(self) -> bool:
        """Whether the socket takes what is written."""
        return self.is_up and not self._writing

    def _to_write(self, *_: Any) -> None:
        if self._flush is None and not self._writing:
            self._flush = self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._flush = None
        sock = self._sock
        if sock is None:
            return
        self._inside = True
        try:
            self._client.loop_write()
            if sock is not self._sock:
                return
            sock.flush()
        except OSError as error:
            self._why = (0x80, str(error))
            self.cut()
            return
        finally:
            self._inside = False
        waits = sock.unsent or self._client.want_write()
        if waits and not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._write)
        elif not waits:
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._fd)
            if self.is_up:
                self._owner.writable()

    # ------------------------------------------------ time

    def _ticks(self) -> None:
        self._tick = self._loop.call_later(TICK, self._ticks)
        if not self._paused:
            self._client.loop_misc()
        else:
            # Nothing is read, so nothing is judged; but the broker wants to hear from us.
            self._silent += TICK
            if self._silent >= self._keepalive / 2:
                self._silent = 0.0
                self._client.ping()
