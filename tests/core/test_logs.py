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


FORGED = "a\r\n2026-11-26 10:00:00.000 INFO gateway.x: forged\u2028again\x1b[2J\x85"


def test_text_cannot_be_forged():
    """A message that quotes a stranger makes no line of its own, and moves no cursor."""
    first, *others = logs.Text().format(record("it is %s", FORGED)).splitlines()
    assert first.endswith(r"it is a\r")
    assert [line[:2] for line in others] == ["  "]
    assert r"forged\u2028again\x1b[2J\x85" in others[0]


def test_text_keeps_letters_and_tracebacks():
    """What people write stays readable; a traceback follows its message, indented."""
    made = record("Zürich %s", "東京")
    try:
        raise ValueError(FORGED)
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *others = logs.Text().format(made).splitlines()
    assert first.endswith("Zürich 東京")
    assert others[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)


def test_json_cannot_be_forged():
    """As JSON a record is one line whatever a line break is to its reader, and loses nothing."""
    line = logs.Json().format(record("it is %s", FORGED, name_of="half \udc80"))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["message"] == f"it is {FORGED}"
    assert found["name_of"] == "half \udc80"
