"""autobahn for what is not simple: fragments, large and partial frames, close frames, faults.

`frames.split` reads whole short frames; for the rest a connection makes an `Engine`, feeds
it until it stands between two messages again, and drops it. So an idle connection has none,
and a busy one pays for autobahn only where it is needed.
"""

# ruff: noqa: N802, N803, N815 - what is overridden has autobahn's names

from __future__ import annotations

import codecs
from types import SimpleNamespace
from typing import Any, ClassVar, Final, Protocol

from autobahn.asyncio.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats

from gateway.core.codes import may_be_sent
from gateway.core.errors import RemoteProtocolError
from gateway.core.websockets.frames import (
    NO_CODE,
    Closed,
    Event,
    Fault,
    Inflates,
    Ping,
    Pong,
)

SLICE: Final = 8192
"""Bytes that an engine is fed at once: it copies what it has not read for every frame, and its
price for a frame (about 20 µs) is then still several times that of the copy."""


class Bounds(Protocol):
    """What a peer may send, as settings have it."""

    @property
    def max_frame(self) -> int:
        """Bytes of a frame."""

    @property
    def max_message(self) -> int:
        """Bytes of a message, inflated."""

    @property
    def max_fragments(self) -> int:
        """Frames of a message."""


class Inflater(Inflates, Protocol):
    """What inflates the messages of a connection piece by piece."""

    def begin(self) -> None:
        """Begin a message."""

    def feed(self, data: bytes) -> bytes:
        """Return a piece, inflated."""

    def end(self) -> None:
        """End a message."""


class _Utf8:
    """A strict incremental check of UTF-8 in the shape that autobahn's parser asks for.

    CPython's decoder is many times as fast as autobahn's own validator, and stops as early but
    for one case: the first two bytes of a surrogate, which wait for their third.
    """

    __slots__ = ("_decoder", "_total")

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._total = 0

    def reset(self) -> None:
        self._decoder.reset()
        self._total = 0

    def validate(self, data: bytes) -> tuple[bool, bool, int, int]:
        """Return (valid, ends between characters, -, index of what is wrong, or of the end)."""
        index = self._total - len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data)
        except UnicodeDecodeError as error:
            return False, False, 0, index + error.start
        self._total += len(data)
        rest = self._decoder.getstate()[0]
        # RFC 3629 section 4: after ED no second byte over 9F, since that would be a surrogate
        if rest[:1] == b"\xed" and rest[1:] >= b"\xa0":
            return False, False, 0, self._total - len(rest)
        return True, not rest, 0, self._total


class _Inflation:
    """A connection's `Inflater` in the shape that autobahn asks for."""

    EXTENSION_NAME = "permessage-deflate"
    __slots__ = ("_inflater",)

    def __init__(self, inflater: Inflater) -> None:
        self._inflater = inflater

    def start_decompress_message(self) -> None:
        self._inflater.begin()

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        return self._inflater.feed(data)

    def end_decompress_message(self) -> None:
        self._inflater.end()


class Engine(WebSocketServerProtocol):
    """An open autobahn connection without transport, timers and handshake.

    What a connection's life would set in an autobahn protocol stands here, on the class: the
    state after a handshake. ``inflater`` is that of a connection that agreed on compression.
    """

    factory: ClassVar[Any] = SimpleNamespace(isServer=True)
    state = WebSocketServerProtocol.STATE_OPEN
    websocket_version = 13
    data = b""
    current_frame: Any = None
    inside_message = False
    utf8validateIncomingCurrentMessage = False
    trackedTimings: Any = None
    trafficStats: Any = TrafficStats()  # type: ignore[no-untyped-call]
    failedByMe = False
    failByDrop = True
    logFrames = False
    applyMask = True
    requireMaskedClientFrames = True
    utf8validateIncoming = True
    maxMessagePayloadSize = 0
    message_data_total_length = 0
    autoPingPending = None
    autoPingTimeoutCall = None
    _perMessageCompress: Any = None
    _isMessageCompressed = False
    continued = 0
    """Fragments that went on with a message; whoever counts them sets it back."""

    def __init__(self, config: Bounds, inflater: Inflater | None = None) -> None:
        self.utf8validator: Any = _Utf8()
        if inflater is not None:
            self._perMessageCompress = _Inflation(inflater)
        self._config = config
        self._events: list[Event] = []

    def feed(self, data: bytes, pos: int, events: list[Event]) -> int:
        """Read one message, or a part of one, append its events; return where it stopped.

        It stops after what completes a message, after a fault or close frame, and where
        ``data`` (or a slice of it) ends. `idle` says whether it may be dropped.
        """
        stop = min(pos + SLICE, len(data))
        self.data += data[pos:stop]
        self._events = events
        more = True
        try:
            while more and self.state == self.STATE_OPEN:
                more = self.processData()
                if more and self.current_frame is None and not self.inside_message:
                    stop -= len(self.data)
                    self.data = b""
                    break
        except RemoteProtocolError as error:  # what the inflater says
            self._fail_connection(error.answer.code, error.answer.reason)
        return stop

    @property
    def idle(self) -> bool:
        """Whether it stands between two messages and holds nothing."""
        return (
            self.current_frame is None
            and not self.inside_message
            and not self.data
            and not self.failedByMe
        )

    @property
    def failed(self) -> bool:
        """Whether the peer broke the rules: nothing that it sends means anything any more."""
        return self.failedByMe

    # ------------------------------------------------ what autobahn calls

    def onMessageBegin(self, isBinary: bool) -> None:
        """Begin to collect a message."""
        self._binary = isBinary
        self._buffer = bytearray()
        self._frames = 0

    def onMessageFrameBegin(self, length: int) -> None:
        """Refuse a frame for what its head says."""
        if self._frames:
            self.continued += 1
        self._frames += 1
        config = self._config
        # What cannot be compressed grows by a thousandth; how large it was, the inflater sees.
        spare = (length >> 7) + 64 if self._isMessageCompressed else 0
        if length - spare > config.max_frame:
            self._fail_connection(1009, f"a frame of over {config.max_frame} bytes")
        elif not spare and len(self._buffer) + length > config.max_message:
            self._fail_connection(1009, f"a message of over {config.max_message} bytes")
        elif self._frames > config.max_fragments:
            self._fail_connection(1009, f"a message of over {config.max_fragments} frames")

    def onMessageFrameData(self, payload: bytes) -> None:
        """Collect unmasked payload."""
        self._buffer += payload

    def onMessageFrameEnd(self) -> None:
        """Do nothing: only whole messages matter here."""

    def onMessageEnd(self) -> None:
        """Report a message, of which autobahn has checked the UTF-8."""
        self._events.append(bytes(self._buffer) if self._binary else self._buffer.decode())
        del self._buffer

    def onPing(self, payload: bytes) -> None:
        """Report a ping."""
        self._events.append(Ping(payload))

    def onPong(self, payload: bytes) -> None:
        """Report a pong."""
        self._events.append(Pong())

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        """Check a close frame; True stops autobahn's reading."""
        if code is None:
            self._events.append(Closed(NO_CODE, ""))
        elif not may_be_sent(code):
            self._fail_connection(1002, f"close code {code} may not be sent")
        else:
            try:
                self._events.append(Closed(code, (reasonRaw or b"").decode()))
            except UnicodeDecodeError:
                self._fail_connection(1007, "a close reason that is not UTF-8")
        self.state = self.STATE_CLOSED
        return True

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        """Report the first fault; autobahn calls this for every kind of it."""
        if not self.failedByMe:
            self.failedByMe = True
            self.state = self.STATE_CLOSED
            self._events.append(Fault(code, reason))
