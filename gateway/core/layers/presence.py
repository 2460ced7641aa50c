"""What is told of members of groups: joins and leaves, as messages on two normal channels.

Told is per membership: one that was added with ``announce``. It has one history, ``join`` and
``leave`` in turn, and what is newer is not offered before what is older has its outcome, so
that no two workers tell them in the wrong order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.core.layers import codec
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.pins import Pins
from gateway.core.layers.records import FOREVER, Membership
from gateway.core.metrics import Drop

JOINED: Final = "presence.join"
LEFT: Final = "presence.leave"


class Presence(Pins):
    """The histories of memberships, as far as they are not told yet."""

    def __init__(self, options: LayerOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock)
        self._histories: dict[Membership, deque[tuple[str, bytes]]] = {}
        """By membership, where something of it is not settled: what waits behind that."""

    def _tell_presence(self, what: str, membership: Membership, meta: bytes | None) -> None:
        """Tell a join or a leave, once all that is older of the same membership is settled."""
        group, channel = membership
        public = None if meta is None else msgspec.Raw(meta)
        payload = codec.encode({"group": group, "channel": channel, "meta": public})
        history = self._histories.get(membership)
        if history is not None:
            history.append((what, payload))
            return
        self._histories[membership] = deque(((what, payload),))
        self._presence_settled(membership)

    def _presence_settled(self, membership: Membership) -> None:
        """Offer the next of a membership's history: what was before it is settled or dropped."""
        history = self._histories.get(membership)
        while history:
            what, payload = history.popleft()
            if self.routed(what):
                self._offer(what, payload, FOREVER, forever=True, membership=membership)
                return
            self.messages += 1
            self._drop(None, Drop.UNROUTED, 1)
        self._histories.pop(membership, None)

    def routed(self, channel: str) -> bool:
        """Return whether a living worker routes a channel, or may, since none lives."""
        return self.announced is None or channel in self.announced
