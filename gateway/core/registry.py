"""Plugins and applications: found through entry points, loaded only when asked for.

``gateway.plugins`` (NAME = module) are imported by name, ``gateway.applications`` always.
Each registry has a plugin manager of its own, so that several gateways of one process (tests)
share nothing.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from types import FunctionType, ModuleType
from typing import Any, cast

import msgspec
import pluggy

from gateway.core import plugin as contract
from gateway.core.errors import ConfigError, PluginError
from gateway.core.layers import SCHEMES
from gateway.core.plugin import Application, Context, ProtocolPlugin
from gateway.core.project import Project
from gateway.core.web import Claim

PLUGINS = "gateway.plugins"
APPLICATIONS = "gateway.applications"

_HOOKS = frozenset(
    name for name in vars(contract) if getattr(getattr(contract, name), "gateway_spec", None)
)


class Loaded(msgspec.Struct, frozen=True):
    """One plugin that was asked for."""

    name: str
    kind: type[ProtocolPlugin]
    module: ModuleType
    distribution: str
    """Name and version of what it was installed with: ``gateway 0.1.0``."""
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
            ]
            if entry_points is None
            else list(entry_points)
        )
        self.available = {point.name: point for point in found if point.group == PLUGINS}
        """The installed plugins by name, none of them imported."""
        self._applications = [point for point in found if point.group == APPLICATIONS]
        self._manager = pluggy.PluginManager("gateway")
        self._manager.add_hookspecs(contract)
        self._loaded: dict[str, Loaded] = {}
        self.missing: list[str] = []
        """Why applications could not be imported: a dependency that is not installed."""

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
        try:
            module = point.load()
        except Exception as error:
            raise self._broken("plugin", point, error) from error
        label = f"plugin {name!r}"
        self._register(label, module)
        if "gateway_plugin" not in _hooks(module):
            raise PluginError(
                f"{label}: {module.__name__} has no hook gateway_plugin; it is a function "
                "marked with gateway.core.plugin.hookimpl that returns the plugin's class"
            )
        plugin = module.gateway_plugin()
        _check_class(label, name, plugin)
        for required in plugin.requires:
            self._load(required, f"plugin {name!r} requires", (*chain, name))
        self._loaded[name] = Loaded(name, plugin, module, _distribution(point), asked_by)

    def _unknown(self, name: str) -> str:
        known = sorted(self.available)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"there is no plugin {name!r}; {hint}installed are {', '.join(known) or 'none'}"

    def _register(self, label: str, module: ModuleType) -> None:
        found = _hooks(module)
        for name in found.keys() - _HOOKS:
            close = difflib.get_close_matches(name, _HOOKS, n=1, cutoff=0.0)
            raise PluginError(
                f"{label}: {module.__name__} implements {name!r}, which is no hook; "
                f"did you mean {close[0]!r}?"
            )
        try:
            hooks = ModuleType(module.__name__)
            vars(hooks).update(found)
            self._manager.register(hooks, module.__name__)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            reason = " ".join(str(error).split())
            raise PluginError(f"{label}: {module.__name__}: {reason}") from None

    def _broken(self, what: str, point: EntryPoint, error: Exception) -> PluginError:
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and _root(error.name) != _root(point.module):
            remedy = f"; install it with: pip install '{_extra(point)}'"
        cause = str(error) or type(error).__name__
        if not isinstance(error, ImportError):
            cause = f"{type(error).__name__}: {error}"
        return PluginError(
            f"{what} {point.name!r}: {point.module} cannot be imported: {cause}{remedy}"
        )

    def _add_layers(self) -> None:
        for found in self._manager.hook.gateway_layers():
            SCHEMES.update(found)


def _hooks(module: ModuleType) -> dict[str, Any]:
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


def _distribution(point: EntryPoint) -> str:
    dist = point.dist
    return f"{dist.name} {dist.version}" if dist is not None else "not installed"


def _extra(point: EntryPoint) -> str:
    """Return what to install for a plugin's dependencies: ``gateway[websocket]``."""
    dist = point.dist
    if dist is None:
        return _root(point.module)
    extras = dist.metadata.get_all("Provides-Extra") or []
    wanted = re.sub(r"[-_.]+", "-", point.name)
    return f"{dist.name}[{wanted}]" if wanted in extras else dist.name


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]
