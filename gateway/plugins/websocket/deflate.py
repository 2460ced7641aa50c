"""permessage-deflate (RFC 7692): what is agreed on, and messages as they travel then. Pure.

A compressed message has RSV1 set in its first frame, and its payload is a piece of a raw DEFLATE
stream (RFC 1951) that would end with an empty block, whose last four bytes stay at home::

    ┌────────────────────────────┬─────────────┐
    │ blocks of the message      │ 00 00 ff ff │   section 7.2.1
    └────────────────────────────┴─────────────┘
      travels                      does not

Without context takeover each message stands alone: then nothing is held between two messages,
and one frame serves every connection that agreed on the same window.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.core.errors import RemoteProtocolError
from gateway.core.websockets import frames
from gateway.core.websockets.frames import Fault
from gateway.core.websockets.handshake import Extension, Parameter

NAME: Final = b"permessage-deflate"
LARGEST: Final = 15
"""A window of 2 ** 15 bytes, which everybody has who agrees on none (section 7.1.2)."""
UNSUPPORTED: Final = 8
"""The window that the RFC knows and zlib does not make: raw streams begin at 2 ** 9 bytes."""
FINALS: Final = 64
"""Final blocks in one message: an encoder needs one a message, or one a frame, and each makes us
begin anew at several times the cost of its two bytes."""

_WINDOWS: Final = {b"%d" % bits: bits for bits in range(UNSUPPORTED, LARGEST + 1)}
_TAIL: Final = b"\x00\x00\xff\xff"
_END: Final = _TAIL + b"\x01\x00\x00\xff\xff"
"""What stayed at home, and an empty final block: zlib says that it came to the end only if the
message had no half block before it."""


class Agreed(msgspec.Struct, frozen=True):
    """What both sides have agreed on."""

    answer: bytes
    """The extension as our response names it."""
    window: int
    """Bits of the window that we compress with."""
    context: bool
    """Whether we go on with the window of the message before."""
    their_window: int
    their_context: bool


def agree(offered: Iterable[Extension], window: int, *, context: bool) -> Agreed | None:
    """Return what to agree on: the first offer that can be met; None if there is none.

    ``window`` is the largest that we want, either way, ``context`` whether windows may go on
    with the next message.
    """
    for name, parameters in offered:
        if name == NAME:
            agreed = _agree(parameters, window, context=context)
            if agreed is not None:
                return agreed
    return None


def _agree(parameters: Iterable[Parameter], window: int, *, context: bool) -> Agreed | None:
    """Return what to agree on for one offer; None declines it. Quotations are from RFC 7692."""
    given: dict[bytes, int] = {}
    for key, value in parameters:
        if key in given:
            # Section 7.1: "contains multiple extension parameters with the same name"
            return None
        if key in (b"server_no_context_takeover", b"client_no_context_takeover"):
            # Section 7.1.1: "This parameter has no value."
            if value is not None:
                return None
            given[key] = 1
        elif key == b"client_max_window_bits" and value is None:
            given[key] = LARGEST
        elif key in (b"server_max_window_bits", b"client_max_window_bits"):
            # Section 7.1.2: "a decimal integer value without leading zeroes between 8 to 15"
            if value not in _WINDOWS:
                return None
            given[key] = _WINDOWS[value]
        else:
            # Section 7.1: "contains an extension parameter not defined for use in an offer"
            return None
    ours = min(window, given.get(b"server_max_window_bits", LARGEST))
    if ours == UNSUPPORTED:
        # The client's next offer may suit us better.
        return None
    # Section 7.1.2.2: without the parameter in the offer none may be in the response.
    theirs = min(window, given.get(b"client_max_window_bits", 0)) or LARGEST
    we_go_on = context and b"server_no_context_takeover" not in given
    they_go_on = context and b"client_no_context_takeover" not in given
    answer = [NAME]
    if not we_go_on:
        answer.append(b"server_no_context_takeover")
    if not they_go_on:
        answer.append(b"client_no_context_takeover")
    if ours < LARGEST or b"server_max_window_bits" in given:
        answer.append(b"server_max_window_bits=%d" % ours)
    if theirs < LARGEST:
        answer.append(b"client_max_window_bits=%d" % theirs)
    return Agreed(b"; ".join(answer), ours, we_go_on, theirs, they_go_on)


class Deflater:
    """Makes frames, compressed where that makes them smaller. Holds nothing between messages.

    ``least`` is the size of a message from which on compression is tried. What deflate needs
    of memory while it works follows the window, as in zlib's own default: 2 ** (window + 3)
    bytes.
    """

    __slots__ = ("_least", "_level", "_window")

    def __init__(self, window: int, level: int, least: int) -> None:
        self._window = window
        self._level = level
        self._least = max(1, least)

    def text_frame(self, text: str) -> bytes:
        """As `frames.text_frame`."""
        return self._frame(frames.TEXT, text.encode())

    def binary_frame(self, payload: bytes) -> bytes:
        """As `frames.binary_frame`."""
        return self._frame(frames.BINARY, payload)

    def compress(self, payload: bytes) -> bytes:
        """Return the payload of a compressed message."""
        codec = self._codec()
        small: bytes = codec.compress(payload) + codec.flush(zlib.Z_SYNC_FLUSH)
        return small[: -len(_TAIL)]

    def _codec(self) -> Any:
        memory = max(1, self._window - 7)
        return zlib.compressobj(self._level, zlib.DEFLATED, -self._window, memory)

    def _frame(self, first: int, payload: bytes) -> bytes:
        if len(payload) >= self._least:
            small = self.compress(payload)
            if len(small) < len(payload):
                return frames.data_frame(first | frames.RSV1, small)
        return frames.data_frame(first, payload)


class ContextDeflater(Deflater):
    """Goes on with the window of the message before: what it makes is for one connection alone.

    Every frame that it has made must be sent.
    """

    __slots__ = ("_kept",)

    def __init__(self, window: int, level: int, least: int) -> None:
        super().__init__(window, level, least)
        self._kept: Any = None

    def _codec(self) -> Any:
        if self._kept is None:
            self._kept = super()._codec()
        return self._kept

    def _frame(self, first: int, payload: bytes) -> bytes:
        if len(payload) >= self._least:
            return frames.data_frame(first | frames.RSV1, self.compress(payload))
        return frames.data_frame(first, payload)


class Inflater:
    """Inflates the messages of one connection: ``begin``, ``feed`` until all is there, ``end``.

    Or ``text`` and ``binary``, for messages that came in one piece.

    Between two messages it holds no more than the window of the peer's context, and nothing
    without context takeover. Raises `RemoteProtocolError` whose ``answer`` is the `Fault`.
    """

    __slots__ = ("_codec", "_context", "_finals", "_history", "_most", "_room", "_window")

    def __init__(self, window: int, most: int, *, context: bool) -> None:
        self._window = window
        self._context = context
        self._most = most
        self._room = 0
        self._history = b""
        """The last that was inflated, as much as a window holds."""
        self._codec: Any = None
        self._finals = 0

    def text(self, payload: bytes) -> str | None:
        """Return a whole text message; None where something is wrong, as if it had not come."""
        history = self._history
        try:
            return self._whole(payload).decode()
        except (RemoteProtocolError, UnicodeDecodeError):
            self._history = history
            return None

    def binary(self, payload: bytes) -> bytes | None:
        """Return a whole binary message; None where something is wrong, as if it had not come."""
        history = self._history
        try:
            return self._whole(payload)
        except RemoteProtocolError:
            self._history = history
            return None

    def _whole(self, payload: bytes) -> bytes:
        self.begin()
        found = self.feed(payload)
        self.end()
        return found

    def begin(self) -> None:
        """Begin a message."""
        self._codec = None
        self._room = self._most
        self._finals = 0

    def feed(self, data: bytes) -> bytes:
        """Return what a further piece of the payload inflates to."""
        found = b""
        while data:
            codec = self._codec
            if codec is None:
                codec = self._codec = self._stream()
            try:
                piece = codec.decompress(data, self._room + 1)
            except zlib.error:
                raise _fault(1007, "what is no deflate data") from None
            self._room -= len(piece)
            if self._room < 0:
                raise _fault(1009, f"a message of over {self._most} bytes")
            self._history = (self._history + piece)[-(1 << self._window) :]
            found += piece
            if not codec.eof:
                break
            # Section 7.2.1: blocks may be final ones, each filled up to the end of a byte; what
            # follows begins a stream that goes on with the same window.
            self._codec = None
            data = codec.unused_data
            self._finals += 1
            if self._finals > FINALS:
                raise _fault(1009, f"over {FINALS} final deflate blocks in one message")
        return found

    def _stream(self) -> Any:
        if self._history:
            return zlib.decompressobj(-self._window, zdict=self._history)
        return zlib.decompressobj(-self._window)

    def end(self) -> None:
        """End the message: all of its payload was fed."""
        # No bytes at all are no DEFLATE, but zlib makes them of a second empty message in a row,
        # and after a final block some peers send none: what is meant is plain both times.
        if self._codec is not None:
            rest = self.feed(_END)
            if rest or self._codec is not None:
                raise _fault(1007, "deflate data that ends in the middle")
        if not self._context:
            self._history = b""


def _fault(code: int, reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(reason, Fault(code, reason))
