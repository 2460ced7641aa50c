"""The end of connections at a shutdown: what is in hand is answered, then farewell is said."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.core import farewell
from gateway.core.layers.base import OK
from gateway.core.plugin import Emit, Write

from .toys import Recorder, talking


def leaving(world):
    """Begin the shutdown, of the world's connection."""
    world.engine.draining = True
    farewell.begin(world.connection, 2.5)


def test_drain_waits_for_what_is_in_hand():
    """At a shutdown who waits for an answer gets it, and hears of the shutdown after that."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    leaving(world)
    assert world.wire.closed is None
    world.edge.reply(world.connection.reply_channel, {"text": "answer"})
    assert world.wire.closed is None
    world.edge.settle(post, OK)
    assert world.wire.written == ["welcome", "answer"]
    assert world.session.heard[-1] == ("draining", 2.5)
    assert world.wire.closed == (b"restart", False)
    world.connection.lost()
    world.nothing_left()


def test_nothing_more_is_begun_at_a_shutdown():
    """What waited behind that, and what comes meanwhile, is dropped, counted: nobody begins it."""
    world = talking()
    for text in "ab":
        world.connection.received(text)
    [post] = world.edge.take()
    leaving(world)
    world.connection.received("c")
    world.edge.settle(post, OK)
    assert world.wire.closed == (b"restart", False)
    assert world.edge.take() == []
    world.connection.lost()
    assert world.dropped == {"closed": 2}
    world.nothing_left()


def test_every_conversation_is_waited_for():
    """Of several conversations the last one that is in a consumer's hands is waited for; one that
    has nothing there begins nothing.
    """
    world = talking()
    world.connection.received([Emit("receive", {"text": "a"}, conversation="x")])
    world.connection.received([Emit("receive", {"text": "b"}, conversation="y")])
    world.connection.received([Emit("receive", {"text": "c"}, conversation="z")])
    one, two, three = world.edge.take()
    world.edge.settle(three, OK)
    leaving(world)
    world.edge.settle(one, OK)
    world.connection.received([Emit("receive", {"text": "d"}, conversation="z")])
    assert world.edge.take() == []
    assert world.wire.closed is None
    world.edge.settle(two, OK)
    assert world.wire.closed == (b"restart", False)
    world.connection.lost()
    assert world.dropped == {"closed": 1}
    world.nothing_left()


def test_drain_waits_until_the_answer_is_out():
    """An answer that waits for its client to read goes out before the farewell."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    world.connection.writable(False)
    leaving(world)
    world.edge.reply(world.connection.reply_channel, {"text": "answer"})
    world.edge.settle(post, OK)
    assert (world.wire.written, world.wire.closed) == (["welcome"], None)
    world.connection.writable(True)
    assert (world.wire.written, world.wire.closed) == (["welcome", "answer"], (b"restart", False))


def test_who_is_only_slow_to_read_is_not_waited_for():
    """What waits for a client to read, while no consumer has anything of it, delays no shutdown."""
    world = talking()
    world.connection.writable(False)
    world.edge.reply(world.connection.reply_channel, {"text": "news"})
    leaving(world)
    assert world.wire.closed == (b"restart", False)


def test_who_does_not_come_for_it_is_not_waited_for():
    """Where clients come for what is theirs, one that does not is told farewell in so many seconds
    of its last coming, or of the last answer.
    """
    world = talking(config=SimpleNamespace(farewell_timeout=2.0))
    world.connection.writable(False)
    world.connection.received("a")
    [post] = world.edge.take()
    for text in ("waits", "too"):
        world.edge.reply(world.connection.reply_channel, {"text": text})
    leaving(world)
    world.clock.advance(60)
    assert world.session.heard[-1][0] != "draining"
    world.edge.settle(post, OK)
    world.clock.advance(1.9)

    def take_one(output):
        world.wire.written.append(output)
        world.connection.writable(False)

    world.wire.write = take_one
    world.connection.writable(True)
    assert world.wire.written == ["welcome", "waits"]
    world.clock.advance(1.9)
    assert world.wire.closed is None
    world.clock.advance(0.3)
    assert world.session.heard[-1] == ("draining", 2.5)
    assert world.wire.closed == (b"restart", False)
    world.connection.lost()
    assert world.dropped == {"gone": 1}
    world.nothing_left()


def test_who_comes_for_it_in_time_gets_all_of_it():
    """One that does come gets what waits, and then farewell."""
    world = talking(config=SimpleNamespace(farewell_timeout=2.0))
    world.connection.writable(False)
    world.edge.reply(world.connection.reply_channel, {"text": "waits"})
    leaving(world)
    world.clock.advance(1.9)
    world.connection.writable(True)
    assert (world.wire.written, world.wire.closed) == (["welcome", "waits"], (b"restart", False))
    world.connection.lost()
    assert world.dropped == {}
    world.nothing_left()


def test_what_finds_no_room_is_not_waited_for():
    """A message that the layer has no room for is in nobody's hands: it delays no shutdown."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    leaving(world)
    world.edge.refuse(post)
    assert world.wire.closed == (b"restart", False)
    world.connection.lost()
    assert world.dropped == {"closed": 1}
    world.nothing_left()


def test_a_peer_that_ends_while_it_leaves():
    """What a peer said before its own end, at a shutdown, is run as ever."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    leaving(world)
    world.connection.received("b")
    world.connection.eof()
    world.connection.lost()
    world.edge.settle(post, OK)
    [post] = world.edge.take()
    assert [message["text"] for message in post.messages] == ["b"]
    world.edge.settle(post, OK)
    assert world.dropped == {}
    world.nothing_left()


def test_lost_while_only_its_answer_waited():
    """Who is lost while an answer waits for it at a shutdown leaves nothing behind."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    world.connection.writable(False)
    leaving(world)
    world.edge.reply(world.connection.reply_channel, {"text": "answer"})
    world.edge.settle(post, OK)
    world.connection.received("b")
    world.connection.lost()
    [post] = world.edge.take()
    world.edge.settle(post, OK)
    world.nothing_left()


def test_a_session_that_stays_goes_on():
    """Who says farewell and does not close has what was kept back run then."""
    world = talking()
    world.session.draining = lambda retry_after: [Write("soon")]
    world.connection.received("a")
    [post] = world.edge.take()
    leaving(world)
    world.connection.received("b")
    world.edge.settle(post, OK)
    assert world.wire.written == ["welcome", "soon"]
    assert world.texts() == [("talk.receive", ["b"])]


def test_who_waits_for_a_decision_hears_it_at_once():
    """Who is not accepted yet at a shutdown is not waited for."""
    world = talking(accept=False)
    leaving(world)
    assert world.wire.closed == (b"restart", False)


def test_a_session_that_drains_itself_hears_it_at_once(monkeypatch):
    """So does a session that says that it finishes by itself what it has in hand."""
    monkeypatch.setattr(Recorder, "drains_itself", True)
    world = talking()
    world.connection.received("a")
    leaving(world)
    assert world.session.heard[-1] == ("draining", 2.5)
