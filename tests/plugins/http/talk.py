"""One client in two versions of HTTP: for what has to be the same over both."""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

from tests.plugins.http.http2.peer import Answer, Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.http.serving import Response, Served, get

LINE = tuple[str, str]


class Talk(ABC):
    """One connection, of a version of HTTP."""

    version: str

    @abstractmethod
    def send(self, path: str, body: bytes | None = None, *lines: LINE, length: int = -1) -> int:
        """Send a request: GET, or POST with ``body``, of which more follows if ``length`` says so.

        Returns a number by which `answer` knows it.
        """

    @abstractmethod
    def more(self, number: int, content: bytes) -> None:
        """Send the rest of a body."""

    @abstractmethod
    def answer(self, number: int, method: str = "GET") -> Response | Answer:
        """Return the response to a request."""

    @abstractmethod
    def cut(self, number: int) -> bytes:
        """Return the content of a response that is cut off."""

    @abstractmethod
    def continued(self, number: int) -> bool:
        """Read 100 Continue."""

    @abstractmethod
    def stalls(self, number: int, size: int) -> int:
        """Send so much of a body; return how much of it was taken before the server stalled."""

    @abstractmethod
    def leave(self) -> None:
        """Close the connection."""

    def ask(self, path: str, body: bytes | None = None, *lines: LINE) -> Response | Answer:
        """Send a request and return its response."""
        return self.answer(self.send(path, body, *lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class Talk1(Talk):
    """HTTP/1.1: one request after the other."""

    version = "1.1"

    def __init__(self, site: Served) -> None:
        self.client = site.connect()

    def send(self, path: str, body: bytes | None = None, *lines: LINE, length: int = -1) -> int:
        shown = [f"{name}: {value}" for name, value in lines]
        if body is None:
            self.client.send(get(path, *shown))
            return 0
        size = len(body) if length < 0 else length
        head = [
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {size}",
            *shown,
            "",
            "",
        ]
        self.client.send("\r\n".join(head).encode() + body)
        return 0

    def more(self, number: int, content: bytes) -> None:
        self.client.send(content)

    def answer(self, number: int, method: str = "GET") -> Response:
        return self.client.response(method)

    def cut(self, number: int) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.client.sock.recv(1000):
                data += piece
        assert not data.endswith(b"0\r\n\r\n")
        return data.partition(b"\r\n\r\n")[2].partition(b"\r\n")[2].removesuffix(b"\r\n")

    def continued(self, number: int) -> bool:
        return self.client.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"

    def stalls(self, number: int, size: int) -> int:
        sock = self.client.sock
        sock.settimeout(0.3)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += sock.send(b"x" * min(65536, size - sent))
        sock.settimeout(10)
        return sent

    def leave(self) -> None:
        self.client.sock.close()


class Talk2(Talk):
    """HTTP/2."""

    version = "2"

    def __init__(self, site: Served) -> None:
        self.client = Http2Client(site)

    def send(self, path: str, body: bytes | None = None, *lines: LINE, length: int = -1) -> int:
        fields = [(name.lower().encode(), value.encode()) for name, value in lines]
        if body is None:
            return self.client.send(request(path, *fields))
        size = len(body) if length < 0 else length
        fields.append((b"content-length", b"%d" % size))
        number = self.client.send(request(path, *fields, method=b"POST"), None, end=False)
        self._upload(number, body, end=size == len(body))
        return number

    def _upload(self, number: int, content: bytes, *, end: bool) -> None:
        h2 = self.client.h2
        while content or end:
            room = min(h2.local_flow_control_window(number), 16384)
            if room <= 0 < len(content):
                assert self.client.take()
                continue
            piece, content = content[:room], content[room:]
            h2.send_data(number, piece, end_stream=end and not content)
            self.client.flush()
            if not content:
                break

    def more(self, number: int, content: bytes) -> None:
        self._upload(number, content, end=True)

    def answer(self, number: int, method: str = "GET") -> Answer:
        return self.client.answer(number)

    def cut(self, number: int) -> bytes:
        answer = self.client.answer(number)
        assert answer.reset is not None
        assert not answer.ended
        return answer.content

    def continued(self, number: int) -> bool:
        answer = self.client.answers[number]
        while not answer.informational:
            assert self.client.take()
        return answer.informational == [100]

    def stalls(self, number: int, size: int) -> int:
        client = self.client
        client.sock.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                room = min(client.h2.local_flow_control_window(number), 16384, size - sent)
                if room:
                    client.h2.send_data(number, b"x" * room)
                    client.flush()
                    sent += room
                else:
                    assert client.take()
        client.sock.settimeout(10)
        return sent

    def leave(self) -> None:
        self.client.sock.close()


VERSIONS: dict[str, Callable[[Any], Talk]] = {"1.1": Talk1, "2": Talk2}
