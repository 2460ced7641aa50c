"""When a worker has done enough."""

from __future__ import annotations

from gateway.core import recycling
from gateway.core.config import WorkerSettings
from gateway.core.recycling import Limits, resident


def test_without_limits():
    """By default there is nothing to look at, whatever a worker does."""
    limits = Limits(WorkerSettings())
    assert limits.look_every() is None
    assert limits.reached(10**9, 10**12) is None


def test_requests():
    """The limit is told by its setting; workers differ by up to a fifth of it, downwards."""
    settings = WorkerSettings(max_requests=1000)
    assert Limits(settings, 0.0).requests == 1000
    assert Limits(settings, 1.0).requests == 800
    assert len({Limits(settings).requests for _ in range(50)}) > 10
    limits = Limits(settings, 0.5)
    assert limits.look_every() == recycling.LOOK
    assert limits.reached(899) is None
    assert limits.reached(900) == "it has run 900 messages (workers.max_requests: 1000)"
    assert Limits(WorkerSettings(max_requests=1), 1.0).requests == 1


def test_memory():
    """The limit is resident memory, which is this process's own."""
    limits = Limits(WorkerSettings(max_memory=1000))
    assert limits.look_every() == recycling.LOOK
    assert limits.reached(0, 999) is None
    assert limits.reached(0, 1000) == "it has 1000 bytes of memory (workers.max_memory: 1000)"
    assert limits.reached(0) is not None
    before = resident()
    kept = b"x" * (64 << 20)
    assert resident() - before > 60 << 20
    del kept


def test_a_system_that_does_not_say(monkeypatch, tmp_path):
    """Where the system does not say how much memory a process has, it has none."""
    monkeypatch.setattr(recycling, "STATM", tmp_path / "none")
    assert resident() == 0
    assert Limits(WorkerSettings(max_memory=1)).reached(0) is None
