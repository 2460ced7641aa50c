"""Consumers of long-poll connections that are classes; one class for those and for WebSockets."""

from __future__ import annotations

import pytest

from django_gateway import Consumer, JsonLongpollConsumer, LongpollConsumer, route_class
from tests.django.peer import Outcome

OK = Outcome("accepted")


class Echo(LongpollConsumer):
    groups = ("everybody",)

    def receive(self, text=None, bytes=None, **kwargs):
        if text == "bye":
            self.send("bye", close=4001)
        elif text == "all":
            self.group_send("everybody", "hi all")
        else:
            self.send(text, bytes=bytes)


class AsyncEcho(LongpollConsumer):
    groups = ("everybody",)

    async def receive(self, text=None, bytes=None, **kwargs):
        if text == "all":
            await self.agroup_send("everybody", "hi all")
        else:
            Echo.receive(self, text, bytes)


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"text": "hi"}, {"text": "hi"}),
        ({"bytes": b"\x00"}, {"bytes": b"\x00"}),
        ({"text": "bye"}, {"text": "bye", "close": 4001}),
    ],
)
def test_messages(work, peer, kind, sent, answer):
    """receive gets what is posted; send answers with a message for the next poll."""
    work([route_class(kind)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("longpoll.receive", message) == ([answer], [OK])


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
def test_groups(work, peer, kind):
    """It is in its groups from its connect on, and group_send reaches them all."""
    work([route_class(kind)])
    name = peer.new_reply_channel()
    message = {"reply_channel": name, "last_event_id": ""}
    assert peer.settled("longpoll.connect", message)[1] == [OK]
    assert list(peer.layer.group_members("everybody")) == [name]
    message = {"reply_channel": name, "text": "all"}
    assert peer.settled("longpoll.receive", message) == ([{"text": "hi all"}], [OK])


class Votes(JsonLongpollConsumer):
    def receive(self, content, **kwargs):
        self.send({"you voted": content["vote"]})


@pytest.mark.parametrize(
    ("sent", "answers", "outcome"),
    [
        ({"text": '{"vote": 1}'}, [{"text": '{"you voted": 1}'}], OK),
        ({"text": "{"}, [], Outcome("rejected", 400, "not JSON")),
        ({"bytes": b"{}"}, [], Outcome("rejected", 415, "text alone")),
    ],
)
def test_json(work, peer, sent, answers, outcome):
    """JSON comes and goes as such; what is none is refused by a status of HTTP."""
    work([route_class(Votes)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("longpoll.receive", message) == (answers, [outcome])


class Room(Consumer):
    protocols = ("websocket", "longpoll")

    def receive(self, message):
        self.reply(text=f"{message.channel.name} {message.text}")


@pytest.mark.parametrize("protocol", Room.protocols)
def test_both(work, peer, protocol):
    """One class takes both, by the same methods."""
    work([route_class(Room)])
    message = {"reply_channel": peer.new_reply_channel(), "text": "hi"}
    name = f"{protocol}.receive"
    assert peer.settled(name, message) == ([{"text": f"{name} hi"}], [OK])
