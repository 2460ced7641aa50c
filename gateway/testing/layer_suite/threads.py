"""One layer object, used by many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import OK
from gateway.testing.layer_suite.harness import Harness, zero

THREADS = 4
EACH = 50


class Threads(Harness):
    """A layer is thread-safe."""

    def together(self, *works: Callable[[], None]) -> None:
        """Run each in a thread, all at once, and re-raise what they raised."""
        errors: list[BaseException] = []
        barrier = threading.Barrier(len(works))

        def run(work: Callable[[], None]) -> None:
            try:
                barrier.wait(self.patience)
                work()
            except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
                errors.append(error)

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * self.patience)
        assert not any(thread.is_alive() for thread in threads)
        if errors:
            raise errors[0]

    def test_each_message_once(self) -> None:
        """Several threads send, take and settle by one layer: each message once, each writer's
        in order.
        """  # noqa: D205 - one sentence
        layer = self.join(capacity=1000)
        found: list[tuple[int, int]] = []
        total = THREADS * EACH

        def write(who: int) -> Callable[[], None]:
            def work() -> None:
                for n in range(EACH):
                    layer.send("x", {"who": who, "n": n})

            return work

        def read() -> None:
            while len(found) < total:
                delivery = layer.take(["x"], block=0.02)
                if delivery is not None:
                    message = delivery.messages[0]
                    found.append((message["who"], message["n"]))
                    layer.settle(delivery, [OK])

        self.together(*[write(who) for who in range(THREADS)], *[read] * THREADS)
        assert sorted(found) == [(who, n) for who in range(THREADS) for n in range(EACH)]
        self.until(lambda: zero(layer.global_statistics()))
        self.dropped(layer)

    def test_receive(self) -> None:
        """Several threads receive by one layer: each message once."""
        layer, writer = self.join(), self.join(capacity=1000)
        found: list[int] = []

        def write() -> None:
            for n in range(EACH):
                writer.send_many("x", [{"n": 2 * n}, {"n": 2 * n + 1}])

        def read() -> None:
            while len(found) < 2 * EACH:
                message = layer.receive(["x"], block=0.02)[1]
                if message is not None:
                    found.append(message["n"])

        self.together(write, read, read, read)
        assert sorted(found) == list(range(2 * EACH))

    def test_a_long_wait_holds_up_nobody(self) -> None:
        """While threads wait for what does not come, another one takes what does."""
        layer, writer = self.join(), self.join()
        with closing(layer.intake(["x"])) as intake, ThreadPoolExecutor(THREADS) as pool:
            waits = [
                pool.submit(layer.receive, [f"reply?{n}"], block=2 * self.patience)
                for n in range(THREADS - 1)
            ]
            for n in range(3):
                taking = pool.submit(intake.take, self.patience)
                writer.send("x", {"n": n})
                delivery = taking.result(self.patience)
                assert delivery is not None
                assert delivery.messages == [{"n": n}]
                layer.settle(delivery, [OK])
            for n in range(THREADS - 1):
                writer.send(f"reply?{n}", {"n": n})
            assert [wait.result()[1] for wait in waits] == [{"n": n} for n in range(THREADS - 1)]

    def test_one_inbox(self) -> None:
        """Several threads may read the inbox of their process: each message once."""
        layer, writer = self.join(), self.join()
        found: list[int] = []

        def read() -> None:
            while len(found) < EACH:
                message = layer.receive([f"r.{layer.process}!"], block=0.02)[1]
                if message is not None:
                    found.append(message["n"])

        def write() -> None:
            for n in range(EACH):
                writer.send(f"r.{layer.process}!{n}", {"n": n})

        self.together(write, read, read)
        assert sorted(found) == list(range(EACH))

    def test_room_is_exact(self) -> None:
        """However many threads send at once a channel takes no more than its capacity."""
        layer = self.join(capacity=37)
        sent: list[int] = []

        def work() -> None:
            for n in range(EACH):
                try:
                    layer.send("x", {})
                except ChannelFull:
                    continue
                sent.append(n)

        self.together(*[work] * THREADS)
        assert len(sent) == layer.channel_statistics("x").pending == 37

    def test_groups(self) -> None:
        """Threads may join, leave and count at once."""
        layer = self.join()

        def work(who: int) -> Callable[[], None]:
            def run() -> None:
                for n in range(EACH):
                    layer.group_add("g", f"x{who}.{n}")
                    if n % 2:
                        layer.group_discard("g", f"x{who}.{n}")
                    layer.group_count("g")

            return run

        self.together(*[work(who) for who in range(THREADS)])
        assert layer.group_count("g") == THREADS * EACH // 2
        assert len(layer.group_channels("g")) == THREADS * EACH // 2
