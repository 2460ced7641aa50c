"""``gateway new plugin``: what it writes, and what it refuses to."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.core.errors import ConfigError
from gateway.scaffold import FLAVOURS, LONGEST, new_plugin

LONG = "wide_world_of_widgets"[:LONGEST]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own, where commands are run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def there():
    """What is in the current directory."""
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_rooms(flavour, capsys):
    """Every flavour has the rooms of the house, an entry point, and says what to do next."""
    assert main(["new", "plugin", "big_lamp", "--flavour", flavour]) == 0
    said = capsys.readouterr().out
    project = Path("gateway-big-lamp")
    assert f"cd {project}\n" in said
    assert "gateway run --plugins big_lamp" in said
    package = project / "gateway_big_lamp"
    for name in ("__init__.py", "config.py", "messages.py", "translate.py", "py.typed"):
        assert (package / name).is_file(), name
    for name in ("README.md", ".gitignore", ".github/workflows/test.yml", "tests/test_big_lamp.py"):
        assert (project / name).is_file(), name
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == "gateway-big-lamp"
    assert metadata["entry-points"]["gateway.plugins"] == {"big_lamp": "gateway_big_lamp"}
    assert there() == ["gateway-big-lamp"]


@pytest.mark.parametrize("name", ["io", LONG])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_formatted(flavour, name):
    """Whatever the length of the name, the code is as ruff would have it, and no word is left."""
    project = new_plugin(name, flavour, Path("made"))
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    for path in project.rglob("*"):
        if path.is_file():
            assert "@" + "name@" not in path.read_text(), path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plugin", "Lamp"], "'Lamp' cannot be a plugin's name: it is made of lower-case letters"),
        (["plugin", "Lamp"], "; 'lamp' can"),
        (["plugin", "gateway-big-lamp"], "; 'big_lamp' can"),
        (["plugin", "7up"], "; 'up' can"),
        (["plugin", "_"], "metrics and a module\n"),
        (["plugin", "x" * 21], f"; '{'x' * 20}' can"),
        (["plugin", "layer"], "the table [layer] of the settings is the gateway's own"),
        (["plugin", "plugins"], "'plugins' cannot be a plugin's name"),
        (["plugin", "run"], "'gateway run' is the gateway's own command"),
        (["plugin", "http"], "there is a plugin 'http' already ('gateway plugins http' shows it)"),
        (["plugin", "there"], "gateway-there is there already, and nothing in it is touched"),
        (["plugin", "lamp", "--directory", "file/lamp"], "file/lamp cannot be written: "),
        (["plugin", "lamp", "--flavour", "steam"], "no flavour 'steam'; did you mean 'stream'?"),
        (["plugin", "lamp", "--flavour", "xyz"], "'xyz'; there are stream (a session for each"),
        (["plugin", "lamp", "--flavor", "http"], "no option '--flavor'; did you mean --flavour?"),
        (["lamp", "lamp"], "a plugin is what can be written: gateway new plugin lamp"),
        (["plugin"], "the following arguments are required: NAME"),
    ],
)
def test_refusals(arguments, says, capsys, elsewhere):
    """What cannot be written is refused with what to do instead, and leaves nothing behind."""
    (elsewhere / "gateway-there").mkdir()
    (elsewhere / "file").touch()
    try:
        status = main(["new", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert says in capsys.readouterr().err
    assert there() == ["file", "gateway-there"]


def test_module_that_is_there(monkeypatch, elsewhere):
    """A name whose package somebody could import already is refused."""
    (elsewhere / "gateway_lamp.py").touch()
    monkeypatch.syspath_prepend(elsewhere)
    with pytest.raises(ConfigError, match="there is a module gateway_lamp already"):
        new_plugin("lamp", "stream")
