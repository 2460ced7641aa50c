"""The memory layer keeps the contract."""

import asyncio
import gc
import threading
import time

from gateway.core.layers import open_layer
from gateway.core.layers.base import RELEASED, Layer, Outcome
from gateway.core.layers.edge import OUTCOME
from gateway.core.layers.memory import MemoryLayer, sibling
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.queues import IDLE_CHECKS
from gateway.core.layers.state import State
from gateway.testing.layer_suite import LayerSuite


class TestMemory(LayerSuite):
    lacks = frozenset({"outage"})

    def start(self):
        self.now = 1000.0
        self.first = None

    def open(self, **options) -> Layer:
        if self.first is None:
            self.first = MemoryLayer("memory://", LayerOptions(**options), clock=lambda: self.now)
            return self.first
        return sibling(self.first)

    def advance(self, seconds):
        shared = self.first.shared
        step = self.first.options.lease / 4  # a tick counts no more of standing still
        while seconds > 0:
            self.now += min(step, seconds)
            seconds -= step
            with shared.lock:
                shared.tick()

    def kill(self, layer):
        with layer.shared.lock:
            layer.state.cut(layer._link)

    def freeze(self, layer):
        layer._link.process.leased = True

    def thaw(self, layer):
        layer._link.process.leased = False
        layer._link.process.still = 0.0


class TestTime:
    """The layer on the real clock: what is due happens by itself."""

    def test_a_delay_ends(self):
        """Whoever waits gets a delayed release when its time has come, with nobody else at work."""
        layer = MemoryLayer("memory://", LayerOptions())
        layer.send("x", {})
        layer.settle(layer.take(["x"]), [Outcome(RELEASED, delay=0.05)])
        delivery = layer.take(["x"], block=5)
        assert delivery.attempt == 2
        layer.close()

    def test_a_shorter_delay_comes_first(self):
        """Who waits already is told when something becomes due earlier than all else."""
        layer = MemoryLayer("memory://", LayerOptions(expiry=60))
        layer.send("x", {})
        delivery = layer.take(["x"])
        found = []
        thread = threading.Thread(target=lambda: found.append(layer.take(["x"], block=5)))
        thread.start()
        thread.join(0.02)
        layer.settle(delivery, [Outcome(RELEASED, delay=0.05)])
        thread.join(2)
        assert [delivery.attempt for delivery in found] == [2]
        layer.close()

    def test_streams_leave_nothing(self):
        """A single-reader channel that is read empty again and again leaves nothing behind: a
        stream of any length costs no memory.
        """
        layer = MemoryLayer("memory://", LayerOptions())
        channel = layer.new_channel("x?")
        for _ in range(10 * IDLE_CHECKS):
            layer.send(channel, {})
            assert layer.receive([channel])[1] == {}
        assert not layer.state.channels
        assert len(layer.state._checks) <= IDLE_CHECKS
        layer.close()

    def test_expiry(self):
        """A sender that waits hears of expiry at its time."""
        layer = MemoryLayer("memory://", LayerOptions(expiry=0.05))
        layer.send_many("x", [{}], receipt=1)
        message = layer.receive([f"inbox.{layer.process}!"], block=5)[1]
        assert (message["kind"], message["cause"]) == ("released", "expired")
        layer.close()

    def test_an_edge_ticks(self):
        """An edge looks at the clock by itself."""

        async def main():
            layer = MemoryLayer("memory://", LayerOptions(expiry=0.05))
            items = asyncio.Queue()
            edge = layer.edge(lambda found: [items.put_nowait(item) for item in found])
            edge.post("x", [b"\x80"], 1)
            found = [await asyncio.wait_for(items.get(), 5) for _ in range(2)]
            assert found[1] == (OUTCOME, 1, 0, Outcome(RELEASED, cause="expired"))
            await layer.aclose()

        asyncio.run(main())

    def test_a_group_that_nobody_looks_at(self):
        """It is forgotten once its members' time is over, announced or not."""
        now = 0.0
        state = State(LayerOptions(group_expiry=10.0), lambda: now)
        link = state.join(None, leased=False)
        state.group_add(link, "quiet", "x")
        state.group_add(link, "told", "x", announce=True)
        now = 6.0
        state.group_add(link, "quiet", "y")
        now = 11.0
        state.tick()
        assert state.group_members(link, "quiet") == {"y": None}
        now = 17.0
        state.tick()
        assert not state.groups
        assert not state._expiries

    def test_groups_that_come_and_go(self):
        """What is remembered of groups that are gone, for a day, stays little."""
        now = 0.0
        state = State(LayerOptions(), lambda: now)
        link = state.join(None, leased=False)
        state.group_add(link, "stays", "x", announce=True)
        for _ in range(5000):
            state.group_add(link, "short", "x", announce=True)
            state.group_discard(link, "short", "x")
        assert len(state._expiries) < 2 * IDLE_CHECKS
        now = LayerOptions().group_expiry + 1
        state.tick()
        assert not state.groups
        assert not state._expiries

    def test_a_wake_up_call_for_nothing(self):
        """Who is woken for nothing waits on, as long as it said."""
        layer = MemoryLayer("memory://", LayerOptions())
        layer.send("x", {})
        began = time.monotonic()
        thread = threading.Thread(
            target=lambda: layer.settle(layer.take(["x"]), [Outcome(RELEASED, delay=0.01)])
        )
        thread.start()
        assert layer.take(["y"], block=0.1) is None
        assert time.monotonic() - began >= 0.1
        thread.join()
        layer.close()


class TestNames:
    """``memory://NAME``."""

    def test_shared_by_name(self):
        """Layers of one name share one state; others, and those without a name, do not."""
        one, two = open_layer("memory://shared"), open_layer("memory://shared")
        others = [open_layer("memory://other"), open_layer("memory://"), open_layer("memory://")]
        one.send("x", {"n": 1})
        assert [other.receive(["x"]) for other in others] == [(None, None)] * 3
        assert two.receive(["x"]) == ("x", {"n": 1})

    def test_forgotten(self):
        """The state is gone with the last layer of that name."""
        layer = open_layer("memory://short")
        layer.send("x", {})
        layer.close()
        del layer
        gc.collect()
        assert open_layer("memory://short").receive(["x"]) == (None, None)
