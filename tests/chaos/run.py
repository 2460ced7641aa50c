"""One run: a gateway, its clients, and who kills its processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.clients import Clients
from tests.chaos.judge import Verdict, judge, read
from tests.e2e.serving import Served, wait_until

PROJECT: Final = Path(__file__).parent / "project"
LEASE: Final = 2.0
"""Seconds of a lease here: less than the default, so that a short run sees one end."""
LEAST: Final = 1000
"""Answers and echoes that clients must have seen, before what is counted proves anything."""
SETTLE: Final = 15.0
"""Seconds after the last client in which all that was left is to be done."""


class Kill(NamedTuple):
    """One moment at which processes were killed."""

    after: float
    """Seconds since the run began."""
    victims: tuple[str, ...]
    back: float
    """Seconds until both a request and a message were answered again."""


class Outcome(NamedTuple):
    """What came of a run."""

    verdict: Verdict
    kills: list[Kill]
    log: str


class Killer:
    """Kills at random what ``roles`` names, and waits until everything is back."""

    def __init__(self, served: Served, clients: Clients, roles: list[str], seed: int) -> None:
        self._served = served
        self._clients = clients
        self._roles = roles
        self._random = random.Random(seed)
        self.kills: list[Kill] = []
        self.victims: dict[int, str] = {}
        """The role of each process that was killed."""
        self.down = ""
        """What it was killing when not all came back."""

    async def run(self, seconds: float, most: float) -> None:
        """Kill for so long, twice and until enough was said; or until something is not back after
        ``most`` seconds.
        """
        begun = time.monotonic()
        while not self.down and (time.monotonic() - begun < seconds or not self._is_enough()):
            await asyncio.sleep(self._random.uniform(0.3, 1.5))
            living = self._served.processes()
            there = [(role, pid) for role in self._roles for pid in living.get(role, ())]
            number = 2 if self._random.random() < 0.2 else 1
            chosen = self._random.sample(there, min(number, len(there)))
            for role, pid in chosen:
                self.victims[pid] = role
                os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            if not await self._is_back(killed, most):
                self.down = f"not back {most:g} s after {chosen} were killed"
            roles = tuple(role for role, _ in chosen)
            self.kills.append(Kill(killed - begun, roles, time.monotonic() - killed))

    def _is_enough(self) -> bool:
        said = len(self._clients.answers) + len(self._clients.echoes)
        return len(self.kills) >= 2 and said >= LEAST

    async def _is_back(self, since: float, most: float) -> bool:
        clients = self._clients
        while not all(seen and seen[-1] > since for seen in (clients.answers, clients.echoes)):
            if time.monotonic() - since > most:
                return False
            await asyncio.sleep(0.01)
        return True


def run(
    folder: Path,
    seconds: float,
    seed: int,
    *,
    roles: list[str],
    workers: int = 2,
    gateways: int = 1,
    sockets: int = 40,
    requesters: int = 8,
    most: float = 10.0,
) -> Outcome:
    """Run it and judge it."""
    ledger = folder / "ledger"
    with Served(
        folder,
        *("--set", f"layer.lease={LEASE}"),
        workers=workers,
        gateways=gateways,
        project=PROJECT,
        CHAOS_LEDGER=str(ledger),
    ) as served:
        clients = Clients(served.port, time.monotonic)
        killer = Killer(served, clients, roles, seed)

        async def load() -> None:
            running = asyncio.ensure_future(clients.run(sockets, requesters))
            await killer.run(seconds, most)
            clients.stop()
            await running

        asyncio.run(load())

        def verdict() -> Verdict:
            entries = read(ledger.read_text().splitlines())
            return judge(entries, clients.sockets, clients.requests, killer.victims)

        end = time.monotonic() + SETTLE
        while verdict().faults and time.monotonic() < end:
            time.sleep(0.2)
        found = verdict()
        found.faults.extend(clients.silent if not killer.down else [killer.down, *clients.silent])
        found.terms["refused handshakes"] = clients.refused
        for name in ("gateway_layer_pending", "gateway_layer_in_hand", "gateway_unsettled"):
            try:
                wait_until(lambda name=name: served.total(name) == 0, 5)
            except AssertionError:
                found.faults.append(f"{name} is {served.total(name):g} after all is over")
        if status := served.stop():
            found.faults.append(f"exit status {status}")
        return Outcome(found, killer.kills, served.text())
