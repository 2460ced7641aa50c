"""`Http2Protocol`: one HTTP/2 connection on asyncio, over the library h2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from gateway.core.deadlines import Deadline
from gateway.core.plugin import End, Peer
from gateway.core.web import Header
from gateway.plugins.http.http2.guard import Fault, Guard
from gateway.plugins.http.http2.head import check_trailers, glimpse, read_head
from gateway.plugins.http.http2.stream import Http2Stream
from gateway.plugins.http.phase import FOREVER, LINGER, Phase
from gateway.plugins.http.port import Port
from gateway.plugins.http.refusals import Refused

CONNECTION_WINDOW: Final = 1024 * 1024
"""Bytes that a client may send ahead on all its streams together; and bytes that may wait in
streams that are held before the others are held too."""
_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=False,
    # Ours to do: the library ends the connection, and its neighbours, for what costs a stream.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    # Ours are well-formed already.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Http2Protocol(asyncio.Protocol):
    """The connection: bytes and timers. Its requests are `Http2Stream` objects."""

    def __init__(
        self,
        port: Port,
        transport: asyncio.Transport,
        peer: Peer,
        release: Callable[[], None],
    ) -> None:
        config = port.config
        self._release = release
        """Gives back the place of the connection."""
        self.port = port
        self.peer = peer
        self.transport = transport
        self.loop = port.context.loop
        self.guard = Guard(config.http2_control_frames, 2 * config.header_bytes, self.loop.time())
        self.streams: dict[int, Http2Stream] = {}
        self._blocked: dict[Http2Stream, None] = {}
        """Streams with content that waits for the client's window or for the transport."""
        self._full = False
        self._phase = Phase.IDLE
        self._deadline = Deadline(self._due)
        self._busy = False
        """Whether a flush is to come: bytes are being taken, or it is scheduled."""
        self._last = 2 * config.max_requests - 1
        """The number of the stream with which the client has had its requests."""
        self._leaving = False
        """Whether the client was told that nothing more is begun."""
        self._owed = 0
        """Bytes of content taken for which the connection's window is not opened again."""
        self._retained = 0
        """Bytes of content that wait in streams."""
        self._h2 = h2 = H2Connection(_CONFIG)
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: config.http2_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: config.http2_window,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.header_bytes,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,  # RFC 8441 section 3
            },
        )
        # Beyond what is answered 431; a block that unfolds further ends the connection.
        h2.decoder.max_header_list_size = 2 * config.header_bytes
        h2.initiate_connection()
        h2.increment_flow_control_window(CONNECTION_WINDOW - 65535)

    def begin(self, data: bytes) -> None:
        """Take over the connection, whose first bytes are ``data``."""
        self.port.connections.add(self)
        self.transport.set_protocol(self)
        self._enter(Phase.IDLE, self.port.config.idle_timeout)
        if data:
            self.data_received(data)
        else:
            self._flush()

    # ------------------------------------------------ asyncio's calls

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._phase in {Phase.LINGER, Phase.OVER}:
            return
        self._busy = True
        try:
            events = self._h2.receive_data(self.guard.feed(data, self.loop.time()))
            self._take(events)
        except Fault as fault:
            self._refuse(fault.why, fault.reason)
            self._end(fault.code)
        except ProtocolError as error:
            self._refuse("http2-protocol", str(error))
            self._end(None)  # the library has written its GOAWAY
        except Exception:
            self.port.context.log.exception("an HTTP/2 connection failed")
            self._end(ErrorCodes.INTERNAL_ERROR)
        finally:
            self._busy = False
        self._flush()

    def eof_received(self) -> bool:
        """End: no half of an HTTP/2 connection is of use alone."""
        return False

    def pause_writing(self) -> None:
        """Hear that the client takes no more: nothing more is made for it, nor read of it."""
        self._full = True
        if self._phase not in {Phase.LINGER, Phase.OVER}:
            self._enter(Phase.WRITE, self.port.config.write_timeout)
            # What it sends wants answers (PING, SETTINGS) that would have to be kept.
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Hear that the client takes more again."""
        self._full = False
        if self._phase is Phase.WRITE:
            self._settle()
            self.transport.resume_reading()
            self._pump_blocked()
            self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._release()
        self._phase = Phase.OVER
        self._lose_streams()
        self.port.context.deadlines.forget(self._deadline)
        self.port.connections.discard(self)
        if not self.port.connections:
            self.port.emptied.set()

    # ------------------------------------------------ what the client says

    def _take(self, events: Sequence[Event]) -> None:
        streams = self.streams
        # Requests that are reset in the same breath are never begun.
        stillborn = {event.stream_id for event in events if isinstance(event, StreamReset)}
        moved = False
        for event in events:
            if isinstance(event, RequestReceived):
                if event.stream_id not in stillborn:
                    self._begin(event)
            elif isinstance(event, DataReceived):
                size = event.flow_controlled_length
                self._owed += size
                stream = streams.get(event.stream_id)
                if stream is not None:
                    self._retained += size
                    stream.received(event.data, size, ended=event.stream_ended is not None)
            elif isinstance(event, StreamReset):
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.lost()
            elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
                moved = True
            elif isinstance(event, TrailersReceived):
                self._take_trailers(event)
        if moved:
            self._pump_blocked()
        self._open_window()
        if self.guard.leaving:
            self._leaving = True
        self._settle()

    def _begin(self, event: RequestReceived) -> None:
        number = event.stream_id
        if self._leaving or self.port.draining:
            # RFC 9113 section 8.7: it was not worked on, and may be sent anew elsewhere.
            self.reset(number, ErrorCodes.REFUSED_STREAM)
            return
        stream = self.streams[number] = Http2Stream(self, number)
        ended = event.stream_ended is not None
        try:
            head = read_head(event.headers, self.port.config, self.peer, ended=ended)
        except Refused as refused:
            stream.refuse(refused, glimpse(event.headers))
            return
        stream.begin(head, ended=ended)
        if number >= self._last:
            self.drain()

    def _take_trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        try:
            check_trailers(event.headers)
        except Refused as refused:
            stream.refuse(refused, stream.request)
        else:
            stream.received(b"", 0, ended=True)

    def _refuse(self, why: str, reason: str) -> None:
        self.port.context.count("refused_total", why=why)
        self.port.context.log.debug("an HTTP/2 connection is ended: %s", reason)

    # ------------------------------------------------ what streams say

    def send_fields(self, number: int, fields: list[Header], *, end: bool) -> None:
        """Send header fields of a stream."""
        try:
            self._h2.send_headers(number, fields, end_stream=end)
        except ProtocolError:
            self._missing(number)
        self.flush_soon()

    def pump(self, stream: Http2Stream, most: int = 2**31) -> None:
        """Send what waits of a stream, as far as windows and transport allow, ``most`` bytes."""
        waiting = stream.waiting
        h2 = self._h2
        done = False
        sent = 0
        if not self._full:
            try:
                room = h2.local_flow_control_window(stream.id)
                while (waiting and sent < min(room, most)) or (stream.ended and not waiting):
                    size = min(len(waiting), room - sent, h2.max_outbound_frame_size)
                    done = stream.ended and size == len(waiting)
                    with memoryview(waiting) as view:
                        piece = bytes(view[:size])
                    h2.send_data(stream.id, piece, end_stream=done)
                    del waiting[:size]
                    sent += size
                    self.guard.earn(1)  # a frame of content may be answered with WINDOW_UPDATEs
                    if done:
                        break
            except ProtocolError:
                self._missing(stream.id)
                return
            self.flush_soon()
        if waiting:
            if stream not in self._blocked:
                self._blocked[stream] = None
                stream.stuck()
        else:
            self._blocked.pop(stream, None)
        if sent or done:
            stream.moved(sent, done=done)

    def _pump_blocked(self) -> None:
        """Send what waits, a frame of each stream in turn."""
        moved = True
        while moved and self._blocked and not self._full:
            moved = False
            for stream in list(self._blocked):
                before = len(stream.waiting)
                self.pump(stream, self._h2.max_outbound_frame_size)
                moved = moved or len(stream.waiting) != before

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Reset a stream."""
        try:
            self._h2.reset_stream(number, code)
        except ProtocolError:
            return  # it is closed already, by the client's own reset
        self.flush_soon()

    def give_window(self, stream: Http2Stream, size: int, *, open_stream: bool) -> None:
        """Hear that content was worked on: let the client send as much again."""
        self._retained -= size
        if open_stream:
            stream.owed += size
            if stream.owed >= self.port.config.http2_window // 2:
                owed, stream.owed = stream.owed, 0
                try:
                    self._h2.increment_flow_control_window(owed, stream.id)
                except ProtocolError:
                    return
                self.flush_soon()
        if not self._busy:
            self._open_window()

    def _open_window(self) -> None:
        """Open the connection's window, unless too much waits in streams that are held."""
        if self._owed >= CONNECTION_WINDOW // 2 and self._retained <= CONNECTION_WINDOW:
            owed, self._owed = self._owed, 0
            self._h2.increment_flow_control_window(owed)
            self.flush_soon()

    def forget(self, stream: Http2Stream) -> None:
        """Forget a stream that is over."""
        self._blocked.pop(stream, None)
        if self.streams.pop(stream.id, None) is not None and not self._busy:
            self._settle()

    def _missing(self, number: int) -> None:
        """Hear of a stream that the library knows to be closed: the client has reset it."""
        stream = self.streams.get(number)
        if stream is not None:
            self.loop.call_soon(stream.lost)

    # ------------------------------------------------ the end

    def drain(self) -> None:
        """Tell the client that nothing more is begun; close once what was begun is over."""
        if not self._leaving and self._phase not in {Phase.LINGER, Phase.OVER}:
            self._leaving = True
            self._write_goaway(ErrorCodes.NO_ERROR)
        if not self._busy:
            self._settle()

    def abort(self) -> None:
        """Close at once."""
        self._phase = Phase.OVER
        self.transport.abort()

    def _settle(self) -> None:
        """Enter the phase that fits what is going on now; close if nothing is, nor will be."""
        if self._phase in {Phase.LINGER, Phase.OVER}:
            return
        if not self.streams and self._leaving:
            self._end(ErrorCodes.NO_ERROR)
        elif self._full:
            pass
        elif self.guard.in_block:
            if self._phase is not Phase.HEAD:
                self._enter(Phase.HEAD, self.port.config.header_timeout)
        elif self.streams:
            self._enter(Phase.STREAM)
        elif self._phase is not Phase.IDLE:
            self._enter(Phase.IDLE, self.port.config.idle_timeout)

    def _end(self, code: ErrorCodes | None) -> None:
        """Say GOAWAY (not if ``code`` is None: it is written), and close so that it arrives."""
        transport = self.transport
        self._flush()
        if code is not None and not (self._leaving and code is ErrorCodes.NO_ERROR):
            self._write_goaway(code)
        self._enter(Phase.LINGER, LINGER)
        self._lose_streams("cut")
        if transport.is_closing():
            return
        if self._full:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _write_goaway(self, code: ErrorCodes) -> None:
        # By hand: after its own GOAWAY the library refuses to send what was begun.
        frame = GoAwayFrame(
            0, last_stream_id=self._h2.highest_inbound_stream_id, error_code=int(code)
        )
        self._flush()
        if not self.transport.is_closing():
            self.transport.write(frame.serialize())

    def _lose_streams(self, end: End = "client") -> None:
        for stream in list(self.streams.values()):
            stream.lost(None, end)

    # ------------------------------------------------ writing and time

    def flush_soon(self) -> None:
        """Write what there is at the end of this turn, all together."""
        if not self._busy:
            self._busy = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._busy = False
        self._open_window()
        self._settle()
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _enter(self, phase: Phase, seconds: float = FOREVER) -> None:
        self._phase = phase
        if seconds == FOREVER:
            self.port.context.deadlines.clear(self._deadline)
        else:
            self.port.context.deadlines.set(self._deadline, seconds)

    def _due(self) -> None:
        phase = self._phase
        if phase is Phase.LINGER:
            self.abort()
            return
        self.port.count_timeout(phase)
        if phase is Phase.WRITE:
            self._lose_streams("cut")
            self.abort()
        elif phase is Phase.HEAD:
            self._refuse("header-timeout", "a header block did not come in time")
            self._end(ErrorCodes.ENHANCE_YOUR_CALM)
        elif phase is Phase.IDLE:
            self._end(ErrorCodes.NO_ERROR)
