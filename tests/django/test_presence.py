"""Presence as Django sees it: `Group.add(announce=True)`, `Group.members`, the signals."""

import asyncio
import importlib
import sys
import threading
import types

import pytest

from django_gateway import Channel, Group, Reject, asgi, route
from django_gateway.signals import presence_joined, presence_left
from tests.django.peer import wait_until


@pytest.fixture
def connect():
    """Connect receivers: ``connect(signal, receiver)``; they are disconnected at the end."""
    connected = []

    def one(signal, receiver, **kwargs):
        signal.connect(receiver, weak=False, **kwargs)
        connected.append((signal, receiver, kwargs.get("sender")))

    yield one
    for signal, receiver, sender in connected:
        assert signal.disconnect(receiver, sender=sender)


def join(message):
    """A consumer."""
    Group("g").add(message.reply_channel, {"nick": message["nick"]}, announce=True)


def leave(message):
    """A consumer."""
    Group("g").discard(message.reply_channel)


def test_members(work, peer):
    """A group tells its members with their meta; what a consumer buffered is not in it yet."""
    seen = []

    def consumer(message):
        join(message)
        seen.append(Group("g").members())

    work({"a": consumer})
    name = peer.new_reply_channel()
    assert peer.outcome("a", {"reply_channel": name, "nick": "ann"}).kind == "accepted"
    assert seen == [{}]
    assert Group("g").members() == {name: {"nick": "ann"}}

    async def main():
        await Group("g").aadd("x")
        await Group("g").aadd("y", {"n": 1}, announce=True)
        return await Group("g").amembers()

    assert asyncio.run(main()) == {name: {"nick": "ann"}, "x": None, "y": {"n": 1}}
    with pytest.raises(TypeError, match="the meta of a member is a dict, not str"):
        Group("g").add("x", "ann")


def test_signals(work, peer, connect):
    """Receivers hear of joins and leaves, with group, channel and meta, as consumers do."""
    heard = []

    def receiver(signal, sender, group, channel, meta, **kwargs):
        what = "joined" if signal is presence_joined else "left"
        heard.append((what, sender, group, channel, meta))
        Channel(other).send({"text": f"{meta['nick']} {what}"})

    connect(presence_joined, receiver)
    connect(presence_left, receiver, sender=Group)
    work({"in": join, "out": leave})
    other = peer.new_reply_channel()
    name = peer.new_reply_channel()
    for channel in ("in", "out"):
        peer.post(channel, {"reply_channel": name, "nick": "ann"})
        found = [peer.hear() for _ in range(2)]
        said = {"in": "joined", "out": "left"}[channel]
        assert [m for c, m in found if c == other] == [{"text": f"ann {said}"}]
    expected = (Group, Group("g"), Channel(name), {"nick": "ann"})
    assert heard == [("joined", *expected), ("left", *expected)]


@pytest.mark.parametrize("mixed", [False, True])
def test_async_receivers(work, peer, connect, mixed):
    """Asynchronous receivers run on the worker's loop, synchronous ones beside them on threads."""
    heard = []

    async def receiver(group, channel, meta, **kwargs):
        await asyncio.sleep(0)
        heard.append(("async", str(channel), threading.current_thread().name))

    def plain(channel, **kwargs):
        heard.append(("sync", str(channel), threading.current_thread().name))

    connect(presence_joined, receiver)
    if mixed:
        connect(presence_joined, plain)
    work({"in": join})
    name = peer.new_reply_channel()
    peer.outcome("in", {"reply_channel": name, "nick": "ann"})
    wait_until(lambda: len(heard) == 1 + mixed)
    assert ("async", name, "loop") in heard
    assert all(thread != "loop" for kind, _, thread in heard if kind == "sync")


def test_own_routes_come_first(work, peer, connect):
    """What the project routes itself is not sent as a signal; what its filters let by is."""
    heard = []
    connect(presence_joined, lambda channel, **kwargs: heard.append(str(channel)))

    def told(message):
        heard.append((message["group"], message["channel"], message["meta"]))

    work([route("presence.join", told, group="^g$"), route("in", join)])
    name = peer.new_reply_channel()
    peer.outcome("in", {"reply_channel": name, "nick": "ann"})
    wait_until(lambda: heard == [("g", name, {"nick": "ann"})])
    Group("h").add(name, announce=True)
    wait_until(lambda: heard[1:] == [name])


def test_without_receivers_nothing_is_routed(work, peer, connect):
    """Without receivers and routes nobody announces the channels, and nothing is kept."""
    connect(presence_left, lambda **kwargs: None)
    worker = work({"in": join})
    assert worker.router.channels() == ["http.request", "in", "presence.leave"]
    peer.outcome("in", {"reply_channel": peer.new_reply_channel(), "nick": "ann"})
    statistics = peer.layer.global_statistics()
    assert statistics.drops == {"unrouted": 1}
    assert statistics.pending == 0


def test_a_receiver_that_raises(work, peer, connect, caplog):
    """A receiver that raises is a consumer that raised: logged, its sends dropped; the leave
    comes all the same.
    """
    heard = []
    other = peer.new_reply_channel()

    def receiver(channel, **kwargs):
        Channel(other).send({"text": "never"})
        raise ValueError("a bug")

    connect(presence_joined, receiver)
    connect(presence_left, lambda channel, **kwargs: heard.append(str(channel)))
    work({"in": join, "out": leave})
    name = peer.new_reply_channel()
    peer.outcome("in", {"reply_channel": name, "nick": "ann"})
    peer.outcome("out", {"reply_channel": name, "nick": "ann"})
    wait_until(lambda: heard == [name])
    assert peer.nothing()
    assert "presence.join" in caplog.text
    assert "a bug" in caplog.text


def test_a_consumer_that_raised(work, peer, connect):
    """Of a consumer that raised nothing is told: its adds are dropped."""
    heard = []
    connect(presence_joined, lambda channel, **kwargs: heard.append(str(channel)))

    def failing(message):
        join(message)
        raise Reject

    work({"bad": failing, "in": join})
    peer.outcome("bad", {"reply_channel": peer.new_reply_channel(), "nick": "bob"})
    name = peer.new_reply_channel()
    peer.outcome("in", {"reply_channel": name, "nick": "ann"})
    wait_until(lambda: heard)
    assert heard == [name]
    assert list(Group("g").members()) == [name]


def test_receivers_of_the_table(settings_routing):
    """Receivers that importing the routing table connects count: it is imported first."""
    assert settings_routing == []
    assert "presence.join" in asgi.router().channels()
    assert len(settings_routing) == 1


@pytest.fixture
def settings_routing(monkeypatch):
    """Settings whose routing table connects a receiver when it is imported."""
    connected = []

    def receiver(**kwargs):
        """Do nothing."""

    class Lazy(types.ModuleType):
        @property
        def routes(self):
            if not connected:
                presence_joined.connect(receiver)
                connected.append(receiver)
            return []

    monkeypatch.setitem(sys.modules, "lazy_routing", Lazy("lazy_routing"))
    assert importlib.import_module("lazy_routing")
    monkeypatch.setattr(asgi, "layer_settings", lambda: {"ROUTING": "lazy_routing.routes"})
    yield connected
    presence_joined.disconnect(receiver)
