"""Conversations, windows, outcomes, ends: the engine over a fake edge."""

from __future__ import annotations

import gc
import weakref

import pytest

from gateway.core.errors import RemoteProtocolError
from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, Outcome
from gateway.core.layers.edge import HANDLED, OUTCOME
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Drop
from gateway.core.plugin import Accepted, Close, Emit, Forget, Peer, Refusal, Timer, Write

from .toys import CONNECT, Recorder, Requests, Talks, World, talking

SKIPPED = Outcome(FAILED, cause="skipped")


# ------------------------------------------------ the way there and back


def test_request():
    """A request is one post with the common keys; its reply is written; its outcome is told."""
    world = World()
    world.connection.received("a")
    [post] = world.edge.take()
    assert post.channel == "ask.request"
    [message] = post.messages
    assert message == {
        "text": "a",
        "reply_channel": world.connection.reply_channel,
        "order": 0,
        "client": ["192.0.2.1", 1234],
        "server": ["192.0.2.2", 80],
    }
    world.edge.reply(message["reply_channel"], {"text": "b"})
    world.edge.settle(post, OK)
    assert world.wire.written == ["b"]
    assert world.session.heard == [("a", "accepted")]
    world.connection.lost()
    world.nothing_left()
    assert world.edge.calls == []


def test_identity():
    """Who a transport says its peer is stands in every message."""
    world = World()
    connection, _ = world.attach(peer=Peer(identity="CN=pump"))
    connection.received("a")
    assert world.edge.take()[0].messages[0]["identity"] == "CN=pump"


def test_order_and_window():
    """One delivery of a conversation is unsettled; what waits follows together, in order."""
    world = World()
    for text in "abcd":
        world.connection.received(text)
    [first] = world.edge.take()
    assert [m["order"] for m in first.messages] == [0]
    world.edge.settle(first, OK)
    [second] = world.edge.take()
    assert [(m["text"], m["order"]) for m in second.messages] == [("b", 1), ("c", 2), ("d", 3)]
    world.edge.settle(second, OK, OK, OK)
    assert world.session.heard == [(t, "accepted") for t in "abcd"]


def test_what_one_read_brings_leaves_together():
    """What one read brings leaves as one delivery; what it says of another channel, after it."""
    world = World()
    world.connection.received([Emit("request", {"text": t}, t) for t in "abc"])
    [post] = world.edge.take()
    assert [(m["text"], m["order"]) for m in post.messages] == [("a", 0), ("b", 1), ("c", 2)]
    world.connection.received([Emit("request", {"text": t}, t) for t in "de"])
    assert world.edge.take() == []
    world.edge.settle(post, OK, OK, OK)
    assert world.texts() == [("ask.request", ["d", "e"])]


def test_a_read_that_ends_the_connection():
    """What a peer's last read brings leaves, although the same read ends the connection."""
    world = World()
    world.connection.received([*(Emit("request", {"text": t}, t) for t in "ab"), Close()])
    assert world.texts() == [("ask.request", ["a", "b"])]


def test_a_read_that_forgets_a_conversation():
    """What one read says in a conversation keeps that from being forgotten by the same read."""
    world = talking()
    world.connection.received([Emit("receive", {"text": "a"}, "a", "k"), Forget("k")])
    [post] = world.edge.take()
    world.edge.reply(post.messages[0]["reply_channel"], {"text": "b"})
    world.connection.received([Emit("receive", {"text": "c"}, "c", "k")])
    assert world.edge.take() == []
    world.edge.settle(post, OK)
    assert world.wire.written == ["welcome", ("k", "b")]
    assert [(m["text"], m["order"]) for m in world.edge.take()[0].messages] == [("c", 1)]


def test_a_read_that_opens_and_goes_on():
    """What one read says in a conversation behind its opening waits behind that."""
    world = talking(accept=False)
    world.edge.take()
    emits = [Emit("connect", {"text": "a"}, "a", "k"), Emit("receive", {"text": "b"}, "b", "k")]
    world.connection.received([*emits, Emit("receive", {"text": "c"}, "c", "k")])
    [post] = world.edge.take()
    assert [m["text"] for m in post.messages] == ["a"]
    world.session.on_outcome["a"] = [Accepted()]
    world.edge.settle(post, OK)
    assert world.texts() == [("talk.receive", ["b", "c"])]


