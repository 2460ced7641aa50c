"""The public test kit, for authors of plugins and layers.

``PluginSuite`` and ``Turn`` try a whole plugin, ``Rig`` starts one without sockets and ``Staged``
with them; ``FakeEdge``, ``FakeWire`` and ``ManualClock`` stand in for what surrounds a session;
``FailingLayer`` is a layer that goes away on command. `gateway.testing.layer_suite.LayerSuite`
tries a channel layer, and needs pytest and hypothesis.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.testing.failing import FailingLayer
    from gateway.testing.fakes import FakeEdge, FakeWire, ManualClock
    from gateway.testing.heard import Heard
    from gateway.testing.memory import MemoryGateway
    from gateway.testing.plugin_suite import PluginSuite, Turn
    from gateway.testing.rig import Client, Rig
    from gateway.testing.stage import Staged, wait_until

__all__ = [
    "Client",
    "FailingLayer",
    "FakeEdge",
    "FakeWire",
    "Heard",
    "ManualClock",
    "MemoryGateway",
    "PluginSuite",
    "Rig",
    "Staged",
    "Turn",
    "wait_until",
]

_MODULES: Final = {
    "failing": ("FailingLayer",),
    "fakes": ("FakeEdge", "FakeWire", "ManualClock"),
    "heard": ("Heard",),
    "memory": ("MemoryGateway",),
    "plugin_suite": ("PluginSuite", "Turn"),
    "rig": ("Client", "Rig"),
    "stage": ("Staged", "wait_until"),
}
_WHERE: Final = {name: module for module, names in _MODULES.items() for name in names}

if (pytest := sys.modules.get("pytest")) is not None:
    pytest.register_assert_rewrite("gateway.testing.layer_suite", "gateway.testing.stage")


def __getattr__(name: str) -> Any:
    """Import a name at its first use: few tests need all of them."""
    if name not in _WHERE:
        raise AttributeError(f"module 'gateway.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gateway.testing.{_WHERE[name]}"), name)
