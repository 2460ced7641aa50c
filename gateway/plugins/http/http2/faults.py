"""What ends a stream or a whole connection of HTTP/2, each with an id, a code and its rule. Pure.

A fault of framing leaves nobody sure of what the client means, so it ends the connection (RFC
9113 section 5.4.1); one that concerns a single request costs its stream (section 5.4.2). What is
wrong in header fields is refused as over HTTP/1: `gateway.plugins.http.refusals`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from h2.errors import ErrorCodes

from gateway.core.errors import RemoteProtocolError


class FaultRule(NamedTuple):
    """Why something is ended."""

    code: ErrorCodes
    sentence: str
    source: str
    """The rule: RFC and section, or the setting."""


_PROTOCOL: Final = ErrorCodes.PROTOCOL_ERROR
_SIZE: Final = ErrorCodes.FRAME_SIZE_ERROR
_FLOW: Final = ErrorCodes.FLOW_CONTROL_ERROR
_CLOSED: Final = ErrorCodes.STREAM_CLOSED
_CALM: Final = ErrorCodes.ENHANCE_YOUR_CALM

FAULTS: Final[dict[str, FaultRule]] = {
    # ------------------------------------------------ frames
    "preface": FaultRule(
        _PROTOCOL, "the connection does not begin with the preface and SETTINGS", "RFC 9113 3.4"
    ),
    "frame-size": FaultRule(_SIZE, "a frame of over 16384 bytes", "RFC 9113 4.2"),
    "frame-length": FaultRule(_SIZE, "a frame has not the length of its type", "RFC 9113 4.2"),
    "frame-stream": FaultRule(
        _PROTOCOL, "a frame on stream 0, or on another, where its type has no place", "RFC 9113 6"
    ),
    "padding": FaultRule(_PROTOCOL, "more padding than the frame has room for", "RFC 9113 6.1"),
    "push": FaultRule(_PROTOCOL, "a client does not push", "RFC 9113 8.4"),
    # ------------------------------------------------ header blocks
    "header-block": FaultRule(
        _PROTOCOL, "a header block is interrupted, or continued where none is", "RFC 9113 6.10"
    ),
    "compression": FaultRule(
        ErrorCodes.COMPRESSION_ERROR, "a header block cannot be unpacked", "RFC 9113 4.3"
    ),
    "header-block-size": FaultRule(
        _CALM, "a header block is far larger than is ever served", "http.header_bytes"
    ),
    "header-block-time": FaultRule(
        _CALM, "a header block did not come in time", "http.header_timeout"
    ),
    "trailers": FaultRule(_PROTOCOL, "trailers that do not end the request", "RFC 9113 8.1"),
    # ------------------------------------------------ streams
    "stream-number": FaultRule(
        _PROTOCOL, "a stream's number is even, or below an earlier one", "RFC 9113 5.1.1"
    ),
    "stream-idle": FaultRule(_PROTOCOL, "a frame on a stream that is not open yet", "RFC 9113 5.1"),
    "stream-closed": FaultRule(
        _CLOSED, "a frame on a stream that the client has closed", "RFC 9113 5.1"
    ),
    "stream-refused": FaultRule(
        ErrorCodes.REFUSED_STREAM, "more streams at once than allowed", "http.http2_streams"
    ),
    "stream-late": FaultRule(
        ErrorCodes.REFUSED_STREAM, "the gateway is shutting down", "RFC 9113 6.8"
    ),
    "dependency": FaultRule(_PROTOCOL, "a stream depends on itself", "RFC 7540 5.3.1"),
    # ------------------------------------------------ settings and windows
    "settings": FaultRule(_PROTOCOL, "a setting has a value that it cannot have", "RFC 9113 6.5.2"),
    "settings-window": FaultRule(
        _FLOW, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1", "RFC 9113 6.5.2"
    ),
    "settings-count": FaultRule(_CALM, "a SETTINGS frame of over 32 settings", "RFC 9113 10.5"),
    "window-increment": FaultRule(_PROTOCOL, "a window is opened by nothing", "RFC 9113 6.9"),
    "window-overflow": FaultRule(_FLOW, "a window is opened beyond 2^31-1", "RFC 9113 6.9.1"),
    "window-exceeded": FaultRule(_FLOW, "more content than the window allows", "RFC 9113 6.9"),
    # ------------------------------------------------ too much
    "control-frames": FaultRule(
        _CALM, "too many frames that carry nothing", "http.http2_control_frames"
    ),
    "protocol": FaultRule(_PROTOCOL, "the protocol is broken", "RFC 9113 5.4.1"),
}
"""Every fault by its id."""


class Fault(RemoteProtocolError):  # noqa: N818 - whose fault it is that a connection ends
    """The connection ends with GOAWAY. ``id`` is a key of `FAULTS`."""

    def __init__(self, id: str) -> None:  # noqa: A002 - what it is called everywhere else
        rule = FAULTS[id]
        super().__init__(f"{rule.sentence} ({id})")
        self.id = id
        self.code = rule.code
