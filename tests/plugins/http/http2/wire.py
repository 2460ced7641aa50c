"""HTTP/2 frame by frame: bytes made and read by nothing but this file and hpack's decoder."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from hpack import Decoder

from gateway.plugins.http.port import PREFACE
from tests.plugins.http.serving import Served

Fields = list[tuple[bytes, bytes]]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20
CLOSED = -1
"""Kind of the frame that stands for the connection's end."""

PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

# ---------------------------------------------------------------- bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame, right or wrong."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Return an integer of HPACK."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    found = bytes((first | most,))
    value -= most
    while value >= 128:
        found += bytes((value & 127 | 128,))
        value >>= 7
    return found + bytes((value,))


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a header block of literals that nobody remembers."""
    return b"".join(
        b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value
        for name, value in fields
    )


def request(
    target: str = "/",
    *fields: tuple[bytes, bytes],
    method: bytes | None = b"GET",
    **pseudo: bytes | None,
) -> Fields:
    """Return a request's fields; ``pseudo`` exchanges some, or leaves them out (None)."""
    found = {"method": method, "scheme": b"http", "authority": b"localhost"}
    found |= {"path": target.encode()} | pseudo
    named = [(b":" + name.encode(), value) for name, value in found.items() if value is not None]
    return [*named, *fields]


def headers(
    stream: int, fields: Fields | bytes | None = None, *, flags: int = END_STREAM | END_HEADERS
) -> bytes:
    """Return a HEADERS frame: by default a whole GET request."""
    payload = fields if isinstance(fields, bytes) else block(fields or request())
    return frame(HEADERS, flags, stream, payload)


def post(stream: int, path: str = "/", *fields: tuple[bytes, bytes]) -> bytes:
    """Return a HEADERS frame of a request whose body is to come."""
    return headers(stream, request(path, *fields, method=b"POST"), flags=END_HEADERS)


def data(stream: int, content: bytes = b"", *, end: bool = False) -> bytes:
    """Return a DATA frame."""
    return frame(DATA, END_STREAM if end else 0, stream, content)


def reset(stream: int, code: int = CANCEL) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def window(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(n.to_bytes(2) + v.to_bytes(4) for n, v in pairs))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """Return a PRIORITY frame."""
    return frame(PRIORITY, 0, stream, depends_on.to_bytes(4) + bytes((weight,)))


def ping(content: bytes = b"12345678", *, ack: bool = False) -> bytes:
    """Return a PING frame."""
    return frame(PING, ACK if ack else 0, 0, content)


def goaway(last: int = 0, code: int = 0, text: bytes = b"") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + text)


def cut(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the frames at the beginning of ``data``, and the rest."""
    found = []
    while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3])):
        stream = int.from_bytes(data[5:9])
        found.append(Frame(data[3], data[4], stream, data[9 : 9 + size]))
        data = data[9 + size :]
    return found, data


class Frame(NamedTuple):
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def bytes(self) -> bytes:
        """The frame as it came."""
        return frame(self.kind, self.flags, self.stream, self.payload)

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8])

    @property
    def ends(self) -> bool:
        """Whether the server sends nothing more on the stream."""
        return self.kind == RST_STREAM or bool(
            self.kind in {DATA, HEADERS} and self.flags & END_STREAM
        )


# ---------------------------------------------------------------- a connection


class Wire:
    """One connection to a server, which has said its preface unless ``begin`` is False."""

    def __init__(
        self, served: Served, *pairs: tuple[int, int], begin: bool = True, buffer: int = 0
    ) -> None:
        self.sock = served.connect().sock
        if buffer:  # so small that the server soon notices who does not read
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = Decoder(max_header_list_size=1 << 20)
        self.seen: list[Frame] = []
        """Every frame that came."""
        self._read = 0
        self._rest = b""
        self._block = b""
        self.fields: dict[int, list[Fields]] = {}
        """The header blocks of each stream."""
        if begin:
            self.send(PREFACE, settings(*pairs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> Wire:
        """Send bytes; what the server does not want to hear any more is lost."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(b"".join(pieces))
        return self

    def next(self) -> Frame:
        """Return the next frame, `CLOSED` at the connection's end."""
        while self._read >= len(self.seen):
            try:
                piece = self.sock.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return Frame(CLOSED, 0, 0, b"")
            frames, self._rest = cut(self._rest + piece)
            for found in frames:
                self._note(found)
        found = self.seen[self._read]
        self._read += 1
        return found

    def _note(self, found: Frame) -> None:
        self.seen.append(found)
        if found.kind in {HEADERS, CONTINUATION}:
            assert not found.flags & (PADDED | PRIORITIZED)
            self._block += found.payload
            if found.flags & END_HEADERS:
                fields = [(bytes(n), bytes(v)) for n, v in self.decoder.decode(self._block, True)]
                self.fields.setdefault(found.stream, []).append(fields)
                self._block = b""

    def until(self, condition: Callable[[Frame], bool]) -> list[Frame]:
        """Return the frames up to the first that meets a condition, or to the end."""
        found = [self.next()]
        while found[-1].kind != CLOSED and not condition(found[-1]):
            found.append(self.next())
        return found

    def ended(self, stream: int) -> Frame:
        """Read until the server has ended a stream; return the frame that did."""
        for found in self.seen[: self._read]:
            if found.stream == stream and found.ends:
                return found
        last = self.until(lambda found: found.stream == stream and found.ends)[-1]
        assert last.kind != CLOSED, f"closed while stream {stream} was open: {self.seen}"
        return last

    def content(self, stream: int) -> bytes:
        """Return what came of a stream's content so far."""
        return b"".join(f.payload for f in self.seen if f.kind == DATA and f.stream == stream)

    def opened(self, stream: int) -> int:
        """Return by how much the server has opened a window so far."""
        return sum(
            int.from_bytes(found.payload)
            for found in self.seen
            if found.kind == WINDOW_UPDATE and found.stream == stream
        )

    def status(self, stream: int) -> int:
        """Return the status of a stream's response."""
        return int(dict(self.fields[stream][-1])[b":status"])

    def alive(self) -> list[Frame]:
        """Send PING and read until it is answered; return the frames before."""
        mark = b"is it..?"
        found = self.send(ping(mark)).until(lambda f: f.kind == PING and f.payload == mark)
        assert found[-1].kind == PING, f"the connection ended: {self.seen}"
        assert found[-1].flags == ACK
        return found[:-1]

    def end(self) -> Frame:
        """Read until the server closes; return its last GOAWAY."""
        self.until(lambda _: False)
        goodbyes = [found for found in self.seen if found.kind == GOAWAY]
        assert goodbyes, f"closed without GOAWAY: {self.seen}"
        return goodbyes[-1]
