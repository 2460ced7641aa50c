"""Pins: one connection's messages go to one process, which the layer may lift."""

from __future__ import annotations

import pytest

from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, Outcome
from gateway.core.plugin import Accepted, Emit, Write

from .toys import CONNECT, Recorder, Talks, World, talking

HERE = "pin.p_worker000001"
THERE = "pin.p_worker000002"


def pins(world):
    """What was posted since the last look: channel, texts and pin."""
    return [(p.channel, [m["text"] for m in p.messages], p.pin) for p in world.edge.take()]


def pin(world, to=HERE, **more):
    world.edge.reply(world.connection.reply_channel, {"pin": to, **more})


def test_pinned():
    """From a pin on a connection's messages go there, by their own channel, its disconnect too."""
    world = talking()
    world.connection.received("a")
    pin(world)
    [post] = world.edge.take()
    assert post.pin is None
    world.connection.received("b")
    world.edge.settle(post, OK)
    assert pins(world) == [("talk.receive", ["b"], HERE)]
    assert world.wire.written == ["welcome"]
    world.edge.settle(post._replace(receipt=post.receipt + 1), OK)
    world.connection.lost()
    assert world.edge.called("pin") == [(world.connection.reply_channel, HERE)] * 2
    assert [call[0] for call in world.edge.calls] == ["register", "pin", "pin", "end"]
    assert world.dropped == {}
    world.nothing_left()


def test_unpinned_connections():
    """Of a connection that nobody pins the layer hears no pin."""
    world = talking()
    world.connection.received("a")
    [post] = world.edge.take()
    assert post.pin is None
    world.edge.settle(post, OK)
    world.connection.lost()
    assert world.edge.called("pin") == []


def test_the_rest_of_the_reply():
    """What stands beside a pin is done as ever: sent, acknowledged, even when it would take the
    short road; and the session never sees the pin.
    """
    world = talking()
    session = world.session
    session.__class__ = type("Framing", (Recorder,), {"frames_replies": True})
    seen = []
    send = session.send
    session.send = lambda key, reply, token: seen.append(dict(reply)) or send(key, reply, token)
    pin(world, text="a")
    pin(world, THERE, text="b", ack=1, ack_channel="acks?x")
    assert world.wire.written == ["welcome", "a", "b"]
    assert seen == [{"text": "a"}, {"text": "b", "ack": 1, "ack_channel": "acks?x"}]
    assert [call[1]["outcome"] for call in world.edge.called("send")] == ["accepted"]
    world.connection.received("c")
    assert pins(world) == [("talk.receive", ["c"], THERE)]


def test_pending():
    """A pin before acceptance counts from then on: with it the disconnect is pinned."""
    world = talking(accept=False)
    [post] = world.edge.take()
    world.session.on_outcome["connect"] = [Accepted(), Write("welcome")]
    pin(world)
    assert world.edge.calls == []
    world.edge.settle(post, OK)
    assert [call[0] for call in world.edge.calls] == ["register", "pin"]
    world.connection.received("a")
    assert pins(world) == [("talk.receive", ["a"], HERE)]


def test_refused():
    """Of a connection that is refused nothing is pinned."""
    world = talking(accept=False)
    [post] = world.edge.take()
    pin(world)
    world.edge.settle(post, Outcome(REJECTED))
    world.connection.lost()
    assert world.edge.calls == []
    world.nothing_left()


def test_client_gone_while_pending():
    """The disconnect of a client that left before its connect was accepted goes to who accepted
    and pinned it.
    """
    world = talking(accept=False)
    [post] = world.edge.take()
    world.connection.lost()
    pin(world)
    pin(world, THERE, text="a")
    world.edge.settle(post, OK)
    assert [call[0] for call in world.edge.calls] == ["pin", "end"]
    assert world.edge.called("pin") == [(world.connection.reply_channel, THERE)]
    assert world.dropped == {"gone": 1}
    world.nothing_left()


def test_left_with_something_in_hand():
    """A pin that comes with the last messages of a client that left counts for the rest."""
    world = talking(run_messages=1)
    for text in "abc":
        world.connection.received(text)
    world.connection.lost()
    [post] = world.edge.take()
    pin(world)
    world.edge.settle(post, OK)
    [post] = world.edge.take()
    assert post.pin == HERE
    pin(world, "pin.nonsense")
    pin(world, THERE)
    world.edge.settle(post, OK)
    [post] = world.edge.take()
    assert post.pin == THERE
    world.edge.settle(post, OK)
    assert [call[0] for call in world.edge.calls] == ["register", "pin", "end"]
    assert world.dropped == {"gone": 1}
    pin(world)
    assert world.dropped == {"gone": 2}
    world.nothing_left()


