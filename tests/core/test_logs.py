"""Logging as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from gateway.core import logs
from gateway.core.config import LogSettings


def record(message="it is %s", *args, **more):
    made = logging.LogRecord(
        "gateway.x", logging.WARNING, "f.py", 1, message, args or ("so",), None
    )
    vars(made).update(more)
    return made


def test_json():
    """A record is one JSON object on one line, with what ``extra`` added and the process."""
    line = logs.Json("worker 2").format(record(channel="a.b", odd={1, 2}))
    found = json.loads(line)
    assert "\n" not in line
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "gateway.x",
        "message": "it is so",
        "process": "worker 2",
        "channel": "a.b",
        "odd": [1, 2],
    }


def test_json_exception():
    """An exception's traceback is in the object."""
    made = record()
    try:
        raise ValueError("no")
    except ValueError:
        made.exc_info = sys.exc_info()
    found = json.loads(logs.Json().format(made))
    assert found["exception"].endswith("ValueError: no")
    assert "process" not in found


def test_text():
    """Text names time, process, level, logger and message."""
    assert logs.Text("hub").format(record()).endswith(" [hub] WARNING gateway.x: it is so")
    assert logs.Text().format(record()).endswith(" WARNING gateway.x: it is so")


@pytest.mark.parametrize("style", ["text", "json"])
def test_set_up(style, capsys, monkeypatch):
    """The root logger writes to standard error from the level on that is set."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    level = root.level
    try:
        logs.set_up(LogSettings(level="error", format=style), "x")
        logging.getLogger("gateway.y").warning("quiet")
        logging.getLogger("gateway.y").error("loud")
    finally:
        root.setLevel(level)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "loud" in err
