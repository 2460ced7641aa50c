"""A reader of event streams, step by step as the HTML standard says ("Parsing an event stream").

It shares nothing with the encoder that it checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """A dispatched event, as a page's listener gets it."""

    name: str
    data: str
    last_event_id: str


class Reader:
    """What a browser makes of the bytes of a stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self.last_event_id = ""
        """What it would bring as Last-Event-ID."""
        self._data = self._name = self._id = ""

    def read(self, stream: bytes) -> list[Event]:
        """Take a whole stream; return what was dispatched."""
        # "Streams must be decoded using the UTF-8 decode algorithm", which strips one BOM.
        text = stream.decode("utf-8")
        text = text.removeprefix("\ufeff")
        for line in _lines(text):
            self._line(line)
        return self.events

    def _line(self, line: str) -> None:
        if line == "":
            self._dispatch()
        elif line.startswith(":"):
            self.comments.append(line[1:])
        elif ":" in line:
            field, value = line.split(":", 1)
            # "If value starts with a U+0020 SPACE character, remove it from value."
            self._field(field, value.removeprefix(" "))
        else:
            self._field(line, "")

    def _field(self, field: str, value: str) -> None:
        if field == "event":
            self._name = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            # "If the field value does not contain U+0000 NULL"
            if "\0" not in value:
                self._id = value
        elif field == "retry" and value and all(char in "0123456789" for char in value):
            self.retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data == "":
            self._name = ""
            return
        data = self._data.removesuffix("\n")
        self.events.append(Event(self._name or "message", data, self.last_event_id))
        self._data = self._name = ""


def _lines(text: str) -> Iterator[str]:
    """Split at CRLF, lone CR and lone LF; what has no end of line is no line."""
    line = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\r":
            if text[position : position + 1] == "\n":
                position += 1
            yield line
            line = ""
        elif char == "\n":
            yield line
            line = ""
        else:
            line += char
