"""The longpoll plugin, really started beside http, with consumers, on the loop of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from gateway.core.layers.base import send
from gateway.core.layers.memory import sibling
from gateway.core.plugin import ProtocolPlugin
from gateway.core.web import Claim
from gateway.plugins.longpoll import LongpollPlugin, gateway_http_claims
from tests.plugins.websocket import serving
from tests.plugins.websocket.serving import accept, echo, on_loop, wait_until

__all__ = ["ECHO", "Polling", "Serving", "accept", "echo", "on_loop", "wait_until"]

ECHO: dict[str, Any] = {
    "longpoll.connect": accept,
    "longpoll.receive": echo,
    "longpoll.disconnect": accept,
}


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def messages(self) -> list[Any]:
        """The elements of an array; nothing where there is none."""
        found: list[Any] = json.loads(self.content) if self.status == 200 else []
        return found

    @property
    def tag(self) -> str:
        """The cursor."""
        return self.headers["etag"]


class Serving(serving.Serving):
    """One gateway with http and longpoll, and one worker for each of its channels."""

    kind: ClassVar[type[ProtocolPlugin]] = LongpollPlugin
    claims: ClassVar[Callable[..., list[Claim]]] = staticmethod(gateway_http_claims)

    def beside(self, **more: Any) -> Serving:
        """Return another gateway on the same layer, to be started."""
        found = type(self)({}, routed=False, **more)
        found.layer = sibling(self.own_layer)  # type: ignore[arg-type] # it is one of memory
        found.own_layer = sibling(self.own_layer)  # type: ignore[arg-type] # as above
        return found

    async def asks(self, method: str, target: str, *headers: str, content: bytes = b"") -> Asking:
        """Send a request on a connection of its own; return that."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        asking = Asking(reader, writer)
        self.peers.append(asking)
        asking.ask(method, target, *headers, content=content)
        return asking

    async def ask(self, method: str, target: str, *headers: str, content: bytes = b"") -> Answer:
        """Return the answer of a request."""
        return await (await self.asks(method, target, *headers, content=content)).answer()

    async def begin(self, target: str = "/room", *headers: str) -> Answer:
        """Return what a request for a connection is answered."""
        return await self.ask("POST", target, "Prefer: respond-async", *headers)

    async def polling(self, target: str = "/room", *headers: str) -> Polling:
        """Return a client that was accepted."""
        answer = await self.begin(target, *headers)
        assert answer.status == 201, answer
        return Polling(self, json.loads(answer.content)["location"])

    async def tell(self, *replies: dict[str, Any], channel: str = "") -> None:
        """Send to a connection, the last that connected."""
        most = self.layer.options.message_bytes
        name = channel or self.messages("connect")[-1]["reply_channel"]
        for reply in replies:
            await self.layer.aapply([send(name, reply, most)])

    def counted(self, result: str) -> float:
        """How many polls were answered so."""
        return self.metrics.snapshot().get(f'gateway_longpoll_polls_total{{result="{result}"}}', 0)


class Asking(serving.Raw):
    """One connection of a client."""

    def ask(self, method: str, target: str, *headers: str, content: bytes = b"") -> None:
        """Send a request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + content)

    async def answer(self) -> Answer:
        """Return the next answer."""
        return Answer(*await self.response())


class Polling:
    """The client of one connection, at whichever gateway."""

    def __init__(self, gateway: Serving, location: str) -> None:
        self.gateway = gateway
        self.location = location
        self.cursor = ""

    def _headers(self, wait: int | None, cursor: str | None) -> list[str]:
        said = self.cursor if cursor is None else cursor
        headers = [] if wait is None else [f"Prefer: wait={wait}"]
        return [*headers, f"If-None-Match: {said}"] if said else headers

    async def polls(
        self, wait: int | None = 5, cursor: str | None = None, at: Serving | None = None
    ) -> Asking:
        """Begin a poll; return its connection."""
        headers = self._headers(wait, cursor)
        return await (at or self.gateway).asks("GET", self.location, *headers)

    async def poll(
        self, wait: int | None = 5, cursor: str | None = None, at: Serving | None = None
    ) -> Answer:
        """Return the answer of a poll, and take its cursor."""
        answer = await (await self.polls(wait, cursor, at)).answer()
        self.cursor = answer.headers.get("etag", self.cursor)
        return answer

    async def waits(self, wait: int = 5, at: Serving | None = None) -> Asking:
        """Return the connection of a poll, once it waits."""
        before = waiting(self.gateway)
        asking = await self.polls(wait, at=at)
        await wait_until(lambda: waiting(self.gateway) == before + 1)
        return asking

    async def post(self, content: bytes, *headers: str, at: Serving | None = None) -> Answer:
        """Return the answer of what is posted."""
        return await (at or self.gateway).ask("POST", self.location, *headers, content=content)

    async def leave(self, at: Serving | None = None) -> Answer:
        """Return the answer of the end."""
        return await (at or self.gateway).ask("DELETE", self.location)


def waiting(gateway: Serving) -> float:
    """How many polls wait."""
    return gateway.metrics.snapshot()["gateway_longpoll_waiting_polls"]
