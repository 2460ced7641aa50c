"""A second of hostile bytes; `make fuzz` goes on for longer."""

from __future__ import annotations

from tests.plugins.mqtt.fuzz import run


def test_fuzz() -> None:
    """Whatever devices send, no session raises, nothing is left, and neighbours are served."""
    assert run(2, 1)
