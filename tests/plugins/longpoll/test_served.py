"""Long-polling over real sockets: decisions, polls, cursors, posts, ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.access import AccessLog
from gateway.core.config import GatewaySettings, LogSettings
from gateway.core.errors import ConfigError
from gateway.core.layers.base import FAILED, REJECTED, UNROUTED, Outcome, group_add, group_send
from gateway.core.layers.options import LayerOptions
from gateway.plugins.longpoll import LongpollPlugin
from gateway.plugins.longpoll.config import LongpollConfig
from tests.plugins.longpoll.serving import (
    ECHO,
    Answer,
    Polling,
    Serving,
    echo,
    on_loop,
    wait_until,
    waiting,
)

# ---------------------------------------------------------------- the beginning


@on_loop
async def test_accepted() -> None:
    """A connection is accepted with its location, and what a client has to know."""
    async with Serving(ECHO) as gateway:
        answer = await gateway.begin("/ro%6Fm?a=b", "Last-Event-ID: 1-2a")
        assert answer.status == 201
        location = answer.headers["location"]
        said = json.loads(answer.content)
        assert said == {"location": said["location"], "wait": 25, "expires": 60.0}
        assert said["location"].lower() == location.lower()
        assert said["location"].startswith("/ro%6Fm?gateway_connection=longpoll.p_")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["preference-applied"] == "respond-async"
        (message,) = gateway.messages("connect")
        assert message["scheme"] == "http"
        assert (message["path"], message["query_string"]) == ("/room", b"a=b")
        assert message["last_event_id"] == "1-2a"
        assert message["order"] == 0


@pytest.mark.parametrize(
    ("reply", "status", "content"),
    [
        ({"accept": False}, 403, b"403 Forbidden\n"),
        ({"close": True, "reason": "no"}, 403, b"no\n"),
        ({"status": 429, "content": b"slowly", "headers": [[b"x", b"y"]]}, 429, b"slowly"),
    ],
)
@on_loop
async def test_refused_by_a_reply(reply: Any, status: int, content: bytes) -> None:
    """The application may refuse, in its own words; no disconnect follows."""
    async with Serving({**ECHO, "longpoll.connect": lambda _: [reply]}) as gateway:
        answer = await gateway.begin()
        assert (answer.status, answer.content) == (status, content)
        await wait_until(lambda: not gateway.engine.by_channel)
        assert gateway.messages("disconnect") == []


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(Outcome(REJECTED), 403), (Outcome(REJECTED, code=402), 402), (Outcome(FAILED), 500)],
)
@on_loop
async def test_refused_by_the_outcome(outcome: Outcome, status: int) -> None:
    """So does the outcome of its connect."""
    async with Serving({**ECHO, "longpoll.connect": lambda _: outcome}) as gateway:
        assert (await gateway.begin()).status == status


@on_loop
async def test_undecided() -> None:
    """What nobody decides is answered 503 in time; an explicit decision may be demanded."""
    async with Serving(ECHO, implicit_accept=False, decision_timeout=0.1) as gateway:
        answer = await gateway.begin()
        assert (answer.status, answer.content) == (503, b"nobody decided in time\n")


@on_loop
async def test_not_routed() -> None:
    """Where nobody routes it, or no route matches, the request goes on as one of HTTP."""
    page: Any = {"http.request": lambda _: [{"text": "a page"}]}
    async with Serving(page) as gateway:
        assert (await gateway.begin()).content == b"a page"
    unrouted: Any = {**ECHO, **page, "longpoll.connect": lambda _: Outcome(UNROUTED)}
    async with Serving(unrouted) as gateway:
        assert (await gateway.begin()).content == b"a page"
        assert not gateway.engine.by_channel
    async with Serving({**ECHO, **page}, paths=("/live/",)) as gateway:
        assert (await gateway.begin()).content == b"a page"
        assert (await gateway.begin("/live/x")).status == 201


@on_loop
async def test_no_connect_needed() -> None:
    """Where only receive is routed every connection is accepted."""
    async with Serving({"longpoll.receive": echo}) as gateway:
        client = await gateway.polling()
        assert (await client.post(b"hi")).status == 204
        assert (await client.poll()).messages == [{"text": "hi"}]


@on_loop
async def test_client_leaves_undecided() -> None:
    """A client that leaves before the decision has a disconnect only if it was accepted."""
    held = asyncio.Event()

    async def wait(_: Any) -> None:
        await held.wait()

    async with Serving({**ECHO, "longpoll.connect": wait}) as gateway:
        asking = await gateway.asks("POST", "/room", "Prefer: respond-async")
        await wait_until(lambda: gateway.messages("connect"))
        asking.writer.close()
        await wait_until(lambda: not gateway.engine.by_channel)
        held.set()
        await wait_until(lambda: gateway.messages("disconnect"))


@on_loop
async def test_limits() -> None:
    """Too many connections are refused, counted; one that ends makes room."""
    async with Serving(ECHO, max_connections=2) as gateway:
        first, _ = await gateway.polling(), await gateway.polling()
        assert (await gateway.begin()).status == 503
        assert gateway.drops["limited"] == 1
        await first.leave()
        await gateway.polling()


@on_loop
async def test_limit_of_undecided() -> None:
    """So are too many that wait for a decision."""
    held = asyncio.Event()

    async def wait(_: Any) -> None:
        await held.wait()

    async with Serving({**ECHO, "longpoll.connect": wait}, max_pending=1) as gateway:
        await gateway.asks("POST", "/room", "Prefer: respond-async")
        await wait_until(lambda: gateway.messages("connect"))
        assert (await gateway.begin()).status == 503
        held.set()


# ---------------------------------------------------------------- polls


@on_loop
async def test_poll_waits() -> None:
    """A poll waits for a message, and is answered as soon as there is one."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        asking = await client.waits()
        await gateway.tell({"text": 'é"\n'}, {"bytes": b"\x00\xff"}, {"text": "x", "id": "1-2"})
        answer = await asking.answer()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["preference-applied"] == "wait=5"
        assert answer.messages[0] == {"text": 'é"\n'}


