"""The intake of one loop: deliveries that a hub hands over ahead, up to the credit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gateway.core.layers import wire
from gateway.core.layers.base import Delivery
from gateway.core.layers.journal import LASTING
from gateway.core.layers.loops import LoopClient


class LoopIntake:
    """The wish of one loop: deliveries handed over ahead, up to the credit."""

    def __init__(self, client: LoopClient, channels: Sequence[str], credit: int) -> None:
        self._client = client
        self.channels = channels
        self.credit = credit
        self.ready: deque[Delivery] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._number = next(client._rids)  # noqa: SLF001 - one mechanism in two classes
        client.intakes[self._number] = self
        if client.connected:
            client.say((wire.SUBSCRIBE, 0, self._number, channels, credit))
        else:
            client.keep_connected()

    def push(self, delivery: Delivery) -> None:
        """Take what the hub handed over, and wake one who waits."""
        self.ready.append(delivery)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return

    async def take(self, block: float | None) -> Delivery | None:
        """Return the next delivery. See `Intake.atake`."""
        client = self._client
        end = None if block is None else client.loop.time() + block
        while not self.ready:
            left = None if end is None else end - client.loop.time()
            if self._closed or (left is not None and left <= 0):
                return None
            future = client.loop.create_future()
            self._waiting.append(future)
            try:
                async with asyncio.timeout(left):
                    await future
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                if self.ready:
                    self._wake()
                raise
        delivery = self.ready.popleft()
        if delivery.tag >= LASTING:
            client.layer.held.begun(delivery.tag)
        return delivery

    def close(self) -> None:
        """Take no more; give back what was not begun."""
        if self._closed:
            return
        self._closed = True
        client = self._client
        client.intakes.pop(self._number, None)
        if client.connected:
            client.say((wire.CLOSE, next(client._rids), self._number))  # noqa: SLF001
        while self.ready:
            client.put_back(self.ready.popleft())
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