@pytest.mark.parametrize(
    "wrong", ["", "pin.", "pin.p_", "pin.x", "talk.receive", "pin.p_a!b", "pin.p_a\n", 7, None]
)
def test_wrong_pins(wrong, caplog):
    """What is no pin channel of a process is an invalid reply."""
    world = talking()
    pin(world, wrong, text="a")
    assert world.dropped == {"invalid": 1}
    assert world.wire.written == ["welcome"]
    world.connection.received("b")
    assert pins(world) == [("talk.receive", ["b"], None)]


def test_protocols_without_pins(caplog):
    """A protocol whose replies have no pin drops one as any unknown key."""
    world = World()
    pin(world, text="a")
    assert world.dropped == {"invalid": 1}
    assert "unknown key 'pin'" in caplog.text


def test_groups_do_not_pin(caplog):
    """A group's message with a pin is invalid: it would pin every member."""
    world = talking()
    world.edge.join("g", world.connection.reply_channel)
    world.edge.group_message("g", {"text": "a", "pin": HERE})
    assert world.dropped == {"invalid": 1}
    assert "only a direct reply pins" in caplog.text
    assert world.wire.written == ["welcome"]
    world.connection.received("b")
    assert pins(world) == [("talk.receive", ["b"], None)]


def test_every_conversation_of_the_connection():
    """A pin, by whichever of its conversations it comes, is the connection's."""
    world = talking()
    world.connection.received([Emit("receive", {"text": "a"}, 1, "key")])
    [post] = world.edge.take()
    world.edge.reply(post.messages[0]["reply_channel"], {"pin": HERE})
    world.edge.settle(post, OK)
    world.connection.received([Emit("receive", {"text": "b"}, 2, "key")])
    world.connection.received([Emit("receive", {"text": "c"}, 3, "other")])
    world.connection.received([Emit("receive", {"text": "d"}, 4)])
    world.connection.received([Emit("", {"text": "e"}, 5, channel="talk.odd?x")])
    assert pins(world) == [
        ("talk.receive", ["b"], HERE),
        ("talk.receive", ["c"], HERE),
        ("talk.receive", ["d"], HERE),
        ("talk.odd?x", ["e"], None),
    ]


def test_full_pin():
    """A pin channel that is full holds back those that are pinned there, and nobody else."""
    world = talking()
    other, _ = world.attach()
    pin(world)
    world.connection.received("a")
    world.edge.refuse(world.edge.take()[0])
    world.connection.received("b")
    other.received("x")
    assert pins(world) == [("talk.receive", ["x"], None)]
    world.clock.advance(0.03)
    [post] = world.edge.take()
    assert (post.messages[0]["text"], post.pin) == ("a", HERE)
    world.edge.settle(post, OK)
    world.clock.advance(0.03)
    assert pins(world) == [("talk.receive", ["b"], HERE)]


def test_pinned_while_it_waits_for_room():
    """What waits for room when its connection is pinned leaves for the pin."""
    world = talking()
    world.connection.received("a")
    world.edge.refuse(world.edge.take()[0])
    pin(world)
    world.clock.advance(0.03)
    assert pins(world) == [("talk.receive", ["a"], HERE)]


def test_what_failed_under_a_pin():
    """What was in hand of a lost worker fails as ever; what waits goes on."""
    world = talking(run_messages=1)
    pin(world)
    world.connection.received("a")
    world.connection.received("b")
    [post] = world.edge.take()
    world.edge.settle(post, Outcome(FAILED, cause="lost"))
    assert world.session.heard[1:] == [("a", "failed")]
    [post] = world.edge.take()
    world.edge.settle(post, Outcome(RELEASED, cause="expired"))
    assert world.session.heard[2:] == [("b", "released")]


def test_layer_forgot_us():
    """A layer that has forgotten us hears of pins again; those of connections that ended while it
    was away go with their disconnects.
    """
    world = talking()
    second, _ = world.attach(Recorder(CONNECT))
    second.session.on_outcome["connect"] = [Accepted()]
    [post] = world.edge.take()
    world.edge.settle(post, OK)
    for connection in (world.connection, second):
        world.edge.reply(connection.reply_channel, {"pin": HERE})
    world.edge.go_down()
    second.lost()
    world.edge.calls.clear()
    world.edge.come_up(rejoined=True)
    first = world.connection.reply_channel
    assert [call[:2] for call in world.edge.calls] == [
        ("register", first),
        ("pin", first),
        ("pin", second.reply_channel),
        ("end", second.reply_channel),
    ]


def test_fenced(caplog):
    """A process whose lease has ended forgets its pins with everything else."""
    world = talking(accept=False)
    world.connection.lost()
    assert world.engine.parting
    world.edge.fence()
    world.nothing_left()


def test_window_of_none():
    """Without a window each message goes to the pin by itself."""

    class Config:
        window = 0

    world = World(Talks, ("talk.connect", "talk.receive"), Config)
    world.session.on_outcome["connect"] = [Accepted()]
    world.edge.settle(world.edge.take()[0], OK)
    pin(world)
    world.connection.received("a")
    world.connection.received("b")
    assert pins(world) == [("talk.receive", ["a"], HERE), ("talk.receive", ["b"], HERE)]
