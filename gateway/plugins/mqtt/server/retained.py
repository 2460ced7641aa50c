"""The retained messages that this process knows: one a topic, bounded. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.plugins.mqtt import topics
from gateway.plugins.mqtt.server.publication import Publication


class Retained:
    """At most ``most`` topics and ``most_bytes`` of payloads."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = 0
        self._kept: dict[str, Publication] = {}

    def __len__(self) -> int:
        """Return for how many topics one is kept."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Publication]:
        """Iterate over them."""
        return iter(list(self._kept.values()))

    def keep(self, publication: Publication) -> bool:
        """Keep it in place of an earlier one; return False where there is no room.

        An empty payload ends what was kept (section 3.3.1.3).
        """
        topic = publication.topic
        old = self._kept.pop(topic, None)
        if old is not None:
            self._size -= len(old.payload)
        size = len(publication.payload)
        if not size:
            return True
        if len(self._kept) >= self._most or self._size + size > self._most_bytes:
            return False
        publication.loose()
        self._kept[topic] = publication
        self._size += size
        return True

    def find(self, found: str, now: float) -> list[Publication]:
        """Return those that a filter matches and that have not expired."""
        if "+" in found or "#" in found:
            matching = [one for topic, one in self._kept.items() if topics.matches(found, topic)]
        else:
            one = self._kept.get(found)
            matching = [] if one is None else [one]
        result = []
        for publication in matching:
            if publication.has_expired(now):
                del self._kept[publication.topic]
                self._size -= len(publication.payload)
            else:
                result.append(publication)
        return result
