"""``gateway conformance NAME``: a plugin's suite, run outside pytest.

The suite is found by its entry point, of the plugin's name::

    [project.entry-points."gateway.conformance"]
    sensor = "gateway_sensor.conformance:SensorSuite"
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import traceback
import unittest
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Final, NamedTuple

from gateway.core.errors import ConfigError
from gateway.core.registry import Registry
from gateway.testing.plugin_suite import PluginSuite

SUITES: Final = "gateway.conformance"
"""The group of entry points."""
OK: Final = "ok"
SKIPPED: Final = "skipped"
FAILED: Final = "FAILED"
RECORDS: Final = 3
"""What was logged during a check that failed: the first few say it all."""

HOW: Final = """\
plugin {name!r} has no suite. Say what the protocol sounds like in a module of the plugin's own:

    from gateway.testing import PluginSuite, Turn
    from {module} import {kind}

    class {kind}Suite(PluginSuite):
        plugin = {kind}
        conversation = [Turn(b"bytes in", ("kind", {{"key": "value"}}), answer=b"bytes out")]
        question = b"what an outcome is the answer to"
        answers = {{"accepted": b"", "rejected": b"", "failed": b"", …}}
        full = b"the answer while the channel is full"
        too_much = b"x" * 1_000_000

and name it in pyproject.toml (or by --suite MODULE:CLASS):

    [project.entry-points."{group}"]
    {name} = "{module}.conformance:{kind}Suite"\
"""


class Result(NamedTuple):
    """What one check found."""

    check: str
    result: str
    reason: str = ""
    log: str = ""
    """What the gateway and the plugin logged meanwhile; of a failed check."""


class _Records(logging.Handler):
    """Keeps what is logged, so that the table stays one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(self.format(record))


def find(
    name: str, written: str | None = None, points: Iterable[EntryPoint] | None = None
) -> type[PluginSuite]:
    """Return the suite of the installed plugin ``name``: ``written`` (MODULE:CLASS), or its entry
    point's. ``points`` stand in for what is installed.

    Raises ConfigError and PluginError that say what is missing.
    """  # noqa: D205 - one sentence
    given = None if points is None else list(points)
    registry = Registry(given)
    plugin = registry.load([name], "gateway conformance")[-1]
    if written is not None:
        where, point = "--suite", EntryPoint(name, written, SUITES)
    else:
        installed = importlib.metadata.entry_points(group=SUITES) if given is None else given
        found = [one for one in installed if one.group == SUITES and one.name == name]
        if not found:
            raise ConfigError(
                HOW.format(
                    name=name,
                    module=plugin.module.__name__,
                    kind=plugin.kind.__name__,
                    group=SUITES,
                )
            )
        where, point = f"entry point {SUITES}", found[0]
    try:
        suite = point.load()
    except Exception as error:
        raise ConfigError(
            f"{where}: {point.value!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(suite, type) and issubclass(suite, PluginSuite)):
        raise ConfigError(f"{where}: {point.value} is no subclass of gateway.testing.PluginSuite")
    if getattr(suite, "plugin", None) is not plugin.kind:
        raise ConfigError(
            f"{where}: {point.value} is a suite of {getattr(suite, 'plugin', None)!r}, and plugin "
            f"{name!r} is {plugin.kind!r}"
        )
    return suite


def check(suite: type[PluginSuite]) -> Iterable[Result]:
    """Run a suite; yield what each check found, as it is found."""
    for name, body in suite.checks():
        yield _checked(name, suite, body)


def _checked(name: str, suite: type[PluginSuite], body: Callable[[PluginSuite], None]) -> Result:
    records = _Records()
    logger = logging.getLogger("gateway")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(records)
    try:
        body(suite())
    except unittest.SkipTest as skip:
        return Result(name, SKIPPED, str(skip))
    except AssertionError as error:
        return Result(name, FAILED, _sentence(error), "\n".join(records.texts[:RECORDS]))
    except Exception as error:  # noqa: BLE001 - whatever it is, the check has failed
        reason = f"{type(error).__name__}: {_sentence(error)}"
        texts = ["".join(traceback.format_exception(error)).rstrip(), *records.texts]
        return Result(name, FAILED, reason, "\n".join(texts[:RECORDS]))
    finally:
        logger.removeHandler(records)
        logger.propagate = propagated
    return Result(name, OK)


def _sentence(error: Exception) -> str:
    """Return the first line of an error: of AssertionError the sentence of the check."""
    return (str(error) or type(error).__name__).splitlines()[0]


def run(name: str, written: str | None = None) -> int:
    """Print the table of a plugin's suite; return 0 where all is well, else 1."""
    if written is not None and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    suite = find(name, written)
    width = max(len(check) for check, _ in suite.checks())
    _say(f"{'check':<{width}}  {'result':<7}  reason")
    found = []
    for result in check(suite):
        found.append(result)
        _say(f"{result.check:<{width}}  {result.result:<7}  {result.reason}".rstrip())
    for result in found:
        if result.log:
            _say(f"\nlogged during {result.check!r}:\n{result.log}")
    counts = [(word, sum(one.result == word for one in found)) for word in (OK, SKIPPED, FAILED)]
    _say(f"\n{len(found)} checks: " + ", ".join(f"{count} {word}" for word, count in counts))
    return int(any(one.result == FAILED for one in found))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
