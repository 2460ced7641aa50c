"""Groups that keep messages, and consumers whose clients come back."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction

import gateway
from django_gateway import Channel, Consumer, Group, asgi, route, route_class
from django_gateway.generic.websockets import JsonWebsocketConsumer, WebsocketConsumer
from django_gateway.message import Message
from gateway.core.names import parse_position, position
from tests.django.peer import Outcome

OK = Outcome("accepted")


@pytest.fixture
def layer(url):
    """The default layer of this process."""
    layer = gateway.open_layer(url)
    asgi.channel_layers.use(layer)
    yield layer
    asgi.channel_layers.use(None)
    layer.close()
    connections.close_all()


def received(layer, channel="a"):
    found = []
    while (message := layer.receive([channel])[1]) is not None:
        found.append(message)
    return found


def now(layer):
    """The present position, as a client has it."""
    return position(*layer.log_read("group:g").position)


def texts(layer):
    """What the group keeps."""
    return [entry["text"] for _, entry in layer.log_read("group:g").entries]


# ---------------------------------------------------------------- outside consumers


def test_kept(layer):
    """A group keeps so many messages, and a member that comes back gets those that it missed."""
    group = Group("g")
    group.send({"text": "0"}, history=2)
    since = now(layer)
    for n in "123":
        group.send({"text": n}, history=2)
    assert texts(layer) == ["2", "3"]
    group.add("a", since=since)
    group.send({"text": "4"})
    assert received(layer) == [{"text": "2"}, {"text": "3"}, {"text": "4"}]
    group.add("b", since="")
    assert received(layer, "b") == []


def test_twins(layer):
    """So with the twins on an event loop."""

    async def main():
        await Group("g").asend({"text": "1"}, history=5, history_seconds=60)
        await Group("g").aadd("a", since=position(1, 0))

    asyncio.run(main())
    assert received(layer) == [{"text": "1"}]


def test_at_the_commit(layer):
    """With ``on_commit`` it is kept when the transaction is committed, and resumed then."""
    with transaction.atomic():
        Group("g").send({"text": "1"}, history=5, on_commit=True)
        Group("g").add("a", since=position(1, 0), on_commit=True)
        assert texts(layer) == []
    assert received(layer) == [{"text": "1"}]


def test_excluded(layer):
    """Who is excluded does not get it later, either."""
    Group("g").send({"text": "1"}, exclude=[Channel("a")], history=5)
    for channel in "ab":
        Group("g").add(channel, since=position(1, 0))
    assert received(layer, "a") == []
    assert received(layer, "b") == [{"text": "1"}]


WRONG = [
    (lambda g: g.send({}, history=-1), ValueError, "0 for none"),
    (lambda g: g.send({}, history=True), TypeError, "number of messages"),
    (lambda g: g.send({}, history="5"), TypeError, "number of messages"),
    (lambda g: g.send({}, history=1.0), TypeError, "number of messages"),
    (lambda g: g.send({}, history_seconds=60), TypeError, "such as history=100"),
    (lambda g: g.send({}, history=5, history_seconds=0), ValueError, "more than 0"),
    (lambda g: g.send({}, history=5, history_seconds=float("inf")), ValueError, "seconds"),
    (lambda g: g.send({}, history=5, history_seconds="60"), TypeError, "number of seconds"),
    (lambda g: g.send({"id": "7"}, history=5), ValueError, "leave it out"),
    (lambda g: g.send({"missed": True}, history=5), ValueError, "leave it out"),
    (lambda g: g.send({"sse": {"id": "7"}}, history=5), ValueError, "leave it out"),
    (lambda g: g.send({"websocket": {"close": 1}}, history=5), ValueError, "without history"),
    (lambda g: g.send({"close": True}, history=5), ValueError, "without history"),
    (lambda g: g.send({"accept": True}, history=5), ValueError, "without history"),
    (lambda g: g.send({"ack": 1}, history=5), ValueError, "without history"),
    (lambda g: g.send([], history=5), TypeError, "a dict"),
    (lambda g: g.add("a", since=5), TypeError, "a str"),
    (lambda g: g.add("a", since=(1, 2)), TypeError, "a str"),
    (lambda g: g.add("a", since=b"1-2"), TypeError, "a str"),
]


@pytest.mark.parametrize(("wrong", "error", "text"), WRONG, ids=map(str, range(len(WRONG))))
def test_wrong_usages(layer, wrong, error, text):
    """What cannot be meant raises, with a text that says what to write."""
    with pytest.raises(error, match=text):
        wrong(Group("g"))
    assert layer.log_keys() == []
    assert Group("g").channels() == []


def test_a_close_without_history(layer):
    """Without history a group's message may say what it likes."""
    Group("g").add("a")
    Group("g").send({"close": True, "id": "7"})
    assert received(layer) == [{"close": True, "id": "7"}]


