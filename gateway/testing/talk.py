"""What clients say and hear over http and websocket, as bytes. Pure, and no more than a test needs.

A client of a further protocol is one more pair of these: what to send, and a reader that makes
events of what comes.
"""

from __future__ import annotations

import http.client
import io
import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

Header = tuple[bytes, bytes]

KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="
"""A Sec-WebSocket-Key: that of RFC 6455 section 1.3, as good as any other here."""
MASK: Final = b"\x37\xfa\x21\x3d"
"""The mask of a client's frames: that of RFC 6455 section 5.7."""

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_CODE: Final = 1005
"""What a close frame without a code means (RFC 6455 section 7.1.5)."""
ABNORMAL: Final = 1006
"""The connection ended without a close frame."""


class Response(NamedTuple):
    """An HTTP response as it came."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    content: bytes
    chunked: bool
    complete: bool
    """False: it was cut off."""


def request(method: str, target: bytes, headers: Iterable[Header], body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("latin-1"), target)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    return b"".join([*lines, b"\r\n", body])


def handshake(target: bytes, headers: Iterable[Header], subprotocols: Iterable[str]) -> bytes:
    """Return the request that asks for a WebSocket (RFC 6455 section 4.1)."""
    own = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", KEY),
        (b"Sec-WebSocket-Version", b"13"),
    ]
    if names := ", ".join(subprotocols):
        own.append((b"Sec-WebSocket-Protocol", names.encode()))
    return request("GET", target, [*headers, *own])


class _Reader:
    """In the place of a socket: `http.client` reads a response from it."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, mode: str) -> io.BytesIO:
        """Return the bytes as a file."""
        return self._file


def response(data: bytes, method: str, *, ended: bool) -> Response | None:
    """Return the response that ``data`` begins with; None while it is not complete.

    ``ended``: nothing more comes.
    """
    if b"\r\n\r\n" not in data:
        return None
    found = http.client.HTTPResponse(_Reader(data), method=method)  # type: ignore[arg-type]
    try:
        found.begin()
        content = found.read()
        complete = True
    except http.client.IncompleteRead as error:
        content, complete = error.partial, False
    except http.client.HTTPException:  # 100 (Continue), and the rest is still to come
        return None
    by_close = found.length is None and not found.chunked and found.will_close
    if not ended and (not complete or by_close):
        return None
    headers = found.getheaders()
    chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
    return Response(found.status, found.reason, headers, content, chunked, complete)


class Chunks:
    """Reads content in chunks as it comes (RFC 9112 section 7.1)."""

    def __init__(self) -> None:
        self._data = b""
        self.over = False
        """Whether the last chunk has come."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return the content of the chunks that are complete."""
        self._data += data
        found = b""
        while not self.over:
            size, mark, rest = self._data.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16) if mark else 0
            if not mark or len(rest) < length + 2:
                break
            self.over = not length
            found += rest[:length]
            self._data = rest[length + 2 :]
        return found


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame, masked and whole (RFC 6455 section 5.2)."""
    # 1000oooo 1nnnnnnn [length: 2 or 8 bytes] mask(4) payload
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    return head + MASK + masked


def close_frame(code: int | None, reason: str) -> bytes:
    """Return a client's close frame; without a code an empty one."""
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return frame(CLOSE, payload)


class Frames:
    """Reads the frames of a server: whole ones, unmasked, as a server of ours sends them."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[tuple[int, Any]]:
        """Take bytes; return (opcode, content): str, bytes, or (code, reason) of a close."""
        self._data += data
        found: list[tuple[int, Any]] = []
        while (size := self._head()) is not None:
            start, length = size
            if len(self._data) < start + length:
                break
            opcode = self._data[0] & 0x0F
            payload = self._data[start : start + length]
            self._data = self._data[start + length :]
            found.append((opcode, _content(opcode, payload)))
        return found

    def _head(self) -> tuple[int, int] | None:
        """Return where the payload of the next frame begins, and how long it is."""
        data = self._data
        if len(data) < 2:
            return None
        short = data[1] & 0x7F
        extended = {126: 2, 127: 8}.get(short, 0)
        if len(data) < 2 + extended:
            return None
        length = int.from_bytes(data[2 : 2 + extended], "big") if extended else short
        return 2 + extended, length


def _content(opcode: int, payload: bytes) -> Any:
    if opcode == TEXT:
        return payload.decode()
    if opcode == CLOSE:
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        return code, payload[2:].decode()
    return payload
