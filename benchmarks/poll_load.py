"""A client of long-polling that does no more than a benchmark needs, the same for every server.

It has one connection, asks for what comes after the last ETag, and asks again at every answer.
"""

from __future__ import annotations

import re

from benchmarks.members import Member
from benchmarks.ws_load import TEXT

PATH = "/polls/"
PAUSE_SECONDS = 0.5
"""Between two rounds: enough for every client to be waiting again. What is measured is how soon one
that waits is woken."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOCATION = re.compile(rb"\r\nlocation: *(\S+)", re.IGNORECASE)
_ETAG = re.compile(rb'\r\netag: *("\d+")', re.IGNORECASE)


class Poller(Member):
    """One client that waits. ``session``: it asks for a connection first, and polls its location;
    otherwise it polls the path itself.
    """

    def __init__(self, *, session: bool) -> None:
        self._session = session
        self._path = PATH.encode()
        self._buffer = b""
        super().__init__(_OPEN if session else self._request(b'"0"'))

    def _request(self, seen: bytes) -> bytes:
        return (
            b"GET " + self._path + b" HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=25\r\n"
            b"If-None-Match: " + seen + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = data[: end + 2]
        length = _LENGTH.search(head)
        body = data[end + 4 :]
        if length is not None and len(body) < int(length[1]):
            return
        self._buffer = b""
        if data.startswith(b"HTTP/1.1 201") and (location := _LOCATION.search(head)):
            self._path = location[1]
            self.write(self._request(b'"0"'))
            self.opened.set_result(None)
        elif data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")) and (etag := _ETAG.search(head)):
            if not self.opened.done():
                self.opened.set_result(None)
            self.write(self._request(etag[1]))
            for _ in range(body.count(TEXT)):
                self.on_text(self)
        else:
            self.fail(f"the poll was refused: {data[:300]!r}")


_OPEN = (
    f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\nContent-Length: 0\r\n\r\n"
).encode()
