"""What one gateway process holds alone among all on its layer: the keys of `Context.singleton`.

::

    async with context.singleton("connection") as held:  # waits until nobody else holds it
        ...                                              # until held.lost is set
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from gateway.core.errors import LayerError, PluginError
from gateway.core.layers.base import Layer

log = logging.getLogger("gateway.singletons")

POLL: Final = 0.5
"""Seconds between two tries for what another process holds: who dies is replaced within about
that, and a try costs the layer one question."""
FAREWELL: Final = 1.0
"""Seconds that a release may take; after that the end of the lease releases."""


class Held:
    """A key that this process holds alone."""

    __slots__ = ("epoch", "key", "lost")

    def __init__(self, key: str, epoch: int) -> None:
        self.key = key
        self.epoch = epoch
        """Higher for each next holder: what fences an earlier one off elsewhere, too."""
        self.lost = asyncio.Event()
        """Set once another process may hold it: stop at once what only its holder does."""


class Singletons:
    """The keys that the plugins of one process hold, or wait for."""

    def __init__(self, layer: Layer | None) -> None:
        self._layer = layer
        self._held: set[Held] = set()
        self._claims: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(self, key: str, tries: int | None = None) -> AsyncIterator[Held]:
        """Wait until nobody else holds ``key``, and hold it until the end of the block.

        Raises PluginError where the layer cannot give anything to one alone; TimeoutError where
        it did not in so many tries.
        """
        layer = self._layer
        if layer is None or "deliveries" not in layer.extensions:
            raise PluginError(
                f"{key!r} is for one gateway process alone, which this channel layer cannot say; "
                "set layer.url to unix:///path, or run one gateway process on memory://"
            )
        held = Held(key, await self._acquired(layer, key, tries))
        self._held.add(held)
        try:
            yield held
        finally:
            self._held.discard(held)
            if not held.lost.is_set():
                await self._release(layer, key)

    async def _acquired(self, layer: Layer, key: str, tries: int | None) -> int:
        while True:
            epoch = None
            try:
                with suppress(LayerError):  # it is away: nobody is given anything now
                    epoch = await layer.aacquire(key)
            except asyncio.CancelledError:
                await self._release(layer, key)  # it may have been given just now
                raise
            if epoch is not None:
                return epoch
            if tries is not None:
                tries -= 1
                if tries <= 0:
                    raise TimeoutError
            await asyncio.sleep(POLL * random.uniform(0.7, 1.3))  # noqa: S311 - it spreads

    async def _release(self, layer: Layer, key: str) -> None:
        with suppress(LayerError, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await layer.arelease(key)

    def claim(self) -> None:
        """Say what is held to a layer that has forgotten it."""
        for held in self._held:
            task = asyncio.ensure_future(self._claim(held))
            self._claims.add(task)
            task.add_done_callback(self._claims.discard)

    async def _claim(self, held: Held) -> None:
        try:
            epoch = (
                None if self._layer is None else await self._layer.aacquire(held.key, held.epoch)
            )
        except LayerError:
            return  # it is away again, and asks again when it is back
        if epoch != held.epoch and held in self._held:
            log.warning("%s: another process holds it now", held.key)
            held.lost.set()

    def lose(self) -> None:
        """Hear that the lease of this process has ended, and with it all that it held."""
        for held in self._held:
            held.lost.set()

    async def close(self) -> None:
        """Claim nothing any more."""
        for task in self._claims:
            task.cancel()
        await asyncio.gather(*self._claims, return_exceptions=True)
