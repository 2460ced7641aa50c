"""Event streams over real sockets: decisions, events, ends."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings, LogSettings
from gateway.core.layers.base import REJECTED, UNROUTED, Outcome, send
from tests.plugins.sse.reader import Event
from tests.plugins.sse.serving import Serving, accept, on_loop, page, wait_until

DEAF: dict[str, Any] = {"sse.connect": accept, "sse.disconnect": accept}


def told(*replies: dict[str, Any]) -> dict[str, Any]:
    """Return consumers whose connect replies so."""
    return {**DEAF, "sse.connect": lambda _: replies}


def request(text: str = "a page") -> dict[str, Any]:
    """Return a consumer of http requests."""
    return {"http.request": lambda _: [{"text": text}]}


async def tell(gateway: Serving, *replies: dict[str, Any]) -> None:
    """Send to the last stream."""
    most = gateway.layer.options.message_bytes
    for reply in replies:
        await gateway.layer.aapply([send(gateway.channel, reply, most)])


# ---------------------------------------------------------------- the beginning


@on_loop
async def test_accepted() -> None:
    """An accepted stream begins at once: head and a comment, though nothing was said yet."""
    async with Serving(DEAF) as gateway:
        stream = await gateway.open("/news?a=b")
        assert dict(stream.headers) | {"date": ""} == {
            "content-type": "text/event-stream",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
            "vary": "origin",
            "transfer-encoding": "chunked",
            "date": "",
            "server": "gateway",
        }
        assert await stream.piece() == b":\n\n"
        (message,) = gateway.messages("connect")
        assert message["scheme"] == "http"
        assert (message["path"], message["query_string"]) == ("/news", b"a=b")
        assert message["last_event_id"] == ""
        assert [b"accept", b"text/event-stream"] in message["headers"]


@pytest.mark.parametrize(
    ("target", "header", "expected"),
    [
        ("/n", "Last-Event-ID: 5-a", "5-a"),
        ("/n?last_event_id=5-b", "X: y", "5-b"),
        ("/n?last_event_id=5-b", "Last-Event-ID: 5-a", "5-a"),
        ("/n?a=1&last_event_id=%C3%A9%20x", "X: y", "é x"),
        ("/n?last_event_id=", "X: y", ""),
        ("/n?other_last_event_id=1", "X: y", ""),
        ("/n", "Last-Event-ID: \u00e9", "é"),
    ],
)
@on_loop
async def test_last_event_id(target: str, header: str, expected: str) -> None:
    """What the client saw last comes by its header, or for old clients by the query."""
    async with Serving(DEAF) as gateway:
        await gateway.open(target, header)
        assert gateway.messages("connect")[0]["last_event_id"] == expected


@pytest.mark.parametrize(
    ("accept_", "stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("text/html, text/event-stream;q=0.1", True),
        ("text/event-stream; charset=utf-8;q=1", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.000, text/html", False),
        ("text/event-stream;q=0.001", True),
        ("text/html", False),
        ("*/*", False),
        ("text/*", False),
        ("text/event-stream-2", False),
        ("application/x;a=text/event-stream", False),
    ],
)
@on_loop
async def test_who_asks(accept_: str, stream: bool) -> None:
    """A request asks for a stream whose Accept names it with a weight over 0; others are views'."""
    async with Serving({**DEAF, **request()}) as gateway:
        asked = await gateway.ask("/news", f"Accept: {accept_}")
        headers = await asked.head()
        assert (headers["content-type"] == "text/event-stream") is stream
        assert len(gateway.messages("connect")) == stream


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", ["Content-Length: 0"]),
        ("HEAD", []),
        ("GET", ["Content-Length: 2"]),
        ("OPTIONS", []),
    ],
)
@on_loop
async def test_other_requests(method: str, headers: list[str]) -> None:
    """A method other than GET, and a GET with content, are ordinary requests."""
    async with Serving({**DEAF, **request()}) as gateway:
        asked = await gateway.ask("/news", *headers, method=method)
        asked.writer.write(b"hi")
        assert (await asked.head())["content-type"].startswith("text/plain")
        assert not gateway.messages("connect")


