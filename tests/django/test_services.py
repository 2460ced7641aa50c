"""Channels of the project's own, and workers that take some of them."""

import os
import signal
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

import gateway
from django_gateway import Channel, route
from django_gateway.routing import Router
from tests.cli.toy import wait_until
from tests.django.developing import ROOT, ROUTED, make_project
from tests.django.peer import Outcome, Peer

pytestmark = pytest.mark.timeout(40)  # workers are processes, on a busy machine

ROUTING = """
import os, pathlib, time
from django_gateway import Channel, route
def note(word):
    with open("noted", "a") as out:
        out.write(f"{word} {os.environ['WORKER']}\\n")
def ask(message):
    note("ask")
    Channel("thumbnails.make").send({"image": 7, "reply_channel": message["reply_channel"]})
def make(message):
    note("make")
    message.reply(f"made {message['image']}")
def hang(message):
    note(f"hang {message['number']}")
    if message.get("forever"):
        time.sleep(100)
routes = [
    route("site.ask", ask), route("thumbnails.make", make), route("thumbnails.hang", hang),
]
"""


@pytest.fixture
def project(tmp_path):
    make_project(tmp_path)
    (tmp_path / "site1/routing.py").write_text(ROUTING)
    with (tmp_path / "site1/settings.py").open("a") as settings:
        settings.write(ROUTED)
    (tmp_path / "noted").touch()
    return tmp_path


@pytest.fixture
def run(project):
    """Run ``gateway ARGUMENTS`` or ``manage.py …`` in the project, as the worker ``name``."""
    running = []

    def start(name, *arguments):
        clean = {key: value for key, value in os.environ.items() if key[:8] != "GATEWAY_"}
        with (project / f"{name}.log").open("w") as out:
            program = [] if arguments[0] == "manage.py" else ["-m", "gateway"]
            process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=project,
                env=clean
                | {
                    "PYTHONPATH": str(ROOT),
                    "WORKER": name,
                    "DJANGO_SETTINGS_MODULE": "site1.settings",
                    "GATEWAY_LAYER_URL": f"unix://{project}/hub.sock",
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def peer(project, run):
    """Somebody on the project's hub."""
    run("hub", "hub")
    wait_until(lambda: (project / "hub.sock").exists())
    peer = Peer(gateway.open_layer(f"unix://{project}/hub.sock"))
    yield peer
    peer.layer.close()


def noted(project):
    return (project / "noted").read_text().splitlines()


SEPARATED = {
    "gateway worker": (["worker"], ["worker"]),
    "manage.py runworker": (["manage.py", "runworker"], ["manage.py", "runworker"]),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separation(project, run, peer, case):
    """Each worker takes its own; one's consumer asks the other's, which answers.

    What is another worker's is announced all the same: it is routed, and waits for that one.
    """
    public, maker = SEPARATED[case]
    run("public", *public, "--exclude-channels", "thumbnails.*")
    table = {"http.request", "site.ask", "thumbnails.hang", "thumbnails.make"}
    wait_until(lambda: peer.layer.announced() == table, 20)
    receipt = peer.new_reply_channel()
    peer.layer.send("thumbnails.make", {"image": 1, "reply_channel": receipt})
    run("maker", *maker, "--only-channels", "*.make,*.hang")
    assert peer.hear(block=20) == (receipt, {"text": "made 1"})
    asked = peer.new_reply_channel()
    replies, outcomes = [], []
    peer.post("site.ask", {"reply_channel": asked})
    for _ in range(2):
        channel, found = peer.hear(block=20)
        (outcomes if channel == "outcome" else replies).append(found)
    assert replies == [{"text": "made 7"}]
    assert outcomes == [Outcome("accepted")]
    assert noted(project) == ["make maker", "ask public", "make maker"]


def test_at_most_once(project, run, peer):
    """What a lost worker had begun is not run again, and its sender hears ``failed``; the rest is.

    So a service whose work must not be lost keeps a record until the outcome, and sends again.
    """
    worker = run("first", "worker", "--set", "workers.threads=1")
    assert peer.outcome("thumbnails.hang", {"number": 1}) == Outcome("accepted")
    peer.post("thumbnails.hang", {"number": 2, "forever": True})
    wait_until(lambda: "hang 2 first" in noted(project))
    worker.send_signal(signal.SIGKILL)
    assert peer.hear(block=20) == ("outcome", Outcome("failed", cause="lost"))
    peer.post("thumbnails.hang", {"number": 3})
    run("second", "worker")
    assert peer.hear(block=20) == ("outcome", Outcome("accepted"))
    assert noted(project) == ["hang 1 first", "hang 2 first", "hang 3 second"]


def test_of_nobody(peer):
    """A message that nobody takes expires; with a receipt its sender hears so."""
    peer.layer.send_many("thumbnails.make", [{"image": 1}], receipt=5, expiry=0.2)
    channel, outcome = peer.hear(block=10)
    assert (channel, outcome) == ("outcome", Outcome("released", cause="expired"))


def test_a_pattern_that_fits_nothing(project, run):
    """A slip in a pattern stops the start of a worker, and of ``gateway run``, with status 2."""
    for name, arguments in {
        "worker": ["worker", "--only-channels", "thumbnail.*"],
        "run": ["run", "--exclude-channels", "thumbnail.*", "--listen", "127.0.0.1:0"],
        "manage": ["manage.py", "runworker", "--only-channels", "thumbnail.*"],
        "check": ["check", "--only-channels", "thumbnail.*"],
    }.items():
        process = run(name, *arguments)
        assert process.wait(30) == (1 if name == "check" else 2)
        said = (project / f"{name}.log").read_text()
        assert "_channels: 'thumbnail.*' fits no channel of the routing table; the " in said
        assert "the nearest is 'thumbnails.make'" in said
        assert "Traceback" not in said


def test_the_workers_of_run(project, run):
    """``gateway run`` gives its workers what its options and settings say."""
    (project / "gateway.toml").write_text('[workers]\nexclude_channels = ["site.*"]\n')
    run("run", "run", "--only-channels", "site.*", "--only-channels", "*.make", "--listen", "0")
    wait_until(lambda: (project / "hub.sock").exists(), 20)
    peer = Peer(gateway.open_layer(f"unix://{project}/hub.sock"))
    replies, outcomes = peer.settled(
        "thumbnails.make", {"image": 3, "reply_channel": peer.new_reply_channel()}
    )
    assert (replies, outcomes) == ([{"text": "made 3"}], [Outcome("accepted")])
    for channel in ("site.ask", "thumbnails.hang"):
        peer.layer.send_many(channel, [{}], receipt=0, expiry=0.2)
        assert peer.hear(block=10) == ("outcome", Outcome("released", cause="expired"))
    peer.layer.close()


def test_only():
    """A table of some channels has their routes alone, those of several channels too."""

    def consumer(message):
        pass

    table = Router([route(["a.one", "b.two"], consumer), route("b.three", consumer)])
    part = table.only(["a.one"])
    assert part.channels() == ["a.one"]
    assert [one.channels for one in part.routes] == [("a.one", "b.two")]
    assert part.of("b.two") == ()
    with pytest.raises(ImproperlyConfigured):
        route("vault.*", consumer)
    assert Channel("a.one").name == "a.one"
