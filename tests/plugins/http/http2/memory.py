"""HTTP/2 without sockets, threads or a clock that runs: the protocol on stand-ins for the rest."""

from __future__ import annotations

from typing import Any

from hpack import Decoder

from gateway.core.layers.base import OK
from gateway.core.metrics import Metrics
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.http2.connection import Http2Protocol
from gateway.plugins.http.port import Port
from gateway.plugins.http.server import HttpPlugin
from gateway.plugins.http.transport import HttpProtocol
from gateway.testing.fakes import FakeEdge, ManualClock
from tests.plugins.http.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    Frame,
    cut,
)


class Transport:
    """Keeps what is written, and is as strict as asyncio's."""

    def __init__(self, clock: ManualClock, *, tls: bool = False) -> None:
        self.clock = clock
        self.protocol: Any = None
        self.written = bytearray()
        self.tls = tls
        self.reading = True
        self.ended = self.closing = self.lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50000)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert data
        assert not self.closing, "asyncio would warn, uvloop raise"
        assert not self.ended, "asyncio would raise"
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        assert not self.tls
        self.ended = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.clock.call_soon(self.lose)

    abort = close

    def lose(self) -> None:
        if not self.lost:
            self.lost = self.closing = True
            self.protocol.connection_lost(None)


class Room:
    """One port, its application, and connections to it."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()  # type: ignore[abstract] # what is not asked of a loop is left out
        self.edge = FakeEdge({"http.request", "http.disconnect"})
        self.metrics = Metrics()
        self.engine = self.edge.engine(self.clock, None, self.metrics)
        self.config = HttpConfig(**config)
        self.context = self.engine.context(HttpPlugin, self.config)
        self.port = Port(self.config, self.context)
        self.messages: list[tuple[str, dict[str, Any]]] = []
        """What the application heard."""

    def connect(self, *, tls: bool = False) -> Transport:
        """Return the transport of a new connection."""
        transport = Transport(self.clock, tls=tls)
        arrived = self.port.arrived(transport)  # type: ignore[arg-type]
        protocol = HttpProtocol(self.port, arrived._replace(alpn="h2" if tls else None))
        transport.protocol = protocol
        protocol.connection_made(transport)  # type: ignore[arg-type]
        return transport

    def feed(self, transport: Transport, data: bytes) -> None:
        """Let bytes come, and let the application answer what it gets."""
        if transport.reading and not transport.closing:
            transport.protocol.data_received(data)
        self.work()

    def work(self) -> None:
        """Let the application answer, and the loop turn, until nothing is left to do."""
        for _ in range(1000):
            self.clock.advance()
            posts = self.edge.take()
            if not posts:
                return
            for post in posts:
                for message in post.messages:
                    self.messages.append((post.channel, message))
                    if post.channel == "http.request" and message["path"] != "/silence":
                        content = message["body"] or message["path"].encode()
                        answer = {"status": 200, "headers": [], "content": content}
                        self.edge.reply(message["reply_channel"], answer)
                self.edge.settle(post, *[OK] * len(post.messages))
        raise AssertionError("it does not come to rest")

    @property
    def empty(self) -> bool:
        """Whether nothing is left of any connection."""
        return not (self.port.connections or self.engine.by_channel or self.engine.deadlines)


class Heard:
    """What a server wrote, read frame by frame."""

    def __init__(self, written: bytes) -> None:
        self.frames, self.rest = cut(bytes(written))
        self.fields: dict[int, list[list[tuple[bytes, bytes]]]] = {}
        self.content: dict[int, bytes] = {}
        self.ends: dict[int, Frame] = {}
        self.goaway: list[Frame] = []
        decoder = Decoder(1 << 20)
        block = b""
        for frame in self.frames:
            if frame.kind in {HEADERS, CONTINUATION}:
                block += frame.payload
                if frame.flags & END_HEADERS:
                    fields = [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)]
                    self.fields.setdefault(frame.stream, []).append(fields)
                    block = b""
            elif frame.kind == DATA:
                self.content[frame.stream] = self.content.get(frame.stream, b"") + frame.payload
            elif frame.kind == GOAWAY:
                self.goaway.append(frame)
            if frame.ends:
                self.ends[frame.stream] = frame

    def responses(self) -> dict[int, Any]:
        """Return what each stream got, but for the date."""
        return {
            stream: (
                [[field for field in fields if field[0] != b"date"] for fields in blocks],
                self.content.get(stream, b""),
                self.ends[stream].kind if stream in self.ends else None,
            )
            for stream, blocks in self.fields.items()
        }


def is_http2(transport: Transport) -> bool:
    """Return whether a connection has come to HTTP/2."""
    return isinstance(transport.protocol, Http2Protocol)
