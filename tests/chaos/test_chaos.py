"""Processes are killed at random under load, and every message is accounted for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.run import LEAST, run

SECONDS = 4.0
"""Of load and kills; `make chaos` takes two minutes."""


@pytest.mark.timeout(60)  # starts, kills, and at the end waits for leases
@pytest.mark.parametrize(
    ("roles", "gateways"),
    [(["worker"], 1), (["worker", "gateway"], 1), (["worker", "gateway", "hub"], 2)],
    ids=["workers", "gateway", "all"],
)
def test_every_message_is_accounted_for(tmp_path: Path, roles: list[str], gateways: int) -> None:
    """Sent is handled, told or broken off; one disconnect each; all is back within seconds."""
    seed = random.randrange(10**6)
    outcome = run(tmp_path, SECONDS, seed, roles=roles, gateways=gateways)
    killed = [kill.victims for kill in outcome.kills]
    assert len(killed) >= 2, "too few kills to prove anything"
    assert not outcome.verdict.faults, (
        f"seed {seed}, killed {killed}, {dict(outcome.verdict.terms)}\n"
        + "\n".join(outcome.verdict.faults[:20])
        + f"\n{outcome.log[-5000:]}"
    )
    assert outcome.verdict.terms["handled"] > LEAST
