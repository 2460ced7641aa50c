"""Groups: one message a process, fanned out here."""

from __future__ import annotations

from gateway.core import groups
from gateway.core.layers.base import OK
from gateway.core.plugin import Emit, Peer, Write
from gateway.testing.fakes import FakeWire

from .toys import Recorder, Requests, World, talking


def members(world, count, group="g"):
    """Attach so many open connections and make them members."""
    asks = world.engine.context(Requests, None)
    found = []
    for _ in range(count):
        wire = FakeWire()
        connection = asks.attach(Recorder(kind="request"), wire, Peer())
        world.edge.join(group, connection.reply_channel)
        found.append((connection, wire))
    return found


def test_one_frame_for_all(monkeypatch):
    """A group's message is framed once, whoever many members there are."""
    framed = []
    frame = Recorder.frame.__func__
    monkeypatch.setattr(
        Recorder, "frame", classmethod(lambda cls, reply: framed.append(1) or frame(cls, reply))
    )
    world = World()
    found = members(world, 20)
    world.edge.group_message("g", {"text": "a"})
    assert all(wire.written == [("frame", "a")] for _, wire in found)
    assert framed == [1]


def test_members_without_a_frame():
    """Where a class has no frame for it, each member's session is asked."""
    world = World()
    [(_, wire)] = members(world, 1)
    world.edge.group_message("g", {"bytes": b"a"})
    assert wire.written == [b"a"]


def test_a_frame_neither_closes_nor_accepts():
    """Where a group's message says ``close`` each member's session hears it, frame or not."""
    world = World()
    [(connection, _)] = members(world, 1)
    heard = []
    connection.session.send = lambda conversation, reply, token: heard.append(reply) or ()
    world.edge.group_message("g", {"text": "a", "close": True})
    assert heard == [{"text": "a", "close": True}]


def test_keyed_conversations_are_asked():
    """A conversation with a key is a member in its own right, answered by its session."""
    world = World()
    world.connection.received([Emit("request", {"text": "a"}, 1, "key")])
    [post] = world.edge.take()
    world.edge.join("g", post.messages[0]["reply_channel"])
    world.edge.group_message("g", {"text": "b"})
    assert world.wire.written == [("key", "b")]
    world.connection.lost()
    world.edge.settle(post, OK)
    assert world.edge.called("end") == [
        (post.messages[0]["reply_channel"], "", None),
        (world.connection.reply_channel, "", None),
    ]
    world.nothing_left()


def test_exclude():
    """Who is excluded by name does not get it."""
    world = World()
    found = members(world, 3)
    world.edge.group_message("g", {"text": "a"}, exclude=[found[1][0].reply_channel])
    assert [len(wire.written) for _, wire in found] == [1, 0, 1]


def test_part_and_end():
    """Who leaves, or ends, gets nothing more, and its membership ends with it."""
    world = World()
    (one, first), (two, second) = members(world, 2)
    world.edge.part("g", one.reply_channel)
    world.edge.part("g", "ask.send.p_fake00000000!nobody")
    two.lost()
    world.edge.group_message("g", {"text": "a"})
    assert first.written == second.written == []
    assert world.edge.called("end") == [(two.reply_channel, "", None)]
    assert len(world.engine.groups) == 0


def test_join_of_the_dead_is_undone():
    """An add for a connection that is gone meanwhile is taken back."""
    world = World()
    channel = world.connection.reply_channel
    world.connection.lost()
    world.edge.join("g", channel)
    assert world.edge.called("group_discard") == [("g", channel)]
    world.nothing_left()


def test_invalid_group_message(caplog):
    """An invalid message to a group is counted and logged once, and reaches nobody."""
    world = World()
    found = members(world, 3)
    world.edge.group_message("g", {"text": 1})
    world.edge.group_message("g", {"text": "impossible"})
    assert all(wire.written == [] for _, wire in found)
    assert world.dropped == {"invalid": 2}
    assert len(caplog.records) == 2


def test_frame_that_raises(caplog, monkeypatch):
    """A fault in framing costs that message."""

    def broken(cls, reply):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Recorder, "frame", classmethod(broken))
    world = World()
    [(_, wire)] = members(world, 1)
    world.edge.group_message("g", {"text": "a"})
    assert wire.closed is None
    assert world.dropped == {"invalid": 1}
    assert "a bug" in caplog.text


def test_one_bad_member(caplog):
    """A member whose transport fails costs its neighbours nothing."""
    world = World()
    found = members(world, 3)

    def fail(output):
        raise OSError("broken pipe")

    found[0][1].write = fail
    world.edge.group_message("g", {"text": "a"})
    assert [wire.written for _, wire in found[1:]] == [[("frame", "a")]] * 2
    assert "broken pipe" in caplog.text


def test_member_that_is_lost_by_its_write():
    """A member may be lost from within the write of its frame."""
    world = World()
    found = members(world, 3)
    found[0][1].write = lambda output: found[0][0].lost()
    world.edge.group_message("g", {"text": "a"})
    world.edge.group_message("g", {"text": "b"})
    assert [len(wire.written) for _, wire in found[1:]] == [2, 2]


