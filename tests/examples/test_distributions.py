"""The plugins of examples are what a stranger's would be: small, of their own, on the contract."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

from tests.examples.site import EXAMPLES

NAMES = sorted(path.name.removeprefix("gateway-") for path in EXAMPLES.glob("gateway-*"))
LONGEST = {"udp": 60, "telnet": 100, "finger": 80}
"""Lines of a whole plugin: docstrings and comments count, blank lines and its suite do not."""
SCREEN = 50
"""Lines of a README."""
CONTRACT = {f"gateway.core.{name}" for name in ("plugin", "stream", "datagram", "client", "web")}
FILES = {"__init__.py", "config.py", "messages.py", "translate.py"}


def modules(name: str) -> list[Path]:
    """The modules of a plugin, without its suite."""
    found = (EXAMPLES / f"gateway-{name}" / f"gateway_{name}").rglob("*.py")
    return [path for path in found if path.name != "conformance.py"]


def imported(path: Path) -> set[str]:
    """The modules that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            # `from gateway.core import plugin` imports a module, too
            found |= {
                f"{node.module}.{alias.name}" if node.module == "gateway.core" else str(node.module)
                for alias in node.names
            }
    return found


@pytest.mark.parametrize(("name", "limit"), LONGEST.items())
def test_lines(name, limit):
    """What was said to fit on so many lines does."""
    lines = [line for path in modules(name) for line in path.read_text().splitlines()]
    assert 0 < sum(1 for line in lines if line.strip()) <= limit


@pytest.mark.parametrize("name", NAMES)
def test_imports(name):
    """It stands on the contract, on the standard library and on msgspec, and on nothing else."""
    for path in modules(name):
        for module in imported(path):
            top = module.partition(".")[0]
            assert (
                module in CONTRACT
                or top in {*sys.stdlib_module_names, "msgspec"}
                or (top == f"gateway_{name}")
            ), f"{path.name}: {module}"


@pytest.mark.parametrize("name", NAMES)
def test_tests_import(name):
    """Its tests need the test kit besides, and nothing that is not public."""
    tests = EXAMPLES / f"gateway-{name}" / "tests"
    for path in tests.glob("*.py"):
        for module in imported(path):
            if module.partition(".")[0] == "gateway":
                public = module in {"gateway", *CONTRACT} or module.startswith("gateway.testing")
                assert public, f"{path.name}: {module}"


@pytest.mark.parametrize("name", NAMES)
def test_distribution(name):
    """It has the files of every plugin, a README of one screen, and is found as installed."""
    folder = EXAMPLES / f"gateway-{name}"
    assert {path.name for path in modules(name)} >= FILES
    assert len((folder / "README.md").read_text().splitlines()) <= SCREEN
    assert distribution(f"gateway-{name}").metadata["License"] == "BSD-3-Clause"
    (point,) = (p for p in entry_points(group="gateway.plugins") if p.name == name)
    assert point.dist is not None
    assert point.dist.name == f"gateway-{name}"
    assert point.load().gateway_plugin().name == name
