"""Counters, gauges and histograms of one process, and the causes of every drop.

A hot path binds its counter once (``frames = metrics.counter("frames_total", …)``) and
adds to ``frames.value``. ``Metrics.snapshot`` and ``Metrics.text`` (the Prometheus text
format, version 0.0.4) read everything.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Callable, Iterator

Labels = tuple[tuple[str, str], ...]


class Drop(enum.StrEnum):
    """Why something was dropped. Nothing is dropped without one of these."""

    FULL = "full"
    """A channel or process inbox had no room (``ChannelFull`` at the sender)."""
    EXPIRED = "expired"
    """Unread for its whole lifetime, or released too often."""
    GONE = "gone"
    """Sent to a connection or a process that is not there any more."""
    TOO_BIG = "too_big"
    """Over a size limit."""
    INVALID = "invalid"
    """A reply that the format or the protocol does not allow."""
    FOREIGN_CODE = "foreign_code"
    """A code that the protocol does not know; its default was used instead."""
    SLOW = "slow"
    """A slow consumer's outbound queue overflowed."""
    CLOSED = "closed"
    """Input that waited for its turn when its connection ended."""
    FAILED = "failed"
    """Its consumer raised, or its worker was lost."""
    UNROUTED = "unrouted"
    """Nobody routes its channel."""
    STALE = "stale"
    """A settlement that came too late, or from a process whose lease had ended."""
    LAYER_LOST = "layer_lost"
    """Unsettled when the layer went away."""
    CANCELLED = "cancelled"
    """Withdrawn by its sender before it was taken."""
    DISCARDED = "discarded"
    """Buffered sends of a consumer that raised."""
    DRAINED = "drained"
    """Refused because the gateway is shutting down."""
    LIMITED = "limited"
    """Refused by a limit on connections, rate or time."""
    EVICTED = "evicted"
    """A message kept for those who come back, which gave way to newer ones before its time."""
    UNANSWERED = "unanswered"
    """A reply by mail that must not be sent: to a robot, a list, or who is not proven to ask."""
    UNWRITTEN = "unwritten"
    """A line of the access log that its file or pipe did not take."""


class Counter:
    """A number that only grows. Add to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """Counts of observations (seconds, bytes, …) by upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """The metrics of one process, by name and labels."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._gauges: dict[tuple[str, Labels], Callable[[], float]] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}

    def counter(self, name: str, **labels: str) -> Counter:
        """Return the counter of that name and labels, made at first use."""
        key = (name, tuple(sorted(labels.items())))
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = Counter()
        return found

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Add ``n`` to a counter."""
        self.counter(name, **labels).value += n

    def drop(self, cause: Drop, n: int = 1, *, where: str) -> None:
        """Count ``n`` dropped messages: ``gateway_drops_total{cause=…, where=…}``."""
        if n:
            self.counter("gateway_drops_total", cause=cause.value, where=where).value += n

    def gauge(self, name: str, read: Callable[[], float], **labels: str) -> None:
        """Register a gauge that is read when somebody looks."""
        self._gauges[name, tuple(sorted(labels.items()))] = read

    def histogram(self, name: str, bounds: tuple[float, ...], **labels: str) -> Histogram:
        """Return the histogram of that name and labels; ``bounds`` count at its first use."""
        key = (name, tuple(sorted(labels.items())))
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = Histogram(bounds)
        return found

    def dropped(self) -> dict[str, int]:
        """Return the number of dropped messages by cause, those that are not zero."""
        found: dict[str, int] = {}
        for (name, labels), counter in list(self._counters.items()):
            if name == "gateway_drops_total" and counter.value:
                cause = dict(labels)["cause"]
                found[cause] = found.get(cause, 0) + counter.value
        return found

    def snapshot(self) -> dict[str, float]:
        """Return every value by its Prometheus name (``name{label="value"}``)."""
        return dict(self._samples())

    def text(self, **labels: str) -> str:
        """Return every value in the Prometheus text format, with ``labels`` beside its own."""
        more = tuple(labels.items())
        return "".join(f"{name} {value}\n" for name, value in sorted(self._samples(more)))

    def _samples(self, more: Labels = ()) -> Iterator[tuple[str, float]]:
        for (name, own), counter in list(self._counters.items()):
            yield _series(name, more + own), counter.value
        for (name, own), read in list(self._gauges.items()):
            yield _series(name, more + own), read()
        for (name, own), histogram in list(self._histograms.items()):
            labels = more + own
            seen = 0
            for bound, count in zip(
                (*histogram.bounds, float("inf")), histogram.counts, strict=True
            ):
                seen += count
                edge = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield _series(f"{name}_bucket", (*labels, ("le", edge))), seen
            yield _series(f"{name}_count", labels), seen
            yield _series(f"{name}_sum", labels), histogram.total


def _series(name: str, labels: Labels) -> str:
    if not labels:
        return name
    inner = ",".join(f'{key}="{_escape(value)}"' for key, value in labels)
    return f"{name}{{{inner}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
