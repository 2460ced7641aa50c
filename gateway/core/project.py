"""Which project is served: its directory, its Django settings, its default socket path.

The project is found as Django's own tools find it: ``DJANGO_SETTINGS_MODULE``, else the one
that a ``manage.py`` in the current directory or above names; that file is read, not run.
"""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

import msgspec

from gateway.core.errors import ConfigError

VARIABLE = "DJANGO_SETTINGS_MODULE"


class Project(msgspec.Struct, frozen=True):
    """What is served from where."""

    directory: Path
    """Where ``manage.py`` lies, else the directory that the search began in. Absolute."""
    settings: str | None = None
    """The Django settings module; None where there is none."""
    origin: str = ""
    """Who named the settings module: ``--settings``, ``DJANGO_SETTINGS_MODULE``, a file."""

    def activate(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Make the project importable, and its settings known to Django, in this process."""
        directory = str(self.directory)
        if directory not in sys.path:
            sys.path.insert(0, directory)
        if self.settings is not None:
            environ[VARIABLE] = self.settings


def find_project(
    settings: str | None = None,
    start: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Project:
    """Return the project around ``start`` (the current directory).

    ``settings`` (the option) wins over the variable, the variable over ``manage.py``. Raises
    ConfigError for a ``manage.py`` that is not Python.
    """
    start = (start or Path.cwd()).resolve()
    found = next((d for d in (start, *start.parents) if (d / "manage.py").is_file()), None)
    directory = found or start
    if settings:
        return Project(directory, settings, "--settings")
    if environ.get(VARIABLE):
        return Project(directory, environ[VARIABLE], VARIABLE)
    if found is not None:
        named = settings_of(found / "manage.py")
        if named is not None:
            return Project(directory, named, str(found / "manage.py"))
    return Project(directory)


def settings_of(manage: Path) -> str | None:
    """Return the settings module that a ``manage.py`` sets, without running it; None if none."""
    try:
        tree = ast.parse(manage.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{manage}: cannot be read as Python: {error}") from None
    return next(_settings_in(tree), None)


def _settings_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="setdefault"),
                args=[ast.Constant(value=key), ast.Constant(value=str(module))],
            ) if key == VARIABLE:
                yield module
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value=key))],
                value=ast.Constant(value=str(module)),
            ) if key == VARIABLE:
                yield module


def default_layer_url(directory: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the hub of the project in ``directory``, for this user.

    The socket lies in ``XDG_RUNTIME_DIR``, else in a directory of the user's own below the
    temporary directory; its name comes from the project's directory, so that shells and task
    queues find it without a setting. Touches no file.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        base = Path(runtime)
    else:
        base = Path(tempfile.gettempdir()) / f"gateway-{os.getuid()}"
    # 12 hex digits: 48 bits tell all projects of one user apart, and the path stays far
    # below the 107 bytes that a socket's path may have.
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
    return f"unix://{base / f'gateway-{name}.sock'}"


def private_directory(path: Path) -> None:
    """Make sure that ``path`` is this user's alone, so that nobody else put a socket there.

    Made, 0700, where it is missing. Raises ConfigError where it is a link, another user's, or
    open to others.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise ConfigError(
            f"layer.url: the directory {path} of the hub's socket cannot be made: {error.strerror}"
        ) from None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise ConfigError(
            f"layer.url: the directory {path} is not this user's alone; remove it, or set "
            "layer.url to a path of your own (unix:///path)"
        )
