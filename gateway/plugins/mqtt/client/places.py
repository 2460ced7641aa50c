"""Where a message of a broker's is answered. Pure.

=====================================  ==================================================
``mqtt.publish!TOPIC``                 a topic of the broker `mqtt.default`
``mqtt.at!BROKER.TOPIC``               a topic of that broker
``mqtt.at!BROKER.TOPIC.CORRELATION``   the same, with correlation data (in hex)
=====================================  ==================================================

They survive restarts, may be stored, and may be members of groups.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from gateway.core.names import address, parse_address

PUBLISH: Final = "mqtt.publish"
AT: Final = "mqtt.at"


class Place(NamedTuple):
    """What an address says."""

    broker: str
    """Empty: the default one."""
    topic: str
    correlation: bytes | None = None


def place(broker: str, topic: str, correlation: bytes | None = None) -> str | None:
    """Return the address of a topic; None where it would be over 200 characters.

    ``broker`` is empty for the default one, whose answers carry no correlation data.
    """
    if correlation is None:
        return _place(broker, topic)
    try:
        return address(AT, broker, topic, correlation.hex() or "-")
    except ValueError:
        return None


@lru_cache(maxsize=10_000)  # a topic is mostly one of a few thousand
def _place(broker: str, topic: str) -> str | None:
    try:
        return address(AT, broker, topic) if broker else address(PUBLISH, topic)
    except ValueError:
        return None


def read(channel: str) -> Place:
    """Return what an address says. Raises ValueError where it is none."""
    if not channel.startswith(f"{AT}!"):
        return Place("", parse_address(channel)[1])
    parts = channel.count(".", len(AT)) + 1
    if parts not in {2, 3}:
        raise ValueError(f"{channel!r} is not an address: {AT}!BROKER.TOPIC")
    _, broker, topic, *rest = parse_address(channel, parts)
    correlation = bytes.fromhex(rest[0].replace("-", "")) if rest else None
    return Place(broker, topic, correlation)
