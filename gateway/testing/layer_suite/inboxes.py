"""The inbox of a process, and addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gateway.core.layers.base import OK, RELEASED, Outcome
from gateway.core.layers.base import send as sending
from gateway.testing.layer_suite.harness import Harness, numbers, own


class Inboxes(Harness):
    """All names of one process share one FIFO."""

    def test_fifo_over_all_names(self) -> None:
        """What is sent to any names of one process is received in order, with the full name."""
        layer, other = self.join(), self.join()
        names = [f"{verb}.{layer.process}!{n % 3}" for n, verb in enumerate("abcabcabca")]
        for n, name in enumerate(names):
            other.send(name, {"n": n})
        assert self.inbox(layer, 10) == list(zip(names, numbers(10), strict=True))

    def test_any_name_reads_it(self) -> None:
        """Any name of the process reads the whole inbox."""
        layer = self.join()
        for n, rest in enumerate(("", "c", "d")):
            layer.send(f"x.{layer.process}!{rest}", {"n": n})
        for n, name in enumerate(
            (f"{layer.process}!", f"x.{layer.process}!", f"z.{layer.process}!q")
        ):
            assert layer.receive([name])[1] == {"n": n}

    def test_a_reader_is_woken(self) -> None:
        """A receive that waits for the inbox returns as soon as something comes, of any kind."""
        layer, other = self.join(), self.join()
        found: list[object] = []

        def read() -> None:
            found.append(layer.receive(["x", own(layer)], block=self.patience)[1])

        layer.send_many("y", [{}], receipt=1)
        delivery = self.taken(other, "y")
        causes: list[Callable[[], None]] = [
            lambda: other.send(own(layer), {"n": 1}),
            lambda: other.settle(delivery, [OK]),
        ]
        for cause in causes:
            thread = threading.Thread(target=read)
            thread.start()
            thread.join(0.02)
            cause()
            began = time.monotonic()
            thread.join(self.patience)
            assert time.monotonic() - began < self.patience / 2
        assert found[0] == {"n": 1}
        assert isinstance(found[1], dict)
        assert found[1]["kind"] == "accepted"

    def test_beside_other_channels(self) -> None:
        """An inbox can be read together with normal channels, and starves none."""
        layer = self.join()
        for message in numbers(20):
            layer.send("x", message)
            layer.send(own(layer), message)
        seen = {layer.receive(["x", own(layer)])[0] for _ in range(20)}
        assert seen == {"x", own(layer)}

    def test_processes_are_apart(self) -> None:
        """A process receives nothing that was sent to another."""
        first, second = self.join(), self.join()
        first.send(own(second), {"n": 1})
        self.silence(first)
        assert self.inbox(second, 1) == [(own(second), {"n": 1})]

    def test_outcomes_stand_in_it(self) -> None:
        """Outcomes and messages share the order of the inbox; ``outcome.PROCESS!`` names them."""
        layer, worker = self.join(), self.join()
        layer.send_many("x", [{}], receipt=9)
        delivery = self.taken(worker, "x")
        worker.send(own(layer), {"n": 1})
        self.settled(worker, delivery, OK)
        worker.send(own(layer), {"n": 2})
        first, second, third = self.inbox(layer, 3)
        assert first == (own(layer), {"n": 1})
        assert second == (
            f"outcome.{layer.process}!",
            {
                "receipt": 9,
                "index": 0,
                "kind": "accepted",
                "code": None,
                "reason": "",
                "cause": "",
            },
        )
        assert third == (own(layer), {"n": 2})

    def test_a_process_that_is_gone(self) -> None:
        """What is sent to a process that has left is dropped at once, counted."""
        layer, other = self.join(), self.join()
        name = own(other)
        layer.send(name, {})
        other.close()
        self.dropped(layer, gone=1)
        layer.send(name, {})
        self.dropped(layer, gone=2)

    def test_a_process_that_was_killed(self) -> None:
        """So is what waited in the inbox of a process that died."""
        layer, other = self.join(), self.join()
        layer.send(own(other), {})
        layer.send(own(other), {})
        self.kill(other)
        self.dropped(layer, gone=2)
        layer.send(own(other), {})
        self.dropped(layer, gone=3)


class Addresses(Harness):
    """Names that are read by their prefix, each in order."""

    def test_read_by_prefix(self) -> None:
        """Addresses are read by their prefix; the reader learns the full name."""
        layer = self.join()
        layer.send("mqtt.publish!a", {"n": 1})
        layer.send("mqtt.publish!b_2f", {"n": 2})
        layer.send("irc.say!a", {"n": 3})
        found = [layer.receive(["mqtt.publish!"]) for _ in range(3)]
        assert sorted(found[:2]) == [
            ("mqtt.publish!a", {"n": 1}),
            ("mqtt.publish!b_2f", {"n": 2}),
        ]
        assert found[2] == (None, None)

    def test_fifo_per_address(self) -> None:
        """Each address is read in order."""
        layer = self.join()
        for message in numbers(20):
            layer.send("x!a", message)
            layer.send("x!b", message)
        found: dict[str, list[object]] = {"x!a": [], "x!b": []}
        for _ in range(40):
            channel, received = layer.receive(["x!"])
            assert channel is not None
            found[channel].append(received)
        assert found == {"x!a": numbers(20), "x!b": numbers(20)}

    def test_one_in_hand(self) -> None:
        """While a message of an address is in hand the next of that address is not offered."""
        layer, first, second = self.join(), self.join(), self.join()
        for name in ("x!a", "x!a", "x!b"):
            layer.send(name, {})
        one = self.taken(first, "x!")
        other = self.taken(second, "x!")
        assert {one.channel, other.channel} == {"x!a", "x!b"}
        assert first.take(["x!"]) is second.take(["x!"]) is None
        self.settled(first, one, OK)
        self.settled(second, other, OK)
        assert self.taken(second, "x!").channel == "x!a"

    def test_released_stays_first(self) -> None:
        """A released message of an address is offered before the next of that address."""
        layer, taker = self.join(), self.join()
        for message in numbers(3):
            layer.send("x!a", message)
        self.settled(taker, self.taken(taker, "x!"), Outcome(RELEASED))
        assert self.drained(layer, "x!") == numbers(3)

    def test_many_readers(self) -> None:
        """One reader of the prefix gets each message."""
        layer, first, second = self.join(), self.join(), self.join()
        for n in range(10):
            layer.send(f"x!a{n}", {"n": n})
        found = []
        for _ in range(5):
            found += [self.received(first, "x!")["n"], self.received(second, "x!")["n"]]
        assert sorted(found) == list(range(10))
        assert first.receive(["x!"]) == (None, None)

    def test_a_lost_reader_lets_the_next_go(self) -> None:
        """When the reader in hand is lost, the next of the address is offered."""
        layer, first, second = self.join(), self.join(), self.join()
        layer.send_many("x!a", [{"n": 0}], receipt=1)
        layer.send("x!a", {"n": 1})
        self.taken(first, "x!")
        self.kill(first)
        assert self.received(second, "x!") == {"n": 1}
        assert self.outcomes(layer, 1) == [(1, 0, "failed", "lost")]

    def test_a_consumers_send(self) -> None:
        """A consumer's sends reach addresses."""
        layer = self.join()
        layer.apply([sending("x!a", {"n": 1})])
        assert layer.receive(["x!"]) == ("x!a", {"n": 1})
