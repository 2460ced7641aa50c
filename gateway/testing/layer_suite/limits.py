"""How long messages wait, and how many: expiry and capacity."""

from __future__ import annotations

import pytest

from gateway.core.errors import ChannelFull
from gateway.core.layers import codec
from gateway.core.layers.base import OK, Layer
from gateway.testing.layer_suite.harness import Harness, numbers


class Expiry(Harness):
    """Messages that nobody takes."""

    def test_expiry(self) -> None:
        """A message that nobody took expires after ``expiry`` seconds, counted."""
        layer = self.join(expiry=60.0)
        layer.send("x", {"n": 1})
        self.advance(59)
        layer.send("x", {"n": 2})
        self.advance(2)
        assert self.drained(layer, "x") == [{"n": 2}]
        self.dropped(layer, expired=1)

    def test_not_before(self) -> None:
        """Before its time is over it is delivered."""
        layer = self.join(expiry=60.0)
        layer.send("x", {"n": 1})
        self.advance(59)
        assert self.drained(layer, "x") == [{"n": 1}]

    def test_room_comes_back_by_itself(self) -> None:
        """What expires gives its room back then, without anybody receiving."""
        layer = self.join(expiry=60.0, capacity=3)
        for message in numbers(3):
            layer.send("x", message)
        self.advance(61)
        statistics = layer.channel_statistics("x")
        assert (statistics.pending, statistics.pending_bytes) == (0, 0)
        for message in numbers(3):
            layer.send("x", message)
        assert self.drained(layer, "x") == numbers(3)

    def test_own_expiry(self) -> None:
        """``send_many`` may give its messages an expiry of their own, shorter or longer."""
        layer = self.join(expiry=60.0)
        layer.send_many("x", [{"n": 0}], expiry=100.0)
        layer.send_many("x", [{"n": 1}], expiry=5.0)
        self.advance(6)
        layer.send("x", {"n": 2})
        assert layer.channel_statistics("x").pending == 2
        self.advance(90)
        assert self.drained(layer, "x") == [{"n": 0}]
        self.advance(10)
        self.dropped(layer, expired=2)

    def test_in_hand_nothing_expires(self) -> None:
        """Expiry ends when a delivery is taken: in hand there is no time limit."""
        sender, taker = self.join(expiry=60.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.advance(1000)
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_the_sender_hears_of_expiry(self) -> None:
        """The sender of an expired message hears ``released`` with the cause ``expired``."""
        layer = self.join(expiry=60.0)
        layer.send_many("x", numbers(2), receipt=3)
        self.advance(61)
        assert self.outcomes(layer, 2) == [
            (3, 0, "released", "expired"),
            (3, 1, "released", "expired"),
        ]

    def test_everywhere(self) -> None:
        """Messages to addresses and single readers expire as all others do."""
        layer = self.join(expiry=60.0)
        reader = layer.new_channel("x?")
        for channel in (reader, "y!a", "y!b"):
            layer.send(channel, {})
        self.advance(61)
        assert layer.global_statistics().pending == 0
        assert layer.receive([reader, "y!"]) == (None, None)
        self.dropped(layer, expired=3)

    def test_a_single_reader_used_again(self) -> None:
        """The lifetime of what a single reader has read ends nothing of what comes after."""
        layer = self.join(expiry=60.0)
        reader = layer.new_channel("x?")
        layer.send(reader, {"n": 1})
        assert self.drained(layer, reader) == numbers(1, 1)
        self.advance(30)
        layer.send(reader, {"n": 2})
        self.advance(31)
        layer.send(reader, {"n": 3})
        assert self.drained(layer, reader) == numbers(2, 2)


class Capacity(Harness):
    """Room is counted in messages and in bytes; nobody waits for it."""

    def fill(self, layer: Layer, channel: str) -> int:
        """Send until the channel is full; return how many it took."""
        for n in range(10_000):
            try:
                layer.send(channel, {"n": n})
            except ChannelFull:
                return n
        raise AssertionError(f"{channel} is never full")

    def test_in_messages(self) -> None:
        """``send`` never waits for room: it raises ChannelFull, nothing is sent, and it is
        counted.
        """  # noqa: D205 - one sentence
        layer = self.join(capacity=5)
        assert self.fill(layer, "x") == 5
        with pytest.raises(ChannelFull) as caught:
            layer.send_many("x", [{}])
        assert caught.value.channel == "x"
        assert layer.channel_statistics("x").full == 2
        assert layer.global_statistics().full == 2
        assert self.drained(layer, "x") == numbers(5)

    def test_default_is_100(self) -> None:
        """The default capacity is 100 messages, for single-reader channels too."""
        layer = self.join()
        assert self.fill(layer, "x") == 100
        assert self.fill(layer, "y?abc") == 100

    def test_each_channel_has_its_own(self) -> None:
        """A full channel does not touch others."""
        layer = self.join(capacity=5)
        self.fill(layer, "x")
        layer.send("y", {})
        assert layer.receive(["y"]) == ("y", {})

    def test_taking_gives_room(self) -> None:
        """What is taken gives its room to the next."""
        layer = self.join(capacity=2)
        self.fill(layer, "x")
        delivery = self.taken(layer, "x")
        layer.send("x", {"n": 2})
        with pytest.raises(ChannelFull):
            layer.send("x", {})
        self.settled(layer, delivery, OK)
        with pytest.raises(ChannelFull):
            layer.send("x", {})
        assert self.drained(layer, "x") == numbers(2, 1)

    def test_patterns(self) -> None:
        """Capacities by pattern: the longest match wins."""
        layer = self.join(capacity=3, capacities={"a.*": 4, "a.b.*": 5, "*.c": 6, "a.b.cc": 7})
        found = {name: self.fill(layer, name) for name in ("x", "a.x", "a.b.x", "x.c", "a.b.cc")}
        assert found == {"x": 3, "a.x": 4, "a.b.x": 5, "x.c": 6, "a.b.cc": 7}

    def test_in_bytes(self) -> None:
        """A channel holds at most ``channel_bytes`` bytes of messages, all encoded."""
        layer = self.join(channel_bytes=1000)
        message = {"data": b"x" * 300}
        for _ in range(3):
            layer.send("x", message)
        with pytest.raises(ChannelFull):
            layer.send("x", message)
        assert layer.channel_statistics("x").pending_bytes == 3 * len(codec.encode(message))
        self.received(layer, "x")
        layer.send("x", message)

    def test_all_or_nothing(self) -> None:
        """What is sent together is refused together."""
        layer = self.join(capacity=5)
        layer.send_many("x", numbers(3))
        with pytest.raises(ChannelFull):
            layer.send_many("x", numbers(3, 3))
        assert layer.channel_statistics("x").pending == 3
        layer.send_many("x", numbers(2, 3))
        assert self.drained(layer, "x") == numbers(5)

    def test_an_inbox_in_messages(self) -> None:
        """A process inbox holds ``process_capacity`` messages over all names of the process."""
        layer = self.join(process_capacity=4, capacity=1)
        other = self.join()
        for n in range(4):
            other.send(f"x{n}.{layer.process}!c", {"n": n})
        with pytest.raises(ChannelFull):
            other.send(f"y.{layer.process}!d", {})
        assert [message for _, message in self.inbox(layer, 4)] == numbers(4)
        other.send(f"y.{layer.process}!d", {})

    def test_an_inbox_in_bytes(self) -> None:
        """A process inbox holds ``process_bytes`` bytes; each message may count for a little
        more than its own.
        """  # noqa: D205 - one sentence
        layer = self.join(process_bytes=3900)
        message = {"data": b"x" * 1000}
        for n in range(3):
            layer.send(f"x{n}.{layer.process}!c", message)
        with pytest.raises(ChannelFull):
            layer.send(f"y.{layer.process}!d", message)

    def test_an_address(self) -> None:
        """An address has the room of a channel."""
        assert self.fill(self.join(capacity=3), "x!a") == 3
