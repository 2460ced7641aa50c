"""What one process holds alone: ``acquire`` and ``release``."""

from __future__ import annotations

import pytest

from gateway.core.layers.base import Layer
from gateway.testing.layer_suite.harness import Harness


class Holds(Harness):
    """Keys, their holders and epochs."""

    def two(self) -> tuple[Layer, Layer]:
        """Return two processes of a layer that has been there for a while."""
        found = self.join(lease=10.0), self.join()
        found[0].send("x", {})  # now it is there
        self.advance(3)
        return found

    def held(self, layer: Layer, key: str = "k") -> int:
        """Acquire a key that is free, or soon will be; return the epoch."""
        epochs: list[int] = []

        def acquired() -> bool:
            epoch = layer.acquire(key)
            epochs.extend(() if epoch is None else (epoch,))
            return bool(epochs)

        self.until(acquired)
        return epochs[0]

    def test_one_holder(self) -> None:
        """One process alone holds a key; for others it is None. Other keys are other matters."""
        first, second = self.two()
        epoch = first.acquire("irc.libera_2echat")
        assert epoch is not None
        assert epoch > 0
        assert second.acquire("irc.libera_2echat") is None
        assert second.acquire("irc.oftc") is not None
        assert first.acquire("irc.oftc") is None

    def test_again(self) -> None:
        """To acquire what one holds returns the same epoch."""
        first, second = self.two()
        epoch = self.held(first)
        assert second.acquire("other") is not None
        assert first.acquire("k") == epoch

    def test_release(self) -> None:
        """After ``release`` anybody may; each next holder has a higher epoch."""
        first, second = self.two()
        epochs = []
        for layer in (first, second, first, first):
            epochs.append(self.held(layer))
            layer.release("k")
        assert epochs == sorted(set(epochs))

    def test_release_by_another(self) -> None:
        """``release`` does nothing where the process does not hold the key."""
        first, second = self.two()
        first.release("k")
        self.held(first)
        second.release("k")
        assert second.acquire("k") is None

    def test_close_lets_go(self) -> None:
        """What a process held is free when it leaves."""
        first, second = self.two()
        epoch = self.held(first)
        first.close()
        assert self.held(second) > epoch

    def test_kill(self) -> None:
        """What a process held is free when it dies."""
        first, second = self.two()
        epochs = [self.held(first), self.held(first, "l")]
        self.kill(first)
        assert min(self.held(second), self.held(second, "l")) > max(epochs)

    def test_a_frozen_holder(self) -> None:
        """What a process holds that stands still is free after a lease time, not before."""
        first, second = self.two()
        self.held(first)
        self.freeze(first)
        self.advance(8)
        assert second.acquire("k") is None
        self.advance(4)
        assert second.acquire("k") is not None
        self.thaw(first)

    def test_one_of_many_waits(self) -> None:
        """Of those that want what became free one has it."""
        first, _ = self.two()
        others = [self.join() for _ in range(5)]
        self.held(first)
        assert [layer.acquire("k") for layer in others] == [None] * 5
        first.release("k")
        assert sum(layer.acquire("k") is not None for layer in others) == 1

    @pytest.mark.parametrize("key", ["", "a b", "a!b", "x" * 201])
    def test_bad_keys(self, key: str) -> None:
        """A key is named as a group is; anything else is a ValueError."""
        layer, _ = self.two()
        with pytest.raises(ValueError, match=r"."):
            layer.acquire(key)
        with pytest.raises(ValueError, match=r"."):
            layer.release(key)
