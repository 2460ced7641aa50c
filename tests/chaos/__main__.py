"""``make chaos``: kill processes at random under load, and account for every message."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Run once; print what was killed, the equation, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--roles", default="worker,gateway", help="who may be killed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gateways", type=int, default=1)
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            Path(folder),
            given.seconds,
            given.seed,
            roles=given.roles.split(","),
            workers=given.workers,
            gateways=given.gateways,
        )
    victims = Counter(victim for kill in outcome.kills for victim in kill.victims)
    print("killed:", ", ".join(f"{number} {role}" for role, number in victims.items()))
    print(f"back within {max(kill.back for kill in outcome.kills):.2f} s")
    for term, number in outcome.verdict.terms.items():
        print(f"{term:>24} {number}")
    for fault in outcome.verdict.faults[:50]:
        print("FAULT:", fault)
    if outcome.verdict.faults:
        print(outcome.log[-20000:], file=sys.stderr)
    print(f"{len(outcome.verdict.faults)} faults")
    return bool(outcome.verdict.faults)


if __name__ == "__main__":
    sys.exit(main())