def test_handled_together():
    """Outcomes of several that were accepted are told in order, whatever parts they come in."""
    world = World()
    world.connection.received([Emit("request", {"text": t}, t) for t in "abcde"])
    [post] = world.edge.take()
    world.edge.deliver([(HANDLED, post.receipt, 0, 2)])
    assert world.session.heard == [("a", "accepted"), ("b", "accepted")]
    assert world.engine.flow.flights
    world.edge.deliver([(OUTCOME, post.receipt, 2, OK), (HANDLED, post.receipt, 3, 2)])
    assert world.session.heard == [(t, "accepted") for t in "abcde"]
    world.connection.lost()
    world.nothing_left()


def test_handled_and_then_failed():
    """What follows those that were handled together is told, and sent again, as alone."""
    world = World()
    world.connection.received([Emit("request", {"text": t}, t) for t in "abcd"])
    [post] = world.edge.take()
    items = [(HANDLED, post.receipt, 0, 2), (OUTCOME, post.receipt, 2, Outcome(FAILED))]
    world.edge.deliver([*items, (OUTCOME, post.receipt, 3, SKIPPED)])
    assert world.session.heard == [("a", "accepted"), ("b", "accepted"), ("c", "failed")]
    assert world.texts() == [("ask.request", ["d"])]


def test_handled_together_with_room():
    """What waits for room goes on as each of several that were handled gives some."""
    world = World()
    world.connection.received([Emit("request", {"text": t}, t) for t in "ab"])
    [post] = world.edge.take()
    others = [world.attach()[0] for _ in range(3)]
    for other in others:
        other.received("x")
    for refused in world.edge.take():
        world.edge.refuse(refused)
    world.edge.deliver([(HANDLED, post.receipt, 0, 2)])
    assert world.texts() == [("ask.request", ["x"])] * 2


def test_handled_without_a_token():
    """Of what has no token a session does not hear, though others of its run have one."""
    world = World()
    world.connection.received([Emit("request", {"text": t}, t or None) for t in ("a", "", "b")])
    [post] = world.edge.take()
    world.edge.settle(post, OK, OK, OK)
    assert world.session.heard == [("a", "accepted"), ("b", "accepted")]


def test_run_is_of_one_channel():
    """Only messages for one channel travel together; a disconnect travels alone."""
    world = World()
    emits = [Emit("request", {"text": t}, t) for t in "ab"]
    emits += [Emit("disconnect", {"text": t}, t) for t in "cd"]
    emits += [Emit("request", {"text": "e"}, "e")]
    world.connection.received(emits)
    sent = []
    while posts := world.edge.take():
        [post] = posts
        sent.append([m["text"] for m in post.messages])
        world.edge.settle(post, *[OK] * len(post.messages))
    assert sent == [["a", "b"], ["c"], ["d"], ["e"]]


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [({"run_messages": 2}, [1, 2, 2, 1]), ({"run_bytes": 250}, [1, 2, 2, 1])],
)
def test_run_is_bounded(settings, lengths):
    """A delivery has at most ``run_messages`` messages and ``run_bytes`` bytes."""
    world = World(**settings)
    for text in "abcdef":
        world.connection.received(text)
    sent = []
    while posts := world.edge.take():
        sent.append(len(posts[0].messages))
        world.edge.settle(posts[0], *[OK] * len(posts[0].messages))
    assert sent == lengths


def test_window_0():
    """Without a window nothing waits for an outcome, and order still counts."""
    world = World(window=0)
    for text in "abc":
        world.connection.received(text)
    posts = world.edge.take()
    assert [m["order"] for p in posts for m in p.messages] == [0, 1, 2]
    world.connection.lost()
    for post in reversed(posts):
        assert world.engine.flow.flights
        world.edge.settle(post, OK)
    world.nothing_left()


def test_conversations():
    """Conversations of one connection do not wait for each other, and are answered apart."""
    world = World()
    one = [Emit("request", {"text": t}, t, "one") for t in "ab"]
    two = [Emit("request", {"text": t}, t, "two") for t in "cd"]
    more = [("e", "one"), ("f", "two")]
    world.connection.received(one + two)
    posts = world.edge.take()
    assert [[m["text"] for m in p.messages] for p in posts] == [["a", "b"], ["c", "d"]]
    assert [[m["order"] for m in p.messages] for p in posts] == [[0, 1], [0, 1]]
    channels = [p.messages[0]["reply_channel"] for p in posts]
    assert len({*channels, world.connection.reply_channel}) == 3
    world.edge.reply(channels[1], {"text": "x"})
    assert world.wire.written == [("two", "x")]
    world.connection.received([Emit("request", {"text": t}, t, key) for t, key in more])
    world.connection.lost()
    for post in posts:
        world.edge.settle(post, OK, OK)
    assert world.texts() == [("ask.request", ["e"]), ("ask.request", ["f"])]


