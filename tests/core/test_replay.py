"""What members missed is handed to them when they come back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import outbox, replay
from gateway.core.emission import branch
from gateway.core.layers import codec
from gateway.core.layers.base import OK
from gateway.core.layers.edge import GAP, GROUP, MESSAGE, OUTCOME, UP
from gateway.core.names import position
from gateway.core.plugin import Accepted, Peer, Write
from gateway.testing.fakes import FakeWire

from .toys import CONNECT, Recorder, World, talking

EPOCH = 0xE


class Resuming(Recorder):
    """Comes back: writes what it hears, and says so where it comes by a frame."""

    resumes = True

    def send(self, conversation, reply, token):
        if reply.get("close"):
            return super().send(conversation, reply, token)
        return [Write(told(reply))]

    @classmethod
    def frame(cls, reply):
        return told(reply)


def told(reply):
    """What is written of a reply: its text, with the offset of its id; or what else it says."""
    if "missed" in reply:
        return "missed"
    at = reply.get("id", "").partition("-")[2]
    text = reply.get("text", "at")
    return f"{text} {int(at, 16)}" if at else text


def texts(*offsets):
    """Messages as they were kept."""
    return [(offset, {"text": f"t{offset}"}) for offset in offsets]


def kept(*offsets):
    """What is written of those."""
    return [f"t{offset} {offset}" for offset in offsets]


def missed(*offsets, at, more=False):
    """What a member missed, as it comes with its join."""
    return (texts(*offsets), (EPOCH, at), more)


def resuming(world=None, kind=Resuming, **config):
    """Attach one open connection whose session resumes."""
    world = world or World(**config)
    wire = FakeWire()
    connection = world.context.attach(kind(kind="request"), wire, Peer())
    return world, connection, wire


def test_what_was_missed_comes_first_and_then_the_position():
    """A member that comes back gets what it missed with its ids, and the position."""
    world, connection, wire = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(3, 5, at=7))
    assert wire.written == [*kept(3, 5), "at 7"]
    assert connection.direct
    world.edge.group_message("g", {"text": "t8"}, position=(EPOCH, 8))
    world.edge.group_message("g", {"text": "plain"})
    assert wire.written[3:] == ["t8 8", "plain"]


def test_more_was_missed():
    """It is told first where more was missed than is kept."""
    world, connection, wire = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(3, at=7, more=True))
    assert wire.written == ["missed", *kept(3), "at 7"]
    numbers = world.metrics.snapshot()
    assert numbers['gateway_replays_missed_total{plugin="ask"}'] == 1
    assert numbers['gateway_replayed_messages_total{plugin="ask"}'] == 1


def test_the_position_alone():
    """Who has missed nothing is told the position."""
    world, connection, wire = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(at=7))
    assert wire.written == ["at 7"]


def test_a_session_that_does_not_resume():
    """It gets the messages, without ids, position or word of what is not kept."""
    world, connection, wire = resuming(kind=Recorder)
    world.edge.join("g", connection.reply_channel, resumed=missed(3, 5, at=7, more=True))
    world.edge.group_message("g", {"text": "t8"}, position=(EPOCH, 8))
    assert wire.written == [("frame", "t3"), ("frame", "t5"), ("frame", "t8")]
    world.edge.join("h", connection.reply_channel, resumed=missed(at=8))
    assert connection.direct


def test_several_groups_are_one_replay():
    """Joins that come together are merged by offset; the position is told once."""
    world, connection, wire = resuming()
    name = connection.reply_channel
    world.edge.deliver(
        [
            world.edge.joining("g", name, resumed=missed(3, 6, at=7)),
            world.edge.joining("h", name, resumed=missed(2, 4, 5, at=7, more=True)),
            world.edge.joining("i", name, resumed=missed(1, at=7, more=True)),
        ]
    )
    assert wire.written == ["missed", *kept(1, 2, 3, 4, 5, 6), "at 7"]


def test_what_is_sent_between_two_joins():
    """A message that is sent between two joins of one replay stands at its offset."""
    world, connection, wire = resuming()
    name = connection.reply_channel
    world.edge.deliver(
        [
            world.edge.joining("g", name, resumed=missed(3, at=5)),
            (GROUP, "g", codec.encode({"text": "t6"}), [], (EPOCH, 6)),
            (GROUP, "g", codec.encode({"text": "plain"}), []),
            (MESSAGE, name, codec.encode({"text": "direct"})),
            world.edge.joining("h", name, resumed=missed(4, 7, at=7)),
        ]
    )
    assert wire.written == [*kept(3, 4), "at 5", "t6 6", "plain", "direct", "t7 7", "at 7"]


def test_it_waits_for_the_decision():
    """Nothing of it is written before the connection is accepted."""
    world = talking(accept=False)
    context = world.context
    wire = FakeWire()
    session = Resuming(CONNECT)
    connection = context.attach(session, wire, Peer())
    session.on_outcome["connect"] = [Accepted(), Write("welcome")]
    [_, post] = world.edge.take()
    world.edge.join("g", connection.reply_channel, resumed=missed(3, at=3))
    assert wire.written == []
    world.edge.join("h", connection.reply_channel, resumed=missed(2, at=3))
    world.edge.settle(post, OK)
    assert wire.written == ["welcome", *kept(2, 3), "at 3"]


def test_a_large_replay_reaches_a_slow_reader():
    """What was missed is handed over as the client takes it, with what is newer behind it, though
    each is more than an outbox holds.
    """
    world, connection, wire = resuming(outbox_messages=2, outbox_bytes=100)
    write = wire.write
    wire.write = lambda data: (write(data), connection.writable(False))
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(*range(1, 51), at=50))
    for offset in range(51, 90):
        world.edge.group_message("g", {"text": f"t{offset}"}, position=(EPOCH, offset))
    assert wire.written == []
    while len(wire.written) < 90:
        before = len(wire.written)
        connection.writable(True)
        assert len(wire.written) == before + 1
    assert wire.written == [*kept(*range(1, 51)), "at 50", *kept(*range(51, 90))]
    assert not world.dropped


def test_the_bounds_hold_again():
    """Once it has caught up a client is slow beyond the ordinary bounds."""
    world, connection, wire = resuming(outbox_messages=2)
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(*range(1, 51), at=50))
    connection.writable(True)
    connection.writable(False)
    for _ in range(2):
        world.edge.group_message("g", {"text": "a"})
    assert not wire.closed
    world.edge.group_message("g", {"text": "a"})
    assert wire.closed
    assert world.dropped["slow"] == 1


def test_newer_messages_are_bounded():
    """Behind a replay waits so much more as it has itself, and no more."""
    world, connection, wire = resuming(outbox_messages=2)
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, 3, at=3))
    for _ in range(6):  # the bound, the replay and its position
        world.edge.group_message("g", {"text": "a"})
    assert not wire.closed
    world.edge.group_message("g", {"text": "a"})
    assert wire.closed


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_kept_message_that_is_dropped_was_missed(policy):
    """A client that resumes is told where a slow consumer's kept messages were dropped."""
    world, connection, wire = resuming(outbox_messages=2, slow_consumer=policy)
    world.edge.join("g", connection.reply_channel, resumed=missed(at=1))
    connection.writable(False)
    for offset in range(2, 6):
        world.edge.group_message("g", {"text": f"t{offset}"}, position=(EPOCH, offset))
    connection.writable(True)
    left = kept(4, 5) if policy == "drop_oldest" else kept(2, 3)
    assert wire.written == ["at 1", "missed", *left]
    assert world.dropped["slow"] == 2


