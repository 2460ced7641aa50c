"""`Http2Protocol`: one HTTP/2 connection on asyncio, over the library h2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

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
from hyperframe.frame import RstStreamFrame, WindowUpdateFrame

from gateway.core.deadlines import Deadline
from gateway.core.plugin import End, Peer
from gateway.core.web import Header
from gateway.plugins.http.http2.faults import FAULTS, Fault
from gateway.plugins.http.http2.frames import HEAD, goaway
from gateway.plugins.http.http2.guard import Act, Guard
from gateway.plugins.http.http2.head import glimpse, read_head
from gateway.plugins.http.http2.library import Library
from gateway.plugins.http.http2.outflow import TURN, Outflow
from gateway.plugins.http.http2.stream import Http2Stream
from gateway.plugins.http.phase import FOREVER, LINGER, Phase
from gateway.plugins.http.port import Port
from gateway.plugins.http.refusals import Refused

_DEAD: Final = frozenset((Phase.LINGER, Phase.OVER))


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
        self.streams: dict[int, Http2Stream] = {}
        self.guard = Guard(
            config.http2_control_frames,
            2 * config.header_bytes,
            config.http2_streams,
            self.loop.time(),
        )
        self._h2 = Library(config)
        self.guard.window = self._h2.window
        self.outflow = Outflow(self._h2, self.guard)
        self._phase = Phase.IDLE
        self._deadline = Deadline(self._due)
        self._busy = False
        """Whether a flush is to come: bytes are being taken, or it is scheduled."""
        self._left = config.max_requests
        """How many requests the client may still make."""
        self._goodbye = False
        """Whether the client was told that nothing more is begun."""
        self._owed = 0
        """Bytes of content taken for which the connection's window is not opened again."""
        self._spent = 0
        """Such bytes that the library knows nothing of."""
        self._refund = False
        """Whether that is to be opened again now, however little it is."""
        self._retained = 0
        """Bytes of content that wait in streams."""
        self._extra = b""
        """Frames to send that the library knows nothing of."""
        port.connections.add(self)

    def begin(self, data: bytes) -> None:
        """Take over the connection, whose first bytes are ``data``."""
        self.transport.set_protocol(self)
        self._enter(Phase.IDLE, self.port.config.idle_timeout)
        if self.port.draining:
            self.drain()
        self.data_received(data)

    # ------------------------------------------------ asyncio's calls

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._phase in _DEAD:
            return
        self._busy = True
        try:
            self._read(data)
        except Fault as fault:
            self._fall(fault)
        except Exception:
            self.port.context.log.exception("an HTTP/2 connection failed")
            self._end(ErrorCodes.INTERNAL_ERROR)
        finally:
            self._busy = False
        if self._phase not in _DEAD:
            self._turn()

    def eof_received(self) -> bool:
        """End: no half of an HTTP/2 connection is of use alone."""
        return False

    def pause_writing(self) -> None:
        """Hear that the client takes no more: nothing more is made for it, nor read of it."""
        self.outflow.full = True
        if self._phase not in _DEAD:
            self._enter(Phase.WRITE, self.port.config.write_timeout)
            if not self.transport.is_closing():
                # What it sends wants answers, which would have to be kept.
                self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Hear that the client takes more again."""
        self.outflow.full = False
        self.outflow.opened = True
        if self._phase is Phase.LINGER:
            self._enter(Phase.LINGER, LINGER)
        elif self._phase is Phase.WRITE:
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; let go of what points back at us too, so that no cycle is left."""
        self._release()
        self._phase = Phase.OVER
        self._lose_streams()
        self.port.context.deadlines.forget(self._deadline)
        del self._deadline
        self._h2.dissolve()
        self.port.connections.discard(self)
        if not self.port.connections:
            self.port.emptied.set()

    # ------------------------------------------------ what the client says

    def _read(self, data: bytes) -> None:
        h2 = self._h2
        for act, number, frame, fault in self.guard.feed(data, self.loop.time()):
            if act is Act.TAKE:
                self._take(h2.read(frame))
            elif act is Act.UNPACK:
                h2.unpacker.unpack(frame)
            elif act is Act.SPEND:
                self._spent += len(frame) - HEAD
            if fault:
                self._fail(number, fault)
            if self._phase in _DEAD:
                return
        if self.guard.partial_data:
            stream = self.streams.get(self.guard.partial_data)
            if stream is not None:
                stream.coming(self.guard.partial_bytes)

    def _take(self, events: Sequence[Event]) -> None:
        streams = self.streams
        for event in events:
            if isinstance(event, RequestReceived):
                self._begin(event)
            elif isinstance(event, DataReceived):
                size = event.flow_controlled_length
                self._owed += size
                self._retained += size
                streams[event.stream_id].received(
                    event.data, size, ended=event.stream_ended is not None
                )
            elif isinstance(event, StreamReset):
                self._reset_received(event)
            elif isinstance(event, TrailersReceived):
                streams[event.stream_id].take_trailers(self._h2.fields)
            elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
                self.outflow.opened = True

    def _begin(self, event: RequestReceived) -> None:
        number = event.stream_id
        ended = event.stream_ended is not None
        stream = self.streams[number] = Http2Stream(self, number, ended=ended)
        try:
            head = read_head(self._h2.fields, self.port.config, self.peer, ended=ended)
        except Refused as refused:
            stream.refuse(refused, glimpse(self._h2.fields))
            return
        stream.begin(head)
        self._left -= 1
        if not self._left:
            self.drain()

    def _reset_received(self, event: StreamReset) -> None:
        stream = self.streams[event.stream_id]
        if not event.remote_reset:  # the library found its window opened beyond all bounds
            self._count(self.guard.blame(stream.id, "window-overflow"))
        stream.lost()

    # ------------------------------------------------ faults

    def _fail(self, number: int, fault: str) -> None:
        """End a stream for a fault."""
        self._count(fault)
        code = FAULTS[fault].code
        stream = self.streams.get(number)
        if stream is not None:
            stream.abort(code)
        else:
            self._extra += RstStreamFrame(number, int(code)).serialize()

    def _fall(self, fault: Fault) -> None:
        """End the connection for a fault."""
        self._count(fault.id)
        self.port.context.log.debug("an HTTP/2 connection is ended: %s", fault)
        self._end(fault.code, str(fault))

    def _count(self, fault: str) -> None:
        self.port.context.count("faults_total", why=fault)

    # ------------------------------------------------ what streams say

    def send_fields(self, number: int, fields: list[Header], *, end: bool) -> None:
        """Send header fields of a stream."""
        self._h2.send_headers(number, fields, end_stream=end)
        self.flush_soon()

    def push(self, stream: Http2Stream) -> None:
        """Send what waits of a stream, as far as windows and transport allow."""
        self.outflow.push(stream)
        self.flush_soon()

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Reset a stream."""
        if self._phase is not Phase.OVER:
            self._h2.reset_stream(number, code)
            self.flush_soon()

    def worked_on(self, size: int) -> None:
        """Hear that content was worked on, or is not wanted any more."""
        self._retained -= size
        if self._owed >= self._h2.window // 2:
            self.flush_soon()

    def refund(self) -> None:
        """Open the connection's window again for all that was worked on, however little.

        curl up to 8.0 notices the end of a stream that it ends itself, behind an answer without
        content, when the next frame comes, whichever that is.
        """
        self._refund = True
        self.flush_soon()

    def open_window(self, number: int, size: int) -> None:
        """Let the client send so much more on a stream."""
        self._h2.increment_flow_control_window(size, number)
        self.flush_soon()

    def forget(self, stream: Http2Stream) -> None:
        """Forget a stream that is over."""
        self.outflow.forget(stream)
        self.guard.close(stream.id)
        self._h2.forget(stream.id)
        del self.streams[stream.id]
        if not self.streams:
            self.flush_soon()

    # ------------------------------------------------ the end

    def drain(self) -> None:
        """Tell the client that nothing more is begun; close once what was begun is over."""
        if self._phase not in _DEAD:
            self.guard.draining = True
            self._say_goodbye(ErrorCodes.NO_ERROR, "")
            self.flush_soon()

    def abort(self) -> None:
        """Close at once."""
        self._phase = Phase.OVER
        self.transport.abort()

    def _end(self, code: ErrorCodes, text: str = "") -> None:
        """Say GOAWAY, and close so that it arrives."""
        transport = self.transport
        self._say_goodbye(code, text)
        plain = transport.can_write_eof()
        # A transport with TLS does not count all that waits in it.
        late = transport.get_write_buffer_size() if plain else self._phase is not Phase.IDLE
        self._enter(Phase.LINGER, self.port.config.write_timeout if late else LINGER)
        self._lose_streams("cut")
        if transport.is_closing():
            return
        if self.outflow.full:
            transport.resume_reading()
        if plain:
            transport.write_eof()
        else:
            transport.close()  # TLS closes by halves of its own accord

    def _say_goodbye(self, code: ErrorCodes, text: str) -> None:
        # By hand: after a GOAWAY of its own the library refuses to send what was begun.
        if not self._goodbye or code is not ErrorCodes.NO_ERROR:
            self._goodbye = True
            self._extra += goaway(self.guard.highest, code, text)
        self._flush()

    def _lose_streams(self, end: End = "client") -> None:
        for stream in list(self.streams.values()):
            stream.lost(end=end)

    # ------------------------------------------------ writing and time

    def flush_soon(self) -> None:
        """Write what there is at the end of this turn, all together."""
        if not self._busy and self._phase not in _DEAD:
            self._busy = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._busy = False
        if self._phase not in _DEAD:
            self._turn()

    def _turn(self) -> None:
        """Send what there is to send, and see what is to come next."""
        self.outflow.go()
        owed = self._owed + self._spent
        # Unless too much waits in streams that are held.
        enough = owed >= self._h2.window // 2 or (owed and self._refund)
        if enough and self._retained <= self._h2.window:
            self._open_connection(owed)
        self._settle()
        self._flush()
        if self.outflow.opened:
            self.flush_soon()

    def _open_connection(self, owed: int) -> None:
        """Open the connection's window."""
        if self._owed:
            self._h2.increment_flow_control_window(self._owed)
        if self._spent:
            self._extra += WindowUpdateFrame(0, self._spent).serialize()
        self.guard.window += owed
        self._owed = self._spent = 0
        self._refund = False

    def _flush(self) -> None:
        data = self._h2.output() + self._extra
        self._extra = b""
        self.outflow.left = TURN
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _settle(self) -> None:
        """Enter the phase that fits what is going on now; close if nothing is, nor will be."""
        if self.outflow.full:
            return
        if self.guard.in_head:
            if self._phase is not Phase.HEAD:
                self._enter(Phase.HEAD, self.port.config.header_timeout)
        elif self.streams:
            if self._phase is not Phase.STREAM:
                self._enter(Phase.STREAM)
        elif self.guard.draining or self.guard.leaving:
            self._end(ErrorCodes.NO_ERROR)
        elif self._phase is not Phase.IDLE:
            self._enter(Phase.IDLE, self.port.config.idle_timeout)

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
            self._fall(Fault("header-block-time"))
        elif phase is Phase.IDLE:
            self._end(ErrorCodes.NO_ERROR)