@on_loop
async def test_one_turn_one_answer() -> None:
    """What comes in one turn of the loop leaves in one answer, in order, whatever it is."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        asking = await client.waits()
        name = gateway.messages("connect")[-1]["reply_channel"]
        await gateway.layer.aapply([group_add("g", name)])
        sends = [group_send("g", {"text": str(n)}) for n in range(20)]
        await gateway.layer.aapply(
            [*sends, group_send("g", {"missed": True}), group_send("g", {"id": "1-2"})]
        )
        answer = await asking.answer()
        texts = [{"text": str(n)} for n in range(20)]
        assert answer.messages == [*texts, {"missed": True}, {"id": "1-2"}]


@on_loop
async def test_nothing_within_the_wait() -> None:
    """At the end of the wait the answer is 204 with the cursor; a wait of 0 asks only."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        for wait in (0, 1):
            answer = await client.poll(wait)
            assert (answer.status, answer.tag, answer.content) == (204, '"0"', b"")
            assert answer.headers["preference-applied"] == f"wait={wait}"
        assert gateway.counted("empty") == 2


@on_loop
async def test_wait_is_bounded() -> None:
    """A poll waits no longer than ``max_wait``, and is told so; by itself as ``wait`` says."""
    async with Serving(ECHO, wait=0, max_wait=1) as gateway:
        client = await gateway.polling()
        answer = await client.poll(500)
        assert (answer.status, answer.headers["preference-applied"]) == (204, "wait=1")
        answer = await client.poll(None)
        assert answer.status == 204
        assert "preference-applied" not in answer.headers


