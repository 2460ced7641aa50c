"""The session with a broker, without one: any order of messages, outcomes, lost connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.layers.base import OK, Outcome
from gateway.core.plugin import Again, Close, Emit, Peer, Refusal, Write
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.outgoing import Outgoing
from gateway.plugins.mqtt.client.places import place, read
from gateway.plugins.mqtt.client.session import BrokerSession
from gateway.plugins.mqtt.client.terms import Acknowledge, Arrived, Down, Publish, Subscribed, Up
from gateway.plugins.mqtt.config import MqttConfig

FAILED = Outcome("failed", cause="ValueError")


def session(**broker):
    config = MqttConfig(brokers={"plant": Broker(connect="h:1", **broker)}, attempts=3)
    made = BrokerSession("plant", config.brokers["plant"], config, "us", default=True)
    list(made.opened(Peer()))
    list(made.received(Subscribed(frozenset({"t/#"}))))
    return made


def arrived(packet_id, payload, topic="t/1", *, duplicate=False, **more):
    message = {"topic": topic, "bytes": payload, "user_properties": [], "attempt": 1}
    return Arrived(message | more, 1, packet_id, duplicate=duplicate)


class World:
    """A broker that gives out packet identifiers as brokers do, and a core that runs anything."""

    def __init__(self, qos=1):
        self.session = session(qos=qos)
        self.unacknowledged = {}  # packet id -> payload, in the broker's order
        self.sent = 0
        self.running = []  # tokens in consumers' hands
        self.runs = {}  # payload -> times
        self.done = set()
        self.order = []  # packet ids in order of receipt by this connection
        self.up = False
        self.join()

    def run(self, actions):
        for action in actions:
            if isinstance(action, Emit):
                self.running.append(action.token)
                payload = action.message["bytes"]
                self.runs[payload] = self.runs.get(payload, 0) + 1
            elif isinstance(action, Again):
                self.running.append(action.token)
            elif isinstance(action, Write) and isinstance(action.output, Acknowledge):
                packet_id = action.output.packet_id
                assert self.up
                # In order of receipt, nothing that is not done, nothing twice.
                assert self.order.pop(0) == packet_id
                assert self.unacknowledged.pop(packet_id) in self.done
            else:
                assert not isinstance(action, Close)

    def join(self):
        self.up = True
        self.run(self.session.received(Up(True)))
        for packet_id, payload in list(self.unacknowledged.items()):
            self.order.append(packet_id)
            self.run(self.session.received(arrived(packet_id, payload, duplicate=True)))

    def lose(self):
        self.up = False
        self.order.clear()
        self.run(self.session.received(Down()))

    def publish(self):
        packet_id = next(n for n in range(1, 9) if n not in self.unacknowledged)
        payload = str(self.sent).encode()
        self.sent += 1
        self.unacknowledged[packet_id] = payload
        self.order.append(packet_id)
        self.run(self.session.received(arrived(packet_id, payload)))

    def settle(self, index, outcome):
        token = self.running.pop(index % len(self.running))
        if outcome is OK:
            self.done.add(token.message["bytes"])
        self.run(self.session.outcome(token, outcome))


@given(st.lists(st.tuples(st.sampled_from("pppsssfl"), st.integers(0, 7)), max_size=60))
def test_any_order_of_things(steps):
    """Whatever happens in whatever order: acknowledged in order of receipt, after the outcome, and
    nothing that was not acknowledged is run twice.
    """
    world = World()
    failures = {}
    for step, number in steps:
        if step == "p" and world.up and len(world.unacknowledged) < 8:
            world.publish()
        elif step == "s" and world.running:
            world.settle(number, OK)
        elif step == "f" and world.running:
            token = world.running[number % len(world.running)]
            failures[id(token)] = failures.get(id(token), 0) + 1
            if failures[id(token)] < 3:
                world.settle(number, FAILED)
        elif step == "l":
            if world.up:
                world.lose()
            world.join()
    if not world.up:
        world.join()
    while world.running:
        world.settle(0, OK)
    assert not world.unacknowledged
    assert set(world.runs.values()) <= {1}
    assert len(world.runs) == world.sent


def test_what_no_consumer_saw_is_no_attempt():
    """Time without a worker, or without room, counts as no attempt, and marks nothing."""
    made = session()
    list(made.received(Up(False)))
    [emit] = made.received(arrived(1, b"x"))
    for outcome in (Outcome("released", cause="no_worker"),) * 5:
        [again] = made.outcome(emit.token, outcome)
        assert again.message["attempt"] == 1
        assert "duplicate" not in again.message
    [again] = made.refused(emit.token, Refusal.FULL)
    assert again.seconds == 32.0
    [again] = made.outcome(emit.token, Outcome("released", cause="expired"))
    assert again.message["attempt"] == 2
    assert again.message["duplicate"] is True
    assert list(made.refused(emit.token, Refusal.DRAINING)) == []
    assert Write(Acknowledge(1, 1, 0x97)) in list(made.refused(emit.token, Refusal.TOO_BIG))


def test_places():
    """An address says broker, topic and correlation data, whatever is in them."""
    for broker, topic, correlation in (
        ("", "a/b.c", None),
        ("pl.ant", "a/b.c", None),
        ("plant", "a.b/ü+", b"\x00."),
        ("plant", "a", b""),
    ):
        assert read(place(broker, topic, correlation)) == (broker, topic, correlation)
    assert place("plant", "a" * 300) is None
    assert place("plant", "a", b"x" * 200) is None


def test_outgoing_in_order_and_within_bounds():
    """Publishes leave in order; so many of QoS 1 are in flight; what is over the bounds is not taken."""
    it = Outgoing(3, 100_000)
    it.inflight = 1
    publishes = [Publish(str(n), b"", qos=1, token=n) for n in range(4)]
    assert [it.put(one, 0.0) for one in publishes] == [True, True, True, False]
    first = it.next()
    it.sent(7, first.publish)
    assert it.next() is None
    assert it.done(7) == 0
    assert it.done(7) is None
    second = it.next()
    it.back(second)
    assert it.next() == second
    assert not it.put(Publish("a", b"x" * 200_000), 0.0)
    it.next()
    assert it.put(Publish("a", b"x" * 200_000), 0.0)  # alone anything fits
    it.sent(8, second.publish)
    assert list(it.lost()) == [None, 1]
    assert len(it) == 0


def test_expiries():
    """What expires is taken out; what is sent says what is left of its expiry."""
    it = Outgoing(10, 100_000)
    it.put(Publish("a", b"", expiry=5), 0.0)
    it.put(Publish("b", b"", expiry=60), 0.0)
    assert [one.topic for one in it.expired(10.0)] == ["a"]
    entry = it.next()
    assert not entry.is_over(10.0)
    assert entry.rest(10.0).expiry == 50
    assert entry.rest(59.9).expiry == 1
