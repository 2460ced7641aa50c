"""A layer that cannot be reached."""

from __future__ import annotations

import threading

import pytest

from gateway.core import names
from gateway.core.errors import LayerUnavailable
from gateway.core.layers import codec
from gateway.core.layers.base import OK, Delivery, Layer, Outcome
from gateway.core.layers.edge import DOWN, JOIN, OUTCOME, UP
from gateway.testing.layer_suite.harness import Harness

LOST = Outcome("failed", cause="layer_lost")


class Outage(Harness):
    """``LayerUnavailable``, ``DOWN`` and ``UP``."""

    def test_verbs(self) -> None:
        """While the layer is away verbs raise LayerUnavailable; when it is back they work."""
        layer = self.join()
        layer.send("x", {})
        self.cut()
        for verb in (
            lambda: layer.send("x", {}),
            lambda: layer.send_many("x", [{}], receipt=1),
            lambda: layer.send_group("g", {}),
            layer.announced,
            layer.global_statistics,
        ):
            with pytest.raises(LayerUnavailable):
                verb()
        self.mend()
        self.until(lambda: self.reached(layer))
        layer.send("x", {"n": 1})
        assert self.received(layer, "x") == {"n": 1}

    def reached(self, layer: object) -> bool:
        """Return whether ``layer`` answers."""
        try:
            layer.announced()  # type: ignore[attr-defined] # a Layer
        except LayerUnavailable:
            return False
        return True

    def test_bad_names_come_first(self) -> None:
        """What is wrong with a call is said even while the layer is away."""
        layer = self.join()
        self.cut()
        with pytest.raises(ValueError, match=r"."):
            layer.send("a b", {})
        with pytest.raises(TypeError):
            layer.send("x", {"a": object()})

    def test_takers_wait(self) -> None:
        """``take``, ``receive`` and ``Intake.take`` wait instead, and go on when it is back."""
        layer, sender = self.join(), self.join()
        intake = layer.intake(["x"])
        assert intake.take(0.01) is None
        found: list[Delivery | None] = []
        thread = threading.Thread(target=lambda: found.append(intake.take()))
        thread.start()
        self.cut()
        assert layer.take(["y"], block=0.02) is None
        assert layer.receive(["y"], block=0.02) == (None, None)
        self.mend()
        self.until(lambda: self.reached(sender))
        sender.send("x", {"n": 1})
        thread.join(self.patience)
        assert [delivery.messages for delivery in found if delivery] == [[{"n": 1}]]
        intake.close()

    def test_settling(self) -> None:
        """A settlement of what was in hand when the layer went away is not raised."""
        layer = self.join()
        layer.send("x", {})
        delivery = self.taken(layer, "x")
        self.cut()
        layer.settle(delivery, [OK])
        self.mend()
        self.until(lambda: self.reached(layer))

    def test_an_edge(self) -> None:
        """An edge hears DOWN; what is posted and cannot be known is answered ``failed``, cause
        ``layer_lost``, at once; then UP, and it works again.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        server.post("x", {}, receipt=1)
        self.until(lambda: worker.channel_statistics("x").pending == 1)
        self.cut()
        server.wait(lambda: server.news(DOWN) == [(DOWN,)], "DOWN")
        assert server.edge.available is False
        server.post("x", {}, {}, receipt=2)
        self.until(lambda: len(server.news(OUTCOME)) >= 2)
        told = [item for item in server.news(OUTCOME) if item[1] == 2]
        assert told == [(OUTCOME, 2, 0, LOST), (OUTCOME, 2, 1, LOST)]
        self.mend()
        server.wait(lambda: server.news(UP) == [(UP, True)], "UP")
        assert server.edge.available is True
        self.until(lambda: self.reached(worker))
        server.post("x", {"n": 3}, receipt=3)
        worker.settle(self.taken(worker, "x"), [OK])
        server.wait(lambda: (OUTCOME, 3, 0, OK) in server.items, "the outcome")

    def test_settled_in_part(self) -> None:
        """Of a post that was settled in part only the rest is lost, by its own indexes."""
        server, worker = self.server(), self.join()
        server.post("x", {}, {}, {}, {}, {}, receipt=1)
        delivery = self.taken(worker, "x")
        self.settled(worker, delivery, OK, OK)
        self.settled(worker, delivery, OK)
        server.wait(lambda: len(server.news(OUTCOME)) == 3, "three outcomes")
        self.cut()
        server.wait(lambda: server.news(DOWN) == [(DOWN,)], "DOWN")
        told = [(item[2], item[3]) for item in server.news(OUTCOME)]
        assert told == [*((n, OK) for n in range(3)), (3, LOST), (4, LOST)]
        self.mend()

    def test_registered_with_a_new_layer(self) -> None:
        """After UP with True the edge registers and joins again, and both count."""
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        self.cut()
        server.wait(lambda: server.news(DOWN), "DOWN")
        self.mend()
        server.wait(lambda: server.news(UP) == [(UP, True)], "UP")
        self.until(lambda: self.reached(worker))
        assert worker.group_channels("g") == []
        server.do(lambda edge: edge.group_add("g", name))
        server.do(lambda edge: edge.register(name, "gone", codec.encode({"code": 1})))
        self.until(lambda: worker.group_channels("g") == [name])
        self.kill(server.layer)
        assert self.received(worker, "gone") == {"code": 1}

    def test_announced_members_again(self) -> None:
        """A member that the edge adds with ``again`` after an outage has no join told, but the
        leave.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        server.do(lambda edge: edge.group_add("g", name, announce=True))
        assert self.received(worker, "presence.join")["channel"] == name
        self.cut()
        server.wait(lambda: server.news(DOWN), "DOWN")
        self.mend()
        server.wait(lambda: server.news(UP) == [(UP, True)], "UP")
        server.do(lambda edge: edge.group_add("g", name, announce=True, again=True))
        self.until(lambda: self.reached(worker) and worker.group_channels("g") == [name])
        assert worker.receive(["presence.join"]) == (None, None)
        self.kill(server.layer)
        assert self.received(worker, "presence.leave")["channel"] == name

    def test_another_history(self) -> None:
        """A layer that comes back without what it kept has another epoch: who resumes is told that
        something was missed, and gets what was kept since.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        worker.send_group("g", {"n": 1}, history=5)
        before = worker.log_read("k").position
        self.cut()
        server.wait(lambda: server.news(DOWN), "DOWN")
        self.mend()
        server.wait(lambda: server.news(UP) == [(UP, True)], "UP")
        self.until(lambda: self.reached(worker))
        worker.send_group("g", {"n": 2}, history=5)
        after = worker.log_read("k").position
        assert after[0] != before[0]
        server.do(lambda edge: edge.group_add("g", name, since=names.position(*before)))
        found = ([(after[1], {"n": 2})], after, True)
        assert server.heard(1) == [(JOIN, "g", name, None, False, found)]

    def mended(self, *layers: Layer) -> None:
        """Lose the layer and have it back: it has forgotten everybody."""
        self.cut()
        self.mend()
        for layer in layers:
            self.until(lambda layer=layer: self.reached(layer))  # type: ignore[misc] # bound now

    def test_held_again(self) -> None:
        """What a process held alone before, it may claim by its epoch, and has that again; until
        two seconds are over nobody else is given it, nor then.
        """  # noqa: D205 - one sentence
        first, second = self.join(), self.join()
        first.send("x", {})
        self.advance(3)
        epoch = first.acquire("k")
        assert epoch is not None
        self.mended(first, second)
        assert second.acquire("k") is None
        assert first.acquire("k", epoch) == epoch
        self.advance(3)
        assert second.acquire("k") is None
        first.release("k")
        after = second.acquire("k")
        assert after is not None
        assert after > epoch

    def test_held_by_another_meanwhile(self) -> None:
        """Who claims too late what it held is told that another process holds it."""
        first, second = self.join(), self.join()
        first.send("x", {})
        self.advance(3)
        epoch = first.acquire("k")
        assert epoch is not None
        self.mended(first, second)
        self.advance(3)
        assert second.acquire("k") is not None
        assert first.acquire("k", epoch) is None

    def test_announced_again(self) -> None:
        """A worker announces again by itself what it had announced."""
        layer, worker = self.join(), self.join()
        worker.announce(["x"])
        self.cut()
        self.mend()
        self.until(lambda: self.reached(layer) and layer.announced() == frozenset({"x"}))
