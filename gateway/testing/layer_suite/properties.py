"""Random runs of a layer, checked against models."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.testing.layer_suite.annals import Annals
from gateway.testing.layer_suite.flow import Flow
from gateway.testing.layer_suite.harness import Harness
from gateway.testing.layer_suite.ledger import Ledger
from gateway.testing.layer_suite.pinned import Pinned


class Properties(Harness):
    """Random sends, takes, settlements, deaths, pauses and releases."""

    runs: ClassVar[int] = 80
    """Runs of the ledger; of the flow, which waits for the layer to choose, half as many."""
    steps: ClassVar[int] = 60
    """Steps of each run, at most."""
    shrink: ClassVar[bool] = False
    """Whether a run that fails is reduced to its shortest: that takes longer than a test may."""

    def test_ledger(self) -> None:
        """Whatever happens in whatever order: a message has at most one settlement and one
        outcome, readers see each writer's order, and sent = settled + waiting + in hand +
        dropped by cause.
        """  # noqa: D205 - one sentence
        self.run(Ledger, self.runs)

    def test_flow(self) -> None:
        """So with intakes: nothing is in two hands, over its credit, out of order, told twice
        or forgotten.
        """  # noqa: D205 - one sentence
        self.run(Flow, self.runs // 2)

    def test_pinned(self) -> None:
        """So with pins: what is pinned reaches its process alone, and another one only when its pin
        was lifted, which it says.
        """  # noqa: D205 - one sentence
        self.run(Pinned, self.runs // 2)

    def test_annals(self) -> None:
        """So with what is kept: a read or a join gets all that its bounds keep, and hears truly
        whether that is all.
        """  # noqa: D205 - one sentence
        self.run(Annals, self.runs // 2)

    def run(self, machine: type[Annals | Flow | Ledger | Pinned], runs: int) -> None:
        """Run a machine, each time on a new state."""
        self.finish()
        try:
            run_state_machine_as_test(
                lambda: machine(self),  # type: ignore[arg-type] # any maker of machines will do
                settings=settings(
                    max_examples=runs,
                    stateful_step_count=self.steps,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate, Phase.shrink)[: 1 + self.shrink],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            self.begin()
