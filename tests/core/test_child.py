"""What a child process hears of its supervisor."""

from __future__ import annotations

import socket

import pytest

from gateway.core.child import DRAINED, STOP, hear, wait_for_stop


@pytest.fixture
def line():
    """Both ends of a line: the supervisor's and the child's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_words(line):
    """It hears what is said, and nothing once the supervisor has hung up."""
    ours, theirs = line
    ours.send(STOP)
    assert hear(theirs) == STOP
    ours.close()
    assert hear(theirs) == b""


def test_a_supervisor_that_dies_without_having_read(line):
    """A line that is reset is one that was hung up: the child ends, and is no orphan for ever."""
    ours, theirs = line
    theirs.send(DRAINED)
    ours.close()
    assert hear(theirs) == b""


def test_a_worker_ends_likewise(line):
    """Waiting for the supervisor's word ends with a reset as well."""
    ours, theirs = line
    theirs.send(DRAINED)
    ours.close()
    wait_for_stop(theirs)