def test_rest_of_a_failed_delivery_is_sent_again():
    """After a failure the rest, unrun, stands at the head of its conversation again."""
    world = World()
    for text in "abcd":
        world.connection.received(text)
    [first] = world.edge.take()
    world.edge.settle(first, OK)
    [second] = world.edge.take()
    world.connection.received("e")
    world.edge.settle(second, Outcome(FAILED, cause="KeyError"), SKIPPED, SKIPPED)
    assert world.session.heard[1:] == [("b", "failed")]
    [third] = world.edge.take()
    assert [m["text"] for m in third.messages] == ["c", "d", "e"]
    assert world.dropped == {"failed": 1}


def test_rest_of_a_failed_delivery_is_dropped_when_the_session_closes():
    """The rest of a failed delivery is dropped, counted, if the failure closes the connection."""
    world = World()
    for text in "abcd":
        world.connection.received(text)
    world.session.on_outcome["b"] = [Close(b"1011")]
    [first] = world.edge.take()
    world.edge.settle(first, OK)
    [second] = world.edge.take()
    world.edge.settle(second, Outcome(FAILED), SKIPPED, SKIPPED)
    assert world.wire.closed == (b"1011", False)
    world.connection.lost()
    assert world.edge.take() == []
    assert world.dropped == {"failed": 1, "closed": 2}
    world.nothing_left()


def test_loose_message():
    """A message for a single-reader channel goes as it is; what is unsettled is withdrawn."""
    world = World()
    actions = [Emit("request", {"n": n}, n, channel="ask.body?x") for n in (1, 2)]
    world.connection.received([*actions, Emit("request", {"n": 3}, channel="ask.body?x")])
    posts = world.edge.take()
    assert [p.messages for p in posts] == [[{"n": 1}], [{"n": 2}]]
    assert world.edge.called("send") == [("ask.body?x", {"n": 3})]
    world.edge.settle(posts[0], OK)
    assert world.session.heard == [(1, "accepted")]
    world.connection.lost()
    assert world.edge.called("cancel") == [(posts[1].receipt,)]
    world.nothing_left()
    world.edge.settle(posts[1], Outcome(RELEASED, cause="cancelled"))


def test_loose_message_refused():
    """A message for a single-reader channel that is full is refused at once."""
    world = World()
    world.connection.received([Emit("request", {"n": 1}, 1, channel="ask.body?x")])
    world.edge.refuse(world.edge.take()[0])
    assert world.session.heard == [(1, Refusal.FULL)]


# ------------------------------------------------ never sent


def test_unannounced_channel():
    """What no worker routes is not sent: its outcome is unrouted."""
    world = World(announced=("other",))
    world.connection.received("a")
    assert world.edge.take() == []
    assert world.session.heard == [("a", "unrouted")]
    assert world.dropped == {"unrouted": 1}


def test_unrouted_connect_is_implied():
    """A connect that nobody routes is accepted where receive is routed, else unrouted."""
    assert World(Talks, ("talk.receive",)).session.heard == [("connect", "accepted")]
    assert World(Talks, ("talk.disconnect",)).session.heard == [("connect", "unrouted")]


def test_no_worker():
    """Without a worker a message waits; released when its patience is over, sent if one comes."""
    world = World(announced=None, full_timeout=1.0, start_timeout=0)
    world.connection.received("a")
    world.clock.advance(0.8)
    assert world.session.heard == []
    world.clock.advance(0.4)
    assert world.session.heard == [("a", "released")]
    assert world.dropped == {"expired": 1}
    world.connection.received("b")
    world.edge.announce({"ask.request"})
    assert world.texts() == [("ask.request", ["b"])]


def test_first_worker():
    """Right after the start a message waits for the first worker, whatever its patience."""
    world = World(announced=None, full_timeout=1.0, start_timeout=10)
    world.connection.received("a")
    world.clock.advance(9)
    assert world.session.heard == []
    world.clock.advance(1.2)
    assert world.session.heard == [("a", "released")]
    world.connection.received("b")
    world.edge.announce({"ask.request"})
    world.edge.announce(None)
    assert world.texts() == [("ask.request", ["b"])]


