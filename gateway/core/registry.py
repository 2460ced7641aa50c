"""Plugins and applications: found through entry points, loaded only when asked for.

``gateway.plugins`` (NAME = module) are imported by name, ``gateway.applications`` always. Plugins
of one file (`gateway.core.pluginfiles`) stand beside the installed ones. ``gateway.commands`` (WORD
= a plugin's module) has ``gateway WORD`` mean ``gateway NAME``, where the name is not the word.
Each registry has a plugin manager of its own, so that several gateways of one process (tests)
share nothing.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

import msgspec
import pluggy

from gateway.core import plugin as contract
from gateway.core import pluginfiles
from gateway.core.errors import ConfigError, PluginError
from gateway.core.hookcalls import HookCalls
from gateway.core.layers import SCHEMES
from gateway.core.plugin import Application, Context, ProtocolPlugin
from gateway.core.pluginfiles import PluginFile, plugin_files
from gateway.core.project import Project
from gateway.core.sources import CORE
from gateway.core.web import Claim

PLUGINS = "gateway.plugins"
APPLICATIONS = "gateway.applications"
COMMANDS = "gateway.commands"

Point = EntryPoint | PluginFile
"""A plugin that was found and not imported."""

_OWN = frozenset((__file__, pluginfiles.__file__, importlib.metadata.__file__, importlib.__file__))

_HOOKS = frozenset(
    name for name in vars(contract) if getattr(getattr(contract, name), "gateway_spec", None)
)


class Loaded(msgspec.Struct, frozen=True):
    """One plugin that was asked for."""

    name: str
    kind: type[ProtocolPlugin]
    module: ModuleType
    point: Point
    asked_by: str
    """Who asked for it: the source of ``plugins``, or the plugin that requires it."""


class Registry:
    """The plugins and applications of one gateway.

    ``entry_points`` stands in for what is installed (tests).
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None) -> None:
        found = (
            [
                *importlib.metadata.entry_points(group=PLUGINS),
                *importlib.metadata.entry_points(group=APPLICATIONS),
                *importlib.metadata.entry_points(group=COMMANDS),
            ]
            if entry_points is None
            else list(entry_points)
        )
        self.available: dict[str, Point] = {p.name: p for p in found if p.group == PLUGINS}
        """The plugins that there are by name, none of them imported."""
        self.words = {
            point.name: plugin.name
            for point in found
            if point.group == COMMANDS
            for plugin in found
            if plugin.group == PLUGINS and plugin.value == point.value
        }
        """Other words for ``gateway PLUGIN``, and the plugins that they are for."""
        self.shadowed: dict[str, PluginFile] = {}
        """Files of the name of an installed plugin."""
        self._applications = [point for point in found if point.group == APPLICATIONS]
        self._manager = pluggy.PluginManager("gateway")
        self._manager.add_hookspecs(contract)
        self._loaded: dict[str, Loaded] = {}
        self.hook_calls = HookCalls()
        self.missing: list[str] = []
        """Why applications could not be imported: a dependency that is not installed."""

    def add_files(self, directory: Path, asked_by: str) -> None:
        """Add the plugins of one file in a directory. Raises ConfigError where there is none."""
        for file in plugin_files(directory, asked_by):
            if file.name in self.available:
                self.shadowed[file.name] = file
            else:
                self.available[file.name] = file

    def load(self, names: Iterable[str], asked_by: str) -> tuple[Loaded, ...]:
        """Import plugins and those that they require; return all, required ones first.

        Raises ConfigError for a name that no plugin has, PluginError for one that cannot be
        imported or breaks the contract.
        """
        for name in names:
            self._load(name, asked_by, ())
        self._add_layers()
        return tuple(self._loaded.values())

    def application(self, project: Project) -> Application | None:
        """Return the application to serve, or None if no installed kind finds one."""
        for point in self._applications:
            try:
                module = point.load()
            except ModuleNotFoundError as error:
                if _root(error.name) == _root(point.module):
                    raise self._broken("application", point, error) from error
                self.missing.append(f"application {point.name!r} needs {error.name!r}")
                continue
            except Exception as error:
                raise self._broken("application", point, error) from error
            if not self._manager.has_plugin(module.__name__):
                self._register(f"application {point.name!r}", module)
        self._add_layers()
        return cast("Application | None", self._manager.hook.gateway_application(config=project))

    def claims(self, plugins: Mapping[str, tuple[msgspec.Struct, Context]]) -> list[Claim]:
        """Return all claims on requests of the http port, highest priority first."""
        found: list[Claim] = []
        for name, (config, context) in plugins.items():
            own = self._manager.get_plugin(self._loaded[name].module.__name__)
            others = [other for other in self._manager.get_plugins() if other is not own]
            hook = self._manager.subset_hook_caller("gateway_http_claims", others)
            for claims in hook(config=config, context=context):
                found += claims
        return sorted(found, key=lambda claim: -claim.priority)

    def commands(self, name: str) -> dict[str, Callable[[list[str], Any], int | None]]:
        """Return the commands of a loaded plugin, by their words."""
        own = self._manager.get_plugin(self._loaded[name].module.__name__)
        others = [other for other in self._manager.get_plugins() if other is not own]
        found: dict[str, Callable[[list[str], Any], int | None]] = {}
        for commands in self._manager.subset_hook_caller("gateway_commands", others)():
            found |= commands
        return found

    # ------------------------------------------------ one plugin

    def _load(self, name: str, asked_by: str, chain: tuple[str, ...]) -> None:
        if name in self._loaded:
            return
        if name in chain:
            circle = " -> ".join((*chain, name))
            raise PluginError(f"plugins require each other in a circle: {circle}")
        point = self.available.get(name)
        if point is None:
            raise ConfigError(f"{asked_by}: {self._unknown(name)}")
        if name in self.shadowed:
            raise ConfigError(
                f"{asked_by}: {name!r} is {origin(point)} and {self.shadowed[name].path} too; "
                "rename the file"
            )
        if name in CORE:
            raise PluginError(
                f"plugin {name!r} ({origin(point)}): the table [{name}] of the settings is the "
                "gateway's own; the plugin needs another name"
            )
        try:
            module = point.load()
        except Exception as error:
            raise self._broken("plugin", point, error) from error
        label = f"plugin {name!r}"
        hooks = self._register(label, module)
        if "gateway_plugin" not in hooks_of(module):
            raise PluginError(
                f"{label}: {_named(point)} has no hook gateway_plugin; it is a function "
                "marked with gateway.core.plugin.hookimpl that returns the plugin's class"
            )
        plugin = hooks.gateway_plugin()
        _check_class(label, name, plugin)
        for required in plugin.requires:
            self._load(required, f"plugin {name!r} requires", (*chain, name))
        self._loaded[name] = Loaded(name, plugin, module, point, asked_by)

    def _unknown(self, name: str) -> str:
        known = sorted(self.available)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"there is no plugin {name!r}; {hint}installed are {', '.join(known) or 'none'}"

    def _register(self, label: str, module: ModuleType) -> ModuleType:
        found = hooks_of(module)
        for name in found.keys() - _HOOKS:
            close = difflib.get_close_matches(name, _HOOKS, n=1, cutoff=0.0)
            raise PluginError(
                f"{label}: {module.__name__} implements {name!r}, which is no hook; "
                f"did you mean {close[0]!r}?"
            )
        try:
            hooks = ModuleType(module.__name__)
            vars(hooks).update(self.hook_calls.watch(f"{label} ({module.__name__})", found))
            self._manager.register(hooks, module.__name__)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            reason = " ".join(str(error).split())
            raise PluginError(f"{label}: {module.__name__}: {reason}") from None
        return hooks

    def _broken(self, what: str, point: Point, error: Exception) -> PluginError:
        cause = str(error) or type(error).__name__
        if isinstance(error, SyntaxError):
            cause = f"SyntaxError: {error.msg}"
        elif not isinstance(error, ImportError):
            cause = f"{type(error).__name__}: {error}"
        return PluginError(
            f"{what} {point.name!r}: {_named(point)} cannot be imported: {cause}"
            f"{_place(point, error)}{_remedy(point, error)}"
        )

    def _add_layers(self) -> None:
        for found in self._manager.hook.gateway_layers():
            SCHEMES.update(found)


