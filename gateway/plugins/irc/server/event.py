"""`Event`: what several clients are told, encoded once for each set of tags. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from gateway.core.errors import LocalProtocolError
from gateway.plugins.irc.lines import encode_tags, fitted, is_sayable, is_tag


class Cap:
    """Capabilities of a client (https://ircv3.net/registry), one bit each of its ``caps``.

    Plain numbers: they are asked for with every line, and an `enum.IntFlag` takes a dozen times as
    long.
    """

    TIME = 1
    TAGS = 2
    ACCOUNT_TAG = 4
    MULTI_PREFIX = 8
    USERHOST = 16
    AWAY = 32
    EXTENDED_JOIN = 64
    INVITE = 128
    SETNAME = 256
    ECHO = 512
    BATCH = 1024
    LABELED = 2048
    SASL = 4096
    HISTORY = 8192
    NOTIFY = 16384
    ACCOUNT = 32768
    REPLIES = 65536
    EVENTS = 131_072


NAMES: Final = {
    "server-time": Cap.TIME,
    "message-tags": Cap.TAGS,
    "account-tag": Cap.ACCOUNT_TAG,
    "multi-prefix": Cap.MULTI_PREFIX,
    "userhost-in-names": Cap.USERHOST,
    "away-notify": Cap.AWAY,
    "extended-join": Cap.EXTENDED_JOIN,
    "invite-notify": Cap.INVITE,
    "setname": Cap.SETNAME,
    "echo-message": Cap.ECHO,
    "batch": Cap.BATCH,
    "labeled-response": Cap.LABELED,
    "sasl": Cap.SASL,
    "draft/chathistory": Cap.HISTORY,
    "cap-notify": Cap.NOTIFY,
    "account-notify": Cap.ACCOUNT,
    "standard-replies": Cap.REPLIES,
}
"""By the names in which they are asked for."""

MAX_TAGS: Final = 4094
"""Characters of the tags that somebody may have others told (message-tags)."""
TAGGED: Final = Cap.TIME | Cap.TAGS | Cap.ACCOUNT_TAG
"""Those that decide on the tags of what is told to many."""


def stamp(at: float) -> str:
    """Return a time as the tag ``time`` has it.

    >>> stamp(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    second, rest = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_second(second)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=4)  # many lines a second have the same
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


class Event:
    """A line that several clients are told."""

    __slots__ = ("_frames", "account", "id", "rest", "tags", "time")

    def __init__(
        self,
        command: str,
        *params: str,
        source: str,
        at: float | str,
        account: str | None = None,
        id: str = "",  # noqa: A002 - what it is called
        tags: Mapping[str, str] | None = None,
    ) -> None:
        for key in tags or ():
            if not is_tag(key):
                raise LocalProtocolError(f"{key[:40]!r} is no key of a tag")
        if tags and sum(map(len, (*tags, *tags.values()))) > MAX_TAGS:
            raise LocalProtocolError(f"tags of over {MAX_TAGS} characters")
        if not is_sayable(f"{account}{id}{at}"):
            raise LocalProtocolError("CR, LF or NUL in a tag")
        self.rest = fitted(command, *params, source=source)
        self.time = at if isinstance(at, str) else stamp(at)
        self.account = account
        self.id = id
        self.tags = tags or {}
        """Those of the client that said it."""
        self._frames: dict[int, bytes] = {}

    def frame(self, caps: int) -> bytes:
        """Return its bytes for a client with such capabilities."""
        key = caps & TAGGED
        frame = self._frames.get(key)
        if frame is None:
            tags = self.tags_for(key)
            frame = self._frames[key] = encode_tags(tags) + self.rest if tags else self.rest
        return frame

    def tags_for(self, caps: int) -> dict[str, str]:
        """Return its tags for a client with such capabilities."""
        tags = dict(self.tags) if caps & Cap.TAGS else {}
        if caps & Cap.TIME:
            tags["time"] = self.time
        if caps & Cap.TAGS and self.id:
            tags["msgid"] = self.id
        if caps & Cap.ACCOUNT_TAG and self.account:
            tags["account"] = self.account
        return tags
