"""The loop: Twisted's reactor on asyncio on uvloop, once in a process, so in one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


BOTH = """
import asyncio
from gateway.core import loop
async def main():
    from twisted.internet import defer, reactor, task
    await asyncio.sleep(0)
    await task.deferLater(reactor, 0.001).asFuture(asyncio.get_running_loop())
    print(type(reactor).__name__, type(asyncio.get_running_loop()).__module__)
    return 7
print(loop.run(main))
"""


def test_one_loop_for_both():
    """asyncio and Twisted share one loop, and the result of the main coroutine comes back."""
    pytest.importorskip("uvloop")
    assert run(BOTH) == "AsyncioSelectorReactor uvloop\n7\n"


def test_without_uvloop():
    """Where uvloop is missing, asyncio's own loop does the same."""
    out = run("import sys; sys.modules['uvloop'] = None\n" + BOTH)
    assert out == "AsyncioSelectorReactor asyncio.unix_events\n7\n"


def test_exceptions_come_back():
    """An exception of the main coroutine is raised by `run`, once the loop is at rest."""
    out = run(
        """
from gateway.core import loop
async def main():
    raise KeyError("x")
try:
    loop.run(main)
except KeyError as error:
    print("raised", error)
"""
    )
    assert out == "raised 'x'\n"


def test_what_is_left_is_ended():
    """Tasks, generators and threads that main left behind are ended before `run` returns."""
    out = run(
        """
import asyncio, time
from gateway.core import loop
async def forever():
    try:
        await asyncio.sleep(100)
    finally:
        print("cancelled")
async def numbers():
    try:
        yield 1
    finally:
        print("closed")
async def main():
    task = asyncio.ensure_future(forever())
    generator = numbers()
    await anext(generator)
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)
    await asyncio.sleep(0)
    globals().update(keep=(task, generator))
    return 0
loop.run(main)
print("over")
"""
    )
    assert out == "cancelled\nclosed\nover\n"


def test_signals_are_asyncios():
    """A handler on the loop hears SIGTERM; the reactor has installed none."""
    out = run(
        """
import asyncio, os, signal
from gateway.core import loop
async def main():
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await heard.wait()
    return 0
print(loop.run(main))
"""
    )
    assert out == "0\n"


def test_a_reactor_that_was_there_before_is_refused():
    """If something imported Twisted's own reactor first, the text says what to do."""
    out = run(
        """
from twisted.internet import reactor
from gateway.core import loop
from gateway.core.errors import ConfigError
try:
    loop.install()
except ConfigError as error:
    print(error)
"""
    )
    assert "import it inside functions" in out
