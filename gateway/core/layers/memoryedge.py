"""The face of a protocol server where the state of the layer is in its own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gateway.core.layers.codec import checked, checked_group, checked_history
from gateway.core.layers.edge import Edge, Item
from gateway.core.layers.records import Link
from gateway.core.layers.verbs import receivable

if TYPE_CHECKING:
    from gateway.core.layers.memory import MemoryLayer

TICK: Final = 0.1
"""Seconds between two looks at the clock of an open edge: leases and expiries last longer."""


class MemoryEdge(Edge):
    """The verbs of a protocol server on the state itself, on its loop."""

    available = True

    def __init__(self, layer: MemoryLayer, deliver: Callable[[list[Item]], None]) -> None:
        self._layer = layer
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = layer.shared.lock
        self._state = layer.state
        self._link: Link = layer._link  # noqa: SLF001 - the edge is part of the layer
        self.process = layer.process
        self.options = layer.options
        self._open = True
        with self._lock:
            self._state.open_edge(self._link, self._notify)
        self._timer = self._loop.call_later(TICK, self._tick)

    @property
    def announced(self) -> frozenset[str] | None:  # type: ignore[override]
        """What living workers' tables name."""
        return self._state.announced

    def _notify(self) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._drain)
        else:
            with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            items = self._state.drain(self._link.process)
        if items and self._open:
            self._deliver(items)

    def _tick(self) -> None:
        with self._lock:
            self._state.tick()
        if self._open:
            self._timer = self._loop.call_later(TICK, self._tick)

    def post(
        self,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        with self._lock:
            self._state.post(self._link, channel, payloads, receipt, expiry, pin)

    def cancel(self, receipt: int) -> None:
        with self._lock:
            self._state.withdraw(self._link, receipt)

    def register(self, connection: str, channel: str, disconnect: bytes) -> None:
        with self._lock:
            self._state.register(self._link, connection, channel, disconnect)

    def pin(self, connection: str, pin: str) -> None:
        with self._lock:
            self._state.pin(self._link, connection, pin)

    def end(self, connection: str, channel: str = "", disconnect: bytes | None = None) -> None:
        with self._lock:
            self._state.end(self._link, connection, channel, disconnect)

    def group_add(
        self,
        group: str,
        channel: str,
        meta: bytes | None = None,
        *,
        announce: bool = False,
        again: bool = False,
        since: str | None = None,
    ) -> None:
        names = (checked_group(group), checked(channel))
        with self._lock:
            self._state.edge_add(self._link, *names, meta, announce, again, since)

    def group_discard(self, group: str, channel: str) -> None:
        with self._lock:
            self._state.edge_discard(self._link, checked_group(group), checked(channel))

    def group_send(
        self,
        group: str,
        payload: bytes,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        kept = checked_history(history, history_seconds)
        with self._lock:
            self._state.send_group(self._link, checked_group(group), payload, list(exclude), *kept)

    def send(self, channel: str, payload: bytes) -> None:
        with self._lock:
            self._state.post(self._link, checked(channel), (payload,))

    def listen(self, channel: str) -> None:
        with self._lock:
            self._state.listen(self._link, receivable(channel))

    def unlisten(self, channel: str) -> None:
        with self._lock:
            self._state.unlisten(self._link, channel)

    def watch(self, channel: str, process: str) -> None:
        with self._lock:
            self._state.watch(self._link, checked(channel), process)

    def leave(self) -> None:
        self._layer.close()

    def stop(self) -> None:
        """Deliver no more."""
        self._open = False
        self._timer.cancel()