def test_no_worker_for_an_open_connection():
    """What an open connection sends outlives a restart of the workers."""
    world = talking()
    world.edge.announce(None)
    world.connection.received("a")
    world.clock.advance(20)
    world.edge.announce({"talk.receive"})
    assert world.texts() == [("talk.receive", ["a"])]
    assert world.dropped == {}


def test_draining_refuses_new_conversations():
    """A gateway that shuts down takes no new request, and finishes what has begun."""
    world = World()
    world.connection.received("a")
    world.engine.draining = True
    other, _ = world.attach(session := Recorder(kind="request"))
    other.received("b")
    world.connection.received("c")
    assert session.heard == [("b", Refusal.DRAINING)]
    world.edge.settle(world.edge.take()[0], OK)
    assert world.texts() == [("ask.request", ["c"])]
    assert world.dropped == {"drained": 1}


def test_what_cannot_be_sent():
    """No message, no such kind, over one MiB: refused, counted, and the session goes on."""
    world = World()
    world.connection.received([Emit("request", {"text": object()}, 1)])
    world.connection.received([Emit("nonsense", {}, 2)])
    world.connection.received([Emit("request", {"text": "x" * (1 << 20)}, 3)])
    world.connection.received("a")
    assert world.session.heard == [
        (1, Refusal.BROKEN),
        (2, Refusal.BROKEN),
        (3, Refusal.TOO_BIG),
    ]
    assert world.texts() == [("ask.request", ["a"])]
    assert world.dropped == {Drop.INVALID: 2, Drop.TOO_BIG: 1}


def test_larger_messages():
    """What the layer lets through is sent, however large: its own limit counts."""
    world = World()
    world.edge.options = LayerOptions(message_bytes=2 << 20)
    world.connection.received([Emit("request", {"text": "x" * (1 << 20)}, 1)])
    [post] = world.edge.take()
    world.edge.settle(post, OK)
    world.connection.received([Emit("request", {"text": "x" * (2 << 20)}, 2)])
    assert world.session.heard == [(1, "accepted"), (2, Refusal.TOO_BIG)]


# ------------------------------------------------ room


def test_full_channel():
    """Who finds a channel full waits in line; one probe is sent at a time, then more."""
    world = World(full_timeout=10.0)
    connections = [world.attach()[0] for _ in range(4)]
    for n, connection in enumerate(connections):
        connection.received(str(n))
    posts = world.edge.take()
    for post in posts:
        world.edge.refuse(post)
    assert world.edge.take() == []
    world.clock.advance(0.02)
    [probe] = world.edge.take()
    assert probe.messages[0]["text"] == "0"
    world.edge.refuse(probe)
    world.clock.advance(0.02)
    [probe] = world.edge.take()
    assert probe.messages[0]["text"] == "0"
    world.clock.advance(0.02)
    assert world.texts() == [("ask.request", ["1"]), ("ask.request", ["2"])]
    world.clock.advance(0.02)
    assert world.texts() == [("ask.request", ["3"])]
    world.clock.advance(1)
    assert not world.engine.flow.full


def test_full_channel_lets_one_go_upon_an_outcome():
    """An outcome of the channel means room for one."""
    world = World()
    held, first, second = (world.attach()[0] for _ in range(3))
    held.received("held")
    [post] = world.edge.take()
    first.received(first.reply_channel)
    world.edge.refuse(world.edge.take()[0])
    second.received(second.reply_channel)
    assert world.edge.take() == []
    world.edge.settle(post, OK)
    [(_, [text])] = world.texts()
    assert text == first.reply_channel


def test_full_timeout():
    """A message that finds no room in time is refused, with all that waits behind it."""
    world = World(full_timeout=0.5)
    for text in "ab":
        world.connection.received(text)
    for _ in range(30):
        for post in world.edge.take():
            world.edge.refuse(post)
        world.clock.advance(0.02)
    assert world.session.heard == [("a", Refusal.FULL), ("b", Refusal.FULL)]
    assert world.dropped == {"full": 2}
    world.connection.received("c")
    for _ in range(5):
        world.clock.advance(0.02)
    assert world.texts() == [("ask.request", ["c"])]
    world.connection.lost()