def test_nothing_of_a_replay_is_dropped_for_what_is_newer():
    """``drop_oldest`` drops what is bounded."""
    world, connection, wire = resuming(outbox_messages=1, slow_consumer="drop_oldest")
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, at=2))
    for n in range(6):
        world.edge.group_message("g", {"text": f"new {n}"})
    connection.writable(True)
    assert wire.written == [*kept(1, 2), "at 2", *[f"new {n}" for n in range(2, 6)]]


def test_a_long_replay_yields():
    """A replay of many messages to a fast client lets the loop go on in between."""
    world, connection, wire = resuming()
    many = 2 * outbox.SLICE + 10
    world.edge.join("g", connection.reply_channel, resumed=missed(*range(1, many), at=many))
    assert len(wire.written) == outbox.SLICE
    world.edge.group_message("g", {"text": "new"})
    world.clock.advance(0)
    assert wire.written == [*kept(*range(1, many)), f"at {many}", "new"]


def test_gone_meanwhile():
    """What was not handed over when the client left is counted."""
    world, connection, _ = resuming()
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, at=2, more=True))
    connection.lost()
    assert world.dropped["gone"] == 2


def test_closing_meanwhile():
    """A connection that is closing gets nothing of it, counted."""
    world, connection, wire = resuming()
    connection.end()
    world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, at=2))
    assert wire.written == []
    assert world.dropped["gone"] == 2


