"""Sending from anywhere: other programs of the project, forked ones, while nothing runs."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.e2e.serving import Served, wait_until

PROJECT = Path(__file__).parent / "anywhere"
SET_UP = "import django; django.setup(); from django_gateway import Channel, Group\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The project, served where every process of it looks."""
    with Served(tmp_path_factory.mktemp("anywhere"), project=PROJECT, default_layer=True) as served:
        yield served


@pytest.fixture
def listener(site: Served) -> Iterator[ClientConnection]:
    """A member of the group ``all``."""
    with connect(site.url("/", "ws"), open_timeout=10) as socket:
        yield socket


def environ(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "anywhere_settings",
        "BROKER": str(folder / "broker"),
        "HOME": str(folder),  # gunicorn keeps a socket there
    }


def run(folder: Path, *command: str) -> str:
    """What a program of the project prints."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=environ(folder),
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(folder: Path, *command: str) -> Iterator[Callable[[], str]]:
    """Another server or a task queue of the project; yields what it printed so far."""
    log = folder / f"{command[1]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=PROJECT,
            env=environ(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield lambda: log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


PROGRAMS = {
    "script": ("-c", SET_UP + "Group('all').send({'text': 'script'})"),
    "on a loop": (
        "-c",
        SET_UP + "import asyncio; asyncio.run(Group('all').asend({'text': 'on a loop'}))",
    ),
    "shell": (
        "manage.py",
        "shell",
        "-c",
        "from django_gateway import Group; Group('all').send({'text': 'shell'})",
    ),
    "command": ("manage.py", "tell", "command"),
    "pool": (
        "-c",
        SET_UP
        + "import multiprocessing\n"
        + "Group('all').count()\n"  # the layer is open before the fork
        + "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        + "    pool.apply(Group('all').send, ({'text': 'pool'},))\n",
    ),
}


@pytest.mark.parametrize("how", PROGRAMS)
def test_programs(site: Served, listener: ClientConnection, how: str) -> None:
    """A program of the project finds the hub without a setting, and its sends are heard."""
    run(site.log.parent, *PROGRAMS[how])
    assert listener.recv(5) == how


@pytest.mark.parametrize(
    "path",
    [
        "/shout/view",
        "/shout/thread",
        "/shout/fork",
        "/ashout/awaited",
        "/ashout/at%20once",
        "/ashout/plain",
    ],
)
def test_views(site: Served, listener: ClientConnection, path: str) -> None:
    """Views send, from their threads, and from processes that they fork, and so do async ones."""
    status, said = site.get(path)
    assert status == 200
    heard = str(listener.recv(5))
    assert heard in said.decode()
    if path == "/shout/fork":
        assert said.decode().endswith(" 0")


def test_gunicorn(site: Served, listener: ClientConnection, tmp_path: Path) -> None:
    """Another server's processes send, although the one that forked them had sent before."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    folder = site.log.parent
    options = ("--preload", "-w", "2", "-b", "127.0.0.1:0")
    with running(folder, "-m", "gunicorn", *options, "anywhere_wsgi") as said:
        wait_until(lambda: "Listening at" in said())
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+) \((\d+)\)", said())
        assert found is not None, said()
        assert listener.recv(5) == f"loaded {found[2]}"
        client = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
        client.request("GET", "/shout/view")
        text = client.getresponse().read().decode()
        client.close()
        assert text.startswith("view ")
        assert text != f"view {found[2]}"
        assert listener.recv(5) == text


