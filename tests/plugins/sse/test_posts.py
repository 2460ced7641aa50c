"""What a client posts to its stream: the location, messages, outcomes as answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.errors import ConfigError
from gateway.core.layers.base import FAILED, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.core.layers.options import LayerOptions
from gateway.plugins.sse import SsePlugin
from gateway.plugins.sse.config import SseConfig
from tests.plugins.sse.serving import Serving, Stream, accept, on_loop, page, wait_until

NEW = "/chat?gateway_connection=new"
BOTH: dict[str, Any] = dict.fromkeys(
    ("sse.connect", "sse.receive", "sse.disconnect", "http.request"), accept
)


def waits(event: asyncio.Event) -> Any:
    """Return a consumer that waits for an event."""

    async def consume(_: object) -> None:
        await event.wait()

    return consume


async def located(gateway: Serving, target: str = NEW) -> tuple[Stream, str]:
    """Return a stream, and the location that its first event tells."""
    stream = await gateway.open(target)
    await stream.until(b"}\n\n")
    event = stream.read()[0]
    assert event.name == "open"
    told = json.loads(event.data)
    assert told["keep_alive"] == 15.0
    return stream, told["location"]


async def post(
    gateway: Serving, location: str, content: bytes = b"hello", *headers: str
) -> tuple[Stream, str]:
    """Post; return the answer with its content."""
    length = f"Content-Length: {len(content)}"
    asked = await gateway.ask(location, length, *headers, method="POST")
    asked.writer.write(content)
    return asked, await asked.content()


@on_loop
async def test_posted() -> None:
    """What is posted comes as messages of the stream, in order behind its connect; 204 each."""
    async with Serving(BOTH) as gateway:
        _, location = await located(gateway)
        assert location.startswith("/chat?gateway_connection=sse.p_")
        octets = "Content-Type: application/octet-stream"
        for content, *headers in [
            (b"plain", "Content-Type: text/plain"),
            ("é\n".encode(), "Content-Type: text/plain;charset=UTF-8"),
            (b'{"a": 1}', "Content-Type: application/json"),
            (b"no type",),
            (b"",),
            (b"\x00\xff", octets),
        ]:
            answer, said = await post(gateway, location, content, *headers)
            assert (answer.status, said) == (204, "")
        (connect,) = gateway.messages("connect")
        found = gateway.messages("receive")
        keys = [{k: m[k] for k in ("text", "bytes") if k in m} for m in found]
        assert keys == [
            *({"text": text} for text in ("plain", "é\n", '{"a": 1}', "no type", "")),
            {"bytes": b"\x00\xff"},
        ]
        assert [message["order"] for message in found] == [1, 2, 3, 4, 5, 6]
        assert {message["reply_channel"] for message in found} == {connect["reply_channel"]}
        assert {message["path"] for message in found} == {"/chat"}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(REJECTED), 403),
        (Outcome(REJECTED, 429, "slower"), 429),
        (Outcome(REJECTED, 4000), 403),
        (Outcome(FAILED), 500),
        (Outcome(UNROUTED), 500),
    ],
)
@on_loop
async def test_outcomes(outcome: Outcome, status: int) -> None:
    """The outcome is the answer, and the stream goes on."""
    async with Serving({**BOTH, "sse.receive": lambda _: outcome}) as gateway:
        stream, location = await located(gateway)
        answer, _ = await post(gateway, location)
        assert answer.status == status
        await gateway.layer.asend(gateway.channel, {"text": "on"})
        await stream.until(b"data: on\n\n")


@on_loop
async def test_released() -> None:
    """What nobody could work on is answered 503, with when to try again."""
    options = {"expiry": 0.3}
    consumers = {**BOTH, "sse.receive": lambda _: Outcome(RELEASED)}
    async with Serving(consumers, options=options) as gateway:
        _, location = await located(gateway)
        answer, said = await post(gateway, location)
        assert (answer.status, said) == (503, "nobody was there to answer\n")
        assert "retry-after" in dict(answer.headers)


@on_loop
async def test_reply_and_close() -> None:
    """A consumer that answers on the stream and closes it has accepted what was posted."""
    replies = [{"text": "bye", "close": 4000}]
    async with Serving({**BOTH, "sse.receive": lambda _: replies}) as gateway:
        stream, location = await located(gateway)
        answer, _ = await post(gateway, location)
        assert answer.status == 204
        await stream.rest()
        assert [event.name for event in stream.read()] == ["open", "message", "close"]


@pytest.mark.parametrize("ending", ["leave", "close"])
@on_loop
async def test_ended(ending: str) -> None:
    """A stream that has ended has no location any more."""
    async with Serving(BOTH) as gateway:
        stream, location = await located(gateway)
        if ending == "leave":
            await stream.leave()
        else:
            await gateway.layer.asend(gateway.channel, {"close": True})
        await wait_until(lambda: gateway.messages("disconnect"))
        answer, said = await post(gateway, location)
        assert (answer.status, said) == (404, "there is no such connection, or not any more\n")
        assert not gateway.messages("receive")


@on_loop
async def test_leaves_while_posting() -> None:
    """Who waits for the outcome of a post to a stream that ends is told that nobody knows it."""
    never = asyncio.Event()
    async with Serving({**BOTH, "sse.receive": waits(never)}) as gateway:
        stream, location = await located(gateway)
        posting = asyncio.ensure_future(post(gateway, location))
        await wait_until(lambda: gateway.messages("receive"))
        await stream.leave()
        answer, said = await posting
        # Not 404, at which a client may send it again by another stream: a consumer has it.
        assert answer.status == 504
        assert said == "the connection ended before the application had answered\n"
        never.set()
        await wait_until(lambda: gateway.messages("disconnect"))


@pytest.mark.parametrize(
    "name", ["sse.p_AAAAAAAAAAAA.aaaaaaaaaaaaaaaaaaaaaa", "sse.p_a.b", "sse.", "sse.%ff", "sse.new"]
)
@on_loop
async def test_unknown(name: str) -> None:
    """A location that is none is answered 404, and by nobody else."""
    async with Serving(BOTH) as gateway:
        answer, _ = await post(gateway, f"/chat?gateway_connection={name}")
        assert answer.status == 404
        assert not gateway.seen


@on_loop
async def test_others_posts() -> None:
    """What is posted to no stream's location is an ordinary request."""
    consumers = {**BOTH, "http.request": lambda _: [{"text": "a form"}]}
    async with Serving(consumers) as gateway:
        for target in ("/chat", NEW, "/chat?gateway_connection=longpoll.p_a.b"):
            _, said = await post(gateway, target)
            assert said == "a form"


