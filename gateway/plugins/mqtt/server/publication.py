"""What is published, on its way to subscribers: once for a process, framed once for many. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.plugins.mqtt import codec
from gateway.plugins.mqtt.packets import NOTHING, V5, Properties, Publish

Halves = tuple[bytes, bytes]

KEPT: Final = (
    "payload_format_indicator",
    "content_type",
    "response_topic",
    "correlation_data",
    "user_properties",
)
"""The properties that a subscriber gets as the publisher said them (section 3.3.2.3)."""
PAIR: Final = 100
"""Bytes of a user property beside its characters: a tuple and two texts."""


class Publication:
    """One publish. ``source`` is the client id of the device it is of, "" for the application's."""

    __slots__ = ("_frames", "expires", "payload", "properties", "qos", "retain", "source", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties = NOTHING,
        expires: float | None = None,
        source: str = "",
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires = expires
        """The time of the wall clock at which nobody need get it any more."""
        self.source = source
        self._frames: dict[tuple[int, int, bool, tuple[int, ...], int], Halves] | None = None

    def halves(
        self,
        protocol: int,
        qos: int,
        ids: tuple[int, ...],
        now: float,
        *,
        retain: bool,
        alias: int = 0,
    ) -> Halves:
        """Return its frame before and behind the packet identifier, made once for each kind.

        With QoS 0, which has none, the first half is the whole frame. ``alias`` stands for the
        topic from now on, or if it is negative, in place of it.
        """
        frames = self._frames
        if frames is None:
            frames = self._frames = {}
        key = (protocol, qos, retain, ids, alias)
        found = frames.get(key)
        if found is None or self.expires is not None:
            its = self._its(ids, now, abs(alias)) if protocol == V5 else NOTHING
            topic = "" if alias < 0 else self.topic
            packet = Publish(topic, self.payload, qos, retain, properties=its)
            head, tail = codec.halves(packet, protocol)
            found = frames[key] = (head, tail) if qos else (head + tail, b"")
        return found

    def _its(self, ids: tuple[int, ...], now: float, alias: int) -> Properties:
        properties = self.properties
        if not ids and self.expires is None and not alias:
            return properties
        properties = dict(properties)
        if self.expires is not None:
            # section 3.3.2.3.3: "the received value minus the time" that it has waited
            properties["message_expiry_interval"] = max(1, round(self.expires - now))
        if ids:
            properties["subscription_identifiers"] = ids
        if alias:
            properties["topic_alias"] = alias
        return properties

    def has_expired(self, now: float) -> bool:
        """Return whether nobody need get it any more."""
        return self.expires is not None and now >= self.expires

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits: of a device, no part of it is small."""
        size = len(self.payload) + len(self.topic)
        for value in self.properties.values():
            if isinstance(value, str | bytes):
                size += len(value)
            elif isinstance(value, list | tuple):
                size += sum(PAIR + len(name) + len(its) for name, its in value)
        return size

    def loose(self) -> None:
        """Keep no frames: it may wait for long."""
        self._frames = None

    def packed(self) -> dict[str, Any]:
        """Return it as a message for other gateway processes."""
        return {
            "topic": self.topic,
            "payload": self.payload,
            "qos": self.qos,
            "retain": self.retain,
            "properties": self.properties,
            "expires": self.expires,
            "source": self.source,
        }

    @classmethod
    def unpacked(cls, message: dict[str, Any]) -> Publication:
        """Return what `packed` made."""
        return cls(
            message["topic"],
            message["payload"],
            message["qos"],
            retain=message["retain"],
            properties=message["properties"],
            expires=message["expires"],
            source=message["source"],
        )


def kept(properties: Properties) -> Properties:
    """Return the properties of a publish that its subscribers get."""
    if not properties:
        return NOTHING
    return {name: properties[name] for name in KEPT if name in properties}
