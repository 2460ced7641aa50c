"""The supervisor with children of one line: pauses, order of the stop, what does not end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from gateway.core import child, children, supervisor
from gateway.core.config import GatewaySettings, LayerSettings, Settings, WorkerSettings
from gateway.core.listen import parse
from gateway.core.supervisor import Supervisor

CHILD = """
import json, os, pathlib, signal, socket, sys, time
told = json.loads(os.environ.pop("_GATEWAY_CHILD"))
name = told["role"] + str(told["number"])
here = pathlib.Path(os.environ["NOTES"])
def note(what):
    with (here / "notes").open("a") as file:
        file.write(f"{name} {what}\\n")
line = socket.socket(fileno=told["parent"])
signal.signal(signal.SIGTERM, lambda *_: note("was signalled"))
note("runs")
"""

OBEDIENT = (
    CHILD
    + """
note(f"hears {line.recv(1).decode()}")
if told["role"] == "gateway":
    line.send(b"D")
    note(f"hears {line.recv(1).decode()}")
"""
)
SEVERAL = (
    CHILD
    + """
count = sum(len(group) for groups in told["listen"].values() for group in groups)
note(f"has {'a' if told['hub'] >= 0 else 'no'} hub and {count} listeners")
note(f"hears {line.recv(1).decode()}")
"""
)
LISTENING = (
    CHILD
    + """
said = ""
while not said.endswith("S"):
    said += line.recv(1).decode()
note(f"hears {said}")
if told["role"] == "gateway":
    time.sleep(0.3)
    line.send(b"D")
    line.recv(1)
"""
)
DEAF = CHILD + "time.sleep(60)\n"
DYING = (
    CHILD
    + """
if told["role"] == "gateway":
    line.recv(1)
else:
    line.send(b"W")
    os.kill(os.getpid(), signal.SIGKILL)
"""
)
FAILING = CHILD + "raise SystemExit(7 if told['role'] == 'worker' else line.recv(1) and 0)\n"


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Run children of this code until a condition of the notes holds, then signal."""
    monkeypatch.setenv("NOTES", str(tmp_path))

    def notes():
        file = tmp_path / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def run(code, enough, workers=1, signals=(signal.SIGTERM,), gateways=1, **more):
        settings = Settings(
            layer=LayerSettings(url=f"unix://{tmp_path}/hub.sock"),
            gateway=GatewaySettings(grace=0.1, count=gateways),
            workers=WorkerSettings(grace=0.1),
        )
        made = Supervisor(
            settings,
            [sys.executable, "-c", code],
            {"toy": [parse(f"unix:{tmp_path}/toy.sock")]},
            settings.layer.url,
            workers,
            f"{tmp_path}/hub.sock.ctl",
            **more,
        )
        over = threading.Event()

        def watch():
            while not over.wait(0.01):
                if enough(notes()):
                    for number in signals:
                        os.kill(os.getpid(), number)
                        over.wait(0.1)
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            return made.run(), notes()
        finally:
            over.set()
            thread.join()
            kept = ["hub.sock"] if more else []  # of a hub that it joined
            assert [path.name for path in Path(tmp_path).glob("*.sock")] == kept

    return run


def runs(*names):
    return lambda notes: {f"{name} runs" for name in names} <= set(notes)


def test_order_of_the_stop(supervise):
    """The gateway drains first, then the workers stop, then the gateway ends with its hub."""
    status, notes = supervise(OBEDIENT, runs("gateway0", "worker1", "worker2"), workers=2)
    assert status == 0
    assert notes[3] == "gateway0 hears S"
    assert set(notes[4:6]) == {"worker1 hears S", "worker2 hears S"}
    assert notes[6] == "gateway0 hears "


def test_order_of_the_stop_of_several(supervise):
    """Several gateways drain and end, then the workers, then the hub, a process of its own."""
    status, notes = supervise(SEVERAL, runs("hub0", "gateway1", "gateway2", "worker1"), gateways=2)
    assert status == 0
    assert "hub0 has a hub and 0 listeners" in notes
    assert "gateway1 has no hub and 1 listeners" in notes
    assert "worker1 has no hub and 0 listeners" in notes
    ends = [note for note in notes if "hears" in note]
    assert set(ends[:2]) == {"gateway1 hears S", "gateway2 hears S"}
    assert ends[2:] == ["worker1 hears S", "hub0 hears "]


