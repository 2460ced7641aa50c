"""Topic aliases (MQTT 5, section 3.3.2.3.4), in both directions. Pure."""

from __future__ import annotations

from gateway.plugins.mqtt import reasons


class BadAlias(Exception):  # noqa: N818 - a device's mistake
    """An alias that a device may not use: the code and the words of the DISCONNECT."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Heard:
    """Those that a device has defined, at most ``most``."""

    __slots__ = ("_most", "_topics")

    def __init__(self, most: int) -> None:
        self._most = most
        self._topics: dict[int, str] = {}

    def topic(self, alias: int, topic: str) -> str:
        """Return the topic of a publish; ``topic``, if there is one, is what it stands for now."""
        if alias > self._most:
            raise BadAlias(reasons.BAD_TOPIC_ALIAS, "a topic alias over the maximum")
        if topic:
            self._topics[alias] = topic
            return topic
        if alias not in self._topics:
            raise BadAlias(reasons.PROTOCOL_ERROR, "a topic alias that stands for nothing")
        return self._topics[alias]


class Told:
    """Those that are used towards a device: its first topics, at most ``most``, have one each.

    For good: a packet that defines one must not be dropped, so there are only so many of them.
    """

    __slots__ = ("_most", "_topics")

    def __init__(self, most: int) -> None:
        self._most = most
        self._topics: dict[str, int] = {}

    def of(self, topic: str) -> int:
        """Return the alias of a topic: negative, if the device knows it; 0, if it has none."""
        known = self._topics.get(topic)
        if known is not None:
            return -known
        return len(self._topics) + 1 if len(self._topics) < self._most else 0

    def define(self, topic: str, alias: int) -> None:
        """Hear that the device is told of one."""
        self._topics[topic] = alias
