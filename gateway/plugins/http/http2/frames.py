"""Frames as bytes (RFC 9113 section 4.1): what of them is read and changed on their way. Pure.

::

    +-----------------------------------------------+
    |                 Length (24)                   |
    +---------------+---------------+---------------+
    |   Type (8)    |   Flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 Stream Identifier (31)                      |
    +=+=============================================================+
    |                   Frame Payload (0...)                      ...
    +---------------------------------------------------------------+
"""

from __future__ import annotations

import struct
from typing import Final

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from gateway.plugins.http.http2.faults import Fault

FRAME_BYTES: Final = 16384
"""The largest payload of a frame that we take: the least that RFC 9113 section 4.2 allows."""
HEAD: Final = 9
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITIZED: Final = 0x20

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5
_ENABLE_CONNECT_PROTOCOL: Final = 8
_SETTING: Final = struct.Struct(">HL")

_MOST_SETTINGS: Final = 32
"""Settings of one frame; there are not ten that anybody knows."""


def resets(data: bytes, pos: int) -> frozenset[int]:
    """Return the streams that frames behind ``pos`` reset: they need not be begun."""
    size = len(data)
    found = []
    while pos + HEAD <= size:
        length = int.from_bytes(data[pos : pos + 3], "big")
        if data[pos + 3] == RST_STREAM and length == 4:
            found.append(int.from_bytes(data[pos + 5 : pos + 9], "big") & 0x7FFFFFFF)
        pos += HEAD + length
    return frozenset(found)


def check_fields(flags: int, block: bytes) -> int:
    """Check padding and priority of a HEADERS frame; return what it depends on, or -1."""
    if not flags & (PADDED | PRIORITIZED):
        return -1
    length = int.from_bytes(block[:3], "big")
    start = 1 if flags & PADDED else 0
    least = start + (5 if flags & PRIORITIZED else 0)
    if length < least:
        raise Fault("frame-length")
    if start and length < least + block[HEAD]:
        raise Fault("padding")  # RFC 9113 section 6.2
    if not flags & PRIORITIZED:
        return -1
    return int.from_bytes(block[HEAD + start : HEAD + start + 4], "big") & 0x7FFFFFFF


def fragments(block: bytes) -> bytes:
    """Return the header block of a HEADERS frame and its CONTINUATION frames."""
    found = []
    pos = 0
    while pos < len(block):
        length = int.from_bytes(block[pos : pos + 3], "big")
        start, stop = pos + HEAD, pos + HEAD + length
        flags = block[pos + 4]
        if block[pos + 3] == HEADERS:
            if flags & PADDED:
                stop -= block[start]
                start += 1
            if flags & PRIORITIZED:
                start += 5
        found.append(block[start:stop])
        pos += HEAD + length
    return b"".join(found)


def plain(flags: int, stream: int, block: bytes) -> bytes:
    """Return the frames of a header block without padding and priority.

    The library takes a HEADERS frame for malformed that is all padding, as it may be before
    CONTINUATION.
    """
    if not flags & (PADDED | PRIORITIZED):
        return block
    fields = fragments(block)
    found = []
    kind, flags = HEADERS, flags & END_STREAM
    for start in range(0, len(fields) or 1, FRAME_BYTES):
        piece = fields[start : start + FRAME_BYTES]
        if start + FRAME_BYTES >= len(fields):
            flags |= END_HEADERS
        found.append(len(piece).to_bytes(3, "big") + bytes((kind, flags)))
        found.append(stream.to_bytes(4, "big") + piece)
        kind, flags = CONTINUATION, 0
    return b"".join(found)


def checked_settings(frame: bytes) -> bytes:
    """Return a SETTINGS frame with the settings that concern a server (RFC 9113 section 6.5.2).

    The library keeps every one that it is told, known or not. Of the client's largest frame
    we make no use: the least that is allowed shares the connection fairly.
    """
    size = len(frame) - HEAD
    if size % _SETTING.size:
        raise Fault("frame-length")
    if size > _MOST_SETTINGS * _SETTING.size:
        raise Fault("settings-count")
    kept = []
    for name, value in _SETTING.iter_unpack(frame[HEAD:]):
        if name == _INITIAL_WINDOW_SIZE and value > 0x7FFFFFFF:
            raise Fault("settings-window")
        if name in {_ENABLE_PUSH, _ENABLE_CONNECT_PROTOCOL} and value > 1:
            raise Fault("settings")
        if name == _MAX_FRAME_SIZE and not FRAME_BYTES <= value < 1 << 24:
            raise Fault("settings")
        if name in {_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE}:
            kept.append(_SETTING.pack(name, value))
    payload = b"".join(kept)
    return len(payload).to_bytes(3, "big") + frame[3:HEAD] + payload


def goaway(last: int, code: ErrorCodes, text: str = "") -> bytes:
    """Return a GOAWAY frame; ``text`` is for people (RFC 9113 section 6.8)."""
    frame = GoAwayFrame(0, last_stream_id=last, error_code=int(code), additional_data=text.encode())
    return frame.serialize()
