"""What is offered again, and what is withdrawn."""

from __future__ import annotations

from contextlib import closing

import pytest

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import ACCEPTED, MAX_TRIES, OK, RELEASED, Outcome
from gateway.testing.layer_suite.harness import Harness, numbers

AGAIN = Outcome(RELEASED)


class Release(Harness):
    """``released``: offered again."""

    def test_offered_again(self) -> None:
        """A released delivery is offered again, as attempt 2, and its sender hears nothing."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        self.settled(taker, self.taken(taker, "x"), AGAIN)
        delivery = self.taken(taker, "x")
        assert (delivery.attempt, delivery.messages) == (2, numbers(2))
        self.silence(sender)
        self.settled(taker, delivery, OK, OK)
        assert self.outcomes(sender, 2) == [(1, 0, ACCEPTED, ""), (1, 1, ACCEPTED, "")]

    def test_the_rest_is_released_with_it(self) -> None:
        """After ``released`` the rest is released with it, as one; what was settled stands."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(4), receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK, AGAIN)
        assert self.outcomes(sender, 1) == [(1, 0, ACCEPTED, "")]
        delivery = self.taken(taker, "x")
        assert (delivery.attempt, delivery.messages) == (2, numbers(3, 1))
        self.settled(taker, delivery, OK, OK, OK)
        assert self.outcomes(sender, 3) == [(1, n, ACCEPTED, "") for n in (1, 2, 3)]

    def test_ahead_of_newer(self) -> None:
        """A released delivery is offered ahead of newer ones."""
        layer = self.join()
        for message in numbers(3):
            layer.send("x", message)
        self.settled(layer, self.taken(layer, "x"), AGAIN)
        assert self.drained(layer, "x") == numbers(3)

    def test_several_keep_their_order(self) -> None:
        """Several released deliveries are offered in the order they were sent."""
        layer = self.join()
        for message in numbers(4):
            layer.send("x", message)
        taken = [self.taken(layer, "x") for _ in range(3)]
        for delivery in (taken[1], taken[2], taken[0]):
            self.settled(layer, delivery, AGAIN)
        assert self.drained(layer, "x") == numbers(4)

    def test_delay(self) -> None:
        """A release with a delay is offered once the delay is over, then ahead of newer ones."""
        layer = self.join()
        for message in numbers(3):
            layer.send("x", message)
        self.settled(layer, self.taken(layer, "x"), Outcome(RELEASED, delay=10.0))
        self.settled(layer, self.taken(layer, "x"), OK)
        self.advance(9)
        assert layer.channel_statistics("x").pending == 2
        layer.send("x", {"n": 3})
        assert self.taken(layer, "x").messages == [{"n": 2}]
        self.advance(2)
        assert self.drained(layer, "x") == [{"n": 0}, {"n": 3}]

    def test_delay_wakes_a_taker(self) -> None:
        """Whoever waits gets a delayed release when its time has come."""
        layer = self.join()
        layer.send("x", {})
        self.settled(layer, self.taken(layer, "x"), Outcome(RELEASED, delay=10.0))
        assert layer.take(["x"], block=0.02) is None
        self.advance(11)
        assert self.taken(layer, "x").attempt == 2

    def test_released_is_exempt_from_capacity(self) -> None:
        """A release finds room in a full channel."""
        layer = self.join(capacity=2)
        for message in numbers(2):
            layer.send("x", message)
        delivery = self.taken(layer, "x")
        layer.send("x", {"n": 2})
        self.settled(layer, delivery, AGAIN)
        assert layer.channel_statistics("x").pending == 3
        with pytest.raises(ChannelFull):
            layer.send("x", {})
        assert self.drained(layer, "x") == numbers(3)

    def test_first_expiry_kept(self) -> None:
        """A released message keeps its first expiry; its sender then hears ``released``, cause
        ``expired``.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(expiry=60.0), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        self.advance(50)
        self.settled(taker, self.taken(taker, "x"), AGAIN)
        self.advance(11)
        assert taker.take(["x"]) is None
        assert self.outcomes(sender, 2) == [(1, n, RELEASED, "expired") for n in range(2)]
        self.dropped(sender, expired=2)

    def test_released_after_its_time(self) -> None:
        """A message released when its time is over is not offered again."""
        sender, taker = self.join(expiry=60.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.advance(61)
        self.settled(taker, delivery, AGAIN)
        self.advance(1)
        assert taker.take(["x"]) is None
        assert self.outcomes(sender, 1) == [(1, 0, RELEASED, "expired")]

    def test_tries(self) -> None:
        """A delivery is offered ten times; then its sender hears ``released``, ``expired``."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        for attempt in range(1, MAX_TRIES + 1):
            self.silence(sender)
            delivery = self.taken(taker, "x")
            assert delivery.attempt == attempt
            self.settled(taker, delivery, AGAIN)
        assert taker.take(["x"]) is None
        assert self.outcomes(sender, 1) == [(1, 0, RELEASED, "expired")]
        self.dropped(sender, expired=1)

    def test_to_another_taker(self) -> None:
        """A released delivery goes to another taker if there is one that waits."""
        sender, first, second = self.join(), self.join(), self.join()
        with closing(first.intake(["x"])) as one, closing(second.intake(["x"])) as two:
            assert one.take(0) is two.take(0) is None
            sender.send("x", {})
            holders = {True: (first, one), False: (second, two)}
            seen = []
            for _ in range(4):
                found = None
                while found is None:
                    for holder in holders:
                        found = holders[holder][1].take(block=0.005)
                        if found is not None:
                            seen.append(holder)
                            self.settled(holders[holder][0], found, AGAIN)
                            break
            assert seen in ([True, False, True, False], [False, True, False, True])

    def test_to_the_same_taker(self) -> None:
        """Where there is no other taker the same one gets it again."""
        layer = self.join()
        layer.send("x", {})
        self.settled(layer, self.taken(layer, "x"), AGAIN)
        assert self.taken(layer, "x").attempt == 2


