"""The virtual event loop, and connections without sockets."""

import asyncio
import gc
import threading

import pytest

from gateway.core.plugin import Peer
from gateway.testing.line import Line
from gateway.testing.virtual import VirtualLoop


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_time_passes_only_when_it_is_told_to(loop):
    """Timers ring in their order, at their moments, and none before its time."""
    begin = loop.time()
    rung = []

    def ring(name):
        rung.append((name, round(loop.time() - begin, 3)))

    async def later(name, seconds):
        await asyncio.sleep(seconds)
        ring(name)

    loop.call(lambda: loop.loop.call_later(2, ring, "two"))
    loop.loop.call_soon_threadsafe(loop.loop.create_task, later("one", 1))
    loop.run()
    assert rung == []
    loop.run(1.5)
    assert rung == [("one", 1.0)]
    assert loop.time() == begin + 1.5
    loop.run(10)
    assert rung == [("one", 1.0), ("two", 2.0)]
    assert loop.time() == begin + 11.5


def test_time_stops_where_it_is_told_to(loop):
    """With ``until`` no more time passes than is needed."""
    begin = loop.time()
    rung = []
    loop.call(lambda: [loop.loop.call_later(s, rung.append, s) for s in (1, 2, 3)])
    loop.run(10, lambda: len(rung) == 2)
    assert (rung, loop.time()) == ([1, 2], begin + 2)
    loop.run(0)
    assert loop.time() == begin + 2


def test_what_nobody_caught_is_raised(loop):
    """An exception of a callback reaches whoever drives the loop, once."""
    loop.loop.call_soon_threadsafe(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    loop.run()


async def _wait_long():
    _kept.add(asyncio.get_running_loop().create_task(asyncio.sleep(1e6)))


_kept = set()


def test_a_forgotten_loop_ends():
    """Its thread ends with it, tasks and all."""
    before = set(threading.enumerate())
    loop = VirtualLoop()
    loop.do(_wait_long())
    (own,) = set(threading.enumerate()) - before
    closed = loop.close
    del loop
    gc.collect()  # may end those that other tests have forgotten, too
    assert not own.is_alive()
    assert not closed.alive


def test_a_closed_loop_says_so(loop):
    """It is not driven any more."""
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run()


class Noting(asyncio.Protocol):
    def __init__(self):
        self.calls = []
        self.stay = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.calls.append(data)
        if data == b"pause":
            self.transport.pause_reading()

    def eof_received(self):
        self.calls.append("eof")
        return self.stay

    def connection_lost(self, exc):
        self.calls.append("lost")


@pytest.fixture
def line(loop):
    heard = []
    line = Line(loop.loop, Peer(("127.0.0.1", 1)), heard.append)
    line.heard = heard
    line.protocol = Noting()
    loop.call(line.begin, line.protocol)
    return line


def test_a_protocol_that_does_not_read_is_told_later(loop, line):
    """What comes while it is paused waits, the end too."""
    loop.call(line.send, b"a")
    loop.call(line.send, b"pause")
    loop.call(line.send, b"b")
    loop.call(line.leave)
    assert line.protocol.calls == [b"a", b"pause"]
    loop.call(line.resume_reading)
    assert line.protocol.calls == [b"a", b"pause", b"b", "eof", "lost"]
    assert line.ended


def test_half_of_a_line_may_stay_open(loop, line):
    """A protocol that wants to may answer after the client's end."""
    line.protocol.stay = True
    loop.call(line.leave)
    loop.call(line.write, b"still")
    assert line.heard == [b"still"]
    loop.call(line.close)
    assert line.protocol.calls == ["eof", "lost"]
    with pytest.raises(RuntimeError, match="closing"):
        loop.call(line.write, b"more")


def test_a_client_vanishes(loop, line):
    """The protocol hears that the connection is lost, and no end of what was sent."""
    loop.call(line.pause_reading)
    loop.call(line.send, b"never read")
    loop.call(line.cut)
    assert line.protocol.calls == ["lost"]
