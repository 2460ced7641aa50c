"""Workers that are replaced one by one, with children of some lines that do as a plan says."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.core import children, control, rolling
from gateway.core.config import GatewaySettings, LayerSettings, Settings, WorkerSettings
from gateway.core.supervisor import Supervisor
from tests.cli.toy import wait_until

CHILD = """
import json, os, pathlib, signal, socket, sys, time
told = json.loads(os.environ.pop("_GATEWAY_CHILD"))
here = pathlib.Path(os.environ["NOTES"])
name = f"{told['role']}{told['number']}.{told['generation']}"
plan = json.loads((here / "plan").read_text()).get(name, "").split()
line = socket.socket(fileno=told["parent"])
def note(what):
    with (here / "notes").open("a") as file:
        file.write(f"{name} {what}\\n")
def await_file(file):
    while not (here / file).exists():
        time.sleep(0.01)
note(f"is {os.getpid()}")
if "waits" in plan:
    await_file("go")
if "broken" in plan:
    line.send("!no such thing: é".encode())
    raise SystemExit(2)
if "dies" in plan:
    os.kill(os.getpid(), signal.SIGKILL)
if "hangs" in plan:
    time.sleep(60)
note("serves")
if told["role"] == "worker":
    line.send(b"W")
if "worn" in plan:
    line.send(b"N")
if "short" in plan:
    await_file("short")
    os.kill(os.getpid(), signal.SIGKILL)
said = ""
while not said.endswith("S"):
    got = line.recv(1).decode()
    if not got:
        raise SystemExit
    said += got
note(f"hears {said}")
if "stays" in plan:
    time.sleep(60)
if "late" in plan:
    line.send(b"C")
if told["role"] == "gateway":
    line.send(b"D")
    line.recv(1)
