"""Plugins of one file."""

from __future__ import annotations

import json
import sys

import pytest

from gateway.core.boot import Options, boot
from gateway.core.errors import ConfigError, PluginError
from gateway.core.registry import Registry

PLUGIN = """
from __future__ import annotations

from typing import TypedDict
import msgspec
from gateway.core.plugin import ProtocolPlugin, hookimpl

class Reply(TypedDict, total=False):
    text: str

class messages:
    KINDS = {}
    REPLY = Reply

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1

class Own(ProtocolPlugin):
    name = __name__.rpartition(".")[2]
    Config = Config
    messages = messages

    async def start(self):
        pass

    async def stop(self):
        pass

@hookimpl
def gateway_plugin():
    return Own
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory of plugins, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = tmp_path / "own"
    found.mkdir()
    return found


def loaded(directory, name):
    registry = Registry([])
    registry.add_files(directory, "--plugins-dir")
    return registry.load([name], "--plugins")[-1]


def test_found_and_not_imported(directory):
    """Files are plugins by their names, none of them run until it is asked for."""
    for name in ("b.py", "a.py", "_shared.py", "x-y.py", "notes.txt"):
        (directory / name).write_text("raise RuntimeError")
    (directory / "folder.py").mkdir()
    registry = Registry([])
    registry.add_files(directory, "--plugins-dir")
    assert list(registry.available) == ["a", "b"]


def test_shadows_nothing(directory):
    """A file of the name of another module is a plugin, and that module stays what it is."""
    (directory / "json.py").write_text(PLUGIN)
    found = loaded(directory, "json")
    assert (found.name, found.kind.name) == ("json", "json")
    assert sys.modules["json"] is json
    assert str(directory) not in sys.path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n\nimport no_such", r"own/own.py cannot .*'no_such' \(.*own/own.py, line 3\); install"),
        ("x = 1\ny = (", r"SyntaxError: .* \(.*own/own.py, line 2\)$"),
        ("def f():\n    1 / 0\nf()", r"ZeroDivisionError: .* \(.*own/own.py, line 2\)$"),
        ("import json\njson.loads('x')", r"JSONDecodeError: .* \(.*own/own.py, line 2\)$"),
        ("x = 1", r"own/own.py has no hook gateway_plugin; it is a function marked"),
        (PLUGIN.replace("gateway_plugin(", "gateway_plugins("), "which is no hook; did you mean"),
    ],
)
def test_broken(directory, text, says):
    """A file that is broken is refused with the file, the line and what is wrong."""
    (directory / "own.py").write_text(text)
    with pytest.raises(PluginError, match=f"plugin 'own': .*{says}"):
        loaded(directory, "own")


def test_name_of_an_installed_plugin(directory):
    """A file of the name of an installed plugin is not taken for it: the start says so."""
    (directory / "http.py").write_text(PLUGIN)
    registry = Registry()
    registry.add_files(directory, "plugins_dir")
    with pytest.raises(ConfigError, match=r"'http' is gateway .* and .*/http.py too; rename"):
        registry.load(["http"], "--plugins")


def test_no_directory(directory):
    """A directory that is none is refused with who named it."""
    with pytest.raises(ConfigError, match=r"--plugins-dir: .*/none is no directory of plugins: No"):
        boot(Options(plugins_dir="none", workers="none"), {})


def test_where_it_is_named(directory, tmp_path):
    """The directory is named by the file, the environment or the option, the last one first."""
    (directory / "one.py").write_text(PLUGIN)
    (tmp_path / "gateway.toml").write_text("plugins = ['one']\nplugins_dir = 'own'\n")
    variables = {"GATEWAY_ONE_SIZE": "7"}
    assert boot(Options(workers="none"), variables).settings.tables["one"].size == 7
    (tmp_path / "gateway.toml").write_text("plugins = ['one']\nplugins_dir = 'nowhere'\n")
    variables["GATEWAY_PLUGINS_DIR"] = "own"
    assert boot(Options(workers="none"), variables).settings.tables["one"].size == 7
    variables["GATEWAY_PLUGINS_DIR"] = "nowhere"
    started = boot(Options(workers="none", plugins_dir="own"), variables)
    assert started.settings.tables["one"].size == 7
    assert started.sources.plugins_dir() == (directory, "--plugins-dir")


def test_setting_of_another_type(directory, tmp_path):
    """What is no path is refused."""
    (tmp_path / "gateway.toml").write_text("plugins_dir = 3\n")
    with pytest.raises(ConfigError, match=r"gateway.toml: plugins_dir: expected the path"):
        boot(Options(workers="none"), {})
