"""What a client makes of an event stream, by the HTML standard ("Server-sent events"). Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_END: Final = re.compile(rb"\r\n|\r|\n")
_NUMBER: Final = re.compile(r"[0-9]+\Z")


class ServerEvent(NamedTuple):
    """An event that a page's listener gets."""

    name: str
    """"message" where the stream says none."""
    data: str
    id: str | None
    """What the stream said with this event; None where it said nothing."""
    retry: int | None
    """So too."""


class Events:
    """Reads a stream as it comes."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._name = ""
        self._id: str | None = None
        self._retry: int | None = None
        self.last_event_id = ""
        """What the client brings when it comes back."""
        self.retry: int | None = None
        """The milliseconds after which it does, if the stream said so."""
        self.comments: list[str] = []

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take bytes of the stream; return the events that are complete."""
        self._rest += data
        found: list[ServerEvent] = []
        while (end := _END.search(self._rest)) is not None:
            if end[0] == b"\r" and end.end() == len(self._rest):
                break  # the other half of it may be on its way
            line, self._rest = self._rest[: end.start()], self._rest[end.end() :]
            if line:
                self._field(line.decode("utf-8", "replace"))
            elif (event := self._dispatched()) is not None:
                found.append(event)
        return found

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _NUMBER.match(value):
            self.retry = self._retry = int(value)

    def _dispatched(self) -> ServerEvent | None:
        said, self._id = self._id, None
        retry, self._retry = self._retry, None
        if said is not None:
            self.last_event_id = said
        data, name = self._data, self._name
        self._data, self._name = [], ""
        if not data:
            return None
        return ServerEvent(name or "message", "\n".join(data), said, retry)
