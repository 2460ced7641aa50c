"""What a plugin says to itself in other gateway processes, and on behalf of nobody's connection."""

from __future__ import annotations

import pytest

from gateway.core.conversation import LOST
from gateway.core.errors import MessageTooLarge
from gateway.core.layers.base import FAILED, OK, Outcome
from gateway.core.layers.memory import MemoryLayer
from gateway.core.layers.options import LayerOptions
from gateway.testing.stage import Staged, wait_until

from .toys import Plugin, Recorder, Requests, World, talking


class Telling(Plugin):
    """Tells, and keeps what it is told."""

    name = "ask"
    messages = Requests.messages

    async def start(self):
        self.told = []
        self.tell = self.context.bus(self.told.append)


def test_bus():
    """What one process tells all hear, itself among them, in the order of each."""
    with Staged(Telling) as one, Staged(Telling, announced=None, beside=one) as two:
        for number in range(20):
            for staged in (one, two):
                staged.call(staged.plugin.tell, {"n": number, "of": staged is one})
        for staged in (one, two):
            wait_until(lambda staged=staged: len(staged.plugin.told) == 40)
            for of in (True, False):
                said = [message["n"] for message in staged.plugin.told if message["of"] is of]
                assert said == list(range(20))


def test_bus_is_the_plugins():
    """It is a group of the layer that the plugin's name is in, which this process is a member of."""
    world = World()
    heard = []
    tell = world.context.bus(heard.append)
    assert world.edge.called("group_add") == [
        ("ask.gateways", f"ask.gateways.{world.edge.process}!", None)
    ]
    tell({"a": 1})
    assert world.edge.called("group_send") == [("ask.gateways", {"a": 1}, [])]
    assert heard == []  # it comes back by the layer
    world.edge.group_message("ask.gateways", {"a": 1})
    assert heard == [{"a": 1}]


@pytest.mark.parametrize("most", [1 << 20, 3 << 20])
def test_bus_is_bounded(most):
    """A message may be as large as the layer's may, and no larger."""
    world = World()
    world.edge.options = LayerOptions(message_bytes=most)
    tell = world.context.bus(lambda message: None)
    tell({"a": bytes(most - 100)})
    with pytest.raises(MessageTooLarge):
        tell({"a": bytes(most)})
    assert len(world.edge.called("group_send")) == 1


def test_bus_after_a_fence():
    """A process that comes back by another name hears it again."""
    world = World()
    heard = []
    world.context.bus(heard.append)
    world.edge.fence()
    world.edge.come_up(rejoined=True)
    assert world.edge.called("group_add")[-1] == (
        "ask.gateways",
        f"ask.gateways.{world.edge.process}!",
        None,
    )
    world.edge.group_message("ask.gateways", {"b": 2})
    assert heard == [{"b": 2}]


def test_bus_that_raises(caplog):
    """One that cannot take a message loses that one."""
    world = World()
    heard = []

    def deliver(message):
        if message["n"] == 1:
            raise RuntimeError("a bug")
        heard.append(message["n"])

    world.context.bus(deliver)
    for number in range(3):
        world.edge.group_message("ask.gateways", {"n": number})
    assert heard == [0, 2]
    assert "a bug" in caplog.text


# ---------------------------------------------------------------- acks of what came to a channel


@pytest.mark.parametrize(
    ("message", "answered"),
    [
        ({"ack": 7, "ack_channel": "acks?x"}, True),
        ({"ack_channel": "acks?x"}, False),
        ({"ack": 7}, False),
        ({"ack": "7", "ack_channel": "acks?x"}, False),
        ({"ack": 7, "ack_channel": "http.request"}, False),
        ({"ack": True, "ack_channel": "acks?x"}, False),
    ],
    ids=["wanted", "no number", "no channel", "no int", "no channel of one reader", "a bool"],
)
def test_answer(message, answered):
    """The ack of what came to a channel is answered, where one is wanted that can be."""
    world = World()
    world.context.answer("ask.out!7", message, Outcome(FAILED, 5, "nobody is there"))
    said = {"ack": 7, "outcome": "failed", "code": 5, "reason": "nobody is there"}
    wanted = [("acks?x", {**said, "reply_channel": "ask.out!7"})]
    assert world.edge.called("send") == (wanted if answered else [])


# ---------------------------------------------------------------- frames of the plugin's own


def test_push():
    """A frame that the plugin has is written as it is, past the session."""
    world = talking()
    world.connection.push(b"frame", 5)
    assert world.wire.written == ["welcome", b"frame"]


def test_push_before_it_is_accepted():
    """It waits for the decision on the connection."""
    world = talking(accept=False)
    world.connection.push(b"frame", 5)
    assert world.wire.written == []
    world.session.on_outcome["connect"] = talking().session.on_outcome["connect"]
    [post] = world.edge.take()
    world.edge.settle(post, OK)
    assert world.wire.written == ["welcome", b"frame"]


@pytest.mark.parametrize(
    ("policy", "left"), [("drop_oldest", [b"2", b"3"]), ("drop_newest", [b"0", b"1"])]
)
def test_push_to_who_does_not_read(policy, left):
    """It waits in the outbox, bounded by messages and by the size that is said."""
    world = talking(slow_consumer=policy, outbox_messages=2)
    world.connection.writable(False)
    for number in range(4):
        world.connection.push(b"%d" % number, 1)
    assert world.dropped["slow"] == 2
    world.connection.writable(True)
    assert world.wire.written == ["welcome", *left]
    world = talking(slow_consumer=policy, outbox_bytes=5000)
    world.connection.writable(False)
    for number in range(4):
        world.connection.push(b"%d" % number, 2500)
    assert world.dropped["slow"] == 2


def test_push_to_who_is_gone():
    """It is counted, and nothing is written."""
    world = talking()
    world.connection.lost()
    world.connection.push(b"frame", 5)
    assert world.dropped == {"gone": 1}
    assert world.wire.written == ["welcome"]


# ---------------------------------------------------------------- outcomes that come late


class Late(Recorder):
    heeds_late = True


@pytest.mark.parametrize("kind", [Recorder, Late])
def test_late(kind):
    """The outcome of what a lost connection emitted is heard by who heeds it, and does nothing."""
    world = World()
    session = kind(kind="request")
    connection, wire = world.attach(session)
    connection.received("a")
    session.on_outcome["a"] = [*session.received("again")]
    [post] = world.edge.take()
    connection.lost()
    world.edge.settle(post, OK)
    assert session.heard == ([("a", "accepted")] if kind is Late else [])
    assert world.edge.take() == []
    assert wire.written == []
    assert connection.state >= LOST
    world.connection.lost()
    world.nothing_left()


# ---------------------------------------------------------------- what the layer can do


class Simple(MemoryLayer):
    """One of the simple face alone, as far as it says."""

    extensions = MemoryLayer.extensions - {"deliveries"}


@pytest.mark.parametrize("kind", [MemoryLayer, Simple])
def test_settles(kind, monkeypatch):
    """A plugin knows whether the layer says what became of a message."""
    monkeypatch.setattr(MemoryLayer, "extensions", kind.extensions)
    with Staged(Telling) as staged:
        assert staged.context.settles is (kind is MemoryLayer)
