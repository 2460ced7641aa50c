"""Logging to standard error, as text for people or as JSON for log collectors.

Whatever a message quotes, nobody forges a line: in text every further line of a record is
indented, in JSON a record is one line, and control characters are escaped in both.
"""

from __future__ import annotations

import logging
import sys
import time

from gateway.core.config import LogSettings
from gateway.core.escape import indented, json_line

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(settings: LogSettings, process: str = "") -> None:
    """Log to standard error as ``settings`` say; ``process`` names this one (``worker 2``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(process) if settings.format == "json" else Text(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())


class Text(logging.Formatter):
    """``2025-01-31 12:00:00.123 INFO gateway.server: text``, with the process if it has a name."""

    def __init__(self, process: str = "") -> None:
        name = f" [{process}]" if process else ""
        super().__init__(
            f"%(asctime)s.%(msecs)03d{name} %(levelname)s %(name)s: %(message)s",
            "%Y-%m-%d %H:%M:%S",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines, of which all but the first are indented."""
        return indented(super().format(record))


class Json(logging.Formatter):
    """One object a line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, what
    ``extra`` added, and ``exception`` where there is one.
    """  # noqa: D205 - one sentence

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._process:
            line["process"] = self._process
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json_line(line).decode()
