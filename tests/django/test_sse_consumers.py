"""Consumers of event streams that are classes."""

from __future__ import annotations

import asyncio

import pytest

from django_gateway import Consumer, JsonSseConsumer, SseConsumer, route_class
from tests.django.peer import Outcome

OK = Outcome("accepted")


class Echo(SseConsumer):
    def connect(self, message, **kwargs):
        self.send("welcome", event="greeting", id="1", retry=500)

    def receive(self, text=None, bytes=None, **kwargs):
        match text:
            case "bye":
                self.send("bye", close=4001)
            case "position":
                self.send(id="7")
            case "all":
                self.group_send("everybody", "hi all", event="shout")
            case _:
                self.send(text, bytes=bytes)


class AsyncEcho(SseConsumer):
    async def receive(self, text=None, bytes=None, **kwargs):
        if text == "all":
            await self.agroup_send("everybody", "hi all", event="shout")
        else:
            Echo.receive(self, text, bytes)


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"text": "hi"}, {"text": "hi"}),
        ({"text": ""}, {"text": ""}),
        ({"bytes": b"\x00"}, {"bytes": b"\x00"}),
        ({"text": "bye"}, {"text": "bye", "close": 4001}),
        ({"text": "position"}, {"id": "7"}),
    ],
)
def test_events(work, peer, kind, sent, answer):
    """receive gets what is posted; send answers with an event, or fields alone."""
    work([route_class(kind)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("sse.receive", message) == ([answer], [OK])


def test_connect(work, peer):
    """A connect may begin with an event of its own."""
    work([route_class(Echo)])
    message = {"reply_channel": peer.new_reply_channel(), "last_event_id": ""}
    answer = {"text": "welcome", "event": "greeting", "id": "1", "retry": 500}
    assert peer.settled("sse.connect", message) == ([answer], [OK])


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
def test_group_send(work, peer, kind):
    """group_send reaches every member of a group, from a consumer and from anywhere."""
    work([route_class(kind)])
    name = peer.new_reply_channel()
    peer.layer.group_add("everybody", name)
    message = {"reply_channel": name, "text": "all"}
    replies, outcomes = peer.settled("sse.receive", message)
    assert outcomes == [OK]
    kind.group_send("everybody", "from outside", close=True)
    asyncio.run(kind.agroup_send("everybody", "again", retry=1))
    heard = list(replies)
    while {"text": "again", "retry": 1} not in heard:
        heard.append(peer.hear()[1])
    assert {"text": "from outside", "close": True} in heard
    assert {"text": "hi all", "event": "shout"} in heard


class JsonEcho(JsonSseConsumer):
    def receive(self, content, **kwargs):
        self.send({"you": content}, event="echo", close=content == "bye")


class AsyncJsonEcho(JsonSseConsumer):
    async def receive(self, content, **kwargs):
        JsonEcho.receive(self, content)


@pytest.mark.parametrize("kind", [JsonEcho, AsyncJsonEcho])
@pytest.mark.parametrize(
    ("sent", "answer", "outcome"),
    [
        ({"text": '{"a": [1]}'}, [{"text": '{"you": {"a": [1]}}', "event": "echo"}], OK),
        ({"text": '"bye"'}, [{"text": '{"you": "bye"}', "event": "echo", "close": True}], OK),
        ({"text": "{"}, [], Outcome("rejected", 400, "not JSON")),
        ({"text": "[" * 500_000}, [], Outcome("rejected", 400, "not JSON")),
        ({"bytes": b"{}"}, [], Outcome("rejected", 415, "JSON alone")),
    ],
    ids=["json", "close", "no json", "deep", "bytes"],
)
def test_json(work, peer, caplog, kind, sent, answer, outcome):
    """receive gets what the JSON says; what is none is refused, and nothing is logged."""
    work([route_class(kind)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("sse.receive", message) == (answer, [outcome])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_json_groups(peer, work):
    """group_send of a JSON consumer sends JSON, and so does its twin."""
    work([route_class(JsonEcho)])
    name = peer.new_reply_channel()
    peer.layer.group_add("g", name)
    JsonEcho.group_send("g", {"a": 1}, id="5")
    asyncio.run(JsonEcho.agroup_send("g", {"a": 2}, event="two"))
    heard = []
    while len(heard) < 2:
        _, message = peer.hear()
        if message and "text" in message:
            heard.append(message)
    assert heard == [{"text": '{"a": 1}', "id": "5"}, {"text": '{"a": 2}', "event": "two"}]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"text": {"a": 1}}, TypeError, "a JsonSseConsumer sends other things, as JSON"),
        ({"text": b"x"}, TypeError, r"write send\(bytes=…\)"),
        ({"text": "x", "event": "close"}, ValueError, r"gateway's own; .* send\(close=True\)"),
        ({"event": "tick"}, ValueError, r"send\('', event=…\)"),
        ({"text": "x", "retry": 1.5}, TypeError, r"retry=int\(1000 \* seconds\)"),
        ({}, ValueError, r"send\('text'\)"),
    ],
)
def test_wrong_events(said, error, words):
    """What no browser would get as it was meant is refused, with what to write instead."""
    with pytest.raises(error, match=words):
        SseConsumer.group_send("g", **said)


def test_both_protocols(work, peer):
    """One class serves WebSockets and event streams, with the same replies."""

    class Room(Consumer):
        protocols = ("websocket", "sse")

        def receive(self, message):
            self.reply(f"you said {message.text}")

    work([route_class(Room)])
    for channel in ("websocket.receive", "sse.receive"):
        message = {"reply_channel": peer.new_reply_channel(), "text": "hi"}
        assert peer.settled(channel, message) == ([{"text": "you said hi"}], [OK])