@on_loop
async def test_cursor() -> None:
    """A repeated cursor is answered by just the same; the next one acknowledges."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "1"}, {"text": "2"})
        first = await client.poll(cursor="")
        await gateway.tell({"text": "3"})
        for cursor in ("", '"0"', 'W/"0"'):
            again = await client.poll(cursor=cursor)
            assert (again.content, again.tag) == (first.content, '"1"')
        second = await client.poll(cursor='"1"')
        assert (second.messages, second.tag) == ([{"text": "3"}], '"2"')
        assert gateway.counted("repeated") == 3
        stray = await client.poll(cursor='"0"')
        assert (stray.status, b'"2"' in stray.content) == (409, True)
        client.cursor = ""
        assert (await client.poll()).status == 428
        assert gateway.counted("stray") == 2


@on_loop
async def test_second_poll() -> None:
    """A second poll at a time ends the first with 204, and gets what comes."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        first = await client.waits()
        second = await client.polls()
        assert (await first.answer()).status == 204
        await gateway.tell({"text": "x"})
        assert (await second.answer()).messages == [{"text": "x"}]
        assert gateway.counted("replaced") == 1
        assert waiting(gateway) == 0


@on_loop
async def test_poll_breaks_off() -> None:
    """What comes when a poll was broken off is the next one's."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        asking = await client.waits()
        asking.writer.close()
        await wait_until(lambda: waiting(gateway) == 0)
        await gateway.tell({"text": "x"})
        assert (await client.poll()).messages == [{"text": "x"}]


@on_loop
async def test_answers_are_bounded() -> None:
    """An answer takes so many bytes, and one message more; the rest is the next one's."""
    async with Serving(ECHO, max_answer=100) as gateway:
        client = await gateway.polling()
        texts = ["x" * 40, "y" * 40, "z" * 300, "1", "2"]
        await gateway.tell(*({"text": text} for text in texts))
        heard = []
        while len([text for several in heard for text in several]) < len(texts):
            heard.append([message["text"] for message in (await client.poll()).messages])
        assert heard == [texts[:2], texts[2:3], texts[3:]]


@on_loop
async def test_large() -> None:
    """One message may be as large as the layer lets through; one that is larger is dropped."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "x" * 1_000_000})
        assert (await client.poll()).messages == [{"text": "x" * 1_000_000}]
        await gateway.tell({"text": "\x00" * 500_000}, {"text": "y"})
        assert (await client.poll()).messages == [{"text": "y"}]
        assert gateway.drops == {"invalid": 1}


@pytest.mark.parametrize(
    ("policy", "left"),
    [("drop_oldest", ["8", "9"]), ("drop_newest", ["0", "1"]), ("close", None)],
)
@on_loop
async def test_slow_client(policy: str, left: list[str] | None) -> None:
    """What waits is bounded; then the slow consumer's policy is applied, and counted."""
    settings = GatewaySettings(outbox_messages=2)
    async with Serving(ECHO, settings=settings, slow_consumer=policy) as gateway:
        client = await gateway.polling()
        for n in range(10):
            await gateway.tell({"text": str(n)})
        if left is None:
            await wait_until(lambda: gateway.messages("disconnect"))
            assert (await client.poll()).status == 404
        else:
            await wait_until(lambda: gateway.drops.get("slow") == 8)
            assert [one["text"] for one in (await client.poll()).messages] == left


