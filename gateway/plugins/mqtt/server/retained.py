"""The retained messages that this process knows: one a topic, bounded. Pure.

They stand in a tree of the levels of their topics, as devices ask for them by wildcards.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.plugins.mqtt.server.publication import Publication


class _Level:
    __slots__ = ("below", "kept")

    def __init__(self) -> None:
        self.below: dict[str, _Level] | None = None
        self.kept: Publication | None = None


class Retained:
    """At most ``most`` topics and ``most_bytes`` of what is kept for them."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._size = 0
        self._count = 0
        self._root = _Level()

    def __len__(self) -> int:
        """Return for how many topics one is kept."""
        return self._count

    def __iter__(self) -> Iterator[Publication]:
        """Iterate over them."""
        return iter(list(_all(self._root)))

    def keep(self, publication: Publication) -> bool:
        """Keep it in place of an earlier one; return False where there is no room.

        An empty payload ends what was kept (section 3.3.1.3).
        """
        topic = publication.topic
        self._forget(topic)
        if not publication.payload:
            return True
        size = publication.size
        if self._count >= self._most or self._size + size > self._most_bytes:
            return False
        publication.loose()
        level = self._root
        for name in topic.split("/"):
            if level.below is None:
                level.below = {}
            level = level.below.setdefault(name, _Level())
        level.kept = publication
        self._size += size
        self._count += 1
        return True

    def has(self, publication: Publication) -> bool:
        """Return whether it is what is kept for its topic."""
        level: _Level | None = self._root
        for name in publication.topic.split("/"):
            if level is None or level.below is None:
                return False
            level = level.below.get(name)
        return level is not None and level.kept is publication

    def find(self, found: str, now: float) -> list[Publication]:
        """Return those that a filter matches and that have not expired."""
        matching = list(_match(self._root, found.split("/"), 0))
        for publication in matching:
            if publication.has_expired(now):
                self._forget(publication.topic)
        return [one for one in matching if not one.has_expired(now)]

    def _forget(self, topic: str) -> None:
        path = []
        level = self._root
        for name in topic.split("/"):
            below = level.below or {}
            one = below.get(name)
            if one is None:
                return
            path.append((level, name, one))
            level = one
        if level.kept is None:
            return
        self._size -= level.kept.size
        self._count -= 1
        level.kept = None
        for above, name, one in reversed(path):
            if one.kept is not None or one.below or above.below is None:
                break
            del above.below[name]


def _match(level: _Level, names: list[str], index: int) -> Iterator[Publication]:
    """Yield what is kept at and below a level by the rest of a filter (section 4.7.1)."""
    if index == len(names):
        if level.kept is not None:
            yield level.kept
        return
    name, below = names[index], level.below or {}
    if name not in {"#", "+"}:
        if (one := below.get(name)) is not None:
            yield from _match(one, names, index + 1)
        return
    if name == "#" and level.kept is not None:
        yield level.kept  # section 4.7.1.2: the parent level, too
    for key, one in below.items():
        if not index and key.startswith("$"):
            continue  # section 4.7.2: no wildcard at the beginning matches these
        if name == "#":
            yield from _all(one)
        else:
            yield from _match(one, names, index + 1)


def _all(level: _Level) -> Iterator[Publication]:
    """Yield what is kept at a level and below it."""
    levels = [level]
    while levels:
        level = levels.pop()
        if level.kept is not None:
            yield level.kept
        if level.below:
            levels.extend(reversed(level.below.values()))
