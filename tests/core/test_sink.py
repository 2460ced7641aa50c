"""Lines to a file or pipe: whole, in order, bounded, and nobody waits for them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.core import sink as sinks
from gateway.core.errors import ConfigError
from gateway.core.metrics import Counter
from gateway.core.sink import ATOMIC, ROOM, Sink
from gateway.testing.stage import wait_until


@pytest.fixture
def opened():
    """Open sinks; they end with the test."""
    made = []

    def begin(path, dropped=None, kind=Sink):
        made.append(kind(str(path), dropped or Counter(), nap=0.002))
        return made[-1]

    yield begin
    for sink in made:
        sink.close()


@pytest.fixture
def pipe(tmp_path):
    """A FIFO and the descriptor of its reader, who does not read by himself."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def lines(count, start=0):
    return [b"%08d %s\n" % (n, b"x" * 200) for n in range(start, start + count)]


def drain(reader, until):
    """Read from a pipe until ``until`` is true and nothing is left."""
    data = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except BlockingIOError:
            piece = b""
        data += piece
        if not piece:
            if until():
                return data
            threading.Event().wait(0.002)


def test_lines_are_appended_in_order(opened, tmp_path):
    """What a file holds already stays; lines follow in order; a new file has mode 0640."""
    path = tmp_path / "access.log"
    before = os.umask(0)
    try:
        sink = opened(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    sink.put(b"one\n")
    wait_until(lambda: path.read_bytes() == b"one\n")
    sink.put(b"two\n")
    sink.put(b"three\n")
    sink.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    opened(path).put(b"four\n")
    wait_until(lambda: path.read_bytes().endswith(b"three\nfour\n"))


def test_many_lines_are_few_writes(tmp_path):
    """Lines that come while the thread naps leave with one write."""
    writes = []

    class Counting(Sink):
        def _write_some(self, data):
            writes.append(len(data))
            return super()._write_some(data)

    sink = Counting(str(tmp_path / "log"), Counter(), nap=60)
    sink.put(b"first\n")
    wait_until(lambda: writes)
    for line in lines(500):
        sink.put(line)
    sink.close()
    assert len(writes) == 2
    assert (tmp_path / "log").read_bytes() == b"first\n" + b"".join(lines(500))


def test_reopen_divides_exactly(opened, tmp_path):
    """After a rename and `reopen` the lines from then on, and no other, are in the new file."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    sink = opened(path)
    for line in lines(100):
        sink.put(line)
    path.rename(old)
    sink.reopen()
    for line in lines(100, 100):
        sink.put(line)
    sink.close()
    assert old.read_bytes() == b"".join(lines(100))
    assert path.read_bytes() == b"".join(lines(100, 100))


def test_reopen_that_fails_goes_on(opened, tmp_path, caplog):
    """Where the file cannot be opened anew the old one is written on, and that is said."""
    room = tmp_path / "room"
    room.mkdir()
    sink = opened(room / "log")
    kept = (room / "log").open("rb")
    (room / "log").unlink()
    room.rmdir()
    sink.reopen()
    sink.put(b"still here\n")
    sink.close()
    with kept:
        assert kept.read() == b"still here\n"
    assert "cannot be opened anew and goes on as it was: No such file" in caplog.text


@pytest.mark.parametrize("kind", ["no directory", "a directory", "nobody reads"])
def test_what_cannot_be_opened_stops_the_start(kind, tmp_path):
    """A path that cannot be opened is a ConfigError that names the setting, at once."""
    path = {
        "no directory": tmp_path / "none" / "log",
        "a directory": tmp_path,
        "nobody reads": tmp_path / "pipe",
    }[kind]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"^log\.access: cannot open '.*': .*; name a file"):
        Sink(str(path), Counter())


def test_check_makes_nothing(tmp_path):
    """A look in advance says the same of what cannot be opened, and makes no file."""
    sinks.check("")
    sinks.check("-")
    sinks.check(str(tmp_path / "log"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").touch()
    sinks.check(str(tmp_path / "there"))
    for path, reason in [
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "log", "No such file or directory"),
        (Path("/proc/version"), "Permission denied" if os.geteuid() else None),
    ]:
        if reason:
            with pytest.raises(ConfigError, match=rf"^log\.access: cannot open '.*': {reason};"):
                sinks.check(str(path))


def test_a_pipe_that_nobody_reads(opened, pipe, caplog):
    """A full pipe holds nobody up and fills no memory: what does not fit is dropped, counted."""
    path, reader = pipe
    dropped = Counter()
    sink = opened(path, dropped)
    everything = lines(20_000)
    for line in everything:
        sink.put(line)
    waiting = sink._given - sink._taken
    assert waiting <= ROOM
    assert dropped.value >= len(everything) - (ROOM + 65536 + ATOMIC) // len(everything[0]) - 1
    got = drain(reader, lambda: not sink._lines).splitlines(keepends=True)
    assert set(got) <= set(everything)
    assert len(got) + dropped.value == len(everything)
    # The one that finds the pipe empty again tells how many were lost.
    sink.put(b"last\n")
    assert drain(reader, lambda: "takes lines again" in caplog.text) in {b"last\n", b""}
    assert caplog.text.count("lines") == 1
    assert f"takes lines again; {dropped.value} were dropped" in caplog.text


def test_the_end_does_not_wait_for_a_pipe_that_nobody_reads(pipe, caplog):
    """A process whose log is stuck ends all the same, and says what was lost."""
    path, reader = pipe
    dropped = Counter()
    sink = Sink(str(path), dropped)
    for line in lines(1000):
        sink.put(line)
    sink.close(0.05)
    sink.close(0.05)
    assert 500 < dropped.value < 1000
    assert f"ends; {dropped.value} lines were dropped" in caplog.text
    drain(reader, lambda: not sink._thread.is_alive())


def test_a_full_disk(opened, caplog):
    """A full disk costs the lines, counted, and one message, whatever the number of lines."""
    dropped = Counter()
    sink = opened("/dev/full", dropped)
    for number in range(1, 4):
        sink.put(b"lost\n")
        wait_until(lambda n=number: dropped.value == n)
    assert caplog.text.count("takes no lines, they are dropped: No space left") == 1


def test_a_torn_line_is_ended(opened, tmp_path):
    """Where a line was written in part, its rest is given up and the next one stands alone."""

    class Faulty(Sink):
        faults = 1

        def _write_some(self, data):
            if self.faults:
                if len(data) > 10:
                    return super()._write_some(data[:10])
                self.faults = 0
                raise OSError(28, "No space left on device")
            return super()._write_some(data)

    dropped = Counter()
    sink = opened(tmp_path / "log", dropped, Faulty)
    sink._write(b"a whole\nand a torn\n", 2)
    assert dropped.value == 1
    sink._write(b"next\n", 1)
    assert dropped.value == 1
    assert (tmp_path / "log").read_bytes() == b"a whole\nan\nnext\n"


def test_recovery_is_told_seldom(opened, tmp_path, caplog, monkeypatch):
    """After a fault the count of what was lost is told once, not at every fault."""
    monkeypatch.setattr(sinks, "TELL", 0.0)

    class Faulty(Sink):
        faulty = True

        def _write_some(self, data):
            if self.faulty:
                raise OSError(28, "No space left on device")
            return super()._write_some(data)

    dropped = Counter()
    sink = opened(tmp_path / "log", dropped, Faulty)
    sink.put(b"lost\n")
    wait_until(lambda: dropped.value == 1)
    sink.put(b"lost\n")
    wait_until(lambda: dropped.value == 2)
    sink.faulty = False
    sink.put(b"kept\n")
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"kept\n"
    assert "takes lines again; 2 were dropped" in caplog.text


WRITER = """
import sys
from gateway.core.metrics import Counter
from gateway.core.sink import Sink

sink = Sink(sys.argv[1], dropped := Counter(), nap=0.001)
for n in range(2000):
    sink.put(b"%s %06d %s\\n" % (sys.argv[2].encode(), n, b"x" * (n % 300)))
sink.close(15)
sys.exit(dropped.value)
"""


def whole(data: bytes) -> None:
    """Every writer's lines are whole and in order."""
    got = data.decode().splitlines()
    assert len(got) == 6000
    for name in "abc":
        mine = [line for line in got if line.startswith(f"{name} ")]
        assert mine == [f"{name} {n:06d} {'x' * (n % 300)}" for n in range(2000)]


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_processes_share_a_file_or_pipe(kind, tmp_path):
    """Lines of several processes that write to one file or pipe are whole, each one's in order."""
    path = tmp_path / "log"
    to_pipe = kind == "pipe"
    reader, writer = os.pipe()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, "-" if to_pipe else str(path), name],
            stdout=writer if to_pipe else None,
            cwd=Path(__file__).parents[2],
        )
        for name in "abc"
    ]
    os.close(writer)
    with os.fdopen(reader, "rb") as out:
        said = out.read()
    assert [process.wait() for process in running] == [0, 0, 0]
    whole(said if to_pipe else path.read_bytes())


def test_standard_output_that_does_not_block(tmp_path):
    """Standard output that somebody made non-blocking is waited for, not given up."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, "-", "a"], stdout=writer, cwd=Path(__file__).parents[2]
    ) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as out:
            said = out.read()
    assert process.returncode == 0
    assert said.count(b"\n") == 2000


def test_standard_output_is_not_closed_nor_reopened():
    """The end of a sink leaves standard output open; `reopen` means files alone."""
    code = (
        "import os\n"
        "from gateway.core.metrics import Counter\n"
        "from gateway.core.sink import Sink\n"
        "sink = Sink('-', Counter())\n"
        "sink.put(b'one\\n'); sink.reopen(); sink.put(b'two\\n'); sink.close()\n"
        "os.write(1, b'three\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"one\ntwo\nthree\n"
    assert done.stderr == b""
