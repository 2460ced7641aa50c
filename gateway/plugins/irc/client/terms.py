"""What the session of a network hears and says beside bytes. Pure."""

from __future__ import annotations

import msgspec

from gateway.core.metrics import Drop


class Wanted(msgspec.Struct, frozen=True):
    """What living workers want, as the session hears it."""

    channels: frozenset[str] | None
    """The channels; None: no worker lives."""


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """Something was dropped: to be counted."""

    cause: Drop


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A line of the network was not handed in: to be counted."""

    why: str


class NoEntry(msgspec.Struct, frozen=True, gc=False):
    """The network did not let us into a channel: to be counted, and logged."""

    code: str
    channel: str
    reason: str


class Remark(msgspec.Struct, frozen=True, gc=False):
    """Something is not as the settings want it: to be logged."""

    text: str


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A key of a reply means nothing here: to be counted."""

    key: str