class Cancel(Harness):
    """Withdrawing what nobody has taken."""

    def test_withdrawn(self) -> None:
        """``cancel`` withdraws what nobody has taken: not offered, no outcome, counted, room
        given back.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(capacity=2), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        assert sender.cancel(1) is True
        sender.send_many("x", numbers(2, 2), receipt=2)
        assert self.drained(taker, "x") == numbers(2, 2)
        assert [receipt for receipt, *_ in self.outcomes(sender, 2)] == [2, 2]
        self.silence(sender)
        self.dropped(sender, cancelled=2)

    def test_too_late(self) -> None:
        """What is in hand is not withdrawn; its outcome follows."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        assert sender.cancel(1) is False
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, ACCEPTED, "")]
        assert sender.cancel(1) is False

    def test_unknown(self) -> None:
        """A receipt that was never used withdraws nothing."""
        assert self.join().cancel(99) is False

    def test_only_ones_own(self) -> None:
        """A process withdraws its own messages, not those of another with the same receipt."""
        first, second = self.join(), self.join()
        first.send_many("x", [{}], receipt=1)
        assert second.cancel(1) is False
        assert first.cancel(1) is True

    def test_a_delayed_one(self) -> None:
        """So can what waits for the end of its delay: it is not offered then."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        self.settled(taker, self.taken(taker, "x"), Outcome(RELEASED, delay=10.0))
        assert sender.cancel(1) is True
        assert sender.cancel(1) is False
        self.advance(11)
        assert taker.take(["x"]) is None
        self.silence(sender)

    def test_a_released_one(self) -> None:
        """What was released and waits again can be withdrawn."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        self.settled(taker, self.taken(taker, "x"), AGAIN)
        assert sender.cancel(1) is True
        assert taker.take(["x"]) is None
        self.silence(sender)
