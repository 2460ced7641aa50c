"""Who subscribes to what in this process, found by topic. Pure.

Filters without wildcards stand in one dict; the others in a tree of levels::

    sensors ── + ── temp      ──► {device: subscription}
            └─ #              ──► {device: subscription}

What a topic led to is remembered until a subscription changes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.plugins.mqtt import topics

REMEMBERED: Final = 65_536
"""Topics, and their subscribers together, that are remembered: for what is published to often."""


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """How one filter is subscribed to (section 3.8.3.1)."""

    qos: int = 0
    no_local: bool = False
    as_published: bool = False
    ids: tuple[int, ...] = ()
    """Its subscription identifier, if it has one."""


Members = dict[Any, Subscription]
"""By device."""


class _Level:
    __slots__ = ("below", "members", "shared")

    def __init__(self) -> None:
        self.below: dict[str, _Level] | None = None
        self.members: Members | None = None
        self.shared: dict[str, Members] | None = None


class Found:
    """Whom a topic leads to: all of ``members``, and one of each of ``shared``, by its filter."""

    __slots__ = ("members", "shared")

    def __init__(self) -> None:
        self.members: list[tuple[Any, Subscription]] = []
        self.shared: list[tuple[str, list[tuple[Any, Subscription]]]] = []

    @property
    def size(self) -> int:
        """How much it is to remember it."""
        return 1 + len(self.members) + sum(1 + len(members) for _, members in self.shared)

    @property
    def any(self) -> bool:
        """Whether it leads to anybody."""
        return bool(self.members or self.shared)


class Subscriptions:
    """The subscriptions of this process."""

    def __init__(self) -> None:
        self._exact: dict[str, _Level] = {}
        self._root = _Level()
        self._remembered: dict[str, Found] = {}
        self._room = REMEMBERED
        self.count = 0

    def add(self, found: str, device: Any, subscription: Subscription) -> bool:
        """Subscribe; return whether there was that subscription already."""
        self._forget()
        share = topics.share_of(found)
        level = self._make(found if share is None else share[1])
        if share is None:
            if level.members is None:
                level.members = {}
            members = level.members
        else:
            if level.shared is None:
                level.shared = {}
            members = level.shared.setdefault(found, {})
        existed = device in members
        members[device] = subscription
        self.count += not existed
        return existed

    def remove(self, found: str, device: Any) -> bool:
        """Unsubscribe; return whether there was such a subscription."""
        share = topics.share_of(found)
        path = self._path(found if share is None else share[1])
        if not path:
            return False
        level = path[-1][2]
        members = level.members if share is None else (level.shared or {}).get(found)
        if members is None or members.pop(device, None) is None:
            return False
        self._forget()
        self.count -= 1
        if not members:
            if share is None:
                level.members = None
            elif level.shared is not None:
                del level.shared[found]
        for holder, name, one in reversed(path):
            if one.members or one.shared or one.below:
                break
            del holder[name]
        return True

    def _forget(self) -> None:
        if self._remembered:
            self._remembered.clear()
            self._room = REMEMBERED

    def sharing(self, found: str) -> Members:
        """Return the members of a shared subscription."""
        share = topics.share_of(found)
        path = [] if share is None else self._path(share[1])
        return (path[-1][2].shared or {}).get(found, {}) if path else {}

    def find(self, topic: str) -> Found:
        """Return whom a topic leads to."""
        found = self._remembered.get(topic)
        if found is None:
            found = self._find(topic)
            self._room -= found.size
            if self._room < 0:
                self._remembered.clear()
                self._room = REMEMBERED - found.size
            self._remembered[topic] = found
        return found

    def _find(self, topic: str) -> Found:
        levels: list[_Level] = []
        if (exact := self._exact.get(topic)) is not None:
            levels.append(exact)
        if self._root.below:
            self._match(self._root, topic.split("/"), 0, levels)
        found = Found()
        if len(levels) == 1 and not levels[0].shared:
            found.members = list((levels[0].members or {}).items())
            return found
        merged: Members = {}
        for level in levels:
            for device, subscription in (level.members or {}).items():
                other = merged.get(device)
                merged[device] = subscription if other is None else _both(other, subscription)
            for name, members in (level.shared or {}).items():
                found.shared.append((name, list(members.items())))
        found.members = list(merged.items())
        return found

    def _match(self, level: _Level, names: list[str], index: int, out: list[_Level]) -> None:
        below = level.below
        if not below:
            return
        # section 4.7.2: no wildcard at the beginning matches a topic that begins with "$"
        wild = index > 0 or not names[0].startswith("$")
        if wild and (rest := below.get("#")) is not None:
            out.append(rest)
        if index == len(names):
            return
        last = index + 1 == len(names)
        for name in (names[index], "+") if wild else (names[index],):
            one = below.get(name)
            if one is None or (name == "+" and names[index] == "+"):
                continue
            if last:
                if one.members or one.shared:
                    out.append(one)
                if one.below and (rest := one.below.get("#")) is not None:
                    out.append(rest)  # section 4.7.1.2: "#" matches its parent level, too
            else:
                self._match(one, names, index + 1, out)

    def _make(self, found: str) -> _Level:
        if "+" not in found and "#" not in found:
            return self._exact.setdefault(found, _Level())
        level = self._root
        for name in found.split("/"):
            if level.below is None:
                level.below = {}
            level = level.below.setdefault(name, _Level())
        return level

    def _path(self, found: str) -> list[tuple[dict[str, _Level], str, _Level]]:
        """Return the levels of a filter with what holds each; nothing where it is not there."""
        if "+" not in found and "#" not in found:
            exact = self._exact.get(found)
            return [] if exact is None else [(self._exact, found, exact)]
        path = []
        level = self._root
        for name in found.split("/"):
            below = level.below or {}
            one = below.get(name)
            if one is None:
                return []
            path.append((below, name, one))
            level = one
        return path


def _both(one: Subscription, other: Subscription) -> Subscription:
    """Return what two subscriptions of a device that both match come to.

    Section 3.3.4: one copy, at the highest QoS, with the identifiers of all.
    """
    return Subscription(
        max(one.qos, other.qos),
        one.no_local and other.no_local,
        one.as_published or other.as_published,
        one.ids + other.ids,
    )