@on_loop
async def test_acks() -> None:
    """An ack is answered once the client's cursor says that it has the message."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        acks = gateway.layer.new_channel("acks?")
        await gateway.tell({"text": "x", "ack": 5, "ack_channel": acks})
        await client.poll()
        assert (await gateway.layer.areceive([acks], block=0.05))[1] is None
        await client.poll(0)
        _, found = await gateway.layer.areceive([acks], block=5)
        assert found is not None
        assert (found["ack"], found["outcome"]) == (5, "accepted")
        await gateway.tell({"text": "y", "ack": 6, "ack_channel": acks})
        await client.leave()
        _, found = await gateway.layer.areceive([acks], block=5)
        assert found is not None
        assert (found["ack"], found["outcome"], found["reason"]) == (
            *(6, "failed"),
            "the connection is gone",
        )


# ---------------------------------------------------------------- posts


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (None, 204),
        (Outcome(REJECTED, reason="no"), 403),
        (Outcome(REJECTED, code=429), 429),
        (Outcome(FAILED), 500),
        (Outcome(UNROUTED), 500),
    ],
)
@on_loop
async def test_post(outcome: Outcome | None, status: int) -> None:
    """What is posted is answered by its outcome, and the connection goes on."""
    async with Serving({**ECHO, "longpoll.receive": lambda _: outcome}) as gateway:
        client = await gateway.polling()
        assert (await client.post(b"x")).status == status
        octets = "Content-Type: application/octet-stream"
        await client.post(b"\xff", octets)
        keys = [(m["order"], m.get("text"), m.get("bytes")) for m in gateway.messages("receive")]
        assert keys == [(1, "x", None), (2, None, b"\xff")]
        assert (await client.poll(0)).status == 204


@on_loop
async def test_bad_posts() -> None:
    """What cannot be a message is told so, and reaches nobody."""
    async with Serving(ECHO, max_message=10) as gateway:
        client = await gateway.polling()
        answer = await client.post(b"\xff")
        assert (answer.status, b"octet-stream" in answer.content) == (400, True)
        assert (await client.post(b"x" * 11)).status == 413
        assert gateway.drops == {"too_big": 1}
        answer = await client.post(b"x", "Idempotency-Key: a b")
        assert (answer.status, b"128 visible" in answer.content) == (400, True)
        assert gateway.messages("receive") == []


@on_loop
async def test_idempotency() -> None:
    """A repeated post is answered as the first, even before that was, and runs once."""
    held = asyncio.Event()

    async def receive(message: dict[str, Any]) -> Any:
        await held.wait()
        return Outcome(REJECTED, code=409) if message["text"] == "no" else None

    async with Serving({**ECHO, "longpoll.receive": receive}) as gateway:
        client = await gateway.polling()
        key = "Idempotency-Key: 1"
        first = await gateway.asks("POST", client.location, key, content=b"x")
        await wait_until(lambda: gateway.messages("receive"))
        second = await gateway.asks("POST", client.location, key, content=b"x")
        first.writer.close()  # its answer is lost
        held.set()
        assert (await second.answer()).status == 204
        assert (await client.post(b"x", key)).status == 204
        assert (await client.post(b"y", key)).status == 422
        for _ in range(2):
            assert (await client.post(b"no", "Idempotency-Key: 2")).status == 409
        assert [message["text"] for message in gateway.messages("receive")] == ["x", "no"]


@on_loop
async def test_too_much_is_posted() -> None:
    """Who posts faster than consumers take is told to wait, and loses nothing that was taken."""
    held = asyncio.Event()

    async def receive(_: Any) -> None:
        await held.wait()

    settings = GatewaySettings(inbox_messages=2)
    async with Serving({**ECHO, "longpoll.receive": receive}, settings=settings) as gateway:
        client = await gateway.polling()
        asking = [await gateway.asks("POST", client.location, content=b"%d" % n) for n in range(8)]
        await wait_until(lambda: "limited" in gateway.drops)
        await wait_until(lambda: gateway.messages("receive"))
        held.set()
        statuses = [(await one.answer()).status for one in asking]
        assert set(statuses) == {204, 503}
        taken = len(gateway.messages("receive"))
        assert statuses.count(204) == taken
        assert (await client.post(b"again")).status == 204


# ---------------------------------------------------------------- the end


@on_loop
async def test_delete() -> None:
    """A client that says that it leaves is gone: one disconnect, and the location is no more."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        asking = await client.waits()
        assert (await client.leave()).status == 204
        assert (await asking.answer()).status == 404
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["path"], message["code"], message["reason"]) == ("/room", 1000, "")
        for answer in (await client.poll(), await client.post(b"x"), await client.leave()):
            assert answer.status == 404
            assert answer.content == b"there is no such connection, or not any more\n"


@on_loop
async def test_expires() -> None:
    """A client that does not poll is gone after ``expires`` seconds, whatever it posts."""
    async with Serving(ECHO, expires=0.2) as gateway:
        client = await gateway.polling()
        assert (await client.post(b"x")).status == 204
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (1006, "no poll for 0.2 s")
        assert (await client.poll()).status == 404
        assert not gateway.engine.by_channel


@on_loop
async def test_undelivered() -> None:
    """What a client never fetched is counted as gone."""
    early: Any = {**ECHO, "longpoll.connect": lambda _: [{"text": "a"}, {"text": "b"}]}
    async with Serving(early, expires=0.2) as gateway:
        await gateway.polling()
        await gateway.tell({"text": "c"})
        await wait_until(lambda: gateway.drops == {"gone": 3})