def test_probe_is_one_message():
    """A run that was refused whole is tried again message by message."""
    world = World()
    for text in "abc":
        world.connection.received(text)
    [first] = world.edge.take()
    world.edge.settle(first, OK)
    [run] = world.edge.take()
    world.edge.refuse(run)
    world.clock.advance(0.02)
    assert world.texts() == [("ask.request", ["b"])]


def test_gone_while_waiting_for_room():
    """A connection that was ended while it waited for room leaves nothing behind."""
    world = World()
    world.connection.received("a")
    world.edge.refuse(world.edge.take()[0])
    world.connection.run([Close()])
    world.connection.lost()
    assert world.dropped == {"closed": 1}
    world.clock.advance(0.1)
    assert world.edge.take() == []
    world.nothing_left()


# ------------------------------------------------ bounds of the inbox


def test_inbox_pauses_reading():
    """Over its bounds the inbox stops reading; below half of them it goes on."""
    world = World(inbox_messages=4, run_messages=2)
    for text in "abcdef":
        world.connection.received(text)
        assert world.wire.paused is (text == "f")
    [post] = world.edge.take()
    world.edge.settle(post, OK)
    assert world.wire.paused
    [post] = world.edge.take()
    world.edge.settle(post, OK, OK)
    assert not world.wire.paused


def test_inbox_counts_bytes():
    """The inbox is bounded in bytes too."""
    world = World(inbox_bytes=1000)
    world.connection.received("a")
    world.connection.received("x" * 1000)
    assert world.wire.paused


def test_input_in_spite_of_a_pause():
    """Input far over the bounds, after reading was paused, is refused as too slow."""
    world = World(inbox_messages=2)
    for n in range(11):
        world.connection.received(n)
    assert world.session.heard == [(10, Refusal.TOO_SLOW)]
    assert world.dropped == {"slow": 1}


def test_one_read_may_carry_many():
    """What one read carries beyond the bounds is taken, not refused."""
    world = World(inbox_messages=2)
    world.connection.received("first")
    world.connection.received([Emit("request", {"text": str(n)}, n) for n in range(50)])
    assert world.session.heard == []
    assert world.wire.paused


# ------------------------------------------------ the end


def test_one_disconnect():
    """An accepted connection is registered at once and has one disconnect message."""
    world = talking()
    channel = world.connection.reply_channel
    [(name, where, lost)] = world.edge.called("register")
    assert (name, where) == (channel, "talk.disconnect")
    assert lost["reason"] == "server-lost"
    assert lost["code"] == 1006
    assert "order" not in lost
    assert world.wire.written == ["welcome"]
    world.connection.lost()
    world.connection.lost()
    [(name, where, message)] = world.edge.called("end")
    assert (name, where) == (channel, "talk.disconnect")
    assert message["order"] == 1
    assert message["code"] == 1006
    world.nothing_left()


def test_registered_before_the_accept_is_written():
    """The layer knows of a connection before its peer hears that it is accepted."""
    world = talking(accept=False)
    world.session.on_outcome["connect"] = [Accepted(), Write("welcome")]
    seen = []
    world.wire.write = lambda output: seen.append(len(world.edge.called("register")))
    world.edge.settle(world.edge.take()[0], OK)
    assert seen == [1]


@pytest.mark.parametrize("yes", [True, False])
def test_no_conversation_overtakes_the_decision(yes):
    """What a session says in conversations before its connect is accepted waits; it never reaches
    a consumer if that is refused.
    """
    world = talking(accept=False)
    [connect] = world.edge.take()
    early = [Emit("receive", {"text": t}, t, "one") for t in "ab"]
    world.connection.received([*early, Emit("receive", {"text": "c"}, "c", "two")])
    assert world.edge.take() == []
    world.session.on_outcome["connect"] = [Accepted()] if yes else [Close()]
    world.edge.settle(connect, OK if yes else Outcome("rejected"))
    posts = world.edge.take()
    found = [[m["text"] for m in post.messages] for post in posts if post.channel == "talk.receive"]
    assert found == ([["a", "b"], ["c"]] if yes else [])
    if not yes:
        world.connection.lost()
        assert world.dropped == {"closed": 3}
        world.nothing_left()


def test_what_was_held_for_the_decision_goes_with_its_client():
    """Who leaves before its connect is decided leaves nothing behind."""
    world = talking(accept=False)
    [connect] = world.edge.take()
    world.connection.received([Emit("receive", {"text": "a"}, "a", "one")])
    world.connection.lost()
    assert world.dropped == {"closed": 1}
    world.edge.settle(connect, OK)
    assert world.edge.take() == []
    assert len(world.edge.called("end")) == 1
    world.nothing_left()