@on_loop
async def test_paths() -> None:
    """Outside ``paths`` a request is an ordinary one."""
    async with Serving({**DEAF, **request()}, paths=("/events/",)) as gateway:
        assert (await (await gateway.ask("/news")).content()) == "a page"
        await gateway.open("/events/a")


@on_loop
async def test_nobody_routes_it() -> None:
    """Where no route names sse.connect, a request that accepts a stream goes on as a request."""
    async with Serving(request()) as gateway:
        assert await (await gateway.ask()).content() == "a page"
        assert not gateway.drops


@on_loop
async def test_no_route_matches() -> None:
    """So it does where routes name the channel, and none matches; one line tells of it."""
    lines: list[bytes] = []
    unrouted = {**request(), "sse.connect": lambda _: Outcome(UNROUTED), "sse.disconnect": accept}
    log = AccessLog(LogSettings(access_format="json"), lines.append)
    async with Serving(unrouted, access=log) as gateway:
        assert await (await gateway.ask()).content() == "a page"
        await wait_until(lambda: lines)
        assert [json.loads(line)["protocol"] for line in lines] == ["http"]
        assert not gateway.messages("disconnect")
        assert not [name for name in gateway.engine.by_channel if name.startswith("sse")]


# ---------------------------------------------------------------- decisions


@pytest.mark.parametrize(
    ("reply", "status", "content"),
    [
        ({"accept": False}, 403, "403 Forbidden\n"),
        ({"accept": False, "reason": "not you"}, 403, "not you\n"),
        ({"close": True}, 403, "403 Forbidden\n"),
        ({"close": 4000, "reason": "no"}, 403, "no\n"),
        ({"status": 404}, 404, "404 Not Found\n"),
        ({"status": 204}, 204, ""),
        ({"status": 402, "content": b"pay"}, 402, "pay"),
    ],
)
@on_loop
async def test_refused(reply: dict[str, Any], status: int, content: str) -> None:
    """A reply refuses with 403, or its status, content and headers; no disconnect follows."""
    headers = {"headers": [(b"x-why", b"so")]} if "status" in reply else {}
    async with Serving(told({**reply, **headers})) as gateway:
        stream = await gateway.ask()
        assert (await stream.content(), stream.status) == (content, status)
        assert ("x-why", "so") in stream.headers or not headers
        await wait_until(lambda: not gateway.engine.by_channel)
        assert not gateway.messages("disconnect")
        assert not gateway.drops


@pytest.mark.parametrize(
    ("consumer", "status"),
    [
        (lambda _: Outcome(REJECTED), 403),
        (lambda _: Outcome(REJECTED, 429, "slow down"), 429),
        (lambda _: Outcome(REJECTED, 4001), 403),
        (lambda _: 1 / 0, 500),
    ],
    ids=["rejected", "with-a-code", "with-a-foreign-code", "failed"],
)
@on_loop
async def test_outcomes(consumer: Any, status: int) -> None:
    """The outcome of its connect decides an undecided stream."""
    async with Serving({**DEAF, "sse.connect": consumer}) as gateway:
        stream = await gateway.ask()
        await stream.content()
        assert stream.status == status


@on_loop
async def test_explicit_accept() -> None:
    """Without implicit_accept a stream waits for a direct reply, and a group's waits for it."""
    async with Serving(DEAF, implicit_accept=False) as gateway:
        stream = await gateway.ask()
        await wait_until(lambda: gateway.seen)
        await gateway.layer.agroup_add("news", gateway.channel)
        await gateway.layer.asend_group("news", {"text": "to all"})
        await tell(gateway, {"accept": True, "headers": [(b"Set-Cookie", b"a=1")]})
        headers = await stream.head()
        assert headers["set-cookie"] == "a=1"
        await stream.until(b"to all\n\n")
        assert stream.read() == [Event("message", "to all", "")]


