"""A client of HTTP/2 on a plain socket: h2's own for what is right, raw frames for what is not."""

from __future__ import annotations

import socket
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from hyperframe.frame import Frame

from tests.plugins.http.http2.serving import connect2
from tests.plugins.http.http2.wire import GOAWAY, Fields, cut
from tests.plugins.http.serving import Served

_LAX = H2Configuration(
    client_side=True,
    header_encoding=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Answer:
    """What came on one stream."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.content = b""
        self.informational: list[int] = []
        self.reset: int | None = None
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def header(self, name: bytes) -> bytes | None:
        """Return a header's value; it must not stand twice."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name!r} stands {len(values)} times"
        return values[0] if values else None


class Http2Client:
    """One connection. ``take`` gives windows back as it reads, unless ``greedy`` is False."""

    def __init__(self, served: Served | socket.socket, *, greedy: bool = True) -> None:
        self.sock = served if isinstance(served, socket.socket) else connect2(served)
        self.h2 = H2Connection(_LAX)
        self.greedy = greedy
        self.answers: dict[int, Answer] = {}
        self.events: list[Event] = []
        self.goaway: int | None = None
        self.closed = False
        self._rest = b""
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Write what the library has to say."""
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def send(self, fields: Fields, content: bytes | None = b"", *, end: bool = True) -> int:
        """Send a request; with ``content`` None its headers alone say that more is to come."""
        number = self.h2.get_next_available_stream_id()
        self.answers[number] = Answer()
        self.h2.send_headers(number, fields, end_stream=end and not content)
        if content:
            self.h2.send_data(number, content, end_stream=end)
        self.flush()
        return number

    def raw(self, *frames: Frame | bytes) -> None:
        """Send frames as they are."""
        self.flush()
        self.sock.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))

    def take(self) -> bool:
        """Read once; return whether the connection is still open."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return False
        frames, self._rest = cut(self._rest + data)
        for frame in frames:
            if frame.kind == GOAWAY:
                # The library would read on no more, while streams may still be answered.
                self.goaway = frame.code
                continue
            for event in self.h2.receive_data(frame.bytes):
                self._note(event)
        self.flush()
        return True

    def _note(self, event: Any) -> None:
        self.events.append(event)
        answer = self.answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, InformationalResponseReceived):
            answer.informational.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, ResponseReceived):
            answer.status = int(dict(event.headers)[b":status"])
            answer.headers = [(bytes(n), bytes(v)) for n, v in event.headers if n[:1] != b":"]
        elif isinstance(event, DataReceived):
            answer.content += event.data
            if self.greedy:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)

    def answer(self, number: int) -> Answer:
        """Read until a stream is over and return what came on it."""
        while not self.answers[number].over:
            assert self.take(), f"closed while stream {number} was open (GOAWAY {self.goaway})"
        return self.answers[number]

    def ask(self, fields: Fields, content: bytes = b"") -> Answer:
        """Send a request and return its answer."""
        return self.answer(self.send(fields, content))

    def end(self) -> int | None:
        """Read until the server closes; return the code of its GOAWAY."""
        while self.take():
            pass
        return self.goaway
