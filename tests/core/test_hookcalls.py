"""Calls of hooks, as they are told."""

from __future__ import annotations

import logging
import re

import pytest

from gateway.core.hookcalls import LONGEST, HookCalls


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "gateway.hooks")
    return lambda: [re.sub(r"\d+\.\d ms", "T ms", line) for line in caplog.messages]


def test_told_later_and_at_once(said):
    """What was called before it is known that it is to be told is told then; later calls at once."""

    def gateway_plugin():
        return "x" * 1000

    def gateway_layers():
        raise ValueError("no luck")

    calls = HookCalls()
    hooks = calls.watch("plugin 'a' (m)", {f.__name__: f for f in (gateway_plugin, gateway_layers)})
    assert hooks["gateway_plugin"]() == "x" * 1000
    assert said() == []
    calls.tell()
    assert said() == [
        "plugin 'a' (m) implements gateway_layers, gateway_plugin",
        f"plugin 'a' (m): gateway_plugin returned '{'x' * (LONGEST - 2)}… after T ms",
    ]
    with pytest.raises(ValueError, match="no luck"):
        hooks["gateway_layers"]()
    assert said()[2:] == ["plugin 'a' (m): gateway_layers raised ValueError: no luck after T ms"]
    calls.tell()
    assert len(said()) == 3


def test_never_told(said):
    """Nobody hears of it who did not ask."""
    HookCalls().watch("plugin 'a' (m)", {})
    assert said() == []