@pytest.mark.timeout(60)  # the task queue alone takes several seconds to start
def test_celery(site: Served, listener: ClientConnection) -> None:
    """Tasks in forked processes send, although the one that forked them had sent before."""
    pytest.importorskip("celery", reason="celery is not installed")
    folder = site.log.parent
    (folder / "broker").mkdir(exist_ok=True)
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    command = ("-m", "celery", "-A", "anywhere_tasks", "worker", "--pool", "prefork", "-c", "2")
    with running(folder, *command, *alone) as said:
        parent = str(listener.recv(30)).split()
        assert parent[0] == "parent", said()
        run(
            folder,
            "-c",
            "from anywhere_tasks import tell\nfor _ in range(6): tell.delay()",
        )
        heard = [str(listener.recv(20)).split() for _ in range(6)]
        assert {kind for kind, _ in heard} == {"task"}
        pids = {pid for _, pid in heard}
        assert parent[1] not in pids
        assert len(pids) == 2, said()


SENDER = (
    SET_UP
    + """
import sys
from gateway import LayerUnavailable
for line in sys.stdin:
    try:
        Group("all").send({"text": line.strip()})
        print("sent")
    except LayerUnavailable as error:
        print(error)
"""
)


def test_the_layer_is_away(tmp_path: Path) -> None:
    """While nothing runs, who sends is told what to start; a later send of the process works."""
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER],
        cwd=PROJECT,
        env=environ(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert sender.stdin is not None
    assert sender.stdout is not None

    def send(text: str) -> str:
        print(text, file=sender.stdin, flush=True)
        assert sender.stdout is not None
        return sender.stdout.readline().strip()

    def sends(served: Served, text: str) -> None:
        with connect(served.url("/", "ws"), open_timeout=10) as socket:
            wait_until(lambda: send(text) == "sent")
            assert socket.recv(5) == text

    try:
        said = send("into the void")
        assert re.fullmatch(
            rf"no hub answers at {tmp_path}/gateway-\w+\.sock: No such file or directory; "
            r"start `gateway run` in the project's directory, or set layer\.url to the layer "
            r"that is running",
            said,
        ), said
        with Served(tmp_path, project=PROJECT, default_layer=True, others=1) as served:
            sends(served, "first")
            assert served.stop() == 0
        said = send("into the void again")
        assert said.startswith(("no hub answers at", "the connection to the hub was lost")), said
        with Served(tmp_path, project=PROJECT, default_layer=True, others=1) as served:
            sends(served, "second")
    finally:
        sender.stdin.close()
        sender.stdout.close()
        sender.wait(10)


# ---------------------------------------------------------------- answers from elsewhere


def ask(site: Served, path: str, answers: list[tuple[int, bytes]]) -> threading.Thread:
    asking = threading.Thread(target=lambda: answers.append(site.get(path)))
    asking.start()
    return asking


def test_another_process_answers(site: Served) -> None:
    """A request whose view raised ResponseLater is answered by whoever knows its channel."""
    answers: list[tuple[int, bytes]] = []
    asking = ask(site, "/later", answers)
    run(
        site.log.parent,
        "-c",
        SET_UP
        + "from django_gateway.asgi import channel_layers\n"
        + "_, job = channel_layers['default'].receive(['jobs'], block=10)\n"
        + "Channel(job['answer']).send({'status': 201, 'content': b'from elsewhere'})",
    )
    asking.join(10)
    assert answers == [(201, b"from elsewhere")]


def test_a_group_answers(site: Served) -> None:
    """Several requests wait in a group; one send answers them all."""
    answers: list[tuple[int, bytes]] = []
    asking = [ask(site, "/alater", answers) for _ in range(3)]
    run(
        site.log.parent,
        "-c",
        SET_UP
        + "while Group('waiting').count() < 3: pass\n"
        + "Group('waiting').send({'text': 'all of you'})",
    )
    for one in asking:
        one.join(10)
    assert answers == [(200, b"all of you")] * 3
    # who was answered is a member no more
    run(site.log.parent, "-c", SET_UP + "while Group('waiting').count(): pass")


def test_nobody_answers(tmp_path: Path) -> None:
    """A request that nobody answers in http.timeout seconds is answered 504."""
    with Served(
        tmp_path, "--set", "http.timeout=0.5", project=PROJECT, default_layer=True
    ) as served:
        assert served.get("/later")[0] == 504
        assert served.get("/shout/view")[0] == 200
