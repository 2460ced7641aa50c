"""The numbers of a layer."""

from __future__ import annotations

import pytest

from gateway.core.errors import ChannelFull
from gateway.core.layers import codec
from gateway.core.layers.base import OK, RELEASED, Outcome
from gateway.core.metrics import Drop
from gateway.testing.layer_suite.harness import Harness, numbers, own


class Numbers(Harness):
    """``global_statistics`` and ``channel_statistics``."""

    def test_nothing_yet(self) -> None:
        """A new layer has zeros, and so has a channel nobody used."""
        layer = self.join()
        assert layer.global_statistics() == (0, 0, 0, 0, 0.0, 0, {})
        assert layer.channel_statistics("x") == (0, 0, 0, 0, 0.0, 0, {})

    def test_a_channel(self) -> None:
        """Messages, what waits, its bytes, what is in hand, the age of the oldest."""
        layer = self.join()
        size = len(codec.encode({"n": 1}))
        for message in numbers(3):
            layer.send("x", message)
        layer.send("y", {})
        self.advance(5)
        layer.send_many("x", numbers(2))
        delivery = self.taken(layer, "x")
        found = layer.channel_statistics("x")
        assert found.messages == 5
        assert found.pending == 4
        assert found.pending_bytes == 4 * size
        assert found.in_hand == 1
        assert found.max_age == pytest.approx(5, abs=1)
        self.settled(layer, delivery, OK)
        self.drained(layer, "x")
        found = layer.channel_statistics("x")
        assert found[:5] == (5, 0, 0, 0, 0.0)

    def test_the_whole_layer(self) -> None:
        """The numbers of the whole layer are those of all channels and inboxes."""
        layer = self.join()
        layer.send("x", {})
        layer.send("y!a", {})
        layer.send(own(layer), {})
        self.taken(layer, "x")
        found = layer.global_statistics()
        assert (found.messages, found.pending, found.in_hand) == (3, 2, 1)
        self.inbox(layer, 1)
        assert layer.global_statistics().pending == 1

    def test_an_inbox(self) -> None:
        """What waits in an inbox is the number of its process's names."""
        layer = self.join()
        for message in numbers(3):
            layer.send(f"x.{layer.process}!a", message)
        assert layer.channel_statistics(own(layer)).pending == 3

    def test_an_inbox_gives_its_bytes_back(self) -> None:
        """An inbox that is read holds no bytes, whatever came through it."""
        layer, worker = self.join(), self.join()
        layer.group_add("g", own(layer))
        for n in range(5):
            layer.send_many("x", [{}], receipt=n + 1)
            self.settled(worker, self.taken(worker, "x"), OK)
            worker.send(own(layer), {"n": n})
            worker.send_group("g", {"n": n})
        self.inbox(layer, 15)
        assert layer.global_statistics().pending_bytes == 0

    def test_an_edge_gives_its_bytes_back(self) -> None:
        """So does one that an edge drains."""
        server, other = self.server(), self.join()
        for n in range(5):
            other.send(f"x.{server.process}!a", {"n": n})
        server.heard(5)
        assert other.global_statistics().pending_bytes == 0

    def test_a_partly_settled_release_gives_its_bytes_back(self) -> None:
        """What was settled of a delivery counts no more when the rest is released."""
        layer = self.join()
        layer.send_many("x", numbers(3))
        self.settled(layer, self.taken(layer, "x"), OK, Outcome(RELEASED))
        found = layer.channel_statistics("x")
        assert (found.pending, found.pending_bytes) == (2, 2 * len(codec.encode({"n": 1})))

    def test_a_cancelled_delay_gives_its_room_back(self) -> None:
        """What is withdrawn while its release is delayed waits no more."""
        layer = self.join()
        layer.send_many("x", [{}], receipt=1)
        self.settled(layer, self.taken(layer, "x"), Outcome(RELEASED, delay=30.0))
        assert layer.channel_statistics("x").pending == 1
        assert layer.cancel(1) is True
        assert layer.channel_statistics("x").pending == 0

    def test_full_is_counted(self) -> None:
        """``full`` counts the messages that were refused; they are no messages of the layer."""
        layer = self.join(capacity=1)
        layer.send("x", {})
        for _ in range(3):
            with pytest.raises(ChannelFull):
                layer.send("x", {})
        found = layer.channel_statistics("x")
        assert (found.full, found.messages) == (3, 1)
        assert layer.global_statistics().full == 3
        assert layer.channel_statistics("y").full == 0

    def test_drops_of_a_channel(self) -> None:
        """``channel_statistics`` counts the drops of that channel, and of no other."""
        layer = self.join(expiry=60.0)
        layer.send("x", {})
        layer.send_many("x", [{}, {}])
        layer.send_many("y", [{}], receipt=1)
        layer.cancel(1)
        self.advance(61)
        assert layer.channel_statistics("x").drops == {"expired": 3}
        assert layer.channel_statistics("y").drops == {"cancelled": 1}
        self.dropped(layer, expired=3, cancelled=1)

    def test_causes(self) -> None:
        """Every cause is one of `gateway.core.metrics.Drop`."""
        layer, taker, other = self.join(expiry=60.0, capacity=1), self.join(), self.join()
        layer.group_add("g", "x")
        layer.send("x", {})
        layer.send_group("g", {})
        delivery = self.taken(taker, "x")
        self.settled(taker, delivery, OK)
        delivery.settled = 0
        self.settled(taker, delivery, OK)
        layer.send("x", {})
        self.taken(other, "x")
        self.kill(other)
        self.until(lambda: "failed" in self.drops(layer))
        layer.send(own(other), {})
        layer.send("x", {})
        self.advance(61)
        expected = {"full": 1, "stale": 1, "failed": 1, "gone": 1, "expired": 1}
        self.dropped(layer, **expected)
        assert set(expected) <= {cause.value for cause in Drop}

    def test_skipped_without_a_receipt(self) -> None:
        """What is skipped and has no sender to tell is counted as failed."""
        layer = self.join()
        layer.send_many("x", numbers(3))
        self.settled(layer, self.taken(layer, "x"), OK, Outcome("rejected"))
        self.dropped(layer, failed=1)
