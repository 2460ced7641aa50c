"""Who owes an acknowledgement for too long has vanished, by a clock and a kernel of the test's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.translate import KEEP_ALIVE, Open
from gateway.plugins.sse.transport import SseWire
from tests.core.asked import Asked


class Client(Asked):
    """A client of which nothing was heard for some seconds while it owes; 0.0: it owes nothing."""

    silent = 0.0

    def unheard(self) -> float:
        """Return that."""
        return self.silent


def vanishes(*looks: tuple[float, float]) -> list[float]:
    """Return when a stream was ended that was looked at: (at, seconds that nothing was heard)."""
    now = 0.0
    loop = SimpleNamespace(time=lambda: now, call_soon=lambda _: None)
    counted: list[float] = []
    door: Any = SimpleNamespace(
        config=SseConfig(),
        loop=loop,
        recording=False,
        streams=0,
        pending=0,
        headers=lambda *_: [],
        vanished=lambda: counted.append(now),
        drop=lambda _: None,
    )
    client = Client()
    wire = SseWire(door, client)
    wire.write(Open())
    for at, silent in looks:
        now, client.silent = at, silent
        wire.write(KEEP_ALIVE)
    assert client.aborted is bool(counted)
    assert door.streams == (0 if counted else 1)
    return counted


@pytest.mark.parametrize(
    ("looks", "ended"),
    [
        ([(15, 0.0), (30, 15.0), (45, 30.0), (60, 45.0), (75, 60.0), (90, 75.0)], [90]),
        ([(15, 0.0), (300, 285.0), (315, 0.0), (600, 290.0)], []),
        ([(15, 14.0), (30, 14.0), (45, 14.0), (60, 14.0), (75, 14.0), (90, 14.0)], []),
        ([(15, 1.0), (30, 16.0), (45, 31.0), (60, 2.0), (75, 17.0), (90, 32.0), (105, 47.0)], []),
    ],
    ids=["gone", "owes-since-just-now", "owes-for-the-latest", "back-from-a-tunnel"],
)
def test_vanished(looks: list[tuple[float, float]], ended: list[float]) -> None:
    """It is ended when it owed all the time for a minute, not when it was only silent."""
    assert vanishes(*looks) == ended