def test_an_invalid_message_costs_itself():
    """What a plugin cannot say of the missed is dropped, counted once, and the rest comes."""
    world, one, wire = resuming()
    _, two, other = resuming(world)
    backlog = [(1, {"text": "t1"}), (2, {"nonsense": 1}), (3, {"text": "t3"})]
    for connection in (one, two):
        world.edge.join("g", connection.reply_channel, resumed=(backlog, (EPOCH, 3), False))
    assert wire.written == other.written == [*kept(1, 3), "at 3"]
    assert world.dropped["invalid"] == 1


def test_read_once_for_all(monkeypatch):
    """What many members missed is framed once."""
    framed = []
    monkeypatch.setattr(
        Resuming, "frame", classmethod(lambda cls, reply: framed.append(reply) or told(reply))
    )
    world = World()
    for _ in range(5):
        _, connection, wire = resuming(world)
        world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, at=2))
        assert wire.written == [*kept(1, 2), "at 2"]
    assert len([reply for reply in framed if "text" in reply]) == 2


def test_what_is_held_is_bounded(monkeypatch):
    """What was read is held up to a number of bytes."""
    monkeypatch.setattr(replay, "READ_BYTES", 10 * replay.READ_SIZE)
    world, connection, _ = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(*range(1, 50), at=50))
    assert 0 < len(world.engine.groups.replays._read) < 12


def test_what_was_read_is_held_for_a_time():
    """What was read for who came back is not held for ever."""
    world, connection, _ = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(1, 2, at=2))
    replays = world.engine.groups.replays
    assert len(replays._read) == 2
    world.clock.advance(replay.READ_SECONDS)
    assert not replays._read
    assert not replays._shared


def test_what_waits_for_many_is_held_once(monkeypatch):
    """What many slow members missed is one object for all of them, however much it is, and gone
    with the last of them.
    """
    monkeypatch.setattr(replay, "READ_BYTES", 10 * replay.READ_SIZE)
    world = World()
    found = []
    for _ in range(3):
        _, connection, _ = resuming(world)
        connection.writable(False)
        world.edge.join("g", connection.reply_channel, resumed=missed(*range(1, 50), at=50))
        found.append(connection)
    for same in zip(*(connection.outbox.waiting for connection in found), strict=True):
        if "text" in same[0].reply:
            assert len({(id(entry.reply), id(entry.frame)) for entry in same}) == 1
    del same
    for connection in found:
        connection.lost()
    replays = world.engine.groups.replays
    assert set(replays._shared) <= set(replays._read)


def test_two_conversations_of_one_connection():
    """Each of its conversations in the group gets what was missed."""
    world, connection, wire = resuming(kind=Recorder)
    names = [branch(connection, key).reply_channel for key in "ab"]
    world.edge.deliver(
        [world.edge.joining("g", name, resumed=missed(1, 2, at=2)) for name in names]
    )
    assert wire.written == [("a", "t1"), ("b", "t1"), ("a", "t2"), ("b", "t2")]


