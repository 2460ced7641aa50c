"""Intakes: deliveries handed over ahead, with credit."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from gateway.core.layers.base import OK, RELEASED, Delivery, Outcome
from gateway.testing.layer_suite.harness import Harness, numbers, zero


class Intakes(Harness):
    """``Layer.intake``."""

    def test_take(self) -> None:
        """An intake hands out what waits on its channels, in order, to be settled."""
        sender, taker = self.join(), self.join()
        for n, message in enumerate(numbers(3)):
            sender.send_many("x", [message], receipt=n + 1)
        with closing(taker.intake(["x", "y"])) as intake:
            for n in range(3):
                delivery = intake.take(self.patience)
                assert delivery is not None
                assert delivery.messages == [{"n": n}]
                self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 3) == [(n + 1, 0, "accepted", "") for n in range(3)]
        assert zero(sender.global_statistics())

    def test_nothing(self) -> None:
        """It returns None when the time is over."""
        with closing(self.join().intake(["x"])) as intake:
            assert intake.take(0) is None
            assert intake.take(0.02) is None

    def test_woken(self) -> None:
        """A thread that waits for ever is woken by a message."""
        sender, taker = self.join(), self.join()
        found: list[Delivery | None] = []
        with closing(taker.intake(["x", "y!"])) as intake:
            thread = threading.Thread(target=lambda: found.append(intake.take()))
            thread.start()
            sender.send("y!a", {"n": 1})
            thread.join(self.patience)
            assert not thread.is_alive()
        assert [d.channel for d in found if d] == ["y!a"]

    def test_no_io_yet(self) -> None:
        """An intake that nobody took from holds nothing."""
        sender, taker = self.join(), self.join()
        with closing(taker.intake(["x"])):
            sender.send("x", {"n": 1})
            assert self.drained(sender, "x") == [{"n": 1}]

    @pytest.mark.parametrize("credit", [1, 3, 8])
    def test_credit(self, credit: int) -> None:
        """The layer hands over no more than ``credit`` deliveries ahead."""
        sender, taker = self.join(), self.join()
        for message in numbers(20):
            sender.send("x", message)
        with closing(taker.intake(["x"], credit=credit)) as intake:
            held = [intake.take(self.patience)]
            self.until(lambda: sender.channel_statistics("x").in_hand == credit)
            held += [intake.take(self.patience) for _ in range(credit - 1)]
            assert intake.take(0.02) is None
            assert sender.channel_statistics("x").pending == 20 - credit
            assert len(held) == credit

    def test_settlement_returns_credit(self) -> None:
        """Each settlement returns the credit of one delivery."""
        sender, taker = self.join(), self.join()
        for message in numbers(3):
            sender.send("x", message)
        with closing(taker.intake(["x"], credit=1)) as intake:
            for n in range(3):
                delivery = intake.take(self.patience)
                assert delivery is not None
                assert delivery.messages == [{"n": n}]
                assert intake.take(0.01) is None
                taker.settle(delivery, [OK])

    def test_the_last_settlement_returns_credit(self) -> None:
        """A delivery settled in parts returns its credit with the last."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(2))
        sender.send_many("x", numbers(2, 2))
        with closing(taker.intake(["x"], credit=1)) as intake:
            delivery = intake.take(self.patience)
            assert delivery is not None
            self.settled(taker, delivery, OK)
            assert intake.take(0.02) is None
            self.settled(taker, delivery, OK)
            second = intake.take(self.patience)
            assert second is not None
            assert second.messages == numbers(2, 2)

    def test_a_release_returns_credit(self) -> None:
        """So does a release."""
        sender, taker = self.join(), self.join()
        sender.send("x", {})
        with closing(taker.intake(["x"], credit=1)) as intake:
            for attempt in (1, 2, 3):
                delivery = intake.take(self.patience)
                assert delivery is not None
                assert delivery.attempt == attempt
                taker.settle(delivery, [Outcome(RELEASED)])

    def test_set_aside(self) -> None:
        """``set_aside`` takes the credit of a delivery back at once, and once; it stays in hand
        until it is settled.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(), self.join()
        for n, message in enumerate(numbers(4)):
            sender.send_many("x", [message], receipt=n + 1)
        with closing(taker.intake(["x"], credit=1)) as intake:
            first = intake.take(self.patience)
            assert first is not None
            assert intake.take(0.02) is None
            intake.set_aside(first)
            intake.set_aside(first)
            second = intake.take(self.patience)
            assert second is not None
            assert intake.take(0.02) is None
            assert sender.channel_statistics("x").in_hand == 2
            self.settled(taker, first, OK)
            assert intake.take(0.02) is None
            self.settled(taker, second, OK)
            third = intake.take(self.patience)
            assert third is not None
            assert third.messages == [{"n": 2}]
        assert self.outcomes(sender, 2) == [(n, 0, "accepted", "") for n in (1, 2)]

    def test_set_aside_and_released(self) -> None:
        """What was set aside and is released is offered again, its credit counted once."""
        sender, taker = self.join(), self.join()
        for message in numbers(2):
            sender.send("x", message)
        with closing(taker.intake(["x"], credit=1)) as intake:
            for attempt in (1, 2, 3):
                delivery = intake.take(self.patience)
                assert delivery is not None
                assert (delivery.attempt, delivery.messages) == (attempt, [{"n": 0}])
                intake.set_aside(delivery)
                other = intake.take(self.patience)
                assert other is not None
                assert other.messages == [{"n": 1}]
                assert intake.take(0.01) is None
                self.settled(taker, delivery, Outcome(RELEASED))
                assert intake.take(0.01) is None
                self.settled(taker, other, Outcome(RELEASED))

    def test_set_aside_and_lost(self) -> None:
        """What was set aside fails with its taker."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        intake = taker.intake(["x"], credit=1)
        delivery = intake.take(self.patience)
        assert delivery is not None
        intake.set_aside(delivery)
        self.kill(taker)
        assert self.outcomes(sender, 1) == [(1, 0, "failed", "lost")]

    def test_close_releases(self) -> None:
        """``close`` releases what was handed over and not begun: others get it, in order; what
        was begun stays in hand.
        """  # noqa: D205 - one sentence
        sender, taker, other = self.join(), self.join(), self.join()
        for n, message in enumerate(numbers(5)):
            sender.send_many("x", [message], receipt=n + 1)
        intake = taker.intake(["x"], credit=4)
        delivery = intake.take(self.patience)
        assert delivery is not None
        self.until(lambda: sender.channel_statistics("x").in_hand == 4)
        intake.close()
        found = [self.taken(other, "x") for _ in range(4)]
        assert [d.messages for d in found] == [[message] for message in numbers(4, 1)]
        assert [d.attempt for d in found] == [1] * 4
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_an_intake_closed_twice(self) -> None:
        """``close`` is idempotent; a closed intake gives nothing."""
        layer = self.join()
        intake = layer.intake(["x"])
        intake.close()
        intake.close()
        layer.send("x", {})
        assert intake.take() is None

    def test_close_wakes(self) -> None:
        """``close`` wakes all who wait; they get None."""
        intake = self.join().intake(["x"])
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(intake.take())) for _ in range(3)]
        for thread in threads:
            thread.start()
        intake.take(0.01)
        intake.close()
        for thread in threads:
            thread.join(self.patience)
        assert found == [None] * 3

    def test_threads_share(self) -> None:
        """Threads share one intake: each delivery goes to one of them."""
        sender, taker = self.join(capacity=1000), self.join()
        for message in numbers(200):
            sender.send("x", message)
        intake = taker.intake(["x"], credit=8)
        found: list[int] = []

        def work() -> None:
            while (delivery := intake.take()) is not None:
                found.append(delivery.messages[0]["n"])
                taker.settle(delivery, [OK])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        self.until(lambda: zero(sender.global_statistics()), what="everything settled")
        intake.close()
        for thread in threads:
            thread.join(self.patience)
        assert sorted(found) == list(range(200))

    def test_an_idle_thread_gets_what_waits(self) -> None:
        """While one thread is busy with a delivery another takes the next."""
        sender, taker = self.join(), self.join()
        with closing(taker.intake(["x"])) as intake:
            sender.send("x", {"n": 0})
            busy = intake.take(self.patience)
            found: list[Delivery | None] = []
            thread = threading.Thread(target=lambda: found.append(intake.take(self.patience)))
            thread.start()
            sender.send("x", {"n": 1})
            thread.join()
            assert busy is not None
            assert [d.messages for d in found if d] == [[{"n": 1}]]

    def test_slow_consumers_run_side_by_side(self) -> None:
        """Nothing waits behind a slow consumer while a thread of the process is idle."""
        sender, taker = self.join(), self.join()
        intake = taker.intake(["x"])
        together = threading.Barrier(4)
        met: list[bool] = []

        def work() -> None:
            while (delivery := intake.take()) is not None:
                try:
                    together.wait(self.patience)  # each waits until all four have one in hand
                except threading.BrokenBarrierError:
                    return
                met.append(True)
                taker.settle(delivery, [OK])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for message in numbers(12):
            sender.send("x", message)
        self.until(lambda: len(met) == 12 or together.broken)
        intake.close()
        for thread in threads:
            thread.join(self.patience)
        assert len(met) == 12
        self.until(lambda: zero(sender.global_statistics()))

    def test_no_channel_of_an_intake_starves(self) -> None:
        """An intake over several channels starves none of them."""
        sender, taker = self.join(), self.join()
        for message in numbers(20):
            sender.send("a", message)
            sender.send("b", message)
        with closing(taker.intake(["a", "b"], credit=2)) as intake:
            seen = set()
            for _ in range(20):
                delivery = intake.take(self.patience)
                assert delivery is not None
                seen.add(delivery.channel)
                taker.settle(delivery, [OK])
        assert seen == {"a", "b"}

    def test_several_processes(self) -> None:
        """Intakes of several processes share the work, each delivery once."""
        sender, first, second = self.join(), self.join(), self.join()
        found: list[int] = []
        with closing(first.intake(["x"], 2)) as one, closing(second.intake(["x"], 2)) as two:
            assert one.take(0) is two.take(0) is None
            for message in numbers(40):
                sender.send("x", message)
            while len(found) < 40:
                for layer, intake in ((first, one), (second, two)):
                    if (delivery := intake.take(0.01)) is not None:
                        found.append(delivery.messages[0]["n"])
                        self.settled(layer, delivery, OK)
        assert sorted(found) == list(range(40))
