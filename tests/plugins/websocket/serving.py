"""The websocket plugin, really started, with consumers, on the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self

import uvloop

from gateway import open_layer
from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers.base import FAILED, OK, Outcome, send
from gateway.core.listen import parse
from gateway.core.metrics import Metrics
from gateway.core.names import new_process
from gateway.core.plugin import ProtocolPlugin
from gateway.core.tls import Tls
from gateway.core.web import Claim
from gateway.plugins.http import HttpPlugin
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.websocket import WebsocketPlugin, gateway_http_claims
from tests.plugins.websocket.peers import KEY, frame

Consumer = Callable[[dict[str, Any]], Any]
"""Takes a message; returns replies, an Outcome, None, or an awaitable of one of these."""


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a loop of uvloop's."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Return what ``condition`` returns once that is true; AssertionError after ``seconds``."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := condition()):
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)
    return found


def echo(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Send a message back."""
    return [{key: message[key] for key in ("text", "bytes") if key in message}]


def accept(message: dict[str, Any]) -> None:
    """Accept by returning."""


ECHO: dict[str, Consumer] = {"websocket.connect": accept, "websocket.receive": echo}


class Serving:
    """One gateway with http and websocket, and one worker for each of its channels."""

    kind: ClassVar[type[ProtocolPlugin]] = WebsocketPlugin
    """The plugin beside http."""
    claims: ClassVar[Callable[..., list[Claim]]] = staticmethod(gateway_http_claims)

    def __init__(
        self,
        consumers: dict[str, Consumer],
        *,
        settings: GatewaySettings | None = None,
        options: dict[str, Any] | None = None,
        routed: bool = True,
        access: AccessLog | None = None,
        tls: Tls | None = None,
        trust: ssl.SSLContext | None = None,
        **config: Any,
    ) -> None:
        self.config: Any = self.kind.Config(**config)
        self.settings = settings or GatewaySettings()
        url = f"memory://{new_process()}"
        self.layer = open_layer(url, capacities={}, **options or {})
        """The workers' end of it."""
        self.own_layer = open_layer(url)
        self.metrics = Metrics()
        self.consumers = consumers
        self.routed = routed
        self.access = access
        self.tls = tls
        self.trust = trust
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """Every message that a consumer took, with its channel."""
        self.peers: list[Raw] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self.routed:
            await self.layer.aannounce(self.consumers)
        self.engine = Engine(self.own_layer, self.settings, self.metrics, loop, access=self.access)
        claims: list[Any] = []
        self.context = self.engine.context(self.kind, self.config)
        self.plugin = self.kind(self.config, self.context)
        claims += self.claims(self.config, self.context)
        listen = "127.0.0.1:0" if self.tls is None else "tls:127.0.0.1:0"
        http = self.engine.context(
            HttpPlugin, HttpConfig(), listeners=[parse(listen)], claims=claims, tls=self.tls
        )
        self.http = HttpPlugin(HttpConfig(), http)
        await self.plugin.start()
        await self.http.start()
        if self.tls is None:
            (sock,) = self.http._servers[0].sockets
        else:
            sock = self.http._acceptors[0].socket
        self.port: int = sock.getsockname()[1]
        self.workers = [loop.create_task(self._work(name)) for name in self.consumers]
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.drain(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.http.stop()
        await self.plugin.stop()
        for peer in self.peers:
            await peer.leave()
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        await self.layer.aclose()
        await self.own_layer.aclose()

    async def _work(self, channel: str) -> None:
        intake = self.layer.intake([channel], credit=32)
        try:
            while (delivery := await intake.atake()) is not None:
                for message in delivery.messages:
                    self.seen.append((channel, message))
                    outcome, sends = await self._run(channel, message)
                    await self.layer.asettle(delivery, [outcome], sends)
                    if outcome != OK:
                        break
        finally:
            intake.close()

    async def _run(self, channel: str, message: dict[str, Any]) -> tuple[Outcome, list[Any]]:
        try:
            result = self.consumers[channel](message)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            return Outcome(FAILED, cause=type(error).__name__), []
        if isinstance(result, Outcome):
            return result, []
        most = self.layer.options.message_bytes
        return OK, [send(message["reply_channel"], reply, most) for reply in result or ()]

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages that consumers took, by kind."""
        return [message for name, message in self.seen if name == f"{self.kind.name}.{kind}"]

    @property
    def drops(self) -> dict[str, int]:
        """Dropped messages by cause."""
        return self.metrics.dropped()

    async def raw(self, path: str = "/chat", *headers: str, sent: bytes = b"") -> Raw:
        """Return a connection that has sent a handshake, and ``sent`` in the same write."""
        name = None if self.trust is None else "localhost"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname=name
        )
        writer.write(request(path, *headers) + sent)
        self.peers.append(peer := Raw(reader, writer))
        return peer

    async def open(self, path: str = "/chat", *headers: str) -> Raw:
        """Return a raw connection whose handshake was accepted."""
        raw = await self.raw(path, *headers)
        status, _, _ = await raw.response()
        assert status == 101
        return raw

    @property
    def url(self) -> str:
        """Where it serves."""
        secure = "" if self.tls is None else "s"
        return f"ws{secure}://127.0.0.1:{self.port}/chat"


def request(path: str = "/chat", *headers: str) -> bytes:
    """Return a handshake."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, opcode: int, payload: bytes = b"", **more: Any) -> None:
        """Send a frame."""
        self.writer.write(frame(opcode, payload, **more))

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and content of a response."""
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
            content = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, content

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        async with asyncio.timeout(5):
            first, size = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 15, await self.reader.readexactly(size)

    async def closed(self) -> tuple[int, str]:
        """Return code and reason of the close frame that comes next, and then nothing."""
        opcode, payload = await self.frame()
        assert opcode == 8, (opcode, payload)
        await self.ended()
        if not payload:
            return 1005, ""
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def ended(self) -> None:
        """Wait for the server's end of file; nothing comes before it."""
        async with asyncio.timeout(5):
            assert await self.reader.read() == b""

    async def leave(self) -> None:
        """Close the socket."""
        self.writer.transport.resume_reading()
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
