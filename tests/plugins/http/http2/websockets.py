"""WebSockets over HTTP/2 (RFC 8441): one connection of h2's, many raw WebSockets on it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.plugins.http.http2.wire import CANCEL, GOAWAY, cut, request
from tests.plugins.websocket.serving import Raw

_LAX = H2Configuration(
    client_side=True,
    header_encoding=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class Line:
    """One connection, which reads by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(_LAX)
        self.streams: dict[int, Raw2] = {}
        self.goaway: int | None = None
        self.greeted = asyncio.Event()
        self.closed = asyncio.Event()
        self._rest = b""

    @classmethod
    async def begin(cls, port: int, window: int = 65535, whole: int = 65535) -> Self:
        """Connect; ``window`` and ``whole`` are what a stream, and all, may be sent ahead."""
        line = cls(*await asyncio.open_connection("127.0.0.1", port))
        line.h2.local_settings = line.h2.local_settings.__class__(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        line.h2.initiate_connection()
        if whole > 65535:
            line.h2.increment_flow_control_window(whole - 65535)
        line.flush()
        line.task = asyncio.get_running_loop().create_task(line._run())
        async with asyncio.timeout(5):
            await line.greeted.wait()
        assert line.h2.remote_settings.enable_connect_protocol == 1
        return line

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def _run(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                frames, self._rest = cut(self._rest + data)
                for frame in frames:
                    if frame.kind == GOAWAY:
                        self.goaway = frame.code
                        continue
                    for event in self.h2.receive_data(frame.bytes):
                        self._note(event)
                self.flush()
        for stream in self.streams.values():
            stream.over.set()
            stream.reader.feed_eof()
        self.closed.set()

    def _note(self, event: Any) -> None:
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, RemoteSettingsChanged):
            self.greeted.set()
        elif isinstance(event, WindowUpdated):
            for found in list(self.streams.values()):
                found.push()
        elif stream is None:
            return
        elif isinstance(event, ResponseReceived):
            stream.fields = {n.decode(): v.decode() for n, v in event.headers}
            stream.answered.set()
        elif isinstance(event, DataReceived):
            stream.take(event.data, event.flow_controlled_length)
        elif isinstance(event, StreamEnded):
            stream.over.set()
            stream.reader.feed_eof()
        elif isinstance(event, StreamReset):
            stream.reset = int(event.error_code)
            stream.answered.set()
            stream.over.set()
            stream.reader.feed_eof()

    def connect(
        self,
        path: str = "/chat",
        *headers: str,
        sent: bytes = b"",
        protocol: bytes = b"websocket",
        end: bool = False,
    ) -> Raw2:
        """Begin a WebSocket, or something else of RFC 8441."""
        fields = [(b"sec-websocket-version", b"13")]
        for header in headers:
            name, value = header.split(": ", 1)
            fields.append((name.lower().encode(), value.encode()))
        number = self.h2.get_next_available_stream_id()
        stream = self.streams[number] = Raw2(self, number)
        asked = request(path, *fields, method=b"CONNECT", protocol=protocol)
        self.h2.send_headers(number, asked, end_stream=end)
        self.flush()
        stream.write(sent)
        return stream

    async def leave(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
        await self.task


class Raw2(Raw):
    """A client that sends what it likes, on a stream; it is its own writer, and that's transport."""

    def __init__(self, line: Line, number: int) -> None:
        super().__init__(asyncio.StreamReader(limit=1 << 24), self)  # type: ignore[arg-type]
        self.line = line
        self.number = number
        self.transport = self
        self.fields: dict[str, str] = {}
        self.answered = asyncio.Event()
        self.over = asyncio.Event()
        """Whether the server sends nothing more."""
        self.reset: int | None = None
        self._waiting = b""
        self._ends = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._unread: int | None = None

    # ------------------------------------------------ as a writer and its transport

    def write(self, data: bytes) -> None:
        self._waiting += data
        self.push()

    def push(self) -> None:
        """Send what the windows allow."""
        h2 = self.line.h2
        with contextlib.suppress(ProtocolError):  # the stream is over
            while self._waiting:
                room = min(h2.local_flow_control_window(self.number), 16384)
                if room <= 0:
                    self._drained.clear()
                    self.line.flush()
                    return
                h2.send_data(self.number, self._waiting[:room])
                self._waiting = self._waiting[room:]
            if self._ends:
                self._ends = False
                h2.end_stream(self.number)
        self._drained.set()
        self.line.flush()

    async def drain(self) -> None:
        await self._drained.wait()

    def write_eof(self) -> None:
        self._ends = True
        self.push()

    def abort(self, code: int = CANCEL) -> None:
        with contextlib.suppress(ProtocolError):
            self.line.h2.reset_stream(self.number, code)
        self.line.flush()

    close = abort

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer but the window."""

    def pause_reading(self) -> None:
        self._unread = self._unread or 0

    def resume_reading(self) -> None:
        size, self._unread = self._unread, None
        if size:
            self._give(size)

    # ------------------------------------------------ as a reader

    def take(self, data: bytes, size: int) -> None:
        self.reader.feed_data(data)
        if self._unread is None:
            self._give(size)
        else:
            self._unread += size

    def _give(self, size: int) -> None:
        with contextlib.suppress(ProtocolError):
            self.line.h2.acknowledge_received_data(size, self.number)
        self.line.flush()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status (101 where it says 200: go on), headers and content of the response."""
        async with asyncio.timeout(5):
            await self.answered.wait()
            status = int(self.fields[":status"])
            content = b""
            if status != 200:
                content = await self.reader.read()
                assert len(content) == int(self.fields.get("content-length", "0"))
        return (101 if status == 200 else status), self.fields, content
