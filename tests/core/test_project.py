"""Which project is served, and where its hub is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from gateway.core.project import (
    Project,
    default_layer_url,
    find_project,
    private_directory,
    settings_of,
)

MANAGE = """\
import os, sys
raise SystemExit("this file must not be run")
def main():
    os.environ.setdefault("OTHER", "x.y")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
"""


def test_manage_py_above(tmp_path):
    """The project is where manage.py lies, here or above; its settings are read, not run."""
    (tmp_path / "manage.py").write_text(MANAGE)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = find_project(start=below, environ={})
    assert found == Project(tmp_path, "shop.settings", str(tmp_path / "manage.py"))


def test_order(tmp_path):
    """The option wins over the variable, the variable over manage.py."""
    (tmp_path / "manage.py").write_text(MANAGE)
    environ = {"DJANGO_SETTINGS_MODULE": "from.variable"}
    assert find_project("from.option", tmp_path, environ).settings == "from.option"
    assert find_project(None, tmp_path, environ).settings == "from.variable"
    assert find_project(None, tmp_path, {"DJANGO_SETTINGS_MODULE": ""}).settings == "shop.settings"
    assert find_project("from.option", tmp_path, environ).directory == tmp_path


def test_no_project(tmp_path):
    """Without manage.py and variable there are no settings, and the directory is this one."""
    found = find_project(start=tmp_path, environ={})
    assert (found.directory, found.settings) == (tmp_path, None)


def test_assignment(tmp_path):
    """A manage.py that assigns the variable is understood as well."""
    manage = tmp_path / "manage.py"
    manage.write_text("import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'x.settings'\n")
    assert settings_of(manage) == "x.settings"
    manage.write_text("import os\nos.environ['DJANGO_SETTINGS_MODULE'] = os.getcwd()\n")
    assert settings_of(manage) is None


@pytest.mark.parametrize("content", [b"def (", b"\xff\xfe", b"x = '\0'"])
def test_broken_manage_py(tmp_path, content):
    """A manage.py that is no Python is refused by its name."""
    (tmp_path / "manage.py").write_bytes(content)
    with pytest.raises(ConfigError, match=r"manage\.py: cannot be read as Python"):
        find_project(start=tmp_path, environ={})


def test_activate(tmp_path, monkeypatch):
    """An activated project is importable, and Django knows its settings."""
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    environ = {}
    Project(tmp_path, "shop.settings").activate(environ)
    Project(tmp_path, None).activate(environ)
    assert sys.path == [str(tmp_path), "/elsewhere"]
    assert environ == {"DJANGO_SETTINGS_MODULE": "shop.settings"}


def test_default_layer(tmp_path):
    """The hub's path tells users and projects apart, and is always the same for one."""
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    url = default_layer_url(tmp_path, runtime)
    assert Path(url.removeprefix("unix://")).parent == tmp_path
    assert url == default_layer_url(tmp_path / "x" / "..", runtime)
    assert url != default_layer_url(tmp_path / "x", runtime)
    for environ in ({}, {"XDG_RUNTIME_DIR": str(tmp_path / "none")}):
        parent = Path(default_layer_url(tmp_path, environ).removeprefix("unix://")).parent
        assert parent.name.startswith("gateway-")
        assert not (tmp_path / "none").exists()


def test_private_directory(tmp_path):
    """The hub's directory is made for this user alone; one that others can enter is refused."""
    path = tmp_path / "own"
    private_directory(path)
    private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    with pytest.raises(ConfigError, match="not this user's alone"):
        private_directory(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="not this user's alone"):
        private_directory(link)
    with pytest.raises(ConfigError, match="cannot be made"):
        private_directory(tmp_path / "a" / "b")
