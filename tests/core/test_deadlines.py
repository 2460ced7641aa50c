"""The wheel of deadlines."""

from __future__ import annotations

from gateway.core.deadlines import Deadline, Deadlines
from gateway.testing.fakes import ManualClock


class Wheel:
    def __init__(self):
        self.clock = ManualClock()
        self.wheel = Deadlines(self.clock)
        self.rung = []

    def deadline(self, name):
        return Deadline(lambda: self.rung.append((name, round(self.clock.time() - 1000, 3))))


def test_rings_once_never_early():
    """A deadline rings once, not before its time and at most a slot and a bit after it."""
    world = Wheel()
    for n in range(40):
        world.wheel.set(world.deadline(n), n * 0.05)
    world.clock.advance(10)
    assert [name for name, _ in sorted(world.rung)] == list(range(40))
    assert all(-1e-9 <= at - n * 0.05 <= 0.201 for n, at in world.rung)


def test_moved():
    """Set again it rings at the last time said, later or earlier."""
    world = Wheel()
    later, earlier = world.deadline("later"), world.deadline("earlier")
    world.wheel.set(later, 1.0)
    world.wheel.set(earlier, 5.0)
    world.wheel.set(later, 3.0)
    world.wheel.set(earlier, 2.0)
    world.clock.advance(10)
    assert [name for name, _ in world.rung] == ["earlier", "later"]
    assert 3.0 <= world.rung[1][1] <= 3.2


def test_cleared():
    """Cleared or forgotten it does not ring; cleared it can be set again."""
    world = Wheel()
    cleared, forgotten = world.deadline("cleared"), world.deadline("forgotten")
    for deadline in (cleared, forgotten):
        world.wheel.set(deadline, 1.0)
    world.wheel.clear(cleared)
    world.wheel.forget(forgotten)
    world.wheel.forget(forgotten)
    world.clock.advance(2)
    assert world.rung == []
    world.wheel.set(cleared, 1.0)
    world.clock.advance(2)
    assert [name for name, _ in world.rung] == ["cleared"]


def test_idle_costs_nothing():
    """The wheel wakes for slots that hold something, and not at all when there are none."""
    world = Wheel()
    wakes = []
    call_later = world.clock.call_later
    world.clock.call_later = lambda *args: wakes.append(args[0]) or call_later(*args)
    world.wheel.set(world.deadline("a"), 100.0)
    world.clock.advance(1000)
    assert len(wakes) == 1
    assert world.clock.idle
    assert len(world.wheel) == 0


def test_often_moved_is_held_once():
    """A deadline that is moved with every byte stands in one slot."""
    world = Wheel()
    deadline = world.deadline("a")
    for _ in range(1000):
        world.wheel.set(deadline, 5.0)
        world.wheel.set(deadline, 1.0)
        world.clock.advance(0.01)
    assert len(world.wheel) == 1


def test_one_that_raises(caplog):
    """What a deadline calls may raise: it is logged, and the others ring."""
    world = Wheel()

    def broken():
        raise RuntimeError("a bug")

    world.wheel.set(Deadline(broken), 1.0)
    world.wheel.set(world.deadline("fine"), 1.0)
    world.clock.advance(2)
    assert [name for name, _ in world.rung] == ["fine"]
    assert "a bug" in caplog.text


def test_set_from_within():
    """A deadline may set itself again as it rings."""
    world = Wheel()
    rung = []

    def ring():
        rung.append(world.clock.time())
        if len(rung) < 3:
            world.wheel.set(deadline, 1.0)

    deadline = Deadline(ring)
    world.wheel.set(deadline, 1.0)
    world.clock.advance(10)
    assert len(rung) == 3
