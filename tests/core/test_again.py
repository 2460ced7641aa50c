"""What failed and is handed in again: order, waits, what is left of it."""

from __future__ import annotations

from gateway.core.layers.base import OK, Outcome
from gateway.core.metrics import Drop
from gateway.core.names import wanted, wanted_of
from gateway.core.plugin import Accepted, Again, Emit, Forget, Refusal

from .toys import Recorder, World, talking

FAILED = Outcome("failed", cause="ValueError")
SKIPPED = Outcome("failed", cause="skipped")


class Stubborn(Recorder):
    """Emits what comes, ``TOPIC TEXT``, and hands in again what did not go well, in a second."""

    def received(self, data):
        if isinstance(data, list):
            return data
        topic, _, text = data.partition(" ")
        message = {"text": text}
        return [Emit("receive", message, (topic, message), topic, reply_channel="ask.out!x")]

    def outcome(self, token, outcome):
        topic, message = token
        self.heard.append((message["text"], outcome.kind))
        if outcome.kind == "accepted":
            return ()
        return [Again("receive", message, token, topic, 1.0)]

    def refused(self, token, refusal):
        return self.outcome(token, Outcome("released", cause=refusal.value))


def world(**settings):
    made = talking(**settings)
    made.stubborn = Stubborn()
    made.connection, made.wire = made.attach(made.stubborn)
    made.connection.run([Accepted(registered=False)])
    return made


def test_what_failed_comes_before_what_is_newer():
    """What failed is handed in again after its wait, before what came after it, in its order."""
    it = world()
    for text in ("a", "b", "c"):
        it.connection.received(f"t {text}")
    [first] = it.edge.take()
    it.edge.settle(first, FAILED)
    it.connection.received("t d")
    it.connection.received("u other")
    [other] = it.edge.take()
    assert [m["text"] for m in other.messages] == ["other"]
    it.clock.advance(1.1)
    [again] = it.edge.take()
    assert [m["text"] for m in again.messages] == ["a", "b", "c", "d"]
    assert [m["order"] for m in again.messages] == [0, 1, 2, 3]
    assert it.dropped == {}


def test_what_was_skipped_stays_behind_it():
    """The rest of a delivery that was skipped stands behind what failed of it."""
    it = world()
    it.connection.received("t a")
    [first] = it.edge.take()
    for text in ("b", "c", "d"):
        it.connection.received(f"t {text}")
    it.edge.settle(first, OK)
    [run] = it.edge.take()
    it.edge.settle(run, OK, FAILED, SKIPPED)
    assert it.edge.take() == []
    it.clock.advance(1.1)
    assert it.texts() == [("talk.receive", ["c", "d"])]


def test_released_together_they_come_again_together():
    """Several that are released come again in their order, after one wait."""
    it = world()
    it.connection.received("t a")
    [first] = it.edge.take()
    for text in ("b", "c"):
        it.connection.received(f"t {text}")
    it.edge.settle(first, OK)
    [run] = it.edge.take()
    released = Outcome("released", cause="expired")
    it.edge.settle(run, released, released)
    it.clock.advance(1.1)
    assert it.texts() == [("talk.receive", ["b", "c"])]


def test_what_finds_no_room_comes_again():
    """Where a channel stays full the session may have its message handed in again, once each."""
    it = world(full_timeout=1.0)
    it.connection.received("t a")
    it.connection.received("t b")
    [post] = it.edge.take()
    it.edge.refuse(post)
    for _ in range(60):
        it.clock.advance(0.02)
        for probe in it.edge.take():
            it.edge.refuse(probe)
    assert it.stubborn.heard == [("a", "released")]
    assert it.dropped == {}
    it.clock.advance(2)
    [post] = it.edge.take()
    assert [m["text"] for m in post.messages][:1] == ["a"]


def test_nothing_is_left_of_one_that_ends():
    """What was to be handed in again is dropped, counted, where the connection is ended."""
    it = world()
    it.connection.received("t a")
    [first] = it.edge.take()
    it.edge.settle(first, FAILED)
    it.connection.end()
    it.connection.lost()
    assert it.engine.flow.later == {}
    assert it.dropped == {"closed": 1}
    it.clock.advance(5)
    assert it.edge.take() == []


