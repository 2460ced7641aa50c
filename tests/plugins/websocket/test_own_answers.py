"""Refused handshakes look like every other answer of the gateway's own; 101 says who and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.layers.base import FAILED, REJECTED, Outcome
from gateway.core.plugin import Close, Session
from gateway.plugins.websocket.translate import WebsocketSession
from tests.plugins.http import own
from tests.plugins.http.own import MARK
from tests.plugins.websocket.peers import KEY
from tests.plugins.websocket.serving import ECHO, Raw, Serving, on_loop, wait_until

UPGRADE = ["Upgrade: websocket", "Connection: Upgrade"]
VERSION = "Sec-WebSocket-Version: 13"
KEY_LINE = f"Sec-WebSocket-Key: {KEY.decode()}"
PATH = f"/{MARK}?{MARK}"


async def said(peer: Raw) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, the headers and the content of an answer."""
    head = await peer.reader.readuntil(b"\r\n\r\n")
    line, *lines = head[:-4].split(b"\r\n")
    headers = [(n.lower(), v.strip()) for n, _, v in (one.partition(b":") for one in lines)]
    size = int(dict(headers).get(b"content-length", b"0"))
    return int(line.split()[1]), headers, await peer.reader.readexactly(size)


async def sent(gateway: Serving, lines: list[str]) -> Raw:
    """Return a connection that has sent a head of these lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write("\r\n".join(lines).encode())
    gateway.peers.append(peer := Raw(reader, writer))
    return peer


def raises(message: dict[str, Any]) -> None:
    raise ValueError(MARK)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (lambda _: Outcome(REJECTED), 403),
        (lambda _: Outcome(REJECTED, 4001), 403),
        (lambda _: [{"accept": False}], 403),
        (lambda _: [{"close": 4001}], 403),
        (raises, 500),
        (lambda _: Outcome(FAILED, reason=MARK, cause=MARK), 500),
        (lambda _: [{"status": 403, "headers": [(b"date", b"a"), (b"date", MARK.encode())]}], 500),
    ],
    ids=["rejected", "foreign code", "accept", "close", "raised", "failed", "cannot be sent"],
)
@on_loop
async def test_decided(result: Any, status: int) -> None:
    """What the application decides or fails at is answered in the gateway's own words."""
    async with Serving({"websocket.connect": result}) as gateway:
        peer = await gateway.raw(PATH, f"Cookie: {MARK}", f"Referer: http://{MARK}/")
        found, headers, content = await said(peer)
        assert found == status
        own.check(found, headers, content)


@pytest.mark.parametrize(
    ("lines", "status", "more"),
    [
        ([*UPGRADE, VERSION], 400, []),
        ([*UPGRADE, VERSION, f"Sec-WebSocket-Key: {MARK}"], 400, []),
        ([UPGRADE[0], VERSION, KEY_LINE], 400, []),
        ([*UPGRADE, VERSION, KEY_LINE, f"Sec-WebSocket-Protocol: {MARK} {MARK}"], 400, []),
        ([*UPGRADE, VERSION, KEY_LINE, f"Origin: {MARK}", f"Origin: {MARK}"], 400, []),
        (
            [*UPGRADE, KEY_LINE, f"Sec-WebSocket-Version: {MARK}"],
            426,
            [b"upgrade", b"sec-websocket-version"],
        ),
    ],
    ids=["no key", "a bad key", "no Connection", "a bad subprotocol", "two origins", "version"],
)
@on_loop
async def test_bad(lines: list[str], status: int, more: list[bytes]) -> None:
    """A handshake that breaks the rules is told which, and nothing of its own is repeated."""
    async with Serving(ECHO) as gateway:
        head = [f"GET {PATH} HTTP/1.1", "Host: localhost", *lines, "", ""]
        peer = await sent(gateway, head)
        found, headers, content = await said(peer)
        assert found == status
        own.check(found, headers, content, *more)


@on_loop
async def test_another_method() -> None:
    """What is not GET is told what would be."""
    async with Serving(ECHO) as gateway:
        head = [f"PUT {PATH} HTTP/1.1", "Host: localhost", *UPGRADE, VERSION, KEY_LINE, "", ""]
        found, headers, content = await said(await sent(gateway, head))
        assert (found, dict(headers)[b"allow"]) == (405, b"GET")
        own.check(found, headers, content, b"allow")


@pytest.mark.parametrize(
    ("settings", "status"),
    [({"decision_timeout": 0.1}, 503), ({"max_pending": 1}, 503)],
    ids=["undecided", "too many"],
)
@on_loop
async def test_limits(settings: dict[str, Any], status: int) -> None:
    """Nobody decides, or too many wait: 503, and when to come back."""
    consumers = {"websocket.connect": lambda _: [{"close": False}]}
    async with Serving(consumers, implicit_accept=False, **settings) as gateway:
        await gateway.raw(PATH)
        peer = await gateway.raw(PATH)
        found, headers, content = await said(peer)
        assert found == status
        own.check(found, headers, content)


@on_loop
async def test_nobody_is_there() -> None:
    """Where nobody routes WebSockets the answer is 404."""
    async with Serving({"http.request": lambda _: None}) as gateway:
        found, headers, content = await said(await gateway.raw(PATH))
        assert found == 404
        own.check(found, headers, content)


@on_loop
async def test_a_fault_of_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is a 500 that says no more."""

    def opened(self: Session, peer: object) -> list[Close]:
        raise ValueError(MARK)

    monkeypatch.setattr(WebsocketSession, "opened", opened)
    async with Serving(ECHO) as gateway:
        found, headers, content = await said(await gateway.raw(PATH))
        assert found == 500
        own.check(found, headers, content)


@on_loop
async def test_shutdown() -> None:
    """What waits for a decision at a shutdown is told to come back."""
    consumers = {"websocket.connect": lambda _: [{"close": False}]}
    async with Serving(consumers, implicit_accept=False) as gateway:
        peer = await gateway.raw(PATH)
        await wait_until(lambda: gateway.seen)
        gateway.engine._connections()[0].drain(0.0)
        found, headers, content = await said(peer)
        assert found == 503
        own.check(found, headers, content)


@on_loop
async def test_accepted() -> None:
    """The answer that opens a connection says Date and Server too, once each."""
    async with Serving(ECHO) as gateway:
        found, headers, _ = await said(await gateway.raw(PATH))
        assert found == 101
        names = sorted(name for name, _ in headers)
        assert names == [b"connection", b"date", b"sec-websocket-accept", b"server", b"upgrade"]


@on_loop
async def test_accepted_with_headers() -> None:
    """An application's own Date or Server takes the place of ours, in 101 as anywhere."""
    reply = {"accept": True, "headers": [(b"server", b"shop"), (b"x-a", b"b")]}
    async with Serving(ECHO | {"websocket.connect": lambda _: [reply]}) as gateway:
        found, headers, _ = await said(await gateway.raw(PATH))
        assert found == 101
        assert [value for name, value in headers if name == b"server"] == [b"shop"]
