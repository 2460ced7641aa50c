"""``memory://``: the reference layer, inside one process; and the hub's own way in.

``memory://`` is a layer of its own, ``memory://NAME`` the one of that name. Threads and
loops of one process share a `State` under one lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from gateway.core.errors import LayerError, LayerUnavailable
from gateway.core.layers.base import OK, Delivery, Intake, Layer, Outcome, Send
from gateway.core.layers.edge import Edge, Item
from gateway.core.layers.memoryedge import TICK, MemoryEdge
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import FOREVER, Entry, Reader
from gateway.core.layers.state import State
from gateway.core.layers.verbs import OPS, Verbs, off_loop

log = logging.getLogger("gateway.layer")


class Shared:
    """One `State`, its lock, and who waits on it."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.state = State(options, clock)
        self.state.on_due = self._poke
        self.waiters: set[_Waiter] = set()

    def _poke(self) -> None:
        for waiter in self.waiters:
            waiter.wake()

    def tick(self) -> None:
        """Do what is due. Call with the lock held."""
        state = self.state
        now = state.clock()
        if state.next_due() <= now or now - state._ticked >= TICK:  # noqa: SLF001 - its keeper
            state.tick()

    def until_due(self) -> float:
        """Return the seconds until something is due, at least a millisecond."""
        due = self.state.next_due()
        return FOREVER if due == FOREVER else max(0.001, due - self.state.clock())


_named: weakref.WeakValueDictionary[str, Shared] = weakref.WeakValueDictionary()
_naming: Final = threading.Lock()


class _Elsewhere:
    """The lock of a layer in the child of a fork, whose state is a copy that nobody else sees."""

    def __enter__(self) -> None:
        raise LayerUnavailable(
            "a memory:// layer reaches no process but its own, and this one was forked from it; "
            "run workers as processes (--workers 1), or set layer.url to unix:///path"
        )

    def __exit__(self, *_: object) -> None:
        """Nothing was entered."""


_layers: weakref.WeakSet[MemoryLayer] = weakref.WeakSet()


def _forked() -> None:
    _named.clear()
    for layer in list(_layers):
        layer.forked()


os.register_at_fork(after_in_child=_forked)


class _Waiter:
    """Somebody who waits for `entry`, or to be woken to look again."""

    entry: Entry | None = None

    def push(self, entry: Entry) -> None:
        self.entry = entry
        self.wake()

    def wake(self) -> None:
        raise NotImplementedError


class _ThreadWaiter(_Waiter):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._woken = False

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Return when woken, or after ``seconds``."""
        self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    def rearm(self) -> None:
        """Be ready to be woken again. Call with the state's lock held."""
        self._lock.acquire(blocking=False)
        self._woken = False