def test_a_hub_of_somebody_else(supervise, tmp_path):
    """Gateways that join a hub have none started, and leave its socket alone."""
    (tmp_path / "hub.sock").write_text("not ours")
    status, notes = supervise(
        SEVERAL, runs("gateway1", "gateway2"), workers=0, gateways=2, joins=True
    )
    assert status == 0
    assert not any(note.startswith("hub0") for note in notes)
    assert (tmp_path / "hub.sock").read_text() == "not ours"
    (tmp_path / "hub.sock").unlink()


def test_hangup(supervise, caplog):
    """SIGHUP is passed on to the gateway alone, and is no step towards the end."""
    caplog.set_level(logging.INFO)
    signals = (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)
    status, notes = supervise(LISTENING, runs("gateway0", "worker1"), signals=signals)
    assert status == 0
    assert {"gateway0 hears RRS", "worker1 hears S"} <= set(notes)
    assert caplog.text.count("SIGHUP: reloading") == 2
    assert "again" not in caplog.text.replace("the same again", "")


def test_what_does_not_end_is_killed(supervise, caplog, monkeypatch):
    """Children that do not end within their grace are killed, and the status is 1."""
    monkeypatch.setattr(supervisor, "MARGIN", 0.1)
    status, _ = supervise(DEAF, runs("gateway0", "worker1"))
    assert status == 1
    assert "not ended within its grace" in caplog.text


def test_second_signal_kills(supervise, caplog, monkeypatch):
    """The second signal kills at once, however long the grace is."""
    status, _ = supervise(
        DEAF, runs("gateway0", "worker1"), signals=(signal.SIGTERM, signal.SIGTERM)
    )
    assert status == 1
    assert "SIGTERM again: stopping at once" in caplog.text


def test_pauses_double(supervise, caplog, monkeypatch):
    """A child that keeps dying is started again after pauses that double up to the longest."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(children, "LONGEST_PAUSE", 0.04)
    status, _ = supervise(FAILING, lambda notes: notes.count("worker1 runs") == 5)
    assert status == 0
    deaths = [r.args[3] for r in caplog.records if "starting it again" in r.msg]
    assert deaths[:4] == [0.01, 0.02, 0.04, 0.04]
    assert "exited with status 7" in caplog.text


def test_who_has_served_is_back_soon(supervise, caplog, monkeypatch):
    """The pauses of a child that was ready before it died end far below the longest."""
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(children, "LONGEST_BREAK", 0.02)
    supervise(DYING, lambda notes: notes.count("worker1 runs") == 5)
    deaths = [r.args[3] for r in caplog.records if "starting it again" in r.msg]
    assert deaths[:4] == [0.01, 0.02, 0.02, 0.02]


def test_a_steady_life_resets_the_pause(supervise, caplog, monkeypatch):
    """A child that has run for a while is started again after the first pause."""
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(children, "STEADY", 0.0)
    supervise(FAILING, lambda notes: notes.count("worker1 runs") == 3)
    deaths = [r.args[3] for r in caplog.records if "starting it again" in r.msg]
    assert set(deaths) == {0.01}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (3, "exited with status 3"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-(signal.SIGRTMIN + 3), f"was killed by signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_how_a_child_ended(status, text):
    """Any status has its words, that of a signal without a name, too."""
    assert children.told(status) == text


def test_handlers_are_put_back(supervise):
    """After the run the process's signal handlers are as they were before."""
    before = signal.getsignal(signal.SIGTERM)
    supervise(OBEDIENT, runs("gateway0", "worker1"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_orders_for_strangers():
    """A process that no supervisor started has no orders; those of a child are taken once."""
    assert child.orders({}) is None
    text = '{"role":"worker","number":3,"parent":-1}'
    environ = {child.VARIABLE: text}
    assert child.orders(environ) == child.Orders("worker", 3, -1)
    assert environ == {}
