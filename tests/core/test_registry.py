"""Plugins and applications: found, loaded when asked for, checked."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from gateway.core.errors import ConfigError, PluginError
from gateway.core.layers import SCHEMES
from gateway.core.plugin import NoConfig, ProtocolPlugin, hookimpl
from gateway.core.project import Project
from gateway.core.registry import Registry
from gateway.core.web import Claim

Messages = SimpleNamespace(KINDS={}, REPLY=dict)


def plugin_class(name, **members):
    async def nothing(self):
        pass

    defaults = {"name": name, "messages": Messages, "start": nothing, "stop": nothing}
    return type(name.title(), (ProtocolPlugin,), defaults | members)


@pytest.fixture
def module(monkeypatch):
    """Make an importable module with hooks: ``module("m", gateway_plugin=function)``."""

    def make(name, **members):
        made = ModuleType(name)
        for key, value in members.items():
            setattr(made, key, hookimpl(value) if key.startswith("gateway_") else value)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return make


def returning(value):
    """A hook that returns a value."""
    return lambda: value


def registry(*names, applications=()):
    return Registry(
        [
            *(EntryPoint(name, f"mod_{name}", "gateway.plugins") for name in names),
            *(EntryPoint(name, f"mod_{name}", "gateway.applications") for name in applications),
        ]
    )


def simple(module, name, **members):
    found = plugin_class(name, **members)
    return module(f"mod_{name}", gateway_plugin=lambda: found)


def test_installed_plugins_are_known_and_not_imported():
    """The built-in plugins are found through their entry points, and none is imported."""
    found = Registry().available
    assert {"http", "websocket"} <= set(found)
    assert Registry(found.values()).available == found


def test_required_plugins_come_first(module):
    """What a plugin requires is loaded too, before it, and says who asked."""
    simple(module, "b", requires=("a",))
    simple(module, "a")
    loaded = registry("a", "b", "c").load(["b"], "--plugins")
    assert [(plugin.name, plugin.asked_by) for plugin in loaded] == [
        ("a", "plugin 'b' requires"),
        ("b", "--plugins"),
    ]


def test_circle(module):
    """Plugins that require each other in a circle are refused with the circle."""
    simple(module, "a", requires=("b",))
    simple(module, "b", requires=("a",))
    with pytest.raises(PluginError, match="circle: a -> b -> a"):
        registry("a", "b").load(["a"], "--plugins")


def test_unknown_plugin():
    """An unknown name is refused with who asked, the closest name and those installed."""
    with pytest.raises(ConfigError, match=r"--plugins: .*'htp'; did you mean 'http'\? installed"):
        registry("http", "mqtt").load(["htp"], "--plugins")
    with pytest.raises(ConfigError, match=r"no plugin 'x'; installed are none"):
        registry().load(["x"], "--plugins")


def test_required_plugin_that_is_not_installed(module):
    """A missing required plugin is refused with the plugin that requires it."""
    simple(module, "b", requires=("a",))
    with pytest.raises(ConfigError, match="plugin 'b' requires: there is no plugin 'a'"):
        registry("b").load(["b"], "--plugins")


def test_misspelt_hook(module):
    """A marked function that is no hook is refused with module and closest hook."""
    module("mod_a", gateway_http_claim=lambda: None, gateway_plugin=lambda: None)
    with pytest.raises(PluginError, match=r"'a': mod_a .*'gateway_http_claim'.*_claims'\?"):
        registry("a").load(["a"], "--plugins")


def test_wrong_hook_arguments(module):
    """A hook with an argument that it is not given is refused by name."""
    found = plugin_class("a")

    def claims(config, context, request):
        return []

    module("mod_a", gateway_plugin=lambda: found, gateway_http_claims=claims)
    with pytest.raises(PluginError, match=r"'a': mod_a: .*gateway_http_claims.*request"):
        registry("a").load(["a"], "--plugins")


def test_no_hook(module):
    """A module without the hook, or with it unmarked, is refused with what to write."""
    made = module("mod_a")
    made.gateway_plugin = lambda: None
    with pytest.raises(PluginError, match="no hook gateway_plugin; it is a function marked"):
        registry("a").load(["a"], "--plugins")


class Loose(msgspec.Struct):
    pass


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: object, "not a ProtocolPlugin class"),
        (lambda: None, "not a ProtocolPlugin class"),
        (lambda: plugin_class("b"), "its class says name = 'b'"),
        (lambda: type("A", (ProtocolPlugin,), {"name": "a"}), r"A lacks start, stop\(\)"),
        (lambda: plugin_class("a", Config=dict), "Config is a msgspec.Struct class"),
        (lambda: plugin_class("a", Config=Loose), "Config must be frozen=True"),
        (lambda: plugin_class("a", messages=None), "messages.KINDS is missing"),
    ],
)
def test_broken_class(module, made, says):
    """A class that breaks the contract is refused with what it lacks."""
    module("mod_a", gateway_plugin=made)
    with pytest.raises(PluginError, match=f"plugin 'a': .*{says}"):
        registry("a").load(["a"], "--plugins")


def test_import_failure(tmp_path, monkeypatch):
    """A plugin that fails to import is refused with module, cause, file and line."""
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path / "mod_broken.py").write_text("\nraise RuntimeError('no luck')")
    Path(tmp_path / "mod_needy.py").write_text("import no_such_library")
    Path(tmp_path / "mod_slip.py").write_text("x = (")
    found = registry("broken", "needy", "absent", "slip")
    for name, says in (
        ("broken", rf"mod_broken cannot .*: RuntimeError: no luck \({tmp_path}/\w+.py, line 2\)$"),
        ("needy", r"'no_such_library' \(.*mod_needy.py, line 1\); install it with: pip"),
        ("slip", rf"mod_slip cannot .*: SyntaxError: .* \({tmp_path}/mod_slip.py, line 1\)$"),
        ("absent", r"No module named 'mod_absent'$"),
    ):
        with pytest.raises(PluginError, match=f"'{name}': .*{says}"):
            found.load([name], "--plugins")


class Installed(Distribution):
    """What an installation would say of itself."""

    def __init__(self, *requires, extras=()):
        extra = "".join(f"Provides-Extra: {name}\n" for name in extras)
        needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
        self.text = f"Metadata-Version: 2.1\nName: mod-dist\nVersion: 1.2\n{needs}{extra}"

    def read_text(self, filename):
        return self.text if filename == "METADATA" else None

    def locate_file(self, path):
        return path


def test_import_failure_for_want_of_a_version(tmp_path, monkeypatch):
    """A plugin that fails to import is told with what its distribution requires in vain."""
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path / "mod_old.py").write_text("from msgspec import no_such_name")
    dist = Installed("msgspec>=99; extra == 'old'", "pluggy>=1", extras=("old",))
    point = EntryPoint("old", "mod_old", "gateway.plugins")._for(dist)
    with pytest.raises(PluginError) as raised:
        Registry([point]).load(["old"], "--plugins")
    said = str(raised.value)
    assert "cannot import name 'no_such_name'" in said
    assert "; mod-dist requires msgspec>=99, and msgspec 0." in said
    assert said.endswith("; install it with: pip install 'mod-dist[old]'")
    assert "pluggy" not in said


def test_core_tables_are_no_plugins_names(module):
    """A plugin cannot take a settings table of the core's."""
    simple(module, "log")
    with pytest.raises(PluginError, match=r"plugin 'log' .*the table \[log\] .* another name"):
        registry("log").load(["log"], "--plugins")


