"""``gateway conformance``: suites found, run, and told of."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from gateway import cli
from gateway.core.errors import ConfigError
from gateway.testing.conformance import SUITES, find
from gateway.testing.plugin_suite import PluginSuite
from tests.plugins.sensor.test_sensor import TestSensor as SensorSuite

SENSOR = EntryPoint("sensor", "tests.plugins.sensor", "gateway.plugins")
SUITE = "tests.plugins.sensor.test_sensor:TestSensor"


class StrangeSuite(PluginSuite):
    """A suite of another plugin."""


class ShortSuite(SensorSuite):
    """One with a fault of its own."""

    plugin = SensorSuite.plugin
    question = b"S 8 1\n"


def test_suite_is_found_by_its_entry_point():
    """The entry point of the plugin's name in gateway.conformance names the suite."""
    assert find("sensor", points=[SENSOR, EntryPoint("sensor", SUITE, SUITES)]) is SensorSuite


def test_suite_may_be_written():
    """--suite names one without an entry point."""
    assert find("sensor", SUITE, [SENSOR]) is SensorSuite


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (None, "has no suite"),
        (None, r'sensor = "tests\.plugins\.sensor\.conformance:SensorSuite"'),
        ("tests.nowhere:Suite", "--suite: 'tests.nowhere:Suite' cannot be imported"),
        ("tests.plugins.sensor:Nothing", "cannot be imported: AttributeError"),
        ("tests.plugins.sensor:Sensor", "no subclass of gateway.testing.PluginSuite"),
        ("tests.testing.test_conformance:StrangeSuite", "is a suite of None, and plugin 'sensor'"),
    ],
)
def test_missing_suite_is_told(written, text):
    """Whoever has no suite, or a wrong one, is told what to do."""
    with pytest.raises(ConfigError, match=text):
        find("sensor", written, [SENSOR])


def test_unknown_plugin_is_told(capsys):
    """A plugin that is not installed is no traceback."""
    assert cli.main(["conformance", "htpp"]) == 2
    assert "did you mean 'http'?" in capsys.readouterr().err


def test_table_of_failures(monkeypatch, capsys):
    """A check that fails is told with its reason, and the exit status is 1."""
    monkeypatch.setattr("gateway.testing.conformance.find", lambda *_: ShortSuite)
    checks = [("accepted", PluginSuite.test_accepted), ("health", PluginSuite.test_health)]
    monkeypatch.setattr(ShortSuite, "checks", lambda: iter(checks))
    assert cli.main(["conformance", "sensor"]) == 1
    head, accepted, health, _, counts = capsys.readouterr().out.splitlines()
    assert head.split() == ["check", "result", "reason"]
    reason = r"to b'S 8 1\n', accepted, the client was to hear b'OK 7\n', and hears b'OK 8\n'"
    assert accepted == f"accepted  FAILED   {reason}"
    assert health == "health    ok"
    assert counts == "2 checks: 1 ok, 0 skipped, 1 FAILED"


def test_what_was_logged_is_told(monkeypatch, capsys):
    """A check that raises is told with its traceback."""

    def raises(suite):
        raise RuntimeError("no such luck\nreally")

    monkeypatch.setattr("gateway.testing.conformance.find", lambda *_: ShortSuite)
    monkeypatch.setattr(ShortSuite, "checks", lambda: iter([("luck", raises)]))
    assert cli.main(["conformance", "sensor"]) == 1
    out = capsys.readouterr().out
    assert "luck  FAILED   RuntimeError: no such luck\n" in out
    assert "logged during 'luck':\nTraceback" in out


BLOCKED = """
import sys
sys.modules.update(pytest=None, hypothesis=None)
from gateway.cli import main
sys.exit(main(["conformance", "websocket"]))
"""


def test_nothing_is_needed_beside_the_plugin():
    """Without pytest and hypothesis it runs; the checks that need one say so."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=18, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rows = done.stdout.splitlines()
    said = [row for row in rows if "pip install 'gateway[testing]'" in row]
    assert [row.split("  ")[0] for row in said] == ["any cutting", "any garbage"]
    assert rows[-1] == "36 checks: 32 ok, 4 skipped, 0 FAILED"


def test_public_names():
    """Whatever gateway.testing exports is there, and a slip of the pen is told."""
    import gateway.testing

    for name in gateway.testing.__all__:
        assert getattr(gateway.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'PluginSuit'"):
        gateway.testing.PluginSuit  # noqa: B018
