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


class Counted(msgspec.Struct, frozen=True, gc=False):
    """Something happened: to be counted as ``gateway_irc_NAME``."""

    name: str
    label: str
    value: str
