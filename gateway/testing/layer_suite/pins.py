"""Pins: what is posted for one process, and what becomes of it when that takes no more."""

from __future__ import annotations

from contextlib import closing

from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, OK, RELEASED, Delivery, Intake, Layer, Message, Outcome
from gateway.core.layers.edge import FULL, OUTCOME, Edge
from gateway.testing.layer_suite.harness import Harness, Server, numbers, zero

LOST = Outcome(FAILED, cause="lost")
LEFT = codec.encode({"code": 1000})
BYE = codec.encode({"code": "server-lost"})


def pin_of(layer: Layer) -> str:
    """Return the channel of what is pinned to a process."""
    return f"pin.{layer.process}"


def marked(*messages: Message) -> list[Message]:
    """Return the messages as they come when their pin was lifted."""
    return [{**message, "unpinned": True} for message in messages]


class Pins(Harness):
    """``Edge.post(pin=…)``, ``Edge.pin``, and the channel ``pin.``."""

    def pinned(self, server: Server, worker: Layer, count: int, start: int = 0) -> list[Message]:
        """Post so many deliveries to ``x``, pinned to ``worker``, by receipts from 1 on."""
        found = numbers(count, start)
        before = worker.global_statistics().messages
        for n, message in enumerate(found, start):
            server.post("x", message, receipt=n + 1, pin=pin_of(worker))
        self.until(lambda: worker.global_statistics().messages == before + count)
        return found

    def begun(self, worker: Layer, *channels: str, credit: int = 32) -> tuple[Intake, Delivery]:
        """Return an intake of ``worker`` and what it took first."""
        intake = worker.intake([*channels, "pin."], credit)
        delivery = intake.take(self.patience)
        assert delivery is not None
        return intake, delivery

    def closed(self, worker: Layer, intake: Intake) -> None:
        """Close an intake; what it gave back is back when this returns."""
        intake.close()
        worker.announced()
        worker.announced()

    def all_of(self, layer: Layer, *channels: str) -> list[Message]:
        """Return all that waits there, which must be of the channel ``x``."""
        found = []
        while (delivery := layer.take(channels)) is not None:
            assert delivery.channel == "x"
            found += delivery.messages
            layer.settle(delivery, [OK] * len(delivery.payloads))
        return found

    def test_pin(self) -> None:
        """A pinned delivery waits for its process alone, in order, by its own channel."""
        server, one, two = self.server(), self.join(), self.join()
        sent = self.pinned(server, one, 3)
        server.post("x", {"n": "free"})
        assert self.received(two, "x") == {"n": "free"}
        assert two.take(["x", "pin."]) is None
        assert one.take(["x"]) is None
        assert self.all_of(one, "pin.") == sent
        assert server.heard(3) == [(OUTCOME, n, 0, OK) for n in (1, 2, 3)]
        assert zero(one.global_statistics())

    def test_pin_by_name(self) -> None:
        """``pin.`` stands for the channel ``pin.PROCESS`` of the reader's own process."""
        server, worker = self.server(), self.join()
        for channel in ("pin.", pin_of(worker)):
            sent = self.pinned(server, worker, 1)
            assert worker.channel_statistics(pin_of(worker)).pending == 1
            assert worker.receive([channel], block=self.patience) == ("x", sent[0])
            server.heard()
        sent = self.pinned(server, worker, 1)
        with closing(worker.intake(["y", "pin."])) as intake:
            delivery = intake.take(self.patience)
            assert delivery is not None
            assert (delivery.channel, delivery.messages) == ("x", sent)
            self.settled(worker, delivery, OK)

    def test_pin_runs(self) -> None:
        """Several messages of one delivery are pinned as one."""
        server, worker = self.server(), self.join()
        server.post("x", *numbers(3), receipt=1, pin=pin_of(worker))
        delivery = self.taken(worker, "pin.")
        assert delivery.messages == numbers(3)
        self.settled(worker, delivery, OK, Outcome(RELEASED))
        delivery = self.taken(worker, "pin.")
        assert delivery.messages == numbers(2, 1)
        self.kill(worker)
        assert server.heard(3) == [(OUTCOME, 1, 0, OK), *[(OUTCOME, 1, n, LOST) for n in (1, 2)]]

    def test_pin_capacity(self) -> None:
        """What is pinned takes room on the channel of the pin, which a refusal names."""
        server, worker = self.server(capacity=2), self.join()
        self.pinned(server, worker, 2)
        server.post("x", {}, receipt=9, pin=pin_of(worker))
        assert server.heard() == [(FULL, 9, pin_of(worker))]
        assert worker.channel_statistics("x").pending == 0
        worker.send("x", {})

    def test_pin_expiry(self) -> None:
        """What is pinned expires as anything else."""
        server, worker = self.server(expiry=60.0), self.join()
        self.pinned(server, worker, 1)
        self.advance(61)
        assert server.heard() == [(OUTCOME, 1, 0, Outcome(RELEASED, cause="expired"))]
        assert worker.take(["pin."]) is None

    def test_pin_of_a_process_that_dies(self) -> None:
        """When a process ends, what waited for it is offered on its own channel, in order and
        marked ``unpinned``; what it had in hand fails, cause lost.
        """  # noqa: D205 - one sentence
        server, one, two = self.server(), self.join(), self.join()
        sent = self.pinned(server, one, 5)
        delivery = self.taken(one, "pin.")
        assert delivery.messages == sent[:1]
        self.kill(one)
        assert server.heard() == [(OUTCOME, 1, 0, LOST)]
        assert self.all_of(two, "x") == marked(*sent[1:])
        assert server.heard(4) == [(OUTCOME, n, 0, OK) for n in (2, 3, 4, 5)]
        self.dropped(two, failed=1)

    def test_pin_of_a_lease_that_ends(self) -> None:
        """So when its lease ends."""
        server, one, two = self.server(lease=10.0), self.join(), self.join()
        sent = self.pinned(server, one, 2)
        self.freeze(one)
        self.advance(8)
        assert two.take(["x"]) is None
        self.advance(4)
        assert self.all_of(two, "x") == marked(*sent)
        server.heard(2)

    def test_pin_of_an_intake_that_closes(self) -> None:
        """When a process closes its intake of ``pin.``, what it had not begun goes to others, in
        order and marked, whether it was handed over or not; what is in hand it may settle.
        """  # noqa: D205 - one sentence
        server, one, two = self.server(), self.join(), self.join()
        sent = self.pinned(server, one, 8)
        intake, delivery = self.begun(one, credit=4)
        assert delivery.messages == sent[:1]
        self.closed(one, intake)
        assert self.all_of(two, "x") == marked(*sent[1:])
        self.settled(one, delivery, OK)
        heard = server.heard(8)
        assert sorted(heard) == [(OUTCOME, n, 0, OK) for n in range(1, 9)]
        assert zero(two.global_statistics())
        self.dropped(two)

    def test_pin_of_another_intake(self) -> None:
        """The end of an intake that does not take ``pin.`` lifts nothing."""
        server, one, two = self.server(), self.join(), self.join()
        one.send("y", {})
        with closing(one.intake(["x", "y"])) as intake:
            delivery = intake.take(self.patience)
            assert delivery is not None
            self.settled(one, delivery, OK)
        one.announced()
        sent = self.pinned(server, one, 1)
        assert two.take(["x"]) is None
        assert self.all_of(one, "pin.") == sent

    def test_pin_that_is_lifted(self) -> None:
        """What is posted to a pin that was lifted waits on its own channel, marked, within the
        capacity there.
        """  # noqa: D205 - one sentence
        server, one, two = self.server(capacity=2), self.join(), self.join()
        self.pinned(server, one, 1)
        intake, delivery = self.begun(one)
        self.closed(one, intake)
        self.settled(one, delivery, OK)
        server.heard()
        for ended in (False, True):
            sent = self.pinned(server, one, 2)
            server.post("x", {}, receipt=9, pin=pin_of(one))
            assert server.heard() == [(FULL, 9, "x")]
            if ended:
                self.kill(one)
            assert self.all_of(two, "x") == marked(*sent)
            server.heard(2)

    def test_pin_of_nobody(self) -> None:
        """So is what is posted to a process that the layer does not know."""
        server, worker = self.server(), self.join()
        server.post("x", {"n": 1}, {"n": 2}, receipt=1, pin="pin.p_nobody")
        delivery = self.taken(worker, "x")
        assert delivery.messages == marked({"n": 1}, {"n": 2})
        worker.settle(delivery, [OK, OK])
        server.heard(2)

    def test_pin_lifted_over_capacity(self) -> None:
        """What returns to its own channel needs no room there, and stands before what is newer,
        behind what is older.
        """  # noqa: D205 - one sentence
        server, one, two = self.server(capacity=3), self.join(), self.join()
        two.send("x", {"n": "old"})
        sent = self.pinned(server, one, 3)
        two.send("x", {"n": "new"})
        self.kill(one)
        self.until(lambda: two.channel_statistics("x").pending == 5)
        assert self.all_of(two, "x") == [{"n": "old"}, *marked(*sent), {"n": "new"}]

    def test_pin_lifted_keeps_its_time(self) -> None:
        """It expires when it would have without that, and may be cancelled."""
        server, one, two = self.server(expiry=60.0), self.join(), self.join()
        self.pinned(server, one, 2)
        self.advance(40)
        self.kill(one)
        self.until(lambda: two.channel_statistics("x").pending == 2)
        server.do(lambda edge: edge.cancel(2))
        assert server.heard() == [(OUTCOME, 2, 0, Outcome(RELEASED, cause="cancelled"))]
        self.advance(21)
        assert server.heard() == [(OUTCOME, 1, 0, Outcome(RELEASED, cause="expired"))]
        assert two.take(["x"]) is None

    def test_pin_released(self) -> None:
        """What is released stays pinned while the pin holds, and its delay too."""
        server, one, two = self.server(), self.join(), self.join()
        sent = self.pinned(server, one, 2)
        self.settled(one, self.taken(one, "pin."), Outcome(RELEASED))
        self.settled(one, self.taken(one, "pin."), Outcome(RELEASED, delay=5.0))
        self.settled(one, self.taken(one, "pin."), OK)
        assert two.take(["x"]) is None
        self.advance(6)
        assert two.take(["x"]) is None
        delivery = self.taken(one, "pin.")
        assert delivery.attempt > 1
        assert delivery.messages[0] in sent
        server.heard()

    def test_pin_lifted_while_delayed(self) -> None:
        """What is delayed when the pin is lifted is offered to others when its delay is over."""
        server, one, two = self.server(), self.join(), self.join()
        sent = self.pinned(server, one, 2)
        self.settled(one, self.taken(one, "pin."), Outcome(RELEASED, delay=5.0))
        self.kill(one)
        assert self.received(two, "x") == marked(sent[1])[0]
        assert two.take(["x"]) is None
        self.advance(6)
        delivery = self.taken(two, "x")
        assert (delivery.attempt, delivery.messages) == (2, marked(sent[0]))
        self.settled(two, delivery, OK)
        assert server.heard(2) == [(OUTCOME, 2, 0, OK), (OUTCOME, 1, 0, OK)]
        assert zero(two.global_statistics())

    def test_pin_released_while_lifted(self) -> None:
        """What is released by a process whose pins are lifted goes to others, marked."""
        server, one, two = self.server(), self.join(), self.join()
        server.post("x", *numbers(3), receipt=1, pin=pin_of(one))
        intake, delivery = self.begun(one)
        self.closed(one, intake)
        self.settled(one, delivery, OK, Outcome(RELEASED))
        delivery = self.taken(two, "x")
        assert delivery.messages == marked(*numbers(2, 1))
        self.settled(two, delivery, OK, OK)
        assert server.heard(3) == [(OUTCOME, 1, n, OK) for n in range(3)]
        assert zero(two.global_statistics())

    def test_pin_of_large_maps(self) -> None:
        """A message of any number of keys can be marked."""
        server, worker = self.server(), self.join()
        for keys in (0, 1, 14, 15, 16, 300):
            message = {f"k{n}": n for n in range(keys)}
            server.post("x", message, pin="pin.p_nobody")
            assert self.received(worker, "x") == {**message, "unpinned": True}

    # ------------------------------------------------ disconnects

    def registers(self, server: Server, worker: Layer, other: Layer) -> str:
        """Register a connection that is pinned to ``worker``; return its name."""
        name = f"x.{server.process}!a"

        def turn(edge: Edge) -> None:
            edge.register(name, "x", BYE)
            edge.pin(name, pin_of(worker))

        server.do(turn)
        server.silence(other)
        return name

    def test_pin_disconnect(self) -> None:
        """The disconnect of a pinned connection waits for the process that it is pinned to."""
        server, one, two = self.server(), self.join(), self.join()
        for layer in (one, two):
            layer.announce(["x"])
        name = self.registers(server, one, two)
        server.do(lambda edge: edge.end(name, "x", LEFT))
        server.silence(one)
        assert two.take(["x"]) is None
        two.announce(["y"])
        assert self.all_of(one, "pin.") == [{"code": 1000}]
        server.do(lambda edge: edge.end(name, "x", LEFT))
        assert self.received(two, "x") == {"code": 1000}

    def test_pin_disconnect_of_a_lost_server(self) -> None:
        """So does the one that the layer offers."""
        server, one, two = self.server(), self.join(), self.join()
        self.registers(server, one, two)
        self.kill(server.layer)
        self.until(lambda: one.channel_statistics(pin_of(one)).pending == 1)
        assert two.take(["x"]) is None
        assert self.all_of(one, "pin.") == [{"code": "server-lost"}]

    def test_pin_disconnect_lifted(self) -> None:
        """When the pin is lifted it is offered on its own channel, marked: posted before or after,
        in hand or not, by the server or the layer.
        """  # noqa: D205 - one sentence
        left, bye = marked({"code": 1000}, {"code": "server-lost"})
        for in_hand in (False, True):
            server, one, two = self.server(), self.join(), self.join()
            name = self.registers(server, one, two)
            server.do(lambda edge, name=name: edge.end(name, "x", LEFT))  # type: ignore[misc] # bound now
            server.silence(one)
            if in_hand:
                self.taken(one, "pin.")
            self.kill(one)
            assert self.received(two, "x") == left
            name = self.registers(server, one, two)
            server.do(lambda edge, name=name: edge.end(name, "x", LEFT))  # type: ignore[misc] # bound now
            assert self.received(two, "x") == left
            self.registers(server, one, two)
            self.kill(server.layer)
            assert self.received(two, "x") == bye
            two.close()

    def test_pin_disconnect_unrouted(self) -> None:
        """Whether it is routed is a matter of its own channel."""
        server, one, two = self.server(), self.join(), self.join()
        one.announce(["x", "y"])
        name = self.registers(server, one, two)
        server.do(lambda edge: edge.end(name, "x", LEFT))
        server.silence(one)
        two.announce(["z"])
        assert one.channel_statistics(pin_of(one)).pending == 1
        one.announce(["y"])
        assert one.take(["pin."]) is None
        self.dropped(one, unrouted=1)