note("ends")
"""


class Driver:
    """What a test does while the supervisor runs on the main thread."""

    def __init__(self, folder):
        self.folder = folder
        self.path = f"{folder}/hub.sock.ctl"

    def notes(self):
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def wait(self, *notes):
        wait_until(lambda: set(notes) <= set(self.notes()), 8, lambda: "\n".join(self.notes()))

    def pid(self, name):
        self.wait(f"{name} serves")
        return int([n for n in self.notes() if n.startswith(f"{name} is ")][-1].split()[-1])

    def plan(self, **plans):
        text = json.dumps({name.replace("_", "."): plan for name, plan in plans.items()})
        (self.folder / "plan").write_text(text)

    def hang_up(self):
        os.kill(os.getpid(), signal.SIGHUP)

    def reload(self):
        result = control.reload(self.path)
        assert result is not None
        return result

    def reload_later(self):
        """Begin a reload; what is returned waits for its result."""
        found = []
        thread = threading.Thread(target=lambda: found.append(self.reload()))
        thread.start()

        def result():
            thread.join(10)
            return found[0]

        return result


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """Run a supervisor, and beside it what a test does; return the exit status and the notes."""
    monkeypatch.setenv("NOTES", str(tmp_path))
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(rolling, "MARGIN", 0.2)

    def run(steps, workers=1, stop=True, **settings):
        driver = Driver(tmp_path)
        driver.plan()
        (tmp_path / "python").symlink_to(sys.executable)
        grace = settings.setdefault("grace", 5.0)
        made = Supervisor(
            Settings(
                layer=LayerSettings(url=f"unix://{tmp_path}/hub.sock"),
                gateway=GatewaySettings(grace=grace),
                workers=WorkerSettings(**settings),
            ),
            [str(tmp_path / "python"), "-c", CHILD],
            {},
            f"unix://{tmp_path}/hub.sock",
            workers,
            driver.path,
        )
        failures = []
        over = threading.Event()

        def work():
            try:
                driver.wait("gateway0.1 serves")
                driver.wait(*(f"worker{n}.1 serves" for n in range(1, workers + 1)))
                steps(driver)
            except BaseException as error:
                failures.append(error)
            finally:
                (tmp_path / "go").touch()
                if (stop or failures) and not over.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=work)
        thread.start()
        status = made.run()
        over.set()
        thread.join()
        if failures:
            raise failures[0]
        assert not list(tmp_path.glob("*.sock*"))
        return status, driver.notes()

    return run


def before(notes, *expected):
    """Whether these notes are there, in this order."""
    places = [notes.index(note) for note in expected]
    return places == sorted(places)


def test_one_by_one(drive):
    """Each new worker serves before the old one is stopped, and the next begins after its end."""

    def steps(driver):
        result = driver.reload()
        assert result.done, result.text
        assert result.text.startswith("reloaded: 2 workers of generation 2 in ")
        assert "worker2.1 ends" in driver.notes()

    status, notes = drive(steps, workers=2)
    assert status == 0
    assert before(
        notes,
        "worker1.2 serves",
        "worker1.1 hears S",
        "worker1.1 ends",
        "worker2.2 serves",
        "worker2.1 hears S",
        "worker2.1 ends",
        "gateway0.1 hears RS",
        "worker2.2 hears S",
    )


def test_hangup(drive):
    """SIGHUP to the supervisor does the same."""

    def steps(driver):
        driver.hang_up()
        driver.wait("worker1.2 serves", "worker1.1 ends")

    status, notes = drive(steps)
    assert status == 0
    assert "gateway0.1 hears RS" in notes


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("broken", "the new worker 1 cannot start: no such thing: é"),
        ("dies", "the new worker 1 was killed by SIGKILL"),
        ("hangs", "it was not ready within workers.start_timeout (1 s)"),
    ],
)
def test_new_code_that_does_not_start(drive, plan, says):
    """The old workers go on, and who asked hears why; a later reload may succeed."""

    def steps(driver):
        driver.plan(worker1_2=plan)
        result = driver.reload()
        assert not result.done
        assert "0 of 2 workers replaced" in result.text
        assert says in result.text
        assert not [note for note in driver.notes() if "hears" in note or "worker2.2" in note]
        assert driver.reload().done

    status, notes = drive(steps, workers=2, start_timeout=1.0)
    assert status == 0
    assert before(notes, "worker1.3 serves", "worker1.1 hears S")


def test_new_code_that_dies_soon(drive):
    """If a worker of the new code dies while others are replaced, the old ones are kept."""

    def steps(driver):
        driver.plan(worker1_2="short", worker2_2="waits")
        result = driver.reload_later()
        driver.wait("worker1.1 ends")
        wait_until(lambda: any(n.startswith("worker2.2 is") for n in driver.notes()))
        driver.plan()
        (driver.folder / "short").touch()
        text = result().text
        assert "reload stopped after 1 of 2 workers: the new worker 1 was killed by SIGKILL" in text
        (driver.folder / "go").touch()
        wait_until(lambda: driver.notes().count("worker1.2 serves") == 2)
        driver.wait("worker2.2 ends")
        assert "worker2.1 hears S" not in driver.notes()

    assert drive(steps, workers=2)[0] == 0


def test_an_old_worker_that_dies_meanwhile(drive):
    """One that dies while its successor starts is not started again: that takes its place."""

    def steps(driver):
        driver.plan(worker1_2="waits")
        result = driver.reload_later()
        wait_until(lambda: any(n.startswith("worker1.2 is") for n in driver.notes()))
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        (driver.folder / "go").touch()
        assert result().done

    status, notes = drive(steps)
    assert status == 0
    assert len([note for note in notes if " is " in note and "worker" in note]) == 2


def test_both_die(drive):
    """If its successor does not start either, the old one is started again."""

    def steps(driver):
        driver.plan(worker1_2="waits broken")
        result = driver.reload_later()
        wait_until(lambda: any(n.startswith("worker1.2 is") for n in driver.notes()))
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        (driver.folder / "go").touch()
        assert not result().done
        driver.plan()
        driver.wait("worker1.2 serves")

    assert drive(steps)[0] == 0


def test_once_more(drive, caplog):
    """Asked during a reload, all are replaced once more after it; each asker hears of its own."""
    caplog.set_level(logging.INFO)
    again = "a reload is going on; workers are replaced once more after it"

    def steps(driver):
        driver.plan(worker1_2="waits")
        first = driver.reload_later()
        wait_until(lambda: any(n.startswith("worker1.2 is") for n in driver.notes()))
        second, third = driver.reload_later(), driver.reload_later()
        driver.hang_up()
        wait_until(lambda: caplog.messages.count(again) == 3)
        (driver.folder / "go").touch()
        assert "generation 2" in first().text
        assert "generation 3" in second().text
        assert third() == second()

    status, notes = drive(steps)
    assert status == 0
    assert before(notes, "worker1.2 serves", "worker1.3 serves", "worker1.2 hears S")
    assert not [note for note in notes if "worker1.4" in note]


def test_the_stop_comes_first(drive):
    """SIGTERM during a reload stops all in order, and who waits for the reload hears it."""

    def steps(driver):
        driver.plan(worker1_2="waits")
        result = driver.reload_later()
        wait_until(lambda: any(n.startswith("worker1.2 is") for n in driver.notes()))
        os.kill(os.getpid(), signal.SIGTERM)
        assert result() == rolling.STOPPING
        driver.wait("worker1.1 ends")
        (driver.folder / "go").touch()

    status, notes = drive(steps, stop=False)
    assert status == 0
    assert before(notes, "gateway0.1 hears RS", "worker1.1 hears S", "worker1.2 ends")


@pytest.mark.parametrize("plan", ["stays", "late"])
def test_an_old_worker_that_does_not_drain(drive, plan):
    """It is ended after its grace, the reload goes on, and its result says so."""

    def steps(driver):
        driver.plan(worker1_1=plan)
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        wait_until(lambda: driver.notes().count("worker1.1 serves") == 2)
        result = driver.reload()
        assert result.done
        assert "2 workers of generation 2" in result.text
        assert "1 of the old ones had consumers that ran longer than workers.grace" in result.text

    assert drive(steps, workers=2, grace=0.2)[0] == 0


def test_a_dead_worker_is_not_waited_for(drive, monkeypatch):
    """A worker that waits to be started again is replaced as the others are."""
    monkeypatch.setattr(children, "FIRST_PAUSE", 60.0)

    def steps(driver):
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        assert driver.reload().done

    status, notes = drive(steps)
    assert status == 0
    assert "worker1.2 ends" in notes


def test_a_worn_worker(drive):
    """One that asks for it is replaced, by one of the same generation; soon again, and later."""

    def steps(driver):
        driver.plan(worker1_1="worn")
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        wait_until(lambda: driver.notes().count("worker1.1 ends") == 3)
        driver.plan()

    status, notes = drive(steps, workers=2)
    assert status == 0
    assert notes.count("worker2.1 serves") == 1
    serving = 0
    for note in notes[notes.index("worker1.1 serves") + 1 :]:
        serving += (note == "worker1.1 serves") - (note == "worker1.1 hears S")
        assert serving >= 0  # the old one is stopped once the new one serves


@pytest.mark.parametrize("plan", ["dies", "broken"])
def test_a_worn_worker_whose_successor_does_not_start(drive, monkeypatch, plan):
    """It goes on, and is replaced later."""
    monkeypatch.setattr(rolling, "LONGEST_PAUSE", 0.05)

    def steps(driver):
        driver.plan(worker1_1="worn waits")
        os.kill(driver.pid("worker1.1"), signal.SIGKILL)
        wait_until(lambda: driver.notes().count("worker1.1 serves") == 1)
        (driver.folder / "go").touch()
        wait_until(lambda: driver.notes().count("worker1.1 serves") == 2)
        driver.plan(worker1_1=plan)
        wait_until(lambda: len([n for n in driver.notes() if "worker1.1 is" in n]) >= 5)
        driver.plan()
        driver.wait("worker1.1 ends")

    assert drive(steps)[0] == 0


def serving(count):
    """Return workers by hand, steady and ready, and those that are started beside them."""
    started = []

    def start(coming):
        coming.process = object()
        coming.due = None
        started.append(coming)

    made = rolling.Rolling(count, WorkerSettings(), start)
    for worker in made.workers:
        start(worker)
        worker.ready = True
        worker.started = time.monotonic() - children.STEADY
    started.clear()
    return made, started


def test_a_reload_that_fails_leaves_no_place_empty():
    """A worn worker that has died is started again, if a reload that fails took its successor."""
    made, started = serving(2)
    second = made.workers[1]
    made.worn(second)
    second.process = None
    made.ended(second, "was killed")
    assert second.due is None  # its successor takes its place
    made.roll()
    made.ended(started[0], "exited")
    assert [coming.number for coming in started] == [2, 1]
    made.ended(started[1], "cannot start")
    assert second.due is not None


def test_a_worker_that_is_worn_at_once_is_replaced_ever_more_seldom():
    """The pauses double up to LONGEST_PAUSE, although each of them did serve."""
    made, started = serving(1)
    pauses = []
    for _ in range(12):
        (worker,) = made.workers
        worker.started = time.monotonic()
        made.worn(worker)
        pauses.append((made.until() or 0) - time.monotonic())
        made._worn[worker] = 0.0
        made.tick()
        made.ready(started[-1])
        made.ended(worker, "exited")
    assert max(pauses) == pytest.approx(children.LONGEST_PAUSE, abs=0.1)


def test_an_interpreter_that_is_gone(drive, caplog):
    """While nothing can be started the old workers go on; dead ones are tried again."""

    def steps(driver):
        python = driver.folder / "python"
        python.rename(driver.folder / "away")
        result = driver.reload()
        assert not result.done
        assert "0 of 2 workers replaced" in result.text
        assert "the new worker 1 cannot be started: [Errno 2]" in result.text
        os.kill(driver.pid("worker2.1"), signal.SIGKILL)
        wait_until(lambda: "worker 2 cannot be started: [Errno 2]" in caplog.text)
        (driver.folder / "away").rename(python)
        driver.wait("worker2.2 serves")
        assert driver.reload().done

    assert drive(steps, workers=2)[0] == 0


def test_a_directory_that_is_a_link(drive, tmp_path, monkeypatch):
    """Children are started where the name of the directory leads now: deploys may swap a link."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link = tmp_path / "current"
    link.symlink_to("one")
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))

    def where(pid):
        return str(Path(f"/proc/{pid}/cwd").readlink())

    def steps(driver):
        assert where(driver.pid("worker1.1")) == f"{tmp_path}/one"
        link.unlink()
        link.symlink_to("two")
        assert driver.reload().done
        assert where(driver.pid("worker1.2")) == f"{tmp_path}/two"
        link.unlink()
        assert driver.reload().done
        assert where(driver.pid("worker1.3")) == f"{tmp_path}/one"

    assert drive(steps)[0] == 0


