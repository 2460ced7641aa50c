"""Open files: how many a process may have, and how many its settings need.

Each connection is one. Systems start a process with a low limit, 1024, for the sake of programs
that use ``select``, and let it raise that itself up to a second, hard limit.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

MOST: Final = 1 << 20
"""What Linux lets any process have (``fs.nr_open``), for a gateway."""
BESIDE: Final = 200
"""Beside its connections: listeners, workers on the hub, logs, what the application opens."""


def allow(count: int) -> None:
    """Let this process have ``count`` open files, or as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and count > soft:
        with suppress(OSError, ValueError):  # the kernel has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def shortage(tables: Mapping[str, Any]) -> str | None:
    """Return a warning where the connections that the plugins' settings allow cannot all be.

    Those of a plugin that listens nowhere come by another's, and need no files of their own.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = {
        f"{name}.max_connections": table.max_connections
        for name, table in tables.items()
        if hasattr(table, "max_connections") and hasattr(table, "listen")
    }
    needed = sum(wanted.values()) + BESIDE
    if not wanted or hard == resource.RLIM_INFINITY or needed <= hard:
        return None
    settings = " and ".join(f"{name} = {value}" for name, value in wanted.items())
    return (
        f"{settings}: that needs {needed} open files, and this process may have {hard}; raise "
        "its limit (LimitNOFILE= in systemd's unit, ulimit -Hn in a shell) or lower the setting"
    )