@on_loop
async def test_undecided() -> None:
    """A stream that nobody decides in time is refused, with when to come back."""
    async with Serving(DEAF, implicit_accept=False, decision_timeout=0.05) as gateway:
        stream = await gateway.ask()
        assert await stream.content() == "nobody decided in time\n"
        assert (stream.status, dict(stream.headers)["retry-after"]) == (503, "1")


@on_loop
async def test_own_headers() -> None:
    """An application's headers go before the gateway's own, but for the content's type."""
    own = [(b"cache-control", b"private"), (b"x-a", b"b")]
    async with Serving(told({"accept": True, "headers": own})) as gateway:
        stream = await gateway.open()
        assert [v for n, v in stream.headers if n == "cache-control"] == ["private"]
        assert ("x-a", "b") in stream.headers
    async with Serving(told({"accept": True, "headers": [(b"content-type", b"a/b")]})) as gateway:
        assert ("content-type", "text/event-stream") in (await gateway.open()).headers
        assert gateway.drops == {"invalid": 1}


@on_loop
async def test_too_many_pending() -> None:
    """Beyond max_pending undecided streams one is refused; a decided one makes room."""
    async with Serving(DEAF, implicit_accept=False, max_pending=1) as gateway:
        first = await gateway.ask()
        await wait_until(lambda: gateway.seen)
        late = await gateway.ask()
        assert await late.content() == "too many event streams wait for a decision\n"
        assert (late.status, gateway.drops) == (503, {"limited": 1})
        await tell(gateway, {"accept": True})
        await first.head()
        await gateway.ask()
        await wait_until(lambda: len(gateway.seen) == 2)


@on_loop
async def test_too_many_streams() -> None:
    """Beyond max_streams one is refused; one that has ended makes room."""
    async with Serving(DEAF, max_streams=1) as gateway:
        first = await gateway.open()
        late = await gateway.ask()
        assert await late.content() == "too many event streams\n"
        assert gateway.drops == {"limited": 1}
        await first.leave()
        await wait_until(lambda: gateway.messages("disconnect"))
        await gateway.open()
        assert gateway.metrics.snapshot()["gateway_sse_streams"] == 1


# ---------------------------------------------------------------- events


