"""What a child process hears of its supervisor."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import SimpleNamespace

import pytest

from gateway.core import commands
from gateway.core.child import DRAINED, READY, STOP, WORN, hear, say, wait_for_stop
from gateway.core.process import Process


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


def test_a_gateway_whose_supervisor_dies_as_it_has_drained(line):
    """It goes on to its end: nobody is left to be told."""
    ours, theirs = line
    ours.close()

    async def drained():
        made = object.__new__(Process)
        made._released = asyncio.Event()
        asyncio.get_running_loop().call_soon(made._released.set)
        await made._await_workers(theirs)

    asyncio.run(drained())


def test_who_speaks_changes_nothing_for_who_waits(line):
    """A thread that says something leaves the time alone that another one waits on the line."""
    ours, theirs = line
    assert not wait_for_stop(theirs, 0.01)
    say(theirs, READY)
    assert theirs.gettimeout() == 0.01
    assert ours.recv(9) == READY


def test_a_worker_that_is_worn_before_it_is_ready(line):
    """It asks to be replaced once it has said that it is ready: before, nobody would hear it."""
    ours, theirs = line
    running = SimpleNamespace(ready=threading.Event(), handled=lambda: 9)
    looks = []

    def look_every():
        looks.append(None)
        if len(looks) == 3:
            running.ready.set()
        return 0.01

    limits = SimpleNamespace(look_every=look_every, reached="reached {}".format)
    thread = threading.Thread(target=commands._work, args=(running, limits, theirs))
    thread.start()
    try:
        ours.settimeout(5)
        assert ours.recv(1) + ours.recv(1) == READY + WORN
    finally:
        ours.send(STOP)
        thread.join()


def test_a_worker_ends_likewise(line):
    """Waiting for the supervisor's word ends with a reset as well."""
    ours, theirs = line
    theirs.send(DRAINED)
    ours.close()
    wait_for_stop(theirs)
