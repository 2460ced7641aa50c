"""The house: its files, names and texts are what the plan says."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from gateway.core import plugin
from gateway.core.metrics import Drop

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLUGINS = list(PROJECT["entry-points"]["gateway.plugins"])
MODULES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "django_gateway").rglob("*.py")])
IDS = [str(module.relative_to(ROOT)) for module in MODULES]


def texts() -> list[Path]:
    """Everything that git knows, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"git does not list the files: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.splitlines()]


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_module(module: Path) -> None:
    """Every module says what it is for, and stays under 500 lines, blank ones aside."""
    source = module.read_text()
    assert ast.get_docstring(ast.parse(source)), "no docstring"
    assert sum(1 for line in source.splitlines() if line.strip()) <= 500


def test_texts_speak_of_the_project_alone() -> None:
    """No text names a path of somebody's machine, and none puts work off to a later day."""
    foreign = re.compile(r"/(work|root|home)/\w|\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|\bissue #?\d")
    found = []
    for path in texts():
        if path.suffix not in {".md", ".py", ".toml", ".html", ""} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if foreign.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_has_the_same_rooms(name: str) -> None:
    """Every built-in plugin has the same files, and its package's docstring is its manual."""
    package = ROOT / "gateway" / "plugins" / name
    for file in ("__init__.py", "config.py", "messages.py", "translate.py"):
        assert (package / file).is_file(), file
    assert len(inspect.getdoc(importlib.import_module(f"gateway.plugins.{name}")) or "") > 200


@pytest.mark.parametrize("name", PLUGINS)
def test_translation_is_pure(name: str) -> None:
    """Schemas and decisions touch neither sockets nor the clock nor an event loop."""
    impure = {"asyncio", "socket", "time", "threading", "twisted", "uvloop", "autobahn"}
    for file in ("messages.py", "translate.py"):
        tree = ast.parse((ROOT / "gateway" / "plugins" / name / file).read_text())
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not impure & {part.split(".")[0] for part in names}, f"{file}: {names}"


def test_entry_points_resolve() -> None:
    """Everything that pyproject.toml promises under a name can be imported."""
    ours = [
        point
        for group in ("console_scripts", "gateway.plugins", "gateway.applications", "pytest11")
        for point in entry_points(group=group)
        if point.dist is not None and point.dist.name == PROJECT["name"]
    ]
    assert len(ours) >= len(PLUGINS) + 2
    for point in ours:
        assert point.load() is not None, point.name


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_class(name: str) -> None:
    """A plugin is called what its entry point is called, and its settings are strict."""
    cls = importlib.import_module(f"gateway.plugins.{name}").gateway_plugin()
    assert cls.name == name
    assert cls.Config.__struct_config__.frozen
    assert cls.Config.__struct_config__.forbid_unknown_fields
    assert cls.messages.KINDS
    assert cls.messages.REPLY


def structs() -> list[type[msgspec.Struct]]:
    from gateway.core import config

    own = [
        type(info.default)
        for info in msgspec.structs.fields(config.Settings)
        if isinstance(info.default, msgspec.Struct)
    ]
    found = [
        importlib.import_module(f"gateway.plugins.{name}").gateway_plugin().Config
        for name in PLUGINS
    ]
    return own + found


def test_settings_are_described() -> None:
    """Every setting has a default and says what it means, in the reference too."""
    reference = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for struct in structs():
        for row in msgspec.structs.fields(struct):
            assert not row.required, f"{struct.__name__}.{row.name}"
            said = re.search(rf"^\| `{row.name}` \|.*\| (.*) \|$", reference, re.MULTILINE)
            assert said, f"{struct.__name__}.{row.name} is not in the reference"
            assert len(said[1]) > 10, f"{struct.__name__}.{row.name} is not described"


def test_hooks_are_documented() -> None:
    """The reference shows every hook with its exact arguments."""
    reference = (ROOT / "docs" / "reference" / "plugin.md").read_text()
    hooks = [
        function
        for _, function in inspect.getmembers(plugin, inspect.isfunction)
        if hasattr(function, "gateway_spec")
    ]
    assert hooks
    for hook in hooks:
        arguments = ", ".join(inspect.signature(hook).parameters)
        shown = re.search(rf"`{hook.__name__}\((.*?)\)", reference)
        assert shown, hook.__name__
        assert re.sub(r": [\w.]+", "", shown[1]) == arguments, hook.__name__
        assert hook.__doc__


def metric_names() -> set[str]:
    """The metrics that the code makes, by their full names.

    Whole names are strings of the code; a plugin's own counters are named without their
    beginning, which the core adds for whatever plugin it is.
    """
    hooks = {name for name in dir(plugin) if name.startswith("gateway_")}
    found = set()
    for module in MODULES:
        parts = module.relative_to(ROOT).parts
        owner = parts[2] if parts[1] == "plugins" and len(parts) > 3 else "PLUGIN"
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"gateway_[a-z_]+", str(node.value)):
                found.add(node.value)
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"count", "gauge", "histogram"}
                and ast.unparse(node.func.value).endswith("context")
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(f"gateway_{owner}_{node.args[0].value}")
    return found - hooks - {"gateway_spec", "gateway_impl"}


def test_metrics_are_documented() -> None:
    """The reference names every metric of the code, and no other."""
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    said = set(re.findall(r"^\| `(gateway_\w+)`", reference, re.MULTILINE))
    assert said == metric_names()


@pytest.mark.parametrize("drop", Drop, ids=lambda drop: drop.name)
def test_drop_is_documented_and_provoked(drop: Drop) -> None:
    """Every cause of a drop is in the reference, used by the code and provoked by a test."""
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert f"| `{drop.value}` |" in reference
    used = re.compile(rf"\bDrop\.{drop.name}\b")
    assert any(used.search(module.read_text()) for module in MODULES), "the code never drops so"
    said = re.compile(rf"\bDrop\.{drop.name}\b|[\"']{drop.value}[\"']")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "house"]
    tests += list((ROOT / "gateway" / "testing").rglob("*.py"))
    assert any(said.search(path.read_text()) for path in tests), "no test provokes it"


SECRET = {"headers", "query_string", "target", "body", "cookies"}
FOREIGN = {"path", "raw_path", "method"}


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_logs_tell_no_secrets(module: Path) -> None:
    """No message that is logged holds headers or a query; what a client wrote is escaped."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value).rpartition(".")[2] in {"log", "_log", "logger"}
        ):
            continue
        for argument in node.args:
            parts = {part.attr for part in ast.walk(argument) if isinstance(part, ast.Attribute)}
            assert not parts & SECRET, ast.unparse(node)
            if parts & FOREIGN:
                assert ast.unparse(argument).startswith("escaped("), ast.unparse(node)


def test_front_door() -> None:
    """`make` alone names every target, and what runs before a change is taken is `make test`."""
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("venv", "demo", "test", "lint", "bench", "docs", "autobahn", "fuzz", "clean"):
        assert re.search(rf"^  make {target} +\w", said, re.MULTILINE), target
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "make test" in run.read_text()
