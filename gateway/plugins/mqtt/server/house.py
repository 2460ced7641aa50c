"""What the sessions of one gateway process share, as they see it. Pure."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.core.plugin import Drop
from gateway.plugins.mqtt.server.device import Device
from gateway.plugins.mqtt.server.publication import Publication
from gateway.plugins.mqtt.server.subscriptions import Subscription


class Claim(msgspec.Struct, frozen=True):
    """Get the session of MQTT for a client id; with ``clean``, a new one."""

    client_id: str
    clean: bool


class House(Protocol):
    """What the sessions of one gateway process share."""

    pending: int
    """Devices that wait for a decision."""

    def now(self) -> float:
        """Return the time of the wall clock."""

    def drop(self, cause: Drop) -> None:
        """Count something that is dropped."""

    def new_client_id(self) -> str:
        """Return a client id for a device that has none."""

    def routed(self, kind: str) -> bool:
        """Return whether the application hears of such things."""

    def relay(self, publication: Publication) -> None:
        """Publish to the subscribers of all gateway processes; ``expires`` is in seconds."""

    def heard(self, topic: str) -> bool:
        """Return whether anybody may hear what is published to a topic."""

    def subscribe(self, device: Device, found: str, subscription: Subscription) -> bool:
        """Subscribe a device; return whether it had that subscription already."""

    def unsubscribe(self, device: Device, found: str) -> bool:
        """End a subscription; return whether there was one."""

    def recall(self, device: Device, found: str) -> None:
        """Send a device the retained messages that one of its filters matches."""