@on_loop
async def test_all_is_delivered() -> None:
    """Where all was fetched nothing is, though a last element of the gateway's own was not."""
    early: Any = {**ECHO, "longpoll.connect": lambda _: [{"text": "a"}]}
    async with Serving(early, expires=0.2) as gateway:
        client = await gateway.polling()
        assert (await client.poll(0)).messages == [{"text": "a"}]
        await gateway.engine.drain(5)
        assert len(gateway.engine.relay._locations) == 1
        await wait_until(lambda: not gateway.engine.relay._locations)
        assert gateway.drops == {}


@on_loop
async def test_a_waiting_poll_is_a_sign_of_life() -> None:
    """While a poll waits nothing expires."""
    async with Serving(ECHO, expires=0.2) as gateway:
        client = await gateway.polling()
        assert (await client.poll(1)).status == 204
        assert gateway.messages("disconnect") == []


@on_loop
async def test_closed() -> None:
    """A close is the last element, behind what waits; repeated, it is there again; then 404."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "1"}, {"text": "2", "close": 4001, "reason": "over"})
        last = await client.poll(cursor="")
        assert last.messages == [{"text": "1"}, {"text": "2"}, {"close": 4001, "reason": "over"}]
        await wait_until(lambda: gateway.messages("disconnect"))
        (message,) = gateway.messages("disconnect")
        assert (message["code"], message["reason"]) == (4001, "over")
        assert (await client.poll(cursor='"0"')).content == last.content
        assert (await client.post(b"x")).status == 404
        assert (await client.poll(cursor='"1"')).status == 404
        assert (await client.poll(cursor='"0"')).status == 404


@on_loop
async def test_closed_while_a_batch_is_unheard() -> None:
    """A close comes in a batch of its own where the last one may not have been heard."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "1"})
        first = await client.poll(cursor="")
        await gateway.tell({"close": True})
        assert (await client.poll(cursor='"0"')).content == first.content
        answer = await client.poll(cursor='"1"')
        assert answer.messages == [{"close": 1000, "reason": ""}]


@on_loop
async def test_closed_by_what_was_posted() -> None:
    """What was posted is answered by its outcome, though the consumer closes on it."""

    def receive(_: Any) -> Any:
        return [{"text": "bye", "close": True}]

    async with Serving({**ECHO, "longpoll.receive": receive}) as gateway:
        client = await gateway.polling()
        asking = await client.waits()
        assert (await client.post(b"x")).status == 204
        assert (await asking.answer()).messages == [{"text": "bye"}, {"close": 1000, "reason": ""}]


@on_loop
async def test_foreign_code() -> None:
    """A code that no WebSocket may send is 1000, counted."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        await gateway.tell({"close": 99})
        assert (await client.poll()).messages == [{"close": 1000, "reason": ""}]
        assert gateway.drops == {"foreign_code": 1}


@on_loop
async def test_drain() -> None:
    """A shutdown answers waiting polls at once, and says when to come back."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        asking = await client.waits(50)
        await gateway.engine.drain(0)
        (last,) = (await asking.answer()).messages
        assert last["close"] == 1012
        assert last["reason"].startswith("the gateway is shutting down; retry-after=")


@on_loop
async def test_drain_without_a_poll() -> None:
    """A client that does not poll, and has all there is, delays no shutdown."""
    async with Serving(ECHO, expires=600) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "a"})
        assert (await client.poll()).messages == [{"text": "a"}]
        async with asyncio.timeout(5):
            await gateway.engine.drain(600)
        assert gateway.drops == {}


@on_loop
async def test_drain_of_who_vanished() -> None:
    """One that does not come for what waits delays it by as long as one that lives may take."""
    async with Serving(ECHO, expires=600, farewell_timeout=0.3) as gateway:
        client = await gateway.polling()
        await gateway.tell({"text": "a"})
        async with asyncio.timeout(5):
            await gateway.engine.drain(600)
        assert gateway.drops == {"gone": 1}
        await wait_until(lambda: gateway.messages("disconnect"))
        assert gateway.messages("disconnect")[0]["code"] == 1012
        (last,) = (await client.poll()).messages
        assert last["close"] == 1012


