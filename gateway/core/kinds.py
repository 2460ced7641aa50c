"""The kinds of messages that plugins emit, as the core knows them."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.metrics import Counter

IMPLIED_KINDS: Final = frozenset({"connect", "subscribe", "recipient"})
ALONE: Final = frozenset({"connect", "disconnect"})


class Kind:
    """One kind of message that a plugin emits."""

    __slots__ = ("alone", "channel", "emitted", "fallback", "name", "opening", "patience")

    def __init__(
        self, plugin: str, name: str, *, opening: bool, patience: float, emitted: Counter
    ) -> None:
        self.name = name
        self.channel = f"{plugin}.{name}"
        self.opening = opening
        """Whether it begins something that a peer waits for: a connect, a request."""
        self.patience = patience
        """Seconds that it waits for room."""
        self.alone = name in ALONE
        """Whether it never shares a delivery."""
        self.fallback = f"{plugin}.receive" if name in IMPLIED_KINDS else ""
        """The channel whose route stands for a missing one of this kind."""
        self.emitted = emitted


Entry = tuple[Kind, bytes, Any]
"""One message on its way: its kind, its payload, the author's token."""
