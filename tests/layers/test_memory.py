"""The memory layer keeps the contract."""

from gateway.core.layers.base import Layer, LayerOptions
from gateway.core.layers.memory import MemoryLayer, sibling
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