def test_refused_connect_has_no_disconnect():
    """A connection that was refused has no disconnect message."""
    world = talking(accept=False)
    world.session.on_outcome["connect"] = [Close(b"403")]
    world.edge.settle(world.edge.take()[0], Outcome(REJECTED))
    world.connection.lost()
    assert world.edge.calls == []
    world.nothing_left()


@pytest.mark.parametrize(
    ("outcome", "ends"), [(OK, 1), (Outcome(REJECTED), 0), (Outcome(FAILED), 0)]
)
def test_gone_while_pending(outcome, ends):
    """A client gone while pending has a disconnect if the outcome is accepted, only then."""
    world = talking(accept=False)
    world.connection.lost()
    assert world.edge.called("end") == []
    world.edge.settle(world.edge.take()[0], outcome)
    assert len(world.edge.called("end")) == ends
    assert world.session.heard == []
    world.nothing_left()


def test_disconnect_waits_behind_what_is_unfinished():
    """The disconnect waits for what is in hand and for what the peer sent before it left."""
    world = talking()
    for text in "abc":
        world.connection.received(text)
    world.connection.lost()
    [first] = world.edge.take()
    assert world.edge.called("end") == []
    world.edge.settle(first, OK)
    [second] = world.edge.take()
    assert [m["text"] for m in second.messages] == ["b", "c"]
    assert world.edge.called("end") == []
    world.edge.settle(second, OK, OK)
    [(_, _, message)] = world.edge.called("end")
    assert message["order"] == 4
    world.nothing_left()


def test_eof_keeps_what_the_peer_sent():
    """A close in answer to the peer's own end drops nothing of what it sent before."""
    world = talking()
    for text in "ab":
        world.connection.received(text)
    world.connection.eof()
    assert world.wire.closed == (b"", False)
    world.connection.lost()
    world.edge.settle(world.edge.take()[0], OK)
    assert world.texts() == [("talk.receive", ["b"])]
    assert world.dropped == {}


def test_closed_by_the_application():
    """Ended by the application: what waits is dropped, and the disconnect comes at once after."""
    world = talking()
    for text in "abc":
        world.connection.received(text)
    [post] = world.edge.take()
    world.edge.reply(world.connection.reply_channel, {"close": True})
    assert world.wire.closed == (b"bye", False)
    world.connection.received("d")
    world.connection.lost()
    assert world.dropped == {"closed": 2}
    world.edge.settle(post, OK)
    assert world.edge.take() == []
    [(_, _, message)] = world.edge.called("end")
    assert message["order"] == 2
    world.nothing_left()


def test_sends_to_the_dead_are_gone():
    """Replies to a connection that is closing or gone are dropped at once, counted."""
    world = talking()
    channel = world.connection.reply_channel
    world.edge.reply(channel, {"close": True})
    world.edge.reply(channel, {"text": "late"})
    world.connection.lost()
    world.edge.reply(channel, {"text": "later"})
    assert world.dropped == {"gone": 2}
    assert world.wire.written == ["welcome"]


def test_emits_after_the_end_are_dropped():
    """What a session emits after it closed is dropped, counted."""
    world = World()
    world.connection.run([Close(), Emit("request", {"text": "a"}, 1)])
    assert world.edge.take() == []
    assert world.dropped == {"closed": 1}


def test_timeout_withdraws_what_nobody_took():
    """A session that ends because of a timer has its message withdrawn from the layer."""
    world = World()
    world.session.on_outcome["wait"] = [Write("504"), Close()]
    world.connection.received([Timer("wait", 5.0), Emit("request", {"text": "a"}, 1)])
    world.clock.advance(5.2)
    [post] = world.edge.take()
    assert world.edge.called("cancel") == [(post.receipt,)]
    assert world.wire.written == ["504"]
    world.connection.lost()
    world.edge.settle(post, Outcome(RELEASED, cause="cancelled"))
    world.nothing_left()


def test_timers():
    """A timer rings once, may be moved and cleared, and is forgotten with its connection."""
    world = World()
    world.connection.run([Timer("a", 1.0), Timer("b", 1.0), Timer("c", 1.0)])
    world.connection.run([Timer("a", 3.0), Timer("b", None), Timer("never", None)])
    world.clock.advance(2)
    assert world.session.heard == [("timeout", "c")]
    world.clock.advance(2)
    assert world.session.heard[1:] == [("timeout", "a")]
    world.connection.run([Timer("a", 1.0)])
    world.connection.lost()
    assert len(world.engine.deadlines) == 0


