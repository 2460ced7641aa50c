"""What the whole run of tests shares."""

from __future__ import annotations

import os

# Before any test has Twisted look for its plugins: autobahn's own would choose the other flavour.
import autobahn.asyncio  # noqa: F401
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is; a test as a whole has its timeout.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of Autobahn's fuzzing client is run."""
    parser.addoption(
        "--autobahn",
        choices=("fast", "full"),
        default="fast",
        help="cases of Autobahn's fuzzing client: fast (default), or full with large messages",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers."""
    config.addinivalue_line("markers", "autobahn: needs Autobahn's fuzzing client")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the checks that failed before the tests began (`make test` runs them all)."""
    if failed := os.environ.get("FAILED_CHECKS"):
        terminalreporter.section("failed checks", red=True)
        terminalreporter.line(f"{failed}: see above the tests; the run counts as failed")
