"""Which of the routing table's channels a worker takes: ``[workers]`` only and exclude. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from gateway.core.config import WorkerSettings
from gateway.core.errors import ConfigError


def select(channels: Iterable[str], settings: WorkerSettings) -> list[str]:
    """Return those of ``channels`` that a worker of these settings takes, in their order.

    A pattern is a name in which ``*`` stands for any characters. Raises ConfigError for one that
    fits no channel, since it is a slip or the table has changed, and where nothing is left.
    """
    table = list(channels)
    only = _matched("only_channels", settings.only_channels, table)
    without = _matched("exclude_channels", settings.exclude_channels, table)
    left = [name for name in table if (not settings.only_channels or name in only)]
    left = [name for name in left if name not in without]
    if not left:
        raise ConfigError(
            "workers.only_channels and workers.exclude_channels leave this worker no channel of "
            f"the routing table, which has {', '.join(table)}"
        )
    return left


def _matched(key: str, patterns: Sequence[str], table: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        regex = re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
        fitting = [name for name in table if regex.fullmatch(name)]
        if not fitting:
            nearest = difflib.get_close_matches(pattern, table, n=1, cutoff=0.0)
            raise ConfigError(
                f"workers.{key}: {pattern!r} fits no channel of the routing table; "
                f"the nearest is {nearest[0]!r}. 'gateway routes' shows them all"
            )
        found.update(fitting)
    return found
