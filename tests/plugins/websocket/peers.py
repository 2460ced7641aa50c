"""What the tests of the websocket plugin stand on: heads, frames of a client, fakes."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from gateway.core.deadlines import Deadline
from gateway.core.metrics import Drop
from gateway.core.plugin import Action, Close, Peer, Timer
from gateway.core.web import Exchange, Head
from gateway.core.websockets.frames import Event
from gateway.core.websockets.handshake import Accept
from gateway.plugins.websocket.config import WebsocketConfig
from gateway.plugins.websocket.deflate import Agreed
from gateway.plugins.websocket.door import Door
from gateway.plugins.websocket.translate import WebsocketSession
from gateway.plugins.websocket.transport import WebsocketWire

KEY = base64.b64encode(b"sixteen bytes, y")
HANDSHAKE = [
    (b"host", b"example.org"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]


def head(
    headers: Iterable[tuple[bytes, bytes]] = HANDSHAKE,
    *,
    method: str = "GET",
    path: str = "/chat",
    version: str = "1.1",
    scheme: str = "http",
) -> Head:
    """Return a request head."""
    found = Head()
    found.method = method
    found.target = found.raw_path = path.encode()
    found.path = path
    found.query_string = b""
    found.headers = list(headers)
    found.http_version = version
    found.scheme = scheme
    found.identity = None
    found.root_path = ""
    found.protocol = ""
    found.client = ("127.0.0.1", 5000)
    found.server = ("127.0.0.1", 80)
    return found


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bytes = b"\x0a\xf1\x7c\x33",
    rsv: int = 0,
) -> bytes:
    """Return a client's frame (RFC 6455 section 5.2)."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        start = bytes((first, 0x80 | size))
    elif size < 65536:
        start = struct.pack("!BBH", first, 0xFE, size)
    else:
        start = struct.pack("!BBQ", first, 0xFF, size)
    return start + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))