def test_behind_what_waits_already():
    """What a slow client has not read yet of a group that it joined before, and what it missed, are
    one row, and nothing is in it twice.
    """
    world, connection, wire = resuming()
    name = connection.reply_channel
    world.edge.join("g", name)
    connection.writable(False)
    world.edge.group_message("g", {"text": "t8"}, position=(EPOCH, 8))
    world.edge.join("h", name, resumed=missed(5, 9, at=9))
    world.edge.join("g", name, resumed=missed(7, 8, at=9))
    connection.writable(True)
    assert wire.written == [*kept(5, 7, 8, 9), "at 9"]


def test_a_reply_between_two_joins():
    """What a consumer says between two joins, be it the accept, splits no replay."""
    world = talking(accept=False)
    wire = FakeWire()
    session = Resuming(CONNECT)
    connection = world.context.attach(session, wire, Peer())
    name = connection.reply_channel
    session.on_outcome["connect"] = [Accepted()]
    [_, post] = world.edge.take()
    world.edge.deliver(
        [
            world.edge.joining("g", name, resumed=missed(3, at=5)),
            (OUTCOME, post.receipt, 0, OK),
            (MESSAGE, name, codec.encode({"text": "hello"})),
            world.edge.joining("h", name, resumed=missed(2, 4, at=5)),
        ]
    )
    assert wire.written == [*kept(2, 3, 4), "at 5", "hello"]


def test_a_transport_that_fails(caplog):
    """A transport that cannot take what its client missed costs no other one its own."""
    world, broken, wire = resuming()
    _, other, heard = resuming(world)
    wire.write = None
    world.edge.deliver(
        [
            world.edge.joining("g", one.reply_channel, resumed=missed(1, at=1))
            for one in (broken, other)
        ]
    )
    assert heard.written == [*kept(1), "at 1"]
    assert f"{broken.reply_channel}: a group's message could not be written" in caplog.text


def test_a_group_in_slices_comes_first(monkeypatch):
    """A message on its way to a large group reaches a member before what it missed of another."""
    monkeypatch.setattr("gateway.core.groups.SLICE", 1)
    world = World()
    found = []
    for _ in range(3):
        _, connection, wire = resuming(world)
        world.edge.join("g", connection.reply_channel)
        found.append((connection, wire))
    world.edge.group_message("g", {"text": "t1"}, position=(EPOCH, 1))
    [(late, wire)] = [(c, w) for c, w in found if not w.written][:1]
    world.edge.join("h", late.reply_channel, resumed=missed(2, at=2))
    assert wire.written == [*kept(1, 2), "at 2"]


def test_a_new_epoch():
    """A replay of another history comes behind what waits of the one before."""
    world, connection, wire = resuming()
    connection.writable(False)
    world.edge.join("g", connection.reply_channel, resumed=missed(8, 9, at=9))
    new = (texts(1), (EPOCH + 1, 1), True)
    world.edge.join("g", connection.reply_channel, resumed=new)
    connection.writable(True)
    assert wire.written == ["missed", *kept(8, 9), "at 9", *kept(1), "at 1"]


def test_what_is_dropped_of_an_old_epoch_was_missed():
    """A kept message that gives way is told as missed, though its history is over."""
    world, connection, wire = resuming(outbox_messages=2, slow_consumer="drop_oldest")
    world.edge.join("g", connection.reply_channel)
    connection.writable(False)
    for epoch, offset in ((EPOCH, 8), (EPOCH + 1, 1), (EPOCH + 1, 2)):
        world.edge.group_message("g", {"text": f"t{offset}"}, position=(epoch, offset))
    connection.writable(True)
    assert wire.written == ["missed", *kept(1, 2)]


@pytest.mark.parametrize("many", [3, 1001])
def test_no_room_on_the_way(many):
    """Members that resume are told that kept messages had no room on their way here, in order with
    what else there is; others are not.
    """
    world, connection, wire = resuming()
    _, plain, other = resuming(world, kind=Recorder)
    crowd = [resuming(world)[1:] for _ in range(many)]
    slow, unread = crowd[0]
    for one in (connection, plain, *(member for member, _ in crowd)):
        world.edge.join("g", one.reply_channel)
    slow.writable(False)
    world.edge.group_message("g", {"text": "t1"}, position=(EPOCH, 1))
    world.edge.deliver([(GAP, "g"), (GAP, "nobody")])
    world.edge.group_message("g", {"text": "t5"}, position=(EPOCH, 5))
    world.clock.advance(0)
    slow.writable(True)
    told = [*kept(1), "missed", *kept(5)]
    assert wire.written == unread.written == told
    assert all(heard.written == told for _, heard in crowd)
    assert other.written == [("frame", "t1"), ("frame", "t5")]
    assert world.metrics.snapshot()['gateway_replays_missed_total{plugin="ask"}'] == many + 1