@on_loop
async def test_drain_of_who_fetches() -> None:
    """One that polls on gets all of it, answer by answer, and then the reason."""
    async with Serving(ECHO, max_answer=10, farewell_timeout=600, expires=600) as gateway:
        client = await gateway.polling()
        await gateway.tell(*({"text": f"number {n}"} for n in range(3)))
        draining = asyncio.ensure_future(gateway.engine.drain(600))
        await wait_until(lambda: gateway.engine.draining)
        heard = []
        while not draining.done() or len(heard) < 4:
            heard += (await client.poll(0)).messages
        assert [one.get("text") for one in heard[:3]] == [f"number {n}" for n in range(3)]
        assert heard[3]["close"] == 1012
        assert gateway.drops == {}


# ---------------------------------------------------------------- wrong requests


@on_loop
async def test_methods() -> None:
    """Other methods are answered by those that there are."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        for method in ("PUT", "PATCH"):
            answer = await gateway.ask(method, client.location)
            assert answer.status == 405
            assert answer.headers["allow"] == "get, post, delete, options"
        asking = await gateway.asks("HEAD", client.location)
        assert (await asking.reader.readline()).startswith(b"HTTP/1.1 405")
        answer = await gateway.ask("OPTIONS", client.location)
        assert (answer.status, answer.headers["allow"]) == (204, "get, post, delete, options")


@pytest.mark.parametrize(
    ("header", "word"),
    [("Prefer: wait=soon", b"wait=25"), ("If-None-Match: 7", b"ETag of the last answer")],
)
@on_loop
async def test_bad_poll(header: str, word: bytes) -> None:
    """A poll that cannot be read is told what one looks like."""
    async with Serving(ECHO) as gateway:
        client = await gateway.polling()
        answer = await gateway.ask("GET", client.location, header)
        assert answer.status == 400
        assert word in answer.content


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@on_loop
async def test_no_such_location(method: str) -> None:
    """A location of nothing is answered 404; one of another plugin's is a request of HTTP."""
    page: Any = {"http.request": lambda _: [{"text": "a page"}]}
    async with Serving({**ECHO, **page}) as gateway:
        token = "t" * 22
        for name in ("x", f"p_a.{token}", f"{gateway.engine.process}.{token}", "%C3%A9"):
            answer = await gateway.ask(method, f"/room?gateway_connection=longpoll.{name}")
            assert answer.status == 404
        answer = await gateway.ask(method, f"/room?gateway_connection=sse.p_a.{token}")
        assert answer.content == b"a page"


@on_loop
async def test_pages() -> None:
    """A page of another site is refused everywhere; one that is named may, and may read all."""
    async with Serving(ECHO, origins=("https://a.example",)) as gateway:
        client = await gateway.polling()
        foreign, named = "Origin: https://b.example", "Origin: https://a.example"
        assert (await gateway.begin("/room", foreign)).status == 403
        for method in ("GET", "POST", "DELETE"):
            assert (await gateway.ask(method, client.location, foreign)).status == 403
        answer = await gateway.ask("GET", client.location, named, "Prefer: wait=0")
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        exposed = answer.headers["access-control-expose-headers"]
        assert exposed == "location, etag, preference-applied, retry-after"
        asked = "Access-Control-Request-Method: "
        for target, method, headers in (
            ("/room", "POST", "prefer, last-event-id"),
            (client.location, "GET", "if-none-match, prefer"),
            (client.location, "POST", "content-type, idempotency-key"),
            (client.location, "DELETE", "x"),
        ):
            wanted = f"Access-Control-Request-Headers: {headers}"
            answer = await gateway.ask("OPTIONS", target, named, asked + method, wanted)
            assert answer.status == 204
            assert method.lower() in answer.headers["access-control-allow-methods"]
            allowed = answer.headers["access-control-allow-headers"].split(", ")
            assert headers == "x" or set(headers.split(", ")) <= set(allowed)