@on_loop
async def test_no_location() -> None:
    """Who does not ask for a location is told none, and costs none."""
    async with Serving(BOTH) as gateway:
        for target in ("/chat", "/chat?gateway_connection=", "/chat?gateway_connection=newer"):
            stream = await gateway.open(target)
            await gateway.layer.asend(gateway.channel, {"text": "first"})
            await stream.until(b"first\n\n")
            assert [event.name for event in stream.read()] == ["message"]


@on_loop
async def test_too_large() -> None:
    """More than max_message is answered 413, whether its length is told or not."""
    async with Serving(BOTH, max_message=10) as gateway:
        _, location = await located(gateway)
        answer, said = await post(gateway, location, b"x" * 11)
        assert (answer.status, said) == (413, "over 10 bytes\n")
        assert gateway.drops == {"too_big": 1}
        asked = await gateway.ask(location, "Transfer-Encoding: chunked", method="POST")
        asked.writer.write(b"6\r\nxxxxxx\r\n" * 2 + b"0\r\n\r\n")
        await asked.content()
        assert asked.status == 413
        answer, _ = await post(gateway, location, b"x" * 10)
        assert answer.status == 204


@on_loop
async def test_no_text() -> None:
    """A text that is no UTF-8 is answered 400, with what to write instead."""
    async with Serving(BOTH) as gateway:
        _, location = await located(gateway)
        answer, said = await post(gateway, location, b"\xff", "Content-Type: text/plain")
        assert answer.status == 400
        assert "application/octet-stream" in said


