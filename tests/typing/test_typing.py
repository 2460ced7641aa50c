"""The public types: a careful plugin is clean, and wrong uses are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.testing.conformance import OK, SKIPPED, check
from tests.typing.meter import MeterSuite

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECONDS = 120
pytestmark = pytest.mark.timeout(SECONDS)


def mypy(name: str, cache: Path) -> list[tuple[int, str]]:
    """What mypy says of a file: (line, text)."""
    (cache / "mypy.ini").write_text("[mypy]\nstrict = true\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(cache / "mypy.ini")]
    # In the project's directory, whose cache has read the library before.
    done = subprocess.run(
        [*command, "--no-error-summary", "--explicit-package-bases", str(HERE / name)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}, done.stdout
    found = re.findall(r":(\d+): error: (.*)", done.stdout)
    return [(int(line), text) for line, text in found]


def pyright(name: str, tmp: Path) -> list[tuple[int, str]]:
    """What pyright says of a file."""
    program = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pyright is not installed: pip install '.[test]'")
    if shutil.which("node") is None:
        pytest.skip("pyright needs node: apt install nodejs")
    settings = {
        "include": [name],
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
        "reportUnusedExpression": False,
    }
    shutil.copy(HERE / name, tmp)
    (tmp / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [program, "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return [
        (one["range"]["start"]["line"] + 1, one["message"])
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ]


checkers = pytest.mark.parametrize("checker", [mypy, pyright])


@checkers
def test_careful_plugin_is_clean(checker, tmp_path):
    """A plugin with every type written passes the strict rules, without Any or ignores."""
    assert checker("meter.py", tmp_path) == []


@checkers
def test_wrong_uses_are_refused(checker, tmp_path):
    """Each wrong line is an error, and no other line is."""
    lines = (HERE / "wrong.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    found = checker("wrong.py", tmp_path)
    told = {line for line, _ in found}
    assert {n: lines[n - 1] for n in wrong - told} == {}
    assert [one for one in found if one[0] not in wrong] == []


def test_careful_plugin_works():
    """The plugin that the type checkers read passes its suite."""
    results = {one.check: (one.result, one.reason) for one in check(MeterSuite)}
    assert {name for name, (result, _) in results.items() if result == SKIPPED} == {
        "ack",
        "connect is refused",
    }
    bad = {name: one for name, one in results.items() if one[0] not in {OK, SKIPPED}}
    assert bad == {}
