"""Groups that a plugin serves itself: what it hears of them, and what the core leaves to it."""

from __future__ import annotations

import pytest

from gateway.core.errors import PluginError
from gateway.core.plugin import Gathering, NoConfig, Peer, Session, Write
from gateway.testing.fakes import FakeEdge, FakeWire, ManualClock
from tests.core.toys import Requests


class Heard(Gathering):
    """Remembers what it hears."""

    def __init__(self):
        self.told = []

    def joined(self, group, channel, meta):
        self.told.append(("joined", group, channel, meta))

    def left(self, group, channel):
        self.told.append(("left", group, channel))

    def said(self, group, message, exclude, position):
        self.told.append(("said", group, message, list(exclude), position))

    def ended(self, process):
        self.told.append(("ended", process))

    def rejoined(self):
        self.told.append(("rejoined",))


class Plain(Session):
    def received(self, data):
        return ()

    def send(self, conversation, reply, token):
        return (Write(("reply", reply)),)

    def group_send(self, conversation, reply):
        return (Write(("group", reply)),)


class Own(Plain):
    """What the plugin serves itself."""


class Gatherer(Requests):
    name = "gather"


@pytest.fixture
def it():
    class It:
        edge = FakeEdge({"gather.request", "ask.request"})
        engine = edge.engine(ManualClock())
        own = engine.context(Gatherer, NoConfig())
        other = engine.context(Requests, NoConfig())
        heard = Heard()
        gathered = own.gather("gather.room", heard, Own)

        def member(self, context, session=Plain):
            wire = FakeWire()
            return context.attach(session(), wire, Peer()), wire

    return It()


def joins(it, group, connection, meta=None):
    it.edge.join(group, connection.reply_channel, meta)


def test_members_and_messages(it):
    """It hears who joins, what is said and who leaves; members of its own hear nothing else."""
    own, own_wire = it.member(it.own, Own)
    other, other_wire = it.member(it.other)
    joins(it, "gather.room1", own)
    joins(it, "gather.room1", other, {"nick": "x"})
    joins(it, "elsewhere", other)
    assert it.heard.told == [
        ("joined", "gather.room1", own.reply_channel, None),
        ("joined", "gather.room1", other.reply_channel, {"nick": "x"}),
    ]
    it.heard.told.clear()
    it.edge.group_message("gather.room1", {"text": "hi"}, exclude=["z"])
    assert it.heard.told == [("said", "gather.room1", {"text": "hi"}, ["z"], None)]
    assert own_wire.written == []
    assert other_wire.written == [("group", {"text": "hi"})]
    it.edge.group_message("elsewhere", {"text": "ho"})
    it.edge.group_message("gather.room1", {"frob": 1})
    assert len(it.heard.told) == 1
    it.heard.told.clear()
    other.lost()
    assert it.heard.told == [("left", "gather.room1", other.reply_channel)]


def test_other_sessions_of_its_own(it):
    """A session of the plugin that is of another class hears what is said from the core."""
    one, wire = it.member(it.own)
    joins(it, "gather.room1", one)
    it.edge.group_message("gather.room1", {"text": "hi"})
    assert wire.written == [("group", {"text": "hi"})]


def test_its_own_do_not_come_back(it):
    """What the plugin sends to a group it does not hear: it has told its own members."""
    it.gathered.send("gather.room1", {"text": "hi"}, ["z"], history=3)
    [(group, message, exclude, history, _)] = it.edge.called("group_send")
    assert (group, message, exclude[0], history) == ("gather.room1", {"text": "hi"}, "z", 3)
    it.edge.group_message("gather.room1", message, exclude=exclude)
    assert it.heard.told == []


def test_layer_that_forgot(it):
    """A layer that has forgotten us is told its members again; who is fenced has none."""
    it.gathered.add("gather.room1", "gather.send.p_x!1", {"nick": "y"})
    it.edge.go_down()
    it.edge.come_up(rejoined=True)
    assert it.heard.told == [("rejoined",)]
    added = ("gather.room1", "gather.send.p_x!1", {"nick": "y"})
    assert [call[:3] for call in it.edge.called("group_add")] == [added, added]
    other, _ = it.member(it.other)
    joins(it, "gather.room1", other)
    it.edge.fence()
    assert it.heard.told[-1] == ("left", "gather.room1", other.reply_channel)
    it.edge.come_up(rejoined=True)
    assert len(it.edge.called("group_add")) == 2


def test_processes_that_end(it):
    """The end of a process that is watched is told."""
    it.gathered.watch("p_other")
    [(channel, process)] = it.edge.called("watch")
    assert process == "p_other"
    it.edge.reply(channel, {"closed": True})
    assert it.heard.told == [("ended", "p_other")]


def test_only_its_own_groups(it):
    """A plugin gathers groups that begin with its name, and no others."""
    with pytest.raises(PluginError, match="begins with"):
        it.own.gather("ask.", it.heard, Own)
