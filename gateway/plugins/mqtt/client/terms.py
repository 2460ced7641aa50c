"""What the session of a broker hears and says: one vocabulary for it and what carries it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.core.plugin import Message

# ------------------------------------------------ what it hears


class Up(msgspec.Struct, frozen=True, gc=False):
    """The broker let us in."""

    resumed: bool
    """Whether it has kept our session: what is unacknowledged comes again."""


class Down(msgspec.Struct, frozen=True, gc=False):
    """The connection is gone."""


class Arrived(msgspec.Struct, frozen=True):
    """A publish of the broker's."""

    message: Message
    """As ``mqtt.receive`` has it."""
    qos: int
    packet_id: int = 0
    duplicate: bool = False
    """Whether the broker says that it may have come before."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """What became of a publish of ours: a reason code, 0 or an error's."""

    token: Any
    code: int = 0
    cause: str = ""
    """Why it never came to the broker; empty: it did."""


class Subscribed(msgspec.Struct, frozen=True):
    """What is subscribed to, from now on."""

    filters: frozenset[str]


# ------------------------------------------------ what it says


class Acknowledge(msgspec.Struct, frozen=True, gc=False):
    """Acknowledge a publish of the broker's, with a reason code."""

    packet_id: int
    qos: int
    code: int = 0
    foreign: bool = False
    """Whether the application had a code that MQTT does not know."""


class Publish(msgspec.Struct, frozen=True):
    """Publish, as soon as that can be."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry: int | None = None
    text: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    token: Any = None
    """With one, what became of it is to be said (`Published`)."""


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A message came a second time, and was not handed in again: to be counted."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """Read on, or no more for now: as much is in hand as may be."""

    on: bool


SKIPPED: Final = Skipped()
"""The one there is."""
