"""One measurement, and what is computed from several. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Self

from benchmarks.servers import Running, ServerError


@dataclass
class Sample:
    """One load on one server."""

    operations: int
    cpu: float
    """Seconds of CPU of the whole process tree."""
    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Seconds from sending to the complete answer, one for each operation."""

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU an operation."""
        return self.cpu / self.operations * 1e6

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    def latency_us(self, share: float) -> float:
        """Return the latency that ``share`` of the operations did not exceed, in µs."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6


class Meter:
    """Measures a server while the block runs: ``with Meter(server) as meter: …``.

    Raises ServerError if the server's processes were not the same before and after: CPU of
    a process that ended meanwhile would be lost.
    """

    cpu: float
    seconds: float

    def __init__(self, server: Running) -> None:
        self._server = server

    def __enter__(self) -> Self:
        self._before = self._server.cpu()
        self._began = time.perf_counter()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.seconds = time.perf_counter() - self._began
        after = self._server.cpu()
        if kind is None and after.keys() != self._before.keys():
            raise ServerError(f"{self._server.name}: a process ended or began under load")
        self.cpu = sum(after.values()) - sum(self._before.values())


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and how far they lie apart."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: list[float]) -> Self:
        """Return the spread of at least one figure."""
        return cls(median(figures), min(figures), max(figures))
