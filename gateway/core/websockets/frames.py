"""Frames of RFC 6455 section 5, as far as they are simple: whole, short, unfragmented. Pure.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
    |I|S|S|S|  (4)  |A|     (7)     |  16 bits if Payload len = 126 |
    |N|V|V|V|       |S|             |  64 bits if Payload len = 127 |
    | |1|2|3|       |K|             |                               |
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |            Masking key, if MASK is set (4 bytes)              |
    +---------------------------------------------------------------+
    |            Payload, each byte XOR key[its index % 4]          |
    +---------------------------------------------------------------+

What a peer sends becomes *events*: a str is a text message, bytes are a binary one, the
rest are the structs below.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
"""The first byte of a frame that is final and has no reserved bit set."""
RSV1: Final = 0x40
"""The bit that marks a compressed message (RFC 7692 section 6)."""

SHORT: Final = 2048
"""Longest payload that is unmasked as one large integer; from here on a masker in C is faster
(both measured 2 to 3 µs here)."""

NO_CODE: Final = 1005
"""No code was in the peer's close frame (RFC 6455 section 7.1.5)."""
ABNORMAL: Final = 1006
"""The peer left without a close frame (RFC 6455 section 7.1.5)."""

_COMPRESSED: Final = (TEXT | RSV1, BINARY | RSV1)
_MAX_REASON: Final = 123  # RFC 6455 section 5.5: control frames carry 125 bytes, 2 are the code
_SHORT_TEXT: Final = tuple(bytes((TEXT, n)) for n in range(126))
_SHORT_BINARY: Final = tuple(bytes((BINARY, n)) for n in range(126))


class Ping(msgspec.Struct, frozen=True, gc=False):
    """The peer wants the same bytes back (RFC 6455 section 5.5.2)."""

    payload: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The peer lives (RFC 6455 section 5.5.3)."""


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The peer's close frame (RFC 6455 section 5.5.1); ``code`` is `NO_CODE` if it had none."""

    code: int
    reason: str


class Fault(msgspec.Struct, frozen=True, gc=False):
    """The peer broke the rules: close with ``code``, read nothing more (RFC 6455 section 7.1.7)."""

    code: int
    reason: str


Event = str | bytes | Ping | Pong | Closed | Fault

_PONG: Final = Pong()


class Inflates(Protocol):
    """What inflates whole messages; None where something is wrong with one."""

    def text(self, payload: bytes) -> str | None:
        """Return a text message."""

    def binary(self, payload: bytes) -> bytes | None:
        """Return a binary message."""


def text_frame(text: str) -> bytes:
    """Return a text message as one unmasked frame; UnicodeEncodeError for lone surrogates."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return _SHORT_TEXT[size] + payload
    return _long_head(TEXT, size) + payload


def binary_frame(payload: bytes) -> bytes:
    """Return a binary message as one unmasked frame."""
    size = len(payload)
    if size < 126:
        return _SHORT_BINARY[size] + payload
    return _long_head(BINARY, size) + payload


def data_frame(first: int, payload: bytes) -> bytes:
    """Return a message as one unmasked frame with a first byte of its own."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    return _long_head(first, size) + payload


def _long_head(first: int, size: int) -> bytes:
    if size < 65536:
        return bytes((first, 126, size >> 8, size & 255))
    return bytes((first, 127)) + size.to_bytes(8, "big")


def control_frame(first: int, payload: bytes = b"") -> bytes:
    """Return a ping or pong frame; its payload is at most 125 bytes (RFC 6455 section 5.5)."""
    return bytes((first, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame. ``reason`` is cut at 123 bytes, between characters.

    `NO_CODE` gives an empty one: it must not be sent itself (RFC 6455 section 7.4.1).
    """
    if code == NO_CODE:
        return bytes((CLOSE, 0))
    words = reason.encode("utf-8", "replace")
    if len(words) > _MAX_REASON:
        words = words[:_MAX_REASON].decode("utf-8", "ignore").encode()
    return bytes((CLOSE, 2 + len(words), code >> 8, code & 255)) + words


def split(
    data: bytes,
    pos: int,
    most: int,
    biggest: int,
    events: list[Event],
    inflater: Inflates | None = None,
) -> int:
    """Append the events of the simple frames in ``data`` from ``pos`` on; return where it stopped.

    Simple is: final, no reserved bit, masked, opcode text, binary, ping or pong, payload
    length in its minimal form and at most ``biggest`` (itself at most 65,535), all of it
    there. With ``inflater`` RSV1 may mark a compressed message (RFC 7692 section 6). It stops at
    the first frame that is not, or after ``most`` events; text that is not UTF-8, and what
    cannot be inflated, are left where they are, too.
    """
    end = len(data)
    while end - pos >= 6:
        first = data[pos]
        size = data[pos + 1] - 128
        if size < 0:  # RFC 6455 section 5.1: a client masks every frame
            break
        if size < 126:
            start = pos + 6
        elif size == 126 and end - pos >= 8:
            size = data[pos + 2] << 8 | data[pos + 3]
            if size < 126:  # RFC 6455 section 5.2: the minimal number of bytes
                break
            start = pos + 8
        else:
            break
        stop = start + size
        if stop > end or size > biggest:
            break
        if size <= SHORT:
            mask = (data[start - 4 : start] * (size // 4 + 1))[:size]
            payload = (
                int.from_bytes(data[start:stop], "big") ^ int.from_bytes(mask, "big")
            ).to_bytes(size, "big")
        else:
            break
        if first == TEXT:
            try:
                events.append(payload.decode())
            except UnicodeDecodeError:
                break
        elif first == BINARY:
            events.append(payload)
        elif first == PING and size < 126:
            events.append(Ping(payload))
        elif first == PONG and size < 126:
            events.append(_PONG)
        elif inflater is not None and first in _COMPRESSED:
            found = inflater.text(payload) if first & 1 else inflater.binary(payload)
            if found is None:
                break
            events.append(found)
        else:
            break
        pos = stop
        if len(events) >= most:
            break
    return pos