def test_where_nobody_listens_any_more():
    """An Again of a connection that is ending is dropped, counted as what it failed of."""
    it = world()
    it.connection.received("t a")
    [first] = it.edge.take()
    it.connection.end()
    it.edge.settle(first, FAILED)
    assert it.engine.flow.later == {}
    assert it.dropped == {"failed": 1}


def test_without_a_window_too():
    """Without a window what failed is handed in again, and holds nothing up."""
    it = world(window=0)
    it.connection.received("t a")
    it.connection.received("t b")
    first, _ = it.edge.take()
    it.edge.settle(first, FAILED)
    it.connection.received("t c")
    assert it.texts() == [("talk.receive", ["c"])]
    it.clock.advance(1.1)
    assert it.texts() == [("talk.receive", ["a"])]


def test_answered_elsewhere():
    """A message may be answered at an address of its own."""
    it = world()
    it.connection.received("t a")
    [post] = it.edge.take()
    assert post.messages[0]["reply_channel"] == "ask.out!x"


def test_not_registered():
    """A connection that is accepted unregistered has no disconnect, whatever ends it."""
    it = world()
    registered = it.edge.called("register")
    assert [call[0] for call in registered] != [it.connection.reply_channel]
    it.edge.calls.clear()
    it.connection.lost()
    assert it.edge.called("end") == []


def test_forgotten():
    """A conversation that is forgotten begins anew; one that is busy is kept."""
    it = world()
    it.connection.received("t a")
    it.connection.received([Forget("t"), Forget("never")])
    it.connection.received("t b")
    [post] = it.edge.take()
    it.edge.settle(post, OK)
    [post] = it.edge.take()
    assert post.messages[0]["order"] == 1
    it.edge.settle(post, OK)
    before = len(it.engine.by_channel)
    it.connection.received([Forget("t")])
    assert len(it.engine.by_channel) == before - 1
    it.connection.received("t c")
    [post] = it.edge.take()
    assert post.messages[0]["order"] == 0


def test_a_member_is_not_forgotten():
    """A conversation that is in a group is kept."""
    it = world()
    it.connection.received([Emit("receive", {"text": "a"}, conversation="t")])
    [post] = it.edge.take()
    channel = post.messages[0]["reply_channel"]
    it.edge.settle(post, OK)
    it.engine.groups.join("g", channel, None, announce=False)
    it.connection.received([Forget("t")])
    assert channel in it.engine.by_channel


def test_a_reply_by_an_address():
    """An ack of what came to an address names that, and begins no conversation."""
    it = world()
    before = len(it.engine.by_channel)
    it.context.reply(
        it.connection, None, {"text": "x", "ack": 7, "ack_channel": "acks?a"}, "talk.out!here"
    )
    assert it.wire.written == ["x"]
    assert len(it.engine.by_channel) == before
    [(channel, answer)] = it.edge.called("send")
    assert (channel, answer["reply_channel"]) == ("acks?a", "talk.out!here")


def test_wanted():
    """What workers want of a channel comes back as it was said; other names are not it."""
    name = wanted("talk.receive", "a/+/ü.#")
    assert wanted_of("talk.receive", ["talk.receive", name, "talk.receive.want._zz"]) == {"a/+/ü.#"}
    it = World(announced=("ask.request", wanted("ask.request", "x")))
    assert it.context.wanted("request") == {"x"}
    assert it.context.wanted("request") is it.context.wanted("request")
    it.engine.flow.announce(None)
    assert it.context.wanted("request") is None


def test_a_refusal_is_told():
    """Who says nothing of a refusal has its message dropped, as before."""
    it = talking()
    it.session.heard.clear()
    it.edge.announced = None
    it.connection.refuse("a", Refusal.FULL, Drop.FULL)
    assert it.session.heard == [("a", Refusal.FULL)]
