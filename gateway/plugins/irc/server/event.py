"""`Event`: what several clients are told, encoded once for each set of tags. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from gateway.core.errors import LocalProtocolError
from gateway.plugins.irc.lines import encode_tags, fitted, is_sayable, is_tag


class Cap:
    """Capabilities of a client (https://ircv3.net/registry), as bits of a plain int: they are
    looked at for every line.
    """  # noqa: D205 - one sentence

    TIME: Final = 1
    TAGS: Final = 2
    ACCOUNT_TAG: Final = 4
    MULTI_PREFIX: Final = 8
    USERHOST: Final = 16
    AWAY: Final = 32
    EXTENDED_JOIN: Final = 64
    INVITE: Final = 128
    SETNAME: Final = 256
    ECHO: Final = 512
    BATCH: Final = 1024
    LABELED: Final = 2048
    SASL: Final = 4096
    HISTORY: Final = 8192
    NOTIFY: Final = 16384
    ACCOUNT: Final = 32768
    REPLIES: Final = 65536


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
ORDINARY: Final = 300
"""Characters of account, id and time of a line, at most, where they are ours: no tags are too long
by them."""
TAGGED: Final = Cap.TIME | Cap.TAGS | Cap.ACCOUNT_TAG
"""Those that decide on the tags of what is told to many."""


def stamp(at: float) -> str:
    """Return a time as the tag ``time`` has it.

    >>> stamp(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    return f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')[:23]}Z"


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
        if tags or len(f"{account}{id}{at}") > ORDINARY:
            self.frame(TAGGED)  # what cannot be encoded is said now, before anybody is told

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


def in_lines(changes: Iterable[tuple[str, str, str]], room: int) -> list[list[str]]:
    """Return changes of modes as the words of MODE, in as many lines as take ``room`` bytes each.

    >>> in_lines([("+", "o", "al"), ("+", "t", ""), ("-", "v", "bob")], 100)
    [['+ot-v', 'al', 'bob']]
    """
    lines: list[list[str]] = []
    last, size = "", room
    for sign, letter, param in changes:
        over = 2 + (len(param.encode()) + 1 if param else 0)
        if size + over > room:
            lines.append([""])
            last, size = "", 0
        words = lines[-1]
        words[0] += letter if sign == last else sign + letter
        last = sign
        size += over
        if param:
            words.append(param)
    return lines