def test_nothing_keeps_a_connection_alive():
    """A connection that is over is freed at once, without the cyclic collector."""
    world = talking()
    world.connection.run([Timer("a", 1000.0)])
    world.edge.join("g", world.connection.reply_channel)
    world.connection.received("a")
    post = world.edge.take()[0]
    world.connection.lost()
    world.edge.settle(post, OK)
    gone = weakref.ref(world.session)
    gc.disable()
    try:
        world.connection = world.session = world.wire = None
        assert gone() is None
    finally:
        gc.enable()


# ------------------------------------------------ faults


def test_session_that_raises(caplog):
    """A session's exception costs that session: logged with plugin and connection, closed."""
    world = World()
    other, _ = world.attach(session := Recorder(kind="request"))
    world.connection.received(RuntimeError("a bug"))
    assert world.wire.closed == (b"", False)
    [record] = caplog.records
    assert world.connection.reply_channel in record.getMessage()
    assert "ask" in record.getMessage()
    assert record.exc_info[1].args == ("a bug",)
    assert world.metrics.snapshot()["gateway_ask_session_errors_total"] == 1
    other.received("a")
    assert world.texts() == [("ask.request", ["a"])]
    assert session.heard == []


def test_session_that_raises_at_once(caplog):
    """An exception in ``opened`` is no exception of ``attach``."""

    class Bad(Recorder):
        def opened(self, peer):
            raise RuntimeError("a bug")

    _, wire = World().attach(Bad())
    assert wire.closed == (b"", False)
    assert "a bug" in caplog.text


def test_session_that_returns_nonsense(caplog):
    """What is no action is a fault of the session."""
    world = World()
    world.connection.received(["nonsense"])
    assert world.wire.closed == (b"", False)
    assert "not an action" in caplog.text


def test_peer_that_breaks_the_rules():
    """A peer's fault is answered with the error's own words, and what came before is kept."""
    world = World()
    world.connection.received("a")
    world.connection.received("b")
    world.connection.received(RemoteProtocolError("no", answer=b"400"))
    assert world.wire.closed == (b"400", False)
    world.connection.lost()
    world.edge.settle(world.edge.take()[0], OK)
    assert world.texts() == [("ask.request", ["b"])]


def test_wire_that_raises(caplog):
    """A transport that fails while it is closed is logged and counted, and costs nothing else."""
    world = World()

    def fail(*args, **kwargs):
        raise OSError("broken pipe")

    world.wire.write = world.wire.close = fail
    world.connection.run([Write(b"x")])
    assert "the transport failed to close" in caplog.text
    assert world.metrics.snapshot()["gateway_ask_close_errors_total"] == 1
    world.connection.lost()
    world.nothing_left()


def test_never_called_while_being_called():
    """What a transport says from within a wire's method waits until the session returned."""
    world = World()
    calls = []

    class Careful(Recorder):
        def received(self, data):
            calls.append(("in", data))
            yield Write(data)
            calls.append(("out", data))

    connection, wire = world.attach(Careful())
    wire.write = lambda output: connection.received(2) if output == 1 else None
    connection.received(1)
    assert calls == [("in", 1), ("out", 1), ("in", 2), ("out", 2)]


def test_lost_from_within_a_write():
    """A transport may be lost from within a write; the rest of the actions is not run."""
    world = talking()
    world.wire.write = lambda output: world.connection.lost()
    world.connection.run([Write(1), Emit("receive", {"text": "a"})])
    assert world.edge.take() == []
    assert len(world.edge.called("end")) == 1
    world.nothing_left()


# ------------------------------------------------ draining and losing the layer


def test_drain_tells_sessions():
    """A shutdown is told to each session, which closes in its own words."""
    world = talking()
    world.connection.drain(2.5)
    assert world.session.heard == [("connect", "accepted"), ("draining", 2.5)]
    assert world.wire.closed == (b"restart", False)