# ---------------------------------------------------------------- in consumers


def test_of_a_new_client():
    """``message.last_event_id`` is what the client got last, and empty where it says nothing."""
    for content, expected in (({}, ""), ({"last_event_id": ""}, ""), ({"last_event_id": "a"}, "a")):
        assert Message(content, "sse.connect").last_event_id == expected


def test_with_the_outcome(work, peer):
    """What a consumer keeps and joins happens with its outcome, in the order of its calls."""

    def consumer(message):
        name = message.reply_channel
        Group("g").send({"text": "1"}, history=5)
        Group("g").add(name, since=message.last_event_id)
        message.reply("2")
        Group("g").send({"text": "3"}, history=5)
        assert texts(asgi.channel_layers["default"]) == []

    work([route("x", consumer)])
    name = peer.new_reply_channel()
    message = {"reply_channel": name, "last_event_id": position(1, 0)}
    replies, outcomes = peer.settled("x", message)
    assert [reply["text"] for reply in replies] == ["1", "2", "3"]
    assert outcomes == [OK]


def test_a_consumer_that_raised(work, peer):
    """Of a consumer that raised nothing is kept."""

    def consumer(message):
        Group("g").send({"text": "1"}, history=5)
        Group("g").send({"text": "now"}, history=5, immediately=True)
        raise KeyError

    work([route("x", consumer)])
    assert peer.outcome("x", {}).kind == "failed"
    assert texts(peer.layer) == ["now"]


class Feed(Consumer):
    protocols = ("websocket",)
    groups = ("g", "h")


class AsyncFeed(Consumer):
    protocols = ("websocket",)
    groups = ("g", "h")

    async def connect(self, message):
        self.accept()


@pytest.mark.parametrize("kind", [Feed, AsyncFeed])
def test_groups_of_a_class(work, peer, kind):
    """The groups of a class are joined from where the client was last."""
    work([route_class(kind)])
    for group in "ghg":
        peer.layer.send_group(group, {"text": group}, history=5)
    epoch, offset = peer.layer.log_read("group:g").position
    common = {"reply_channel": peer.new_reply_channel(), "path": "/"}
    connect = {**common, "last_event_id": position(epoch, offset - 2)}
    replies, outcomes = peer.settled("websocket.connect", connect)
    assert replies == [{"text": "g"}, {"text": "h"}, {"accept": True}]
    assert outcomes == [OK]
    peer.settled("websocket.disconnect", common)
    assert peer.layer.group_channels("g") == peer.layer.group_channels("h") == []


def test_groups_of_a_class_without_an_id(work, peer):
    """A client that says nothing of what it got last joins, and gets nothing of before."""
    work([route_class(Feed)])
    peer.layer.send_group("g", {"text": "before"}, history=5)
    name = peer.new_reply_channel()
    replies, _ = peer.settled("websocket.connect", {"reply_channel": name, "path": "/"})
    assert replies == [{"accept": True}]


@pytest.mark.parametrize("kind", [WebsocketConsumer, JsonWebsocketConsumer])
def test_group_send_of_a_class(layer, kind):
    """``group_send`` of a class takes the keywords, and its twin."""
    kind.group_send("g", "1", history=5, history_seconds=60)
    async_to_sync(kind.agroup_send)("g", "2", history=5)
    assert len(texts(layer)) == 2
    assert parse_position(now(layer))[1] == 2