@on_loop
async def test_repeated() -> None:
    """A repeated post is answered as the first, even before that was, and runs once."""
    held = asyncio.Event()

    async def receive(message: dict[str, Any]) -> Any:
        await held.wait()
        return Outcome(REJECTED, code=409) if message["text"] == "no" else None

    async with Serving({**BOTH, "sse.receive": receive}) as gateway:
        _, location = await located(gateway)
        key = "Idempotency-Key: 1"
        first = asyncio.ensure_future(post(gateway, location, b"x", key))
        await wait_until(lambda: gateway.messages("receive"))
        lost = await gateway.ask(location, "Content-Length: 1", key, method="POST")
        lost.writer.write(b"x")
        second = asyncio.ensure_future(post(gateway, location, b"x", key))
        lost.writer.close()
        held.set()
        for answer, _ in await asyncio.gather(first, second):
            assert answer.status == 204
        for content, own, status in (
            (b"x", key, 204),
            (b"y", key, 422),
            (b"no", "Idempotency-Key: 2", 409),
            (b"no", "Idempotency-Key: 2", 409),
            (b"x", "Idempotency-Key: a b", 400),
        ):
            answer, _ = await post(gateway, location, content, own)
            assert answer.status == status
        assert [message["text"] for message in gateway.messages("receive")] == ["x", "no"]


@on_loop
async def test_keys_are_bounded() -> None:
    """Of the keys of one stream the latest are remembered, so many; another stream has its own."""
    async with Serving(BOTH, max_keys=1) as gateway:
        (_, one), (_, other) = await located(gateway), await located(gateway)
        for location, key in ((one, 1), (one, 2), (one, 2), (one, 1), (other, 1)):
            answer, _ = await post(gateway, location, b"x", f"Idempotency-Key: {key}")
            assert answer.status == 204
        assert len(gateway.messages("receive")) == 4


@on_loop
async def test_too_much_waits() -> None:
    """Who posts faster than it is worked on is answered 503, and nothing waits beyond bounds."""
    go = asyncio.Event()
    async with Serving({**BOTH, "sse.receive": waits(go)}) as gateway:
        _, location = await located(gateway)
        posts = [asyncio.ensure_future(post(gateway, location)) for _ in range(100)]
        await wait_until(lambda: sum(one.done() for one in posts) > 10)
        go.set()
        statuses = [answer.status for answer, _ in await asyncio.gather(*posts)]
        assert set(statuses) == {204, 503}
        assert statuses.count(204) == len(gateway.messages("receive")) >= 64
        assert gateway.drops == {"limited": statuses.count(503)}


@on_loop
async def test_posts_of_pages() -> None:
    """A foreign page may not post; a listed one may read the answer, once it has asked."""
    async with Serving(BOTH, origins=("https://app.example",)) as gateway:
        _, location = await located(gateway)
        evil, _ = await post(gateway, location, b"x", page("https://evil.example"))
        assert evil.status == 403
        assert not gateway.messages("receive")
        mine = page("https://app.example")
        answer, _ = await post(gateway, location, b"x", mine)
        assert dict(answer.headers)["access-control-allow-origin"] == "https://app.example"
        asks = "Access-Control-Request-Method: POST"
        asked = await gateway.ask(location, mine, asks, method="OPTIONS")
        headers = await asked.head()
        assert asked.status == 204
        assert headers["access-control-allow-methods"] == "POST"
        assert headers["access-control-allow-headers"] == "content-type, idempotency-key"


@on_loop
async def test_receive_alone() -> None:
    """Where only sse.receive is routed a stream is accepted, for what it will post."""
    async with Serving({"sse.receive": accept, "sse.disconnect": accept}) as gateway:
        _, location = await located(gateway)
        answer, _ = await post(gateway, location)
        assert answer.status == 204


def test_larger_than_the_layer() -> None:
    """A bound that the layer cannot carry stops the start, with what to set."""
    SsePlugin.check(SseConfig(), LayerOptions())
    with pytest.raises(ConfigError, match=r"set layer\.message_bytes to 9016384 or more"):
        SsePlugin.check(SseConfig(max_message=9_000_000), LayerOptions())