def test_closing_member():
    """A member that is closing gets nothing; that is counted."""
    world = talking()
    world.edge.join("g", world.connection.reply_channel)
    world.edge.reply(world.connection.reply_channel, {"close": True})
    world.edge.group_message("g", {"text": "a"})
    assert world.wire.written == ["welcome"]
    assert world.dropped == {"gone": 1}


def test_large_group_is_served_in_slices(monkeypatch):
    """A large group is served in slices, one a turn of the loop."""
    monkeypatch.setattr(groups, "SLICE", 4)
    world = World()
    found = members(world, 10)

    def served():
        return sum(bool(wire.written) for _, wire in found)

    world.edge.group_message("g", {"text": "a"})
    assert served() == 4
    world.clock.advance()
    assert served() == 10
    assert not world.engine.groups.busy
    assert all(len(wire.written) == 1 for _, wire in found)


def test_nothing_overtakes_a_slice(monkeypatch):
    """What is newer than a group's message never reaches a member before it."""
    monkeypatch.setattr(groups, "SLICE", 4)
    world = World()
    found = members(world, 10)
    small = members(world, 1, "small")
    for connection, _ in found:
        world.edge.join("small", connection.reply_channel)
        connection.received("q")
    posts = world.edge.take()
    world.edge.group_message("g", {"text": "1"})
    world.edge.group_message("small", {"text": "2"})
    for connection, _ in found:
        world.edge.reply(connection.reply_channel, {"text": "3"})
    world.edge.group_message("g", {"text": "4"}, exclude=[found[0][0].reply_channel])
    for (connection, wire), post in zip(found, posts, strict=True):
        connection.session.on_outcome["q"] = []
        world.edge.settle(post, OK)
        assert wire.written[0] == ("frame", "1")
    for _ in range(10):
        world.clock.advance()
    expected = [("frame", "1"), ("frame", "2"), "3", ("frame", "4")]
    assert [wire.written for _, wire in found] == [expected[:3]] + [expected] * 9
    assert small[0][1].written == [("frame", "2")]
    assert not world.engine.groups.busy


def test_replies_precede_the_outcome_in_a_slice(monkeypatch):
    """A group's message that precedes an outcome is written before the session hears that."""
    monkeypatch.setattr(groups, "SLICE", 1)
    world = World()
    found = members(world, 3)
    connection, wire = found[0]
    connection.session.on_outcome["q"] = [Write("done")]
    connection.received("q")
    [post] = world.edge.take()
    world.edge.group_message("g", {"text": "a"})
    world.edge.settle(post, OK)
    assert wire.written == [("frame", "a"), "done"]


def test_member_that_leaves_during_a_slice(monkeypatch):
    """A member that ends while its message is on the way is passed over."""
    monkeypatch.setattr(groups, "SLICE", 2)
    world = World()
    found = members(world, 6)
    world.edge.group_message("g", {"text": "a"})
    for connection, _ in found:
        connection.lost()
    for _ in range(5):
        world.clock.advance()
    assert world.dropped == {"gone": 4}
    assert len(world.engine.groups) == 0
    assert not world.engine.groups.busy


def test_announced_members_rejoin():
    """A layer that has forgotten us hears which members it is to tell the leaves of, their joins
    told; who left a group meanwhile is not among them.
    """
    world = World()
    found = members(world, 3)
    names = [connection.reply_channel for connection, _ in found]
    world.edge.join("g", names[0], {"nick": "ann"}, announce=True)
    world.edge.join("g", names[1], announce=True)
    world.edge.join("g", names[0], {"nick": "bob"})
    world.edge.part("g", names[1])
    world.edge.join("g", names[1])
    world.edge.go_down()
    world.edge.come_up(rejoined=True)
    assert sorted(world.edge.called("group_add"), key=str) == [
        ("g", names[0], {"nick": "bob"}, "announce", "again"),
        ("g", names[1], None),
        ("g", names[2], None),
    ]


def test_announced_members_that_ended_meanwhile():
    """The leaves of those that ended while the layer was away are told by one that has forgotten
    us, too: they join once more to end.
    """
    for forgotten in (True, False):
        world = World()
        found = members(world, 2)
        names = [connection.reply_channel for connection, _ in found]
        world.edge.join("g", names[0], {"nick": "ann"}, announce=True)
        world.edge.go_down()
        for connection, _ in found:
            connection.lost()
        assert world.edge.calls == []
        world.edge.come_up(rejoined=forgotten)
        again = [("group_add", "g", names[0], {"nick": "ann"}, "announce", "again")]
        ends = [("end", name, "", None) for name in names]
        assert world.edge.calls == again * forgotten + ends
        world.edge.calls.clear()
        world.edge.go_down()
        world.edge.come_up(rejoined=True)
        assert world.edge.calls == []
        world.connection.lost()
        world.nothing_left()
        assert not world.engine.groups._announced
