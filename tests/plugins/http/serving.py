"""The http plugin, really started: loop on a thread, engine, memory layer, consumer threads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import h11
import uvloop

from gateway import open_layer
from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers.base import FAILED, OK, Layer, Outcome, send
from gateway.core.listen import parse
from gateway.core.metrics import Metrics
from gateway.core.tls import Tls
from gateway.core.web import Claim
from gateway.plugins.http import HttpPlugin
from gateway.plugins.http.config import HttpConfig

_numbers = itertools.count()

Consumer = Callable[[dict[str, Any]], Any]
"""Takes a message; returns replies to send with its outcome, an Outcome, or None."""


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Return what ``condition`` returns once that is true; AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)


class Served:
    """One http plugin at a port of its own, and the consumers behind it."""

    def __init__(
        self,
        consumers: dict[str, Consumer],
        *,
        config: HttpConfig | None = None,
        claims: Iterable[Claim] = (),
        listen: str | Sequence[str] = "127.0.0.1:0",
        tls: Tls | None = None,
        threads: int = 4,
        gateway: GatewaySettings | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
        access: AccessLog | None = None,
        **layer_options: Any,
    ) -> None:
        self.config = config or HttpConfig()
        # Two layers of one name: the gateway and its worker are two processes to the layer.
        url = f"memory://{next(_numbers)}-http-tests"
        self._edge_layer: Layer = open_layer(url, **layer_options)
        self.layer: Layer = open_layer(url, **layer_options)
        """The worker's."""
        self.metrics = Metrics()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """Every message that a consumer took, with its channel."""
        self._consumers = consumers
        self._claims = list(claims)
        self._listen = [parse(text) for text in ([listen] if isinstance(listen, str) else listen)]
        self.tls = tls
        self._gateway = gateway or GatewaySettings()
        self._threads = threads
        self._access = access
        self._loop_factory = loop_factory
        self._running: list[threading.Thread] = []
        self._started = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        if self._consumers:
            self.layer.announce(self._consumers)
        self._intake = self.layer.intake(list(self._consumers) or ["nothing"], credit=32)
        for _ in range(self._threads if self._consumers else 0):
            self._begin(self._consume)
        self._begin(self._serve)
        assert self._started.wait(5)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop.set)
        self._intake.close()
        for thread in self._running:
            thread.join(5)
            assert not thread.is_alive(), "a thread did not end"
        self.layer.close()
        self._edge_layer.close()

    def _begin(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self._running.append(thread)
        thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            try:
                runner.run(self._main())
            except BaseException as error:  # told by __enter__
                self._failure = error
                self._started.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.engine = Engine(
            self._edge_layer, self._gateway, self.metrics, self.loop, access=self._access
        )
        self.context = self.engine.context(
            HttpPlugin, self.config, listeners=self._listen, claims=self._claims, tls=self.tls
        )
        self.plugin = HttpPlugin(self.config, self.context)
        await self.plugin.start()
        plain = iter(self.plugin._servers)
        arriving = iter(self.plugin._acceptors)
        self.addresses = [
            (
                next(arriving).socket
                if endpoint.tls or self.config.proxy_protocol
                else next(plain).sockets[0]
            ).getsockname()
            for endpoint in self._listen
        ]
        """Where it listens, in the order of ``listen``."""
        self.address = self.addresses[0] if self.addresses else None
        # One turn for the layer to say what is announced.
        await asyncio.sleep(0.02)
        self._started.set()
        await self._stop.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await self.plugin.stop()

    def _consume(self) -> None:
        while (delivery := self._intake.take()) is not None:
            for message in delivery.messages:
                self.seen.append((delivery.channel, message))
                try:
                    result = self._consumers[delivery.channel](message)
                except Exception as error:
                    outcome, sends = Outcome(FAILED, cause=type(error).__name__), []
                else:
                    if isinstance(result, Outcome):
                        outcome, sends = result, []
                    else:
                        outcome = OK
                        sends = [send(message["reply_channel"], reply) for reply in result or ()]
                self.layer.settle(delivery, [outcome], sends)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the loop and return what it returns."""

        async def run() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(5)

    def stop(self) -> Any:
        """Begin to stop the plugin; return a future."""
        return asyncio.run_coroutine_threadsafe(self.plugin.stop(), self.loop)

    @property
    def drops(self) -> dict[str, int]:
        """Dropped messages by cause."""
        return self.metrics.dropped()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self.plugin.health()["connections"]

    def messages(self, channel: str) -> list[dict[str, Any]]:
        """Return the messages that consumers took from a channel."""
        return [message for name, message in self.seen if name == channel]

    def connect(self) -> Client:
        """Return a new connection."""
        if isinstance(self.address, (str, bytes)):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address)
        else:
            sock = socket.create_connection(self.address[:2])
        sock.settimeout(10)
        return Client(sock)


class Client:
    """A raw socket, and h11 to read what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Client:
        """Send bytes."""
        self.sock.sendall(data)
        return self

    def rest(self) -> bytes:
        """Return everything until the server closes."""
        pieces = []
        while piece := self.sock.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    def head(self) -> bytes:
        """Return the head of a response."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += self.take(1)
        return data

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            assert piece, f"the server closed after {data!r}"
            data += piece
        return data

    def responses(self, *methods: str) -> Iterator[Response]:
        """Read one response to each method with h11, on one connection."""
        data = b""
        for method in methods:
            reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
            reader.send(h11.EndOfMessage())
            if data:
                reader.receive_data(data)
            response = Response()
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    reader.receive_data(self.sock.recv(65536))
                elif isinstance(event, h11.InformationalResponse):
                    response.informational.append(event.status_code)
                elif isinstance(event, h11.Response):
                    response.status = event.status_code
                    response.version = event.http_version
                    response.headers = [(bytes(n), bytes(v)) for n, v in event.headers]
                elif isinstance(event, h11.Data):
                    response.content += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    raise AssertionError(f"unexpected {event!r}")
            data = reader.trailing_data[0]
            yield response

    def response(self, method: str = "GET") -> Response:
        """Read one response."""
        return next(self.responses(method))


class Response:
    """What h11 read."""

    def __init__(self) -> None:
        self.status = 0
        self.version = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.content = b""
        self.informational: list[int] = []

    def header(self, name: bytes) -> bytes | None:
        """Return a header's value; it must not stand twice."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name!r} stands {len(values)} times"
        return values[0] if values else None


def hello(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer with the path."""
    return [
        {
            "status": 200,
            "headers": [(b"content-type", b"text/plain")],
            "content": b"hello " + message["path"].encode(),
        }
    ]


def get(path: str = "/", *headers: str, version: str = "1.1") -> bytes:
    """Return a GET request."""
    lines = [f"GET {path} HTTP/{version}", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()