# ---------------------------------------------------------------- the control socket


def test_nobody_listens(tmp_path):
    """Where no supervisor runs there is no result."""
    assert control.reload(f"{tmp_path}/none.ctl") is None


def test_a_storm_of_signals(drive, monkeypatch):
    """No SIGTERM is lost in more signals than the wake-up descriptor holds."""
    roll = rolling.Rolling.roll

    def storm(self, answer=None):
        monkeypatch.setattr(rolling.Rolling, "roll", roll)
        for _ in range(3000):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)

    def steps(driver):
        monkeypatch.setattr(rolling.Rolling, "roll", storm)
        driver.hang_up()
        driver.wait("worker1.1 ends")

    status, notes = drive(steps, stop=False)
    assert status == 0
    assert len([note for note in notes if "worker" in note and " is " in note]) <= 2


def test_what_is_no_command(drive):
    """Strangers on the control socket are told so, and those that leave early cost nothing."""

    def steps(driver):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(driver.path)
            sock.sendall(b"rm -rf\n")
            assert b"there is no command" in sock.recv(1000)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(driver.path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(driver.path)
            sock.sendall(control.RELOAD)
        assert driver.reload().done

    assert drive(steps)[0] == 0


def test_who_leaves_as_it_is_answered(tmp_path):
    """One whose end was selected in the turn in which it is answered is not heard once more."""
    answers = []
    with selectors.DefaultSelector() as selector:
        made = control.Control(f"{tmp_path}/x.ctl", selector, answers.append)
        made.open()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{tmp_path}/x.ctl")
            sock.sendall(control.RELOAD)
            while not answers:
                for key, _ in selector.select(5):
                    key.data()
        selected = selector.select(5)
        answers[0](rolling.STOPPING)
        for key, _ in selected:
            key.data()
        made.close()
    assert len(selected) == 1


def test_a_path_that_is_too_long(tmp_path, caplog):
    """Where the control socket cannot be, the supervisor runs without it, and says so."""
    made = control.Control(f"{tmp_path}/{'x' * 120}", None, print)
    made.open()
    made.close()
    assert "'gateway reload' will not work, SIGHUP does" in caplog.text