@on_loop
async def test_events() -> None:
    """Replies become events, in order."""
    replies = [
        {"text": "one\r\ntwo", "event": "greeting", "id": "7"},
        {"bytes": b"\x00\xff"},
        {"id": "8"},
        {"text": "", "retry": 100, "comment": "said"},
        {"missed": True},
    ]
    async with Serving(told(*replies)) as gateway:
        stream = await gateway.open()
        await stream.until(b"data: {}\n\n")
        assert stream.read() == [
            Event("greeting", "one\ntwo", "7"),
            Event("bytes", "AP8=", "7"),
            Event("message", "", "8"),
            Event("missed", "{}", "8"),
        ]
        assert not gateway.drops


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "x", "event": "a\nb"},
        {"text": "x", "id": "a\rb"},
        {"text": "x", "id": "a\0b"},
        {"event": "tick"},
        {"retry": -1},
        {"text": "x", "bytes": b"x"},
        {"accept": False},
        {"status": 500},
        {"headers": [(b"a", b"b")]},
        {"content": b"x"},
        {"subprotocol": "x"},
    ],
)
@on_loop
async def test_invalid_replies(reply: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """What no event can be is dropped, counted and logged; the stream goes on."""
    caplog.set_level(logging.WARNING, "gateway")
    async with Serving(DEAF) as gateway:
        stream = await gateway.open()
        await tell(gateway, reply, {"text": "after"})
        await stream.until(b"after\n\n")
        assert stream.read() == [Event("message", "after", "")]
        assert gateway.drops == {"invalid": 1}
        assert "invalid reply dropped" in caplog.text


@on_loop
async def test_group() -> None:
    """A group's message is framed once, and comes to each member of any version as its own."""
    async with Serving(DEAF) as gateway:
        streams = [await gateway.open(version=version) for version in ("1.1", "1.1", "1.0")]
        for message in gateway.messages("connect"):
            await gateway.layer.agroup_add("news", message["reply_channel"])
        for number in range(3):
            await gateway.layer.asend_group("news", {"text": f"{number}", "event": "tick"})
        expected = [Event("tick", f"{number}", "") for number in range(3)]
        for stream in streams[:2]:
            await stream.until(b"data: 2\n\n")
            assert stream.read() == expected
        async with asyncio.timeout(5):
            streams[2].body = await streams[2].reader.readuntil(b"data: 2\n\n")
        assert streams[2].read() == expected


@on_loop
async def test_invalid_group_message() -> None:
    """A group's message that is no event is counted once, and costs nobody anything."""
    async with Serving(DEAF) as gateway:
        stream = await gateway.open()
        await gateway.layer.agroup_add("news", gateway.channel)
        await gateway.layer.asend_group("news", {"event": "no data"})
        await gateway.layer.asend_group("news", {"text": "after"})
        await stream.until(b"after\n\n")
        assert stream.read() == [Event("message", "after", "")]
        assert gateway.drops == {"invalid": 1}


@on_loop
async def test_keep_alive() -> None:
    """A silent stream has a comment now and then, and one that is not silent has none."""
    async with Serving(DEAF, keep_alive=0.1) as gateway:
        stream = await gateway.open()
        assert await stream.piece() == b":\n\n"
        await tell(gateway, {"text": "x"})
        assert await stream.piece() == b"data: x\n\n"
        assert [await stream.piece() for _ in range(2)] == [b":\n\n"] * 2


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("close", "code", "drops"),
    [
        (True, 1000, {}),
        (4001, 4001, {}),
        (1006, 1000, {"foreign_code": 1}),
        (7, 1000, {"foreign_code": 1}),
    ],
)
@on_loop
async def test_close(close: Any, code: int, drops: dict[str, int]) -> None:
    """A close is told as an event behind the data of its reply, then the stream ends."""
    async with Serving(DEAF) as gateway:
        stream = await gateway.open()
        await tell(gateway, {"text": "bye", "close": close, "reason": "done\nhere"})
        await stream.rest()
        bye, event = stream.read()
        assert (bye, event.name) == (Event("message", "bye", ""), "close")
        assert json.loads(event.data) == {"code": code, "reason": "done\nhere"}
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["path"] == "/news"
        assert gateway.drops == drops
        # The connection may be used for another.
        stream.writer.write(b"GET /n HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        await stream.head()
        assert stream.status == 200


@on_loop
async def test_client_leaves() -> None:
    """A client that leaves has one disconnect, and what is sent to it then is counted as gone."""
    async with Serving(DEAF) as gateway:
        stream = await gateway.open()
        await gateway.layer.agroup_add("news", gateway.channel)
        await stream.leave()
        await wait_until(lambda: gateway.messages("disconnect"))
        await tell(gateway, {"text": "late"})
        await wait_until(lambda: gateway.drops == {"gone": 1})
        assert len(gateway.messages("disconnect")) == 1
        await wait_until(lambda: not gateway.engine.by_channel)
        assert not len(gateway.engine.groups)


@on_loop
async def test_client_leaves_undecided() -> None:
    """A client that leaves before it was decided leaves nothing, and its connect's end is heard."""
    async with Serving({**DEAF, "sse.connect": lambda _: asyncio.sleep(0.1)}) as gateway:
        stream = await gateway.ask()
        await wait_until(lambda: gateway.seen)
        await stream.leave()
        await wait_until(lambda: gateway.messages("disconnect"))
        await wait_until(lambda: not gateway.engine.by_channel)
        assert gateway.metrics.snapshot()["gateway_sse_streams"] == 0


@on_loop
async def test_shutdown() -> None:
    """A stream is told its own moment to come back; an undecided one is refused with it."""
    settings = GatewaySettings(reconnect_spread=3.0)
    async with Serving(DEAF, settings=settings, implicit_accept=False) as gateway:
        stream, pending = await gateway.ask(), None
        await wait_until(lambda: gateway.seen)
        await tell(gateway, {"accept": True})
        await stream.head()
        pending = await gateway.ask()
        await wait_until(lambda: len(gateway.seen) == 2)
        drained = asyncio.ensure_future(gateway.engine.drain(5))
        await stream.rest()
        last = stream.body.decode().splitlines()[-2]
        assert 0 <= int(last.removeprefix("retry: ")) <= 3000
        assert await pending.content() == "the gateway is shutting down\n"
        assert 1 <= int(dict(pending.headers)["retry-after"]) <= 3
        await drained
        assert len(gateway.messages("disconnect")) == 1


@on_loop
async def test_rejected_after_acceptance() -> None:
    """Whose connect is rejected though it was accepted is told to stay away."""

    async def connect(message: dict[str, Any]) -> Outcome:
        await gateway.layer.aapply([send(message["reply_channel"], {"text": "x"}, 10**6)])
        await wait_until(lambda: next(iter(gateway.engine.by_channel.values())).accepted)
        return Outcome(REJECTED, reason="after all")

    async with Serving({**DEAF, "sse.connect": connect}) as gateway:
        stream = await gateway.open()
        await stream.rest()
        assert [json.loads(event.data) for event in stream.read() if event.name == "close"] == [
            {"code": 1008, "reason": "after all"}
        ]


# ---------------------------------------------------------------- other pages


@on_loop
async def test_origins() -> None:
    """A page of another site is refused; one of ours, or listed, may read the stream."""
    async with Serving(DEAF, origins=("same-host", "https://app.example")) as gateway:
        evil = await gateway.ask("/news", page("https://evil.example"))
        assert await evil.content() == "not for pages of another site\n"
        assert evil.status == 403
        assert gateway.metrics.snapshot()["gateway_sse_foreign_origins_total"] == 1
        listed = await gateway.open("/news", page("https://app.example"))
        headers = dict(listed.headers)
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["access-control-allow-credentials"] == "true"
        await gateway.open("/news", page("http://localhost:3000"))
        assert not gateway.drops


@on_loop
async def test_preflight() -> None:
    """A page that reads by fetch may bring Last-Event-ID, once it has asked."""
    asks = ["Access-Control-Request-Method: GET", "Access-Control-Request-Headers: last-event-id"]
    async with Serving({**DEAF, **request()}, origins=("https://app.example",)) as gateway:
        asked = await gateway.ask("/news", page("https://app.example"), *asks, method="OPTIONS")
        headers = await asked.head()
        assert asked.status == 204
        assert "last-event-id" in headers["access-control-allow-headers"]
        assert headers["access-control-allow-methods"] == "GET"
        evil = await gateway.ask("/news", page("https://evil.example"), *asks, method="OPTIONS")
        await evil.content()
        assert evil.status == 403
        # What is no question about a stream is the application's own.
        other = [asks[0], "Access-Control-Request-Headers: x-other"]
        asked = await gateway.ask("/news", page("https://app.example"), *other, method="OPTIONS")
        assert await asked.content() == "a page"


# ---------------------------------------------------------------- the access log


@on_loop
async def test_access_log() -> None:
    """One line tells of each stream: its status, its bytes, who ended it."""
    lines: list[bytes] = []
    log = AccessLog(LogSettings(access_format="json"), lines.append)
    async with Serving(told({"text": "hello"}), access=log) as gateway:
        stream = await gateway.open("/news?secret=1")
        await stream.until(b"hello\n\n")
        await stream.leave()
        await wait_until(lambda: len(lines) == 1)
        stream = await gateway.open()
        await tell(gateway, {"close": True})
        body = await stream.rest()
        await wait_until(lambda: len(lines) == 2)
        evil = await gateway.ask("/news", page("https://evil.example"))
        await evil.head()
        await wait_until(lambda: len(lines) == 3)
    found = [json.loads(line) for line in lines]
    said = [(one["protocol"], one["path"], one["code"], one["end"], one["sent"]) for one in found]
    hello = b":\n\ndata: hello\n\n"
    assert said == [
        ("sse", "/news", 200, "client", len(hello)),
        ("sse", "/news", 200, "application", len(body)),
        ("http", "/news", 403, "gateway", len("not for pages of another site\n")),
    ]
