"""What a client may send, where and how often: judged before the library reads it. Pure.

The library ends the connection, and all of its requests, for much that costs one stream by RFC
9113, and overlooks a few things that end a connection. So it gets whole frames that are right
where they stand, and only those; what else comes is judged here.

Some frames cost a client nothing and the server something: SETTINGS and PING want an answer,
RST_STREAM throws away a request that was begun ("rapid reset"), and what makes the server reset
a stream does the same; CONTINUATION and empty DATA can go on for ever (section 10.5). They are
paid for out of an allowance that time and answered requests fill up again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from gateway.plugins.http.http2.faults import Fault
from gateway.plugins.http.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    check_fields,
    checked_settings,
    fragments,
    plain,
    resets,
)
from gateway.plugins.http.port import PREFACE

BURST: Final = 10
"""Seconds of allowance that may be saved up: a page's worth of resets when a tab is closed."""
WINDOW: Final = 65535
"""Bytes of content that a client may send ahead before any WINDOW_UPDATE (section 6.9.2)."""

_RESET_PRICE: Final = 5
"""A reset throws away work; an answered request earns as much."""
_UPDATES: Final = 2
"""WINDOW_UPDATE frames that a frame of content may be answered with: stream and connection."""
_MOST_CONTINUATIONS: Final = 60
"""CONTINUATION frames of one header block; even at 1 KiB each it is large enough."""
_REMEMBERED: Final = 100
"""Closed streams of which we know how they ended: the client's frames may still be on their way."""


class Act(enum.Enum):
    """What to do with a frame."""

    TAKE = "take"
    """Let the library read it: a frame, or a whole header block in its frames."""
    UNPACK = "unpack"
    """Unpack a header block, whose stream gets no further: both sides' tables stay the same."""
    SPEND = "spend"
    """Count content that nobody reads against the connection's window."""
    SKIP = "skip"
    """Nothing."""


Ruling = tuple[Act, int, bytes, str]
"""Act, stream, bytes that it is about, and the id of a fault that costs the stream, or ""."""

_IGNORED: Final[Ruling] = (Act.SKIP, 0, b"", "")


