"""A second of hostile lines; `make fuzz` goes on for longer."""

from __future__ import annotations

from tests.plugins.irc.fuzz import run


def test_fuzz() -> None:
    """Whatever clients send, no session raises, nothing is left, and neighbours are served."""
    assert run(2, 1)
