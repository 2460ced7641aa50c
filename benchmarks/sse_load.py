"""A client of event streams that does no more than a benchmark needs, the same for every server.

An event is counted by the text that it carries, however the server frames it.
"""

from __future__ import annotations

from benchmarks.members import Member
from benchmarks.ws_load import TEXT

PATH = "/events/"


def request(path: str = PATH) -> bytes:
    """Return the request of a browser's EventSource."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        "Cache-Control: no-cache\r\n\r\n"
    ).encode()


class Stream(Member):
    """One open event stream."""

    def __init__(self) -> None:
        super().__init__(request())
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if not self.opened.done():
            end = data.find(b"\r\n\r\n")
            # A stream begins with some event or comment, by which its server shows that it is on.
            if end < 0 or len(data) == end + 4:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self.fail(f"the stream was refused: {data[:300]!r}")
                return
            self.opened.set_result(None)
            data = data[end + 4 :]
        at = data.rfind(TEXT)
        if at >= 0:
            for _ in range(data.count(TEXT)):
                self.on_text(self)
            data = data[at + len(TEXT) :]
        self._buffer = data[1 - len(TEXT) :]
