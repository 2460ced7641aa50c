"""`Tunnel`: a stream of HTTP/2 as the transport of another protocol (RFC 8441)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from gateway.plugins.http.http2.response import Part

if TYPE_CHECKING:
    from gateway.plugins.http.http2.connection import Http2Protocol
    from gateway.plugins.http.http2.stream import Http2Stream


class Tunnel(asyncio.Transport):
    """What a claim gets when it takes a stream over: DATA frames as a stream of bytes.

    The end of a half is END_STREAM, an aborted connection RST_STREAM (RFC 8441 section 5).
    """

    def __init__(self, stream: Http2Stream, http2: Http2Protocol, *, ended: bool) -> None:
        super().__init__()
        self._stream: Http2Stream | None = stream
        self._http2 = http2
        self._protocol: asyncio.Protocol | None = None
        self._paused = False
        self._unread = b""
        self._ended = ended
        """Whether the client's half is closed, and its protocol was not told yet."""
        self._half_closed = False
        self._closing = False

    # ------------------------------------------------ what asyncio's transports offer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection's transport says."""
        return self._http2.transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to ``protocol`` from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)
        if self._stream is None:
            self._http2.loop.call_soon(self._say_lost, None)
        self._hand_on_soon()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who gets what comes."""
        if self._protocol is None:
            raise RuntimeError("nobody has taken the stream over yet")
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether it is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether what comes is handed on."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Hand on nothing for now; the client's window closes."""
        self._paused = True
        if self._stream is not None:
            self._stream.pause()

    def resume_reading(self) -> None:
        """Hand on what came meanwhile, and what comes."""
        if self._paused:
            self._paused = False
            if self._stream is not None:
                self._stream.resume()
            self._hand_on_soon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as far as the client's window allows; the rest waits."""
        if self._half_closed and not self._closing:
            raise RuntimeError("Cannot call write() after write_eof()")  # as asyncio's do
        if data and self._stream is not None and not self._closing:
            self._stream.send(Part(None, bytes(data), end=False))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return 0 if self._stream is None else len(self._stream.waiting)

    def can_write_eof(self) -> bool:
        """Return True: a stream is closed by halves."""
        return True

    def write_eof(self) -> None:
        """Close our half, behind what waits."""
        if not self._half_closed and self._stream is not None:
            self._half_closed = True
            self._stream.send(Part(None, b"", end=True))

    def close(self) -> None:
        """Close both halves once what waits is sent."""
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        self._unread = b""
        if self._stream is not None:
            self._stream.end_tunnel()

    def abort(self) -> None:
        """Reset the stream."""
        self._closing = True
        if self._stream is not None:
            self._stream.abort()

    # ------------------------------------------------ what the stream says

    def received(self, data: bytes, *, ended: bool) -> None:
        """Take content of the stream, and whether it is the last."""
        if self._closing:
            return
        self._ended = self._ended or ended
        self._unread += data
        self._hand_on()

    def writable(self, yes: bool) -> None:
        """Hear whether the client takes more."""
        if self._protocol is not None:
            (self._protocol.resume_writing if yes else self._protocol.pause_writing)()

    def over(self, error: Exception | None) -> None:
        """Hear that nothing more comes or goes."""
        self._closing = True
        self._unread = b""
        if self._protocol is not None:
            self._http2.loop.call_soon(self._say_lost, error)
        self._stream = None

    def _say_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def _hand_on_soon(self) -> None:
        if self._unread or self._ended:
            self._http2.loop.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        protocol = self._protocol
        if self._paused or protocol is None or self._closing:
            return
        data, self._unread = self._unread, b""
        if data:
            protocol.data_received(data)
        if self._ended and not (self._paused or self._unread or self._closing):
            self._ended = False
            if not protocol.eof_received():
                self.close()