class Guard:
    """Watches what one client sends.

    ``rate`` is the allowance in control frames a second, ``block`` the most bytes of one
    request's compressed header block, ``streams`` how many there may be at once, ``now`` is
    monotonic seconds.
    """

    __slots__ = (
        "_allowance",
        "_block",
        "_block_bytes",
        "_block_flags",
        "_block_stream",
        "_closed",
        "_greeted",
        "_live",
        "_most_block",
        "_most_streams",
        "_partial",
        "_preface",
        "_rate",
        "_rest",
        "_then",
        "_updates",
        "draining",
        "highest",
        "leaving",
        "partial_data",
        "window",
    )

    def __init__(self, rate: float, block: int, streams: int, now: float) -> None:
        self._rate = rate
        self._most_block = block
        self._most_streams = streams
        self._allowance = rate * BURST
        self._updates = 0
        """WINDOW_UPDATE frames that content sent has earned."""
        self._then = now
        self._preface = PREFACE
        """What is still to come of it."""
        self._greeted = False
        self._rest = b""
        self._partial = -1
        """Type of the frame whose rest is to come."""
        self.partial_data = 0
        """Number of the stream on which a DATA frame has begun and not ended."""
        self._block: list[bytes] = []
        """Frames of the header block whose rest is to come."""
        self._block_bytes = 0
        self._block_flags = 0
        self._block_stream = 0
        self._live: dict[int, bool] = {}
        """The streams that are not closed, and whether the client may still send on them."""
        self._closed: dict[int, bool] = {}
        """Streams closed lately, and whether the client may not have known of it."""
        self.highest = 0
        """Number of the stream begun last."""
        self.window = WINDOW
        """Bytes of content that the client may still send on all streams."""
        self.draining = False
        """Whether streams that are begun now are refused."""
        self.leaving = False
        """Whether the client said that it is about to close the connection (GOAWAY)."""

    @property
    def in_head(self) -> bool:
        """Whether the rest of a header block, or of the preface, is to come."""
        return bool(
            self._block
            or self._partial in {HEADERS, CONTINUATION}
            or 0 < len(self._preface) < len(PREFACE)
        )

    def pay_reset(self) -> None:
        """Hear of a stream that is reset for what the client sent."""
        self._pay(_RESET_PRICE)

    def earn(self, amount: float = _RESET_PRICE) -> None:
        """Hear of a request that was answered."""
        self._allowance = min(self._allowance + amount, self._rate * BURST)

    def sent(self) -> None:
        """Hear of a frame of content sent: the client may open windows for it."""
        self._updates += _UPDATES

    @property
    def partial_bytes(self) -> int:
        """How many bytes of that frame's payload have come."""
        return len(self._rest) - HEAD

    def close(self, stream: int) -> None:
        """Hear that a stream is closed, which the client may not know yet."""
        sending = self._live.pop(stream, None)
        if sending is not None:
            self._remember(stream, unaware=sending)

    # ------------------------------------------------ frames

    def feed(self, data: bytes, now: float) -> Iterator[Ruling]:
        """Iterate over what to do with what ``data`` completes. Raises `Fault` in its place."""
        self.earn((now - self._then) * self._rate)
        self._then = now
        if self._rest:
            data = self._rest + data
        pos = self._read_preface(data) if self._preface else 0
        size = len(data)
        doomed: frozenset[int] | None = None
        self._partial = -1
        self.partial_data = 0
        while pos + HEAD <= size:
            length = int.from_bytes(data[pos : pos + 3], "big")
            kind = data[pos + 3]
            flags = data[pos + 4]
            stream = int.from_bytes(data[pos + 5 : pos + 9], "big") & 0x7FFFFFFF
            self._check_head(kind, flags, stream, length)
            start, stop = pos, pos + HEAD + length
            if stop > size:
                self._partial = kind
                if kind == DATA:
                    self.partial_data = stream
                break
            pos = stop
            frame = data if size == length + HEAD else data[start:stop]
            if kind == DATA:
                yield self._data(flags, stream, frame)
            elif kind in {HEADERS, CONTINUATION}:
                block = self._collect(kind, flags, stream, frame)
                if block:
                    if doomed is None:
                        doomed = resets(data, pos)
                    yield self._headers(block, doomed)
            else:
                yield self._other(kind, flags, stream, frame)
        self._rest = data[pos:]

    def _read_preface(self, data: bytes) -> int:
        """Return the end of the preface in ``data``."""
        preface = self._preface
        if data[: len(preface)] != preface[: len(data)]:
            raise Fault("preface")
        self._preface = preface[len(data) :]
        return min(len(data), len(preface))

    def _check_head(self, kind: int, flags: int, stream: int, length: int) -> None:
        """Check what needs no payload; so nobody waits for one of up to 16 MiB."""
        if not self._greeted:
            if kind != SETTINGS or flags & ACK:
                raise Fault("preface")
            self._greeted = True
        if length > FRAME_BYTES:
            raise Fault("frame-size")
        if self._block:
            # RFC 9113 section 6.10: nothing else may come in between, not even what is unknown.
            if kind != CONTINUATION or stream != self._block_stream:
                raise Fault("header-block")
        elif kind == CONTINUATION:
            raise Fault("header-block")

    # ------------------------------------------------ content

    def _data(self, flags: int, stream: int, frame: bytes) -> Ruling:
        length = len(frame) - HEAD
        self._check_number(stream)
        padding = 0
        if flags & PADDED:
            if not length:
                raise Fault("frame-length")
            padding = 1 + frame[HEAD]
            if padding > length:
                raise Fault("padding")  # RFC 9113 section 6.1
        ends = flags & END_STREAM
        if length == padding and not ends:
            self._pay(1)
        self.window -= length
        if self.window < 0:
            raise Fault("window-exceeded")
        if self._live.get(stream):
            if ends:
                self._live[stream] = False
            return (Act.TAKE, stream, frame, "")
        fault = self._misplaced(stream, ends=bool(ends))
        return (Act.SPEND, stream, frame, fault)

    def _misplaced(self, stream: int, *, ends: bool) -> str:
        """Judge content or trailers on a stream on which the client cannot send."""
        if stream in self._live:
            # RFC 9113 section 5.1, half-closed (remote): a stream error.
            return self.blame(stream, "stream-closed")
        if self._closed.get(stream, True):
            # We closed it, and the client did not know: it may have sent more meanwhile.
            if ends:
                self._remember(stream, unaware=False)
            return ""
        return self.blame(stream, "stream-closed")

    # ------------------------------------------------ header blocks

    def _collect(self, kind: int, flags: int, stream: int, frame: bytes) -> bytes:
        """Return the frames of a header block once it is complete."""
        length = len(frame) - HEAD
        if kind == HEADERS:
            if not stream:
                raise Fault("frame-stream")
            self._block_flags = flags
            self._block_stream = stream
            self._block_bytes = length
        else:
            self._pay(1)
            self._block_bytes += length
        if self._block_bytes > self._most_block or len(self._block) > _MOST_CONTINUATIONS:
            raise Fault("header-block-size")
        if not flags & END_HEADERS:
            self._block.append(frame)
            return b""
        if self._block:
            frame = b"".join((*self._block, frame))
            self._block = []
        return frame

    def _headers(self, block: bytes, doomed: frozenset[int]) -> Ruling:
        """Judge a whole header block; ``doomed`` streams are reset right behind it."""
        stream = self._block_stream
        flags = self._block_flags
        ends = bool(flags & END_STREAM)
        itself = check_fields(flags, block)
        if stream > self.highest:
            if not stream & 1:
                raise Fault("stream-number")  # RFC 9113 section 5.1.1
            self.highest = stream
            if stream in doomed:
                self._remember(stream, unaware=True)
                return (Act.UNPACK, stream, fragments(block), "")
            self._live[stream] = not ends
            if itself == stream:
                fault = "dependency"
            elif self.draining:
                fault = "stream-late"
            elif len(self._live) > self._most_streams:
                fault = "stream-refused"
            else:
                return (Act.TAKE, stream, plain(flags, stream, block), "")
            return (Act.UNPACK, stream, fragments(block), self.blame(stream, fault))
        if self._live.get(stream):
            if ends:
                self._live[stream] = False
                return (Act.TAKE, stream, plain(flags, stream, block), "")
            return (Act.UNPACK, stream, fragments(block), self.blame(stream, "trailers"))
        self._pay(1)
        if stream not in self._live:
            unaware = self._closed.get(stream)
            if unaware is None:
                raise Fault("stream-number")
            if not unaware:
                raise Fault("stream-closed")
        return (Act.UNPACK, stream, fragments(block), self._misplaced(stream, ends=ends))

    # ------------------------------------------------ the other frames

    def _other(self, kind: int, flags: int, stream: int, frame: bytes) -> Ruling:
        length = len(frame) - HEAD
        if kind == WINDOW_UPDATE:
            return self._window_update(stream, frame)
        self._pay(_RESET_PRICE if kind == RST_STREAM else 1)
        if kind in {SETTINGS, PING, GOAWAY}:
            if stream:
                raise Fault("frame-stream")
            return self._about_connection(kind, flags, frame)
        if kind == RST_STREAM:
            self._check_number(stream)
            if length != 4:
                raise Fault("frame-length")
            alive = self._live.pop(stream, None) is not None
            self._remember(stream, unaware=False)
            return (Act.TAKE, stream, frame, "") if alive else _IGNORED
        if kind == PRIORITY:
            if not stream:
                raise Fault("frame-stream")
            return self._priority(stream, frame)
        if kind == PUSH_PROMISE:
            raise Fault("push")
        return _IGNORED  # RFC 9113 section 5.5: unknown types

    def _about_connection(self, kind: int, flags: int, frame: bytes) -> Ruling:
        length = len(frame) - HEAD
        if kind == SETTINGS:
            if flags & ACK:
                if length:
                    raise Fault("frame-length")  # RFC 9113 section 6.5
            else:
                frame = checked_settings(frame)
        elif kind == PING:
            if length != 8:
                raise Fault("frame-length")  # RFC 9113 section 6.7
        else:
            if length < 8:
                raise Fault("frame-length")  # RFC 9113 section 6.8
            # The library would stop to send; but what was begun goes on.
            self.leaving = True
            return _IGNORED
        return (Act.TAKE, 0, frame, "")

    def _priority(self, stream: int, frame: bytes) -> Ruling:
        """Ignore a priority (RFC 9113 section 5.3), unless it is malformed."""
        if len(frame) != HEAD + 5:
            fault = "frame-length"  # RFC 9113 section 6.3: a stream error
        elif int.from_bytes(frame[HEAD : HEAD + 4], "big") & 0x7FFFFFFF == stream:
            fault = "dependency"
        else:
            return _IGNORED
        if stream not in self._live:
            raise Fault(fault)  # there is no stream that could be reset
        return (Act.SKIP, stream, b"", self.blame(stream, fault))

    def _window_update(self, stream: int, frame: bytes) -> Ruling:
        if self._updates:
            self._updates -= 1
        else:
            self._pay(1)
        if len(frame) != HEAD + 4:
            raise Fault("frame-length")  # RFC 9113 section 6.9
        increment = int.from_bytes(frame[HEAD:], "big") & 0x7FFFFFFF
        # The library takes the reserved bit for a part of the number.
        frame = frame[:HEAD] + increment.to_bytes(4, "big")
        if stream:
            self._check_number(stream)
            if stream not in self._live:
                return _IGNORED
            if not increment:
                return (Act.SKIP, stream, b"", self.blame(stream, "window-increment"))
        elif not increment:
            raise Fault("window-increment")
        return (Act.TAKE, stream, frame, "")

    # ------------------------------------------------ accounts

    def _check_number(self, stream: int) -> None:
        """Check that a stream was begun: by the client, as we never push."""
        if not stream:
            raise Fault("frame-stream")
        if stream > self.highest or not stream & 1:
            raise Fault("stream-idle")

    def blame(self, stream: int, fault: str) -> str:
        """Close a stream for a fault; it is paid for like a reset of the client's own."""
        self._pay(_RESET_PRICE)
        sending = self._live.pop(stream, None)
        if sending is not None:
            self._remember(stream, unaware=sending)
        return fault

    def _remember(self, stream: int, *, unaware: bool) -> None:
        self._closed[stream] = unaware
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]

    def _pay(self, price: float) -> None:
        self._allowance -= price
        if self._allowance < 0:
            raise Fault("control-frames")
