"""What a case found, as lines for people and as JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sample import Sample, Spread


@dataclass(frozen=True)
class Row:
    """The figures of one server in one case: name of the figure -> spread over the rounds."""

    name: str
    figures: Mapping[str, Spread]

    @classmethod
    def of_samples(cls, name: str, samples: Sequence[Sample]) -> Row:
        """Return the usual figures of some loads on one server."""
        return cls(
            name,
            {
                "CPU µs": Spread.of([sample.cpu_us for sample in samples]),
                "per s": Spread.of([sample.rate for sample in samples]),
                "p50 µs": Spread.of([sample.latency_us(0.5) for sample in samples]),
                "p99 µs": Spread.of([sample.latency_us(0.99) for sample in samples]),
            },
        )


@dataclass(frozen=True)
class Check:
    """One figure and its target."""

    label: str
    found: Spread
    target: float
    at_most: bool = True
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Say whether the median keeps the target."""
        if self.at_most:
            return self.found.middle <= self.target
        return self.found.middle >= self.target


@dataclass
class Report:
    """All that one case found. ``skipped`` says why it did not run."""

    key: str
    title: str
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)


def lines(report: Report) -> list[str]:
    """Return a report as text: the rows, then one line for each target."""
    found = [f"{report.key}: {report.title}"]
    if report.skipped:
        found.append(f"  skipped: {report.skipped}")
    for row in report.rows:
        figures = "   ".join(f"{name} {_spread(it)}" for name, it in row.figures.items())
        found.append(f"  {row.name:<17} {figures}")
    found.extend(f"  {note}" for note in report.notes)
    found.extend(f"  {_verdict(check)}" for check in report.checks)
    return found


def summary(reports: Sequence[Report]) -> list[str]:
    """Return one line for each target of all reports."""
    found = []
    for report in reports:
        if report.skipped:
            found.append(f"{report.key:<12} skipped: {report.skipped}")
        found.extend(f"{report.key:<12} {_verdict(check)}" for check in report.checks)
    return found


def table(reports: Sequence[Report]) -> list[str]:
    """Return the checks of all reports as a Markdown table, for the README."""
    found = [
        "| case | figure | median | spread | target | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for report in reports:
        for check in report.checks:
            middle, low, high = (
                _number(value) for value in (check.found.middle, check.found.low, check.found.high)
            )
            target = (
                f"{'at most' if check.at_most else 'at least'} {_target(check.target)} {check.unit}"
            )
            word = "reached" if check.reached else "missed"
            found.append(
                f"| `{report.key}` | {check.label} | {middle} | {low} to {high} "
                f"| {target.strip()} | {word} |"
            )
    return found


def document(reports: Sequence[Report], about: Mapping[str, str]) -> dict[str, Any]:
    """Return everything as values for JSON."""
    return {
        "about": dict(about),
        "cases": {
            report.key: {
                "title": report.title,
                "skipped": report.skipped,
                "rows": {
                    row.name: {name: _values(it) for name, it in row.figures.items()}
                    for row in report.rows
                },
                "checks": [
                    {
                        "label": check.label,
                        "found": _values(check.found),
                        "target": check.target,
                        "at_most": check.at_most,
                        "reached": check.reached,
                    }
                    for check in report.checks
                ],
            }
            for report in reports
        },
    }


def _values(spread: Spread) -> dict[str, float]:
    return {"median": spread.middle, "min": spread.low, "max": spread.high}


def _verdict(check: Check) -> str:
    sign = "at most" if check.at_most else "at least"
    word = "reached" if check.reached else "MISSED"
    unit = f" {check.unit}" if check.unit else ""
    target = f"target {sign} {_target(check.target)}"
    return f"{check.label}: {_spread(check.found)}{unit}, {target}: {word}"


def _spread(spread: Spread) -> str:
    return f"{_number(spread.middle)} ({_number(spread.low)}-{_number(spread.high)})"


def _target(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