class _LoopWaiter(_Waiter):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        """Return when woken, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == FOREVER else seconds):
                await self._event.wait()

    def rearm(self) -> None:
        """Be ready to be woken again."""
        self._event.clear()


class MemoryLayer(Verbs):
    """The layer of `State` in this process. See `Layer` for the verbs."""

    def __init__(
        self,
        url: str,
        options: LayerOptions,
        clock: Callable[[], float] = time.monotonic,
        shared: Shared | None = None,
    ) -> None:
        name = url.partition("://")[2]
        if shared is None and name:
            with _naming:
                shared = _named.get(name) or _named.setdefault(name, Shared(options, clock))
        self.shared = shared or Shared(options, clock)
        self.state = self.shared.state
        self.options = self.state.options
        self._lock: threading.RLock | _Elsewhere = self.shared.lock
        with self._lock:
            self._link = self.state.join(None, leased=False)
        self.process = self._link.process.name
        self._edge: MemoryEdge | None = None
        _layers.add(self)

    def forked(self) -> None:
        """Refuse everything, in the child of a fork: it would reach nobody."""
        self._lock = _Elsewhere()

    def _ask(self, op: int, *args: Any) -> Any:
        with self._lock:
            self.shared.tick()
            return getattr(self.state, OPS[op])(self._link, *args)

    async def _aask(self, op: int, *args: Any) -> Any:
        return self._ask(op, *args)

    # ---------------------------------------------------------------- taking

    def _pull(self, channels: Sequence[str], *, inbox: bool) -> Entry | None:
        self.shared.tick()
        return self.state.pull_any(self._link, channels, inbox=inbox)

    def _wish(self, waiter: _Waiter, channels: Sequence[str], *, inbox: bool) -> Reader:
        reader = Reader(self._link, 1, waiter.push, standing=False)
        self.state.read(reader, channels)
        if inbox and waiter.entry is None:
            self.state.read_inbox(reader)
        self.shared.waiters.add(waiter)
        return reader

    def _done(self, waiter: _Waiter, reader: Reader) -> None:
        self.shared.waiters.discard(waiter)
        self.state.unread(reader)

    def _handed(self, entry: Entry | None, *, settled: bool) -> Delivery | None:
        """Return the delivery of an entry. Call with the lock held."""
        if entry is None:
            return None
        delivery = Delivery(
            entry.name, entry.payloads[entry.done :], entry.tag, entry.tries + 1, self._link
        )
        if settled and entry.tag:
            rest = len(delivery.payloads) > 1
            self.state.settle(self._link, entry.tag, (OK,), ())
            if rest:
                self.state.give_back(self._link, entry.tag)
        return delivery

    def _take(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        with self._lock:
            entry = self._pull(channels, inbox=inbox)
            if entry is not None or block <= 0:
                return self._handed(entry, settled=settled)
            waiter = _ThreadWaiter()
            reader = self._wish(waiter, channels, inbox=inbox)
        end = time.monotonic() + block
        while True:
            left = end - time.monotonic()
            if left > 0 and waiter.entry is None:
                waiter.wait(min(left, self.shared.until_due()))
            with self._lock:
                waiter.rearm()
                self.shared.tick()
                if waiter.entry is not None or left <= 0:
                    self._done(waiter, reader)
                    return self._handed(waiter.entry, settled=settled)

    async def _atake(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        with self._lock:
            entry = self._pull(channels, inbox=inbox)
            if entry is not None or block <= 0:
                return self._handed(entry, settled=settled)
            waiter = _LoopWaiter()
            reader = self._wish(waiter, channels, inbox=inbox)
        end = time.monotonic() + block
        try:
            while True:
                left = end - time.monotonic()
                if left > 0 and waiter.entry is None:
                    await waiter.wait(min(left, self.shared.until_due()))
                with self._lock:
                    waiter.rearm()
                    self.shared.tick()
                    if waiter.entry is not None or left <= 0:
                        self._done(waiter, reader)
                        return self._handed(waiter.entry, settled=settled)
        except asyncio.CancelledError:
            with self._lock:
                self._done(waiter, reader)
                if waiter.entry is not None:
                    self._put_back(waiter.entry)
            raise

    def _put_back(self, entry: Entry) -> None:
        if entry.tag:
            self.state.give_back(self._link, entry.tag)
        else:
            self.state.put_back(self._link.process, entry.name, entry.payloads[0])

    def intake(self, channels: Iterable[str], credit: int = 32) -> Intake:
        return MemoryIntake(self, self._standing(channels), credit)

    def _settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> None:
        if delivery.tag:
            with self._lock:
                self.shared.tick()
                self.state.settle(self._link, delivery.tag, outcomes, sends)
        elif sends:
            self.apply(sends)

    # ---------------------------------------------------------------- roles

    def edge(self, deliver: Callable[[list[Item]], None]) -> Edge:
        if self._edge is not None:
            raise LayerError("this layer has an edge already")
        self._edge = MemoryEdge(self, deliver)
        return self._edge

    def close(self) -> None:
        if self._edge is not None:
            self._edge.stop()
        with self._lock:
            self.state.cut(self._link)

    async def aclose(self) -> None:
        self.close()


class MemoryIntake(Intake):
    """Deliveries handed over ahead, shared by threads and loops."""

    def __init__(self, layer: MemoryLayer, channels: Sequence[str], credit: int) -> None:
        self._layer = layer
        self._shared = layer.shared
        self._lock = layer.shared.lock
        self._channels = channels
        self._ready: deque[Entry] = deque()
        self._idle: list[_Waiter] = []
        self._closed = False
        self._begun = False
        self._reader = Reader(layer._link, credit, self._push, standing=True)  # noqa: SLF001

    @property
    def ready(self) -> bool:
        """Whether something was handed over that nobody has taken yet."""
        return bool(self._ready)

    def _push(self, entry: Entry) -> None:
        self._ready.append(entry)
        if self._idle:
            self._idle.pop().wake()

    def _next(self) -> Delivery | None:
        self._shared.tick()
        if not self._begun and not self._closed:
            self._begun = True
            self._layer.state.read(self._reader, self._channels)
        if not self._ready:
            return None
        return self._layer._handed(self._ready.popleft(), settled=False)  # noqa: SLF001

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._idle:
            self._idle.remove(waiter)
        elif self._ready and self._idle:  # we were woken for what somebody else must take now
            self._idle.pop().wake()
        self._shared.waiters.discard(waiter)

    def take(self, block: float | None = None) -> Delivery | None:
        off_loop("take")
        waiter: _ThreadWaiter | None = None
        end = None if block is None else time.monotonic() + block
        while True:
            with self._lock:
                if waiter is not None:
                    waiter.rearm()
                delivery = self._next()
                left = FOREVER if end is None else end - time.monotonic()
                if delivery is not None or self._closed or left <= 0:
                    if waiter is not None:
                        self._leave(waiter)
                    return delivery
                if waiter is None:
                    waiter = _ThreadWaiter()
                    self._shared.waiters.add(waiter)
                if waiter not in self._idle:
                    self._idle.append(waiter)
            waiter.wait(min(left, self._shared.until_due()))

    async def atake(self, block: float | None = None) -> Delivery | None:
        waiter: _LoopWaiter | None = None
        end = None if block is None else time.monotonic() + block
        try:
            while True:
                with self._lock:
                    if waiter is not None:
                        waiter.rearm()
                    delivery = self._next()
                    left = FOREVER if end is None else end - time.monotonic()
                    if delivery is not None or self._closed or left <= 0:
                        return delivery
                    if waiter is None:
                        waiter = _LoopWaiter()
                        self._shared.waiters.add(waiter)
                    if waiter not in self._idle:
                        self._idle.append(waiter)
                await waiter.wait(min(left, self._shared.until_due()))
        finally:
            if waiter is not None:
                with self._lock:
                    self._leave(waiter)

    def set_aside(self, delivery: Delivery) -> None:
        with self._lock:
            self._layer.state.set_aside(delivery.source, delivery.tag)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._layer.state.close_intake(self._reader)
            while self._ready:
                self._layer.state.give_back(self._layer._link, self._ready.popleft().tag)  # noqa: SLF001
            for waiter in self._idle:
                waiter.wake()


def sibling(layer: MemoryLayer) -> Layer:
    """Return another process on the same state."""
    return MemoryLayer("memory://", layer.options, shared=layer.shared)
