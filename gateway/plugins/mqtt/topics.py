"""Topic names and topic filters (MQTT 5, section 4.7). Pure."""

from __future__ import annotations

from typing import Final

SHARE: Final = "$share/"
"""What the filter of a shared subscription begins with (section 4.8.2)."""


def topic_fault(topic: str) -> str | None:
    """Return why a text is no topic to publish to; None for one that is."""
    if not topic:
        return "an empty topic"
    if "+" in topic or "#" in topic:
        return "a topic with a wildcard"
    if "\0" in topic:
        return "a topic with U+0000"
    return None


def filter_fault(found: str) -> str | None:
    """Return why a text is no topic filter; None for one that is (section 4.7.1)."""
    if not found:
        return "an empty filter"
    if "\0" in found:
        return "a filter with U+0000"
    if "+" in found or "#" in found:
        levels = found.split("/")
        for level in levels:
            if "+" in level and level != "+":
                return "a '+' that is not a whole level"
        if "#" in found and (levels[-1] != "#" or "#" in "".join(levels[:-1])):
            return "a '#' that is not the whole last level"
    return None


def share_of(found: str) -> tuple[str, str] | None:
    """Return (share name, filter) of a shared subscription, None where it is not one.

    Raises ValueError for one whose share name is no good.
    """
    if not found.startswith(SHARE):
        return None
    name, slash, rest = found[len(SHARE) :].partition("/")
    if not name or not slash or not rest or "+" in name or "#" in name:
        raise ValueError("a shared subscription is $share/NAME/FILTER")
    return name, rest


def matches(found: str, topic: str) -> bool:
    """Return whether a topic filter matches a topic.

    >>> matches("sensors/+/temp", "sensors/7/temp"), matches("#", "$SYS/uptime")
    (True, False)
    """
    if found == topic:
        return True
    levels = topic.split("/")
    wanted = found.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False  # section 4.7.2
    for index, level in enumerate(wanted):
        if level == "#":
            return True  # section 4.7.1.2: the parent level, too
        if index >= len(levels) or level not in {"+", levels[index]}:
            return False
    return len(wanted) == len(levels)
