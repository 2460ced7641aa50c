"""A memory layer whose line to one gateway is cut, and mended, when a test says so.

::

    layer = FailingLayer("memory://")
    edge = layer.edge(deliver)       # the gateway's end of it
    layer.fail()                     # what is unsettled is answered `failed`, then DOWN
    layer.restore()                  # UP, and what workers route

Of the two, `fail` and `restore` are called on the gateway's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.layers.edge import ANNOUNCED, DOWN, FULL, OUTCOME, UP, Edge, Item
from gateway.core.layers.memory import MemoryLayer
from gateway.core.layers.memoryedge import MemoryEdge
from gateway.testing.fakes import LAYER_LOST, apart


class _Nowhere:
    """In the place of the layer's state while that cannot be reached: whatever is said is lost."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _lose


def _lose(*_: Any, **__: Any) -> None:
    """Do nothing."""


class FailingEdge(MemoryEdge):
    """The edge of a `FailingLayer`."""

    def __init__(self, layer: MemoryLayer, deliver: Callable[[list[Item]], None]) -> None:
        self._tell = deliver
        self._owed: dict[int, set[int]] = {}
        """The messages that have no outcome yet, by receipt and index."""
        super().__init__(layer, self._pass_on)

    @property
    def announced(self) -> frozenset[str] | None:  # type: ignore[override] # as its parent's
        """What living workers' tables name; nobody knows while it is away."""
        return self._layer.state.announced if self.available else None

    def fail(self) -> None:
        """Go away."""
        if not self.available:
            return
        self.available = False
        self._state = _Nowhere()  # type: ignore[assignment] # it has every verb
        owed, self._owed = self._owed, {}
        lost: list[Item] = [
            (OUTCOME, receipt, index, LAYER_LOST)
            for receipt, indexes in owed.items()
            for index in sorted(indexes)
        ]
        self._tell([*lost, (DOWN,)])

    def restore(self) -> None:
        """Come back."""
        if self.available:
            return
        self.available = True
        self._state = self._layer.state
        self._tell([(UP, True), (ANNOUNCED, self.announced)])
        self._notify()

    def _pass_on(self, items: list[Item]) -> None:
        passed = [item for item in apart(items) if self._owes(item)]
        if passed:
            self._tell(passed)

    def _owes(self, item: Item) -> bool:
        """Return whether it is still to be told: not what was answered when the line was cut."""
        if item[0] == FULL:
            return self._owed.pop(item[1], None) is not None
        if item[0] != OUTCOME:
            return True
        indexes = self._owed.get(item[1])
        if indexes is None or item[2] not in indexes:
            return False
        indexes.discard(item[2])
        if not indexes:
            del self._owed[item[1]]
        return True

    def post(
        self,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        """As any layer's."""
        if receipt is not None and self.available:
            self._owed[receipt] = set(range(len(payloads)))
        elif receipt is not None:
            lost = [(OUTCOME, receipt, index, LAYER_LOST) for index in range(len(payloads))]
            asyncio.get_running_loop().call_soon(self._tell, lost)
        super().post(channel, payloads, receipt, expiry, pin)


class FailingLayer(MemoryLayer):
    """A memory layer whose edge fails on command.

    What waits on the layer stays, and other processes (`gateway.core.layers.memory.sibling`) go
    on with it: it is the gateway that is cut off.
    """

    _edge: FailingEdge | None

    def edge(self, deliver: Callable[[list[Item]], None]) -> Edge:
        """As any layer's."""
        self._edge = FailingEdge(self, deliver)
        return self._edge

    def fail(self) -> None:
        """Cut the line: what is unsettled is lost, and so is what is said from now on."""
        if self._edge is not None:
            self._edge.fail()

    def restore(self) -> None:
        """Mend it."""
        if self._edge is not None:
            self._edge.restore()