def test_settings() -> None:
    """Messages that the layer would not let through stop the start."""
    for name in ("max_message", "max_answer"):
        with pytest.raises(ConfigError, match=f"longpoll.{name} is 2000000"):
            LongpollPlugin.check(LongpollConfig(**{name: 2_000_000}), LayerOptions())
    with pytest.raises(ValueError, match="is no origin"):
        LongpollConfig(origins=("nowhere",))


@on_loop
async def test_access_log() -> None:
    """A connection is one record, its requests are theirs; no location stands in any."""
    lines: list[bytes] = []
    access = AccessLog(LogSettings(access_format="json"), lines.append)
    async with Serving(ECHO, access=access) as gateway:
        client = await gateway.polling("/room?secret=1")
        await client.post(b"hello")
        assert (await client.poll()).messages == [{"text": "hello"}]
        await client.leave()
        await wait_until(lambda: len(lines) == 4)
    records = [json.loads(line) for line in lines]
    assert not any(b"secret" in line or b"longpoll.p_" in line for line in lines)
    (own,) = [record for record in records if record["protocol"] == "longpoll"]
    assert (own["method"], own["path"], own["code"]) == ("POST", "/room", 1000)
    assert (own["received"], own["sent"], own["end"]) == (5, len(b'{"text":"hello"}'), "client")
    others = [(r["method"], r["path"], r["code"]) for r in records if r is not own]
    assert sorted(others) == [
        *(("DELETE", "/room", 204), ("GET", "/room", 200), ("POST", "/room", 204))
    ]


# ---------------------------------------------------------------- several processes


async def _everything(client: Polling, at: Serving) -> list[Answer]:
    """Do what a client does, all of it at another gateway."""
    asking = await client.waits(at=at)
    posted = await client.post(b"hello", at=at)
    first = await asking.answer()
    again = await client.poll(cursor='"0"', at=at)
    return [posted, first, again, await client.leave(at=at), await client.poll(at=at)]


@on_loop
async def test_at_another_gateway() -> None:
    """A connection is served by every gateway process."""
    async with Serving(ECHO) as gateway, gateway.beside() as other:
        client = await gateway.polling()
        posted, first, again, left, gone = await _everything(client, other)
        assert (posted.status, left.status, gone.status) == (204, 204, 404)
        assert first.messages == [{"text": "hello"}]
        assert first.headers["preference-applied"] == "wait=5"
        assert (again.content, again.tag) == (first.content, '"1"')
        await wait_until(lambda: gateway.messages("disconnect"))
        assert len(gateway.messages("connect")) == len(gateway.messages("disconnect")) == 1


@on_loop
async def test_gateway_ends() -> None:
    """Polls that wait at another gateway are answered at once when theirs is gone: 404."""
    async with Serving(ECHO) as gateway, gateway.beside() as other:
        await wait_until(lambda: other.engine.flow.announced)
        client = await other.polling()
        asking = await client.polls(50, at=gateway)
        await wait_until(lambda: waiting(other) == 1)
        other.engine.edge.leave()
        assert (await asking.answer()).status == 404
        assert (await client.poll(at=gateway)).status == 404
        assert (await client.post(b"x", at=gateway)).status == 404


@on_loop
async def test_polled_gateway_drains() -> None:
    """A gateway that shuts down lets go of polls that wait for another: 204, to poll elsewhere."""
    async with Serving(ECHO) as gateway, gateway.beside() as other:
        client = await gateway.polling()
        asking = await client.waits(50, at=other)
        await other.engine.drain(0)
        answer = await asking.answer()
        assert (answer.status, answer.content) == (204, b"")
        await wait_until(lambda: waiting(gateway) == 0)
        await gateway.tell({"text": "x"})
        assert (await client.poll()).messages == [{"text": "x"}]


@on_loop
async def test_poll_breaks_off_elsewhere() -> None:
    """A poll that was broken off at another gateway takes nothing."""
    async with Serving(ECHO) as gateway, gateway.beside() as other:
        client = await gateway.polling()
        asking = await client.waits(50, at=other)
        asking.writer.close()
        await wait_until(lambda: waiting(gateway) == 0)
        await gateway.tell({"text": "x"})
        assert (await client.poll()).messages == [{"text": "x"}]