def test_lazy_objects_are_left_asleep(module):
    """Objects in a plugin's module other than its functions are not touched."""

    class Lazy:
        def __getattribute__(self, name):
            raise RuntimeError("woken")

    found = plugin_class("a")
    module("mod_a", gateway_plugin=lambda: found, settings=Lazy())
    assert registry("a").load(["a"], "--plugins")[0].kind is found


def test_claims(module):
    """Each plugin's claims are asked with its own context, and sorted, highest first."""

    def claims_of(name, priority):
        def claims(context):
            assert context == f"context of {name}"
            return [Claim(bool, print, priority)]

        return claims

    for name, hooks in {
        "a": {"gateway_http_claims": claims_of("a", -10)},
        "b": {"gateway_http_claims": claims_of("b", 5)},
        "c": {},
    }.items():
        found = plugin_class(name)
        module(f"mod_{name}", gateway_plugin=returning(found), **hooks)
    reg = registry("a", "b", "c")
    reg.load(["a", "b", "c"], "--plugins")
    contexts = {name: (NoConfig(), f"context of {name}") for name in "abc"}
    assert [claim.priority for claim in reg.claims(contexts)] == [5, -10]


def test_application(module):
    """The first application that finds something to serve is the one."""
    module("mod_none", gateway_application=lambda config: None)
    module("mod_some", gateway_application=lambda config: f"app of {config.settings}")
    reg = registry(applications=["none", "some"])
    assert reg.application(Project(Path("/"), "x")) == "app of x"
    assert registry(applications=["none"]).application(Project(Path("/"))) is None


def test_application_without_its_library(tmp_path, monkeypatch):
    """An application whose library is not installed is passed over, and remembered."""
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path / "mod_lacking.py").write_text("import no_such_framework")
    Path(tmp_path / "mod_failing.py").write_text("1 / 0")
    reg = registry(applications=["lacking"])
    assert reg.application(Project(Path("/"))) is None
    assert reg.missing == ["application 'lacking' needs 'no_such_framework'"]
    with pytest.raises(PluginError, match=r"application 'failing': .*ZeroDivisionError"):
        registry(applications=["failing"]).application(Project(Path("/")))


def test_layers(module, monkeypatch):
    """A plugin's layers are known by their scheme once it is loaded."""
    monkeypatch.setattr("gateway.core.registry.SCHEMES", known := dict(SCHEMES))
    found = plugin_class("a")
    module("mod_a", gateway_plugin=lambda: found, gateway_layers=lambda: {"carrier": "m:C"})
    registry("a").load(["a"], "--plugins")
    assert known["carrier"] == "m:C"


def test_two_registries_share_nothing(module):
    """Several gateways of one process have plugins of their own."""
    simple(module, "a")
    first, second = registry("a"), registry("a")
    first.load(["a"], "--plugins")
    assert second.load([], "--plugins") == ()
