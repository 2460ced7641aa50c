"""Plugins of one file: ``DIR/NAME.py`` of the directory that ``--plugins-dir`` names."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from gateway.core.errors import ConfigError

PACKAGE: Final = "gateway-plugins-dir"
"""Where their modules are among all others. The directory is not on ``sys.path``, so that a
``json.py`` in it stays a plugin, and everybody else's ``import json`` what it was."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z", re.ASCII)


class PluginFile(msgspec.Struct, frozen=True):
    """One file, not imported yet. Stands beside the entry points of what is installed."""

    name: str
    path: Path

    @property
    def module(self) -> str:
        """The name of its module."""
        return f"{PACKAGE}.{self.name}"

    def load(self) -> ModuleType:
        """Run the file and return its module. Raises whatever it raises."""
        spec = importlib.util.spec_from_file_location(self.module, self.path)
        if spec is None or spec.loader is None:
            raise ImportError("it is no Python file")
        module = importlib.util.module_from_spec(spec)
        # Annotations of its classes are looked up there.
        sys.modules[self.module] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[self.module]
            raise
        return module


def plugin_files(directory: Path, asked_by: str) -> Iterator[PluginFile]:
    """Iterate over the plugins in a directory; files that begin with ``_`` are none.

    Raises ConfigError for a directory that cannot be read.
    """
    try:
        paths = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigError(
            f"{asked_by}: {directory} is no directory of plugins: {error.strerror}"
        ) from None
    for path in paths:
        if path.suffix == ".py" and _NAME.match(path.stem) and path.is_file():
            yield PluginFile(path.stem, path)
