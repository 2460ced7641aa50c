"""What a client may send, and how often: read off the frames before the library sees them. Pure.

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

Some frames cost a client nothing and the server something: SETTINGS and PING want an answer,
RST_STREAM throws away a request that was begun ("rapid reset"), CONTINUATION and empty DATA
can go on for ever (RFC 9113 section 10.5). They are paid for out of an allowance that time,
finished requests and sent content fill up again.
"""

from __future__ import annotations

from typing import Final

from h2.errors import ErrorCodes

from gateway.plugins.http.port import PREFACE

FRAME_BYTES: Final = 16384
"""The largest payload of a frame that we take: the least that RFC 9113 section 4.2 allows."""
BURST: Final = 10
"""Seconds of allowance that may be saved up: a page's worth of resets when a tab is closed."""

_HEAD: Final = 9
_DATA, _HEADERS, _RST_STREAM, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 7, 8, 9
_END_HEADERS: Final = 0x04
_END_STREAM: Final = 0x01
_RESET_PRICE: Final = 5
"""A reset throws away work; an answered request earns as much."""


class Fault(Exception):  # noqa: N818 - what it is called: whose fault a closed connection is
    """The client goes too far: the connection ends with GOAWAY (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCodes, reason: str, why: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.why = why
        """What the metric ``refused_total`` calls it."""


class Guard:
    """Watches what one client sends.

    ``rate`` is the allowance in control frames a second, ``block`` the most bytes of one
    request's compressed header block.
    """

    __slots__ = (
        "_allowance",
        "_block",
        "_most",
        "_rate",
        "_rest",
        "_size",
        "_skip",
        "_then",
        "leaving",
    )

    def __init__(self, rate: float, block: int, now: float) -> None:
        self._rate = rate
        self._most = block
        self._allowance = rate * BURST
        self._then = now
        self._skip = len(PREFACE)
        self._rest = b""
        self._size = 0
        self._block = False
        self.leaving = False
        """Whether the client said that it will begin nothing more (GOAWAY)."""

    @property
    def in_block(self) -> bool:
        """Whether the rest of a header block is to come, in frames that nothing may interrupt."""
        return self._block

    def earn(self, amount: float = _RESET_PRICE) -> None:
        """Hear of a request that was answered, or of frames of content sent."""
        self._allowance = min(self._allowance + amount, self._rate * BURST)

    def feed(self, data: bytes, now: float) -> bytes:
        """Return what the library is to read of ``data``. Raises `Fault`.

        ``now`` is monotonic seconds. Left out are well-formed GOAWAY frames: the library would
        stop to send, while RFC 9113 section 6.8 lets what was begun go on.
        """
        self.earn((now - self._then) * self._rate)
        self._then = now
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        pos = self._skip
        kept: list[bytes] | None = None
        start = 0
        while pos + _HEAD <= size:
            length = int.from_bytes(data[pos : pos + 3], "big")
            kind = data[pos + 3]
            stop = pos + _HEAD + length
            if kind == _GOAWAY and self._is_goaway(data, pos, length):
                if stop > size:
                    break
                self.leaving = True
                kept = [*(kept or ()), data[start:pos]]
                start = stop
            else:
                self._weigh(kind, data[pos + 4], length)
            pos = stop
        if pos < size:
            # The beginning of a frame's head; or a GOAWAY that is not complete.
            self._rest = data[pos:]
            size = pos
        self._skip = max(0, pos - size)
        if kept is None:
            return data if size == len(data) else data[:size]
        return b"".join((*kept, data[start:size]))

    def _is_goaway(self, data: bytes, pos: int, length: int) -> bool:
        # RFC 9113 section 6.8: on stream 0, at least 8 bytes; anything else the library refuses.
        stream = int.from_bytes(data[pos + 5 : pos + 9], "big") & 0x7FFFFFFF
        return not self._block and not stream and 8 <= length <= FRAME_BYTES

    def _weigh(self, kind: int, flags: int, length: int) -> None:
        if length > FRAME_BYTES:
            # The library would wait for all of it first: up to 16 MiB.
            raise Fault(
                ErrorCodes.FRAME_SIZE_ERROR, f"a frame of over {FRAME_BYTES} bytes", "frame-size"
            )
        if kind == _DATA:
            if not length and not flags & _END_STREAM:
                self._pay(1)
            return
        if kind == _HEADERS:
            self._size = length
        elif kind == _CONTINUATION:
            self._size += length
            self._pay(1)
        else:
            self._pay(_RESET_PRICE if kind == _RST_STREAM else 1)
            return
        self._block = not flags & _END_HEADERS
        if self._size > self._most:
            raise Fault(
                ErrorCodes.ENHANCE_YOUR_CALM, "a request's header block is too large", "header-size"
            )

    def _pay(self, price: float) -> None:
        self._allowance -= price
        if self._allowance < 0:
            raise Fault(
                ErrorCodes.ENHANCE_YOUR_CALM, "too many frames that carry nothing", "control-frames"
            )
