"""Lines that belong together (IRCv3 batch). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST: Final = 64
"""Batches that may be open at once: some networks nest two or three."""

PLAYBACK: Final = frozenset({"chathistory", "draft/chathistory", "znc.in/playback", "playback"})
"""Types whose lines are old."""


class Batch(NamedTuple):
    """One that is open."""

    kind: str
    label: str
    """Of the line that it answers, if it does."""
    within: str
    """The reference of the batch that it lies in."""


class Batches:
    """Those of one connection that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Batch] = {}

    def begin(self, reference: str, kind: str, label: str, within: str) -> None:
        """Take a beginning. The oldest is forgotten where too many have no end."""
        if len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        self._open[reference] = Batch(kind, label, within)

    def end(self, reference: str) -> Batch | None:
        """Take an end; return what it was."""
        return self._open.pop(reference, None)

    def is_old(self, reference: str) -> bool:
        """Whether the lines of a batch are played back."""
        return any(batch.kind in PLAYBACK for batch in self._chain(reference))

    def label(self, reference: str) -> str:
        """Return the label that the lines of a batch answer; empty: none."""
        return next((batch.label for batch in self._chain(reference) if batch.label), "")

    def _chain(self, reference: str) -> list[Batch]:
        found: list[Batch] = []
        while (batch := self._open.get(reference)) is not None and len(found) < MOST:
            found.append(batch)
            reference = batch.within
        return found
