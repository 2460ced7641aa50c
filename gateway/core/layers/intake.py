"""The intake of threads: deliveries that a hub hands over ahead, and how many."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from gateway.core.errors import LayerUnavailable
from gateway.core.layers import wire
from gateway.core.layers.base import Delivery
from gateway.core.layers.journal import LASTING
from gateway.core.layers.threads import SLOW, ThreadClient


class ThreadIntake:
    """The wish of the threads: deliveries handed over ahead, up to the credit."""

    def __init__(self, client: ThreadClient, channels: Sequence[str], credit: int) -> None:
        self._client = client
        self.channels = channels
        self.most = credit
        self.credit = credit
        """The credit in force: `most` while consumers are quick, less while they are slow."""
        self.ready: deque[list[Any]] = deque()
        self._closed = False
        self._number = 0
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Those that take and have not ended."""
        self._known = threading.local()
        """Has an attribute in a thread that is among them."""

    def _subscribe(self) -> None:
        """Call with the client's mutex held."""
        client = self._client
        self._number = next(client._rids)  # noqa: SLF001 - one mechanism in two classes
        client._intakes[self._number] = self  # noqa: SLF001
        if client._sock is None:  # noqa: SLF001
            with contextlib.suppress(LayerUnavailable):  # the minder goes on trying
                client._connect()  # noqa: SLF001 - it subscribes too
        else:
            client._out.append(  # noqa: SLF001
                (wire.SUBSCRIBE, 0, self._number, self.channels, self.credit)
            )

    def take(self, block: float | None) -> Delivery | None:
        """Return the next delivery. See `Intake.take`."""
        client = self._client
        end = None if block is None else time.monotonic() + block
        if not hasattr(self._known, "thread"):
            self._known.thread = True
            with client._mutex:  # noqa: SLF001
                self._threads.add(threading.current_thread())
        while True:
            try:
                event = self.ready.popleft()
            except IndexError:
                if self._closed:
                    return None
            else:
                client.turns += 1
                if event[2] >= LASTING:
                    client._layer.held.begun(event[2])  # noqa: SLF001
                delivery = Delivery(event[3], event[4], event[2], event[5], event[6])
                delivery.since = time.monotonic()
                return delivery
            with client._mutex:  # noqa: SLF001
                if not self._number:
                    self._subscribe()
                self._adapt()
            if client._out:  # noqa: SLF001
                client.flush()
            if not client._wait(self._woken, end) and not self.ready:  # noqa: SLF001
                return None

    def _woken(self) -> bool:
        return bool(self.ready) or self._closed

    def _adapt(self) -> None:
        """Ask for less ahead while consumers are slow, so that others can run it."""
        mean = self._client.mean
        few = max(1, len(self._threads))
        wanted = self.most if mean < 2 * SLOW else few * 2 if mean < 10 * SLOW else few
        wanted = min(wanted, self.most)
        if wanted != self.credit and self._client._sock is not None:  # noqa: SLF001
            self._client._out.append(  # noqa: SLF001
                (wire.CREDIT, 0, self._number, wanted - self.credit)
            )
            self.credit = wanted

    def close(self) -> None:
        """Take no more; give back what was not begun."""
        client = self._client
        with client._mutex:  # noqa: SLF001
            if self._closed:
                return
            self._closed = True
            client._intakes.pop(self._number, None)  # noqa: SLF001
            if client._sock is not None and self._number:  # noqa: SLF001
                client._out.append(  # noqa: SLF001
                    (wire.CLOSE, next(client._rids), self._number)  # noqa: SLF001
                )
                with contextlib.suppress(IndexError):  # another thread takes without the mutex
                    while True:
                        tag = self.ready.popleft()[2]
                        client._out.append((wire.PUT_BACK, 0, tag))  # noqa: SLF001
            self.ready.clear()
            for follower in client._followers:  # noqa: SLF001
                follower.wake()
        client.flush()