def deflated(payload: bytes, window: int = 15) -> bytes:
    """Return what zlib makes of a message that stands alone (RFC 7692 section 7.2.1)."""
    codec = zlib.compressobj(wbits=-window)
    return (codec.compress(payload) + codec.flush(zlib.Z_SYNC_FLUSH))[:-4]


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return (opcode, payload) of what a server sent; asserts what RFC 6455 asks of it."""
    found = []
    pos = 0
    while pos < len(data):
        first, size = data[pos], data[pos + 1]
        assert first & 0xF0 == 0x80, "final, no reserved bit"
        assert size < 128, "a server masks nothing"
        pos += 2
        if size == 126:
            (size,) = struct.unpack_from("!H", data, pos)
            pos += 2
            assert size > 125, "the minimal form"
        elif size == 127:
            (size,) = struct.unpack_from("!Q", data, pos)
            pos += 8
            assert size > 65535, "the minimal form"
        assert pos + size <= len(data), "whole"
        found.append((first & 15, data[pos : pos + size]))
        pos += size
    return found


class Talk:
    """A session, what it asked for, and what it counted."""

    def __init__(
        self,
        *,
        subprotocols: list[str] | None = None,
        kind: type[WebsocketSession] = WebsocketSession,
        query: bytes = b"",
        more: tuple[Any, ...] = (),
        **settings: Any,
    ) -> None:
        self.drops: list[Drop] = []
        asked = head()
        asked.query_string = query
        self.session = kind(
            WebsocketConfig(**settings), asked, subprotocols or [], self.drops.append, *more
        )
        self.opened = list(self.session.opened(Peer()))

    def open(self) -> Talk:
        """Accept the connection."""
        list(self.session.send(None, {"accept": True}, None))
        return self

    def send(self, **reply: Any) -> list[Action]:
        """Reply; return the actions, timers left out."""
        return without_timers(self.session.send(None, reply, None))


def without_timers(actions: Iterable[Action]) -> list[Action]:
    """Return actions that are no timers."""
    return [action for action in actions if not isinstance(action, Timer)]


class FakeTransport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol: Any = None
        self.closing = self.shut = self.aborted = self.paused = False
        self.halves = True

    def write(self, data: bytes) -> None:
        assert not self.closing
        assert not self.shut
        self.written.append(data)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return not self.paused

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return self.halves

    def write_eof(self) -> None:
        self.shut = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


class Line:
    """An accepted `WebsocketWire` between a fake transport and a session of its own."""

    def __init__(
        self, unread: bytes = b"", *, agreed: Agreed | None = None, **settings: Any
    ) -> None:
        talk = Talk(**settings).open()
        self.session = talk.session
        self.soon: list[tuple[Any, ...]] = []
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.lost_times = 0
        self.now = 0.0
        self.transport = FakeTransport()
        config = WebsocketConfig(**settings)
        door: Any = SimpleNamespace(
            config=config,
            loop=SimpleNamespace(
                call_soon=lambda *call: self.soon.append(call), time=lambda: self.now
            ),
            deadlines=SimpleNamespace(set=self._set, forget=lambda _: None),
            longest=min(config.max_frame, config.max_message, 65535),
            burst=config.message_burst,
            pending=0,
            drop=lambda cause, n=1: talk.drops.append(cause),
            fault=lambda: None,
            recording=False,
            inflater=lambda agreed: Door.inflater(door, agreed),
        )
        self.drops = talk.drops
        exchange = FakeExchange(head(), self.transport, unread)
        self.wire = WebsocketWire(door, exchange, KEY, agreed)
        connection: Any = self
        self.wire.begin(connection, self.session)
        self.wire.write(Accept())
        self.written = self.transport.written
        assert exchange.upgraded
        assert b"Sec-WebSocket-Accept" in exchange.headers
        if not unread:
            self.turn()

    def _set(self, deadline: Deadline, seconds: float) -> None:
        self.deadline = (deadline, seconds)

    def turn(self) -> None:
        """Run what was put off."""
        while self.soon:
            function, *args = self.soon.pop(0)
            function(*args)

    def feed(self, *pieces: bytes) -> list[Event]:
        """Let bytes arrive; return all events so far."""
        for piece in pieces:
            if not self.transport.closing:
                self.wire.data_received(piece)
        return self.events

    def received(self, events: list[Event]) -> None:
        """Take events, as the core's connection does."""
        self.events += events
        self.batches.append(len(events))
        for action in self.session.received(events):
            if isinstance(action, Close):
                self.wire.close(action.data, abort=action.abort)

    def eof(self) -> None:
        """Hear of the end of the peer's bytes."""
        for action in self.session.eof():
            assert isinstance(action, Close)
            self.wire.close(action.data, abort=action.abort)

    def lost(self) -> None:
        """Hear of the end."""
        self.lost_times += 1


class FakeExchange(Exchange):
    """A request that keeps what it is answered."""

    def __init__(self, head_: Head, transport: Any = None, unread: bytes = b"") -> None:
        self.head = head_
        self.paused = False
        self.transport = transport
        self.unread = unread
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.content = b""
        self.ended = self.aborted = self.upgraded = False
        self.gone: Any = None
        self.released = 0

    @property
    def release(self) -> Any:
        return self._release

    def _release(self) -> None:
        self.released += 1

    def body(self) -> Any:
        raise NotImplementedError

    def respond(self, status: int, headers: Any = ()) -> None:
        assert not self.status
        self.status = status
        self.headers = dict(headers)

    def write(self, data: bytes) -> None:
        self.content += data

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    def on_gone(self, callback: Any) -> None:
        self.gone = callback

    def on_writable(self, callback: Any) -> None:
        raise NotImplementedError

    def decline(self) -> None:
        raise NotImplementedError

    def upgrade(self, protocol: bytes, headers: Any = ()) -> Any:
        assert protocol == b"websocket"
        assert not self.upgraded
        self.upgraded = True
        self.headers = dict(headers)
        return self.transport, self.unread