def hooks_of(module: ModuleType) -> dict[str, Any]:
    """Return the functions of a module that are marked as hooks, by name.

    Only functions are looked at: other objects may be lazy, and looking wakes them.
    """
    return {
        name: value
        for name, value in vars(module).items()
        if type(value) is FunctionType and hasattr(value, "gateway_impl")
    }


def _check_class(label: str, name: str, plugin: object) -> None:
    if not (isinstance(plugin, type) and issubclass(plugin, ProtocolPlugin)):
        raise PluginError(
            f"{label}: gateway_plugin returned {plugin!r}, not a ProtocolPlugin class"
        )
    if getattr(plugin, "name", None) != name:
        raise PluginError(
            f"{label}: its class says name = {getattr(plugin, 'name', None)!r}; the name of the "
            "entry point and of the class are the same"
        )
    abstract = sorted(getattr(plugin, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(f"{label}: {plugin.__qualname__} lacks {', '.join(abstract)}()")
    config = plugin.Config
    if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        raise PluginError(f"{label}: Config is a msgspec.Struct class, not {config!r}")
    if not (config.__struct_config__.frozen and config.__struct_config__.forbid_unknown_fields):
        raise PluginError(f"{label}: Config must be frozen=True, forbid_unknown_fields=True")
    for part in ("KINDS", "REPLY"):
        if not hasattr(getattr(plugin, "messages", None), part):
            raise PluginError(f"{label}: messages.{part} is missing")


def version(point: Point) -> str:
    """Return the version of what a plugin came with; "" for a file, which has none."""
    dist = getattr(point, "dist", None)
    return "" if dist is None else str(dist.version)


def origin(point: Point) -> str:
    """Return where a plugin comes from: ``gateway 0.1.0``, or the path of its file."""
    if isinstance(point, PluginFile):
        return str(point.path)
    dist = point.dist
    return f"{dist.name} {dist.version}" if dist is not None else "not installed"


def unmet(point: Point) -> list[str]:
    """Return what a plugin's distribution requires and is not there: a sentence each."""
    dist = getattr(point, "dist", None)
    if dist is None:
        return []
    # Not at the top: a gateway where nothing is wrong does without it.
    from gateway.core import requirements  # noqa: PLC0415

    return list(requirements.unmet(dist, point.name))


def _named(point: Point) -> str:
    return str(point.path) if isinstance(point, PluginFile) else point.module


def _place(point: Point, error: Exception) -> str:
    """Return where it failed, as far as that is the plugin's own code: file and line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename not in _OWN
    ]
    if isinstance(point, PluginFile):
        frames = [frame for frame in frames if frame.filename == str(point.path)] or frames
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _remedy(point: Point, error: Exception) -> str:
    """Return what to install, where that is what is wrong."""
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if isinstance(point, PluginFile):
        return f"; install what it needs, as in: pip install {_root(absent)}" if absent else ""
    reasons = [f"; {text}" for text in unmet(point)]
    if reasons or (absent and _root(absent) != _root(point.module)):
        reasons.append(f"; install it with: pip install '{_extra(point)}'")
    return "".join(reasons)


def _extra(point: EntryPoint) -> str:
    """Return what to install for a plugin's dependencies: ``gateway[websocket]``."""
    dist = point.dist
    if dist is None:
        return _root(point.module)
    from gateway.core import requirements  # noqa: PLC0415 - as above

    extra = requirements.extra_of(dist, point.name)
    return f"{dist.name}[{extra}]" if extra else dist.name


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]
