"""`PluginSuite` itself: what is broken is found, by the checks that are about it."""

from __future__ import annotations

import pytest

from gateway.testing.conformance import FAILED, OK, check
from gateway.testing.plugin_suite import PluginSuite, hostile, talks
from tests.plugins.sensor.test_sensor import TestSensor as SensorSuite
from tests.testing.broken import CASES


@pytest.fixture
def _few(monkeypatch):
    """Fewer examples: each of these plugins is broken beyond chance."""
    monkeypatch.setattr(hostile, "CASES", 10)
    monkeypatch.setattr(hostile, "EXAMPLES", 5)
    monkeypatch.setattr(talks, "EXAMPLES", 4)
    monkeypatch.setattr(talks, "CUTS", 4)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(("suite", "expected"), [pytest.param(*c, id=c[0].__name__) for c in CASES])
def test_broken_plugin_is_found(suite, expected):
    """A plugin that is broken in one way fails the checks of that, with a reason, and no other."""
    failed = {one.check: one.reason for one in check(suite) if one.result == FAILED}
    assert failed.keys() == expected, (suite.__doc__, failed)
    assert all(failed.values())


def test_every_check_can_fail():
    """There is a broken plugin for every check."""
    found = set().union(*(expected for _, expected in CASES))
    assert found == {name for name, _ in PluginSuite.checks()}


def test_sound_plugin_passes():
    """The plugin that is broken so passes every check where it is not."""
    assert {one.result for one in check(SensorSuite)} == {OK}