def test_layer_lost():
    """What is in flight when the layer goes away is refused, and its connection closes."""
    world = talking()
    idle, idle_wire = world.attach()
    world.connection.received("a")
    world.connection.received("b")
    world.edge.take()
    world.edge.go_down()
    assert world.session.heard[1:] == [("a", Refusal.UNAVAILABLE)]
    assert world.wire.closed == (b"", False)
    assert idle_wire.closed is None
    world.connection.lost()
    assert world.edge.called("end") == []
    assert world.dropped == {"closed": 1}
    world.edge.come_up(rejoined=True)
    assert len(world.edge.called("end")) == 1
    idle.lost()
    world.nothing_left()


def test_layer_away():
    """While the layer is away a request is refused at once, an open connection waits."""
    world = talking()
    asks = world.engine.context(Requests, None)
    world.edge.go_down()
    assert world.context.routed("receive") is None
    session = Recorder(kind="request")
    asks.attach(session, world.wire, Peer()).received("a")
    assert session.heard == [("a", Refusal.UNAVAILABLE)]
    world.connection.received("b")
    world.clock.advance(10)
    world.edge.come_up()
    assert world.texts() == [("talk.receive", ["b"])]
    world.edge.go_down()


def test_layer_away_too_long():
    """What waits for the layer longer than ``unavailable_timeout`` is refused."""
    world = talking()
    world.edge.go_down()
    world.connection.received("a")
    world.clock.advance(30.2)
    assert world.session.heard[1:] == [("a", Refusal.UNAVAILABLE)]
    assert world.dropped == {"layer_lost": 1}


def test_full_channel_of_a_layer_that_goes_away():
    """Who waited for room when the layer went away waits for the layer instead."""
    world = talking(full_timeout=20.0)
    world.connection.received("a")
    world.edge.refuse(world.edge.take()[0])
    world.edge.go_down()
    world.clock.advance(10)
    assert world.edge.take() == []
    world.edge.come_up()
    assert world.texts() == [("talk.receive", ["a"])]


def test_layer_forgot_us():
    """A layer that has forgotten us hears again of connections, members and channels."""
    world = talking()
    world.context.listen("talk.outgoing", lambda channel, message: None)
    channel = world.connection.reply_channel
    world.edge.join("g", channel, {"name": "ann"})
    world.edge.calls.clear()
    world.edge.go_down()
    world.edge.come_up(rejoined=True)
    assert [call[0] for call in world.edge.calls] == ["listen", "register", "group_add"]
    assert world.edge.called("group_add") == [("g", channel, {"name": "ann"})]
    world.edge.calls.clear()
    world.edge.go_down()
    world.edge.come_up(rejoined=False)
    assert world.edge.calls == []


def test_fenced(caplog):
    """A process whose lease has ended closes every connection and emits nothing."""
    world = talking()
    world.edge.join("g", world.connection.reply_channel)
    world.connection.received("a")
    world.connection.received("b")
    world.edge.take()
    world.edge.calls.clear()
    world.edge.fence()
    assert world.wire.closed == (b"", True)
    world.connection.lost()
    assert world.edge.take() == []
    assert world.edge.calls == []
    world.nothing_left()
    _, _ = world.attach(Recorder(CONNECT))
    assert world.edge.process in world.edge.take()[0].messages[0]["reply_channel"]
    assert "lease" in caplog.text


# ------------------------------------------------ contexts


def test_listen():
    """A plugin reads the channels that it declares, and prefixes of addresses."""
    world = World()
    heard = []
    world.context.listen("ask.out", lambda *args: heard.append(args))
    world.context.listen("ask.out!", lambda *args: heard.append(args))
    world.edge.reply("ask.out", {"text": "a"})
    world.edge.reply("ask.out!x", {"text": "b"})
    assert heard == [("ask.out", {"text": "a"}), ("ask.out!x", {"text": "b"})]
    assert world.edge.called("listen") == [("ask.out",), ("ask.out!",)]


def test_context():
    """A context knows what is routed, its connections, and counts for its plugin."""
    world = World()
    assert world.context.routed("request") is True
    assert world.context.routed("other") is False
    world.edge.announce(None)
    assert world.context.routed("request") is None
    assert list(world.context.connections()) == [world.connection]
    world.context.emit(world.connection, Emit("request", {"text": "a"}))
    world.context.count("things_total", 2, kind="x")
    assert world.metrics.snapshot()['gateway_ask_things_total{kind="x"}'] == 2
    assert world.metrics.snapshot()['gateway_connections{plugin="ask"}'] == 1
    world.context.detach(world.connection)
    assert list(world.context.connections()) == []
    assert world.context.draining is False