def test_the_layer_forgot():
    """Who came for what it missed is added to a new layer with the last position; who did not,
    without.
    """
    world, connection, _ = resuming()
    _, other, _ = resuming(world)
    world.edge.join("g", connection.reply_channel, resumed=missed(at=7))
    world.edge.join("g", other.reply_channel)
    world.edge.group_message("g", {"text": "t8"}, position=(EPOCH, 8))
    world.edge.deliver([(UP, True)])
    assert world.edge.called("group_add") == [
        ("g", connection.reply_channel, None, position(EPOCH, 8)),
        ("g", other.reply_channel, None),
    ]


def test_nothing_comes_twice_from_a_new_layer():
    """What a new layer sends before it has said what a member missed is not sent to that member:
    it is in what it missed.
    """
    world, connection, wire = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(at=7))
    world.edge.deliver([(UP, True)])
    world.edge.group_message("g", {"text": "t1"}, position=(EPOCH + 1, 1))
    new = (texts(1), (EPOCH + 1, 1), True)
    world.edge.join("g", connection.reply_channel, resumed=new)
    world.edge.group_message("g", {"text": "t2"}, position=(EPOCH + 1, 2))
    assert wire.written == ["at 7", "missed", *kept(1), "at 1", *kept(2)]


def test_no_trace_is_left():
    """A connection that has ended is not added to a new layer, nor waited for."""
    world, connection, _ = resuming()
    world.edge.join("g", connection.reply_channel, resumed=missed(at=7))
    world.edge.deliver([(UP, True)])
    connection.lost()
    groups = world.engine.groups
    assert not groups._resuming
    assert not groups._awaited
    assert not groups.replays.begun


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_ids_only_rise(data):
    """However joins and messages come in one batch and whenever the client reads, each message of
    each group comes once, in order of the history, and behind no greater id.
    """
    world, connection, wire = resuming()
    name = connection.reply_channel
    if data.draw(st.booleans()):
        connection.writable(False)
    backlogs = {group: [] for group in "ghi"}
    joined, items, expected, offset = [], [], [], 0
    for _ in range(data.draw(st.integers(0, 12))):
        offset += 1
        backlogs[data.draw(st.sampled_from("ghi"))].append(offset)
    while len(joined) < 3:
        group = data.draw(st.sampled_from([g for g in "ghi" if g not in joined]))
        joined.append(group)
        items.append(world.edge.joining(group, name, resumed=missed(*backlogs[group], at=offset)))
        expected += backlogs[group]
        for _ in range(data.draw(st.integers(0, 3))):
            offset += 1
            where = data.draw(st.sampled_from("ghi"))
            if where in joined:
                payload = codec.encode({"text": f"t{offset}"})
                items.append((GROUP, where, payload, [], (EPOCH, offset)))
                expected.append(offset)
            else:
                backlogs[where].append(offset)
    write, pauses = wire.write, iter(data.draw(st.lists(st.booleans(), max_size=20)))
    wire.write = lambda output: (write(output), next(pauses, False) and connection.writable(False))
    world.edge.deliver(items)
    for _ in range(data.draw(st.integers(0, 3))):
        offset += 1
        world.edge.group_message("g", {"text": f"t{offset}"}, position=(EPOCH, offset))
        expected.append(offset)
        connection.writable(True)
    while not connection.direct:
        connection.writable(True)
    got = [int(line.rpartition(" ")[2]) for line in wire.written]
    assert got == sorted(got)
    assert [at for at, line in zip(got, wire.written, strict=True) if line[0] == "t"] == sorted(
        expected
    )
