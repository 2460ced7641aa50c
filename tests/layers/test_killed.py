"""A hub that is killed outright, for real: what its clients and its successor make of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest

from gateway.core.layers import codec, open_layer
from gateway.core.layers.base import OK, send
from gateway.testing.layer_suite import wait_until
from gateway.testing.layer_suite.harness import Server

BYE = codec.encode({"code": "server-lost"})
LEFT = codec.encode({"code": 1000})


class HubProcess:
    """``gateway hub``, again and again at one path."""

    def __init__(self, path):
        self.path = path
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway", "hub", "--layer", f"unix://{self.path}"),
                *("--set", "layer.lease=1.5"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.path.parent,
            env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
        )
        assert "hub at" in self.process.stdout.readline()

    def stop_still(self):
        """Freeze it: what is said to it now it never hears, if it is killed."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture
def hub():
    folder = Path(mkdtemp(prefix="gw-"))
    hub = HubProcess(folder / "hub.sock")
    yield hub
    hub.end()
    assert list(folder.iterdir()) == []  # neither socket nor journal, once all is settled
    folder.rmdir()


@pytest.fixture
def join(hub):
    opened = []

    def join(*announced):
        opened.append(open_layer(f"unix://{hub.path}"))
        if announced:
            opened[-1].announce(announced)
        else:
            opened[-1].announced()
        return opened[-1]

    yield join
    for layer in opened:
        layer.close()


@pytest.fixture
def server(hub):
    server = Server(open_layer(f"unix://{hub.path}"), 5.0)
    server.wait(lambda: server.edge.available, "joined")
    yield server
    server.close()


def say(server, *verbs):
    """Say things to the hub in one turn."""
    for verb in verbs:
        server.do(verb)


def taken(worker, number):
    """Take and settle so many disconnects, and see that no more come."""
    found = []
    intake = worker.intake(["gone"])
    while len(found) < number:
        delivery = intake.take(block=8)
        assert delivery is not None, found
        found += delivery.messages
        worker.settle(delivery, [OK])
    assert intake.take(block=0.3) is None
    intake.close()
    return found


def back(*layers):
    """Wait until processes have found the new hub."""
    for layer in layers:
        wait_until(lambda layer=layer: _knows(layer), 10)


def _knows(layer):
    try:
        layer.announced()
    except Exception:
        return False
    return True


def test_connections_that_stay_are_not_offered(hub, join, server):
    """A gateway that survives its hub rejoins with its connections, and ends them later, once."""
    worker = join("gone")
    name = f"x.{server.process}!a"
    say(server, lambda edge: edge.register(name, "gone", BYE))
    worker.global_statistics()
    hub.kill()
    hub.start()
    server.wait(lambda: server.edge.available, "rejoined")
    back(worker)
    assert worker.take(["gone"], block=2.5) is None  # longer than a lease
    say(server, lambda edge: edge.end(name, "gone", LEFT))
    assert taken(worker, 1) == [{"code": 1000}]


def test_an_end_that_the_hub_never_read(hub, join, server):
    """What a gateway said to a hub that was killed before it read it is said to the next."""
    worker = join("gone")
    name, other = (f"x.{server.process}!{rest}" for rest in "ab")
    say(server, lambda edge: edge.register(name, "gone", BYE))
    worker.global_statistics()
    hub.stop_still()
    say(
        server,
        lambda edge: edge.end(name, "gone", LEFT),
        lambda edge: edge.register(other, "gone", BYE),
        lambda edge: edge.end(other, "gone", LEFT),
    )
    hub.kill()
    hub.start()
    assert taken(worker, 2) == [{"code": 1000}] * 2


def test_a_settlement_that_the_hub_never_read(hub, join, server):
    """A disconnect whose consumer was done when the hub died does not run again."""
    worker = join("gone")
    say(server, lambda edge: edge.end(f"x.{server.process}!a", "gone", LEFT))
    intake = worker.intake(["gone"])
    delivery = intake.take(block=5)
    hub.stop_still()
    worker.settle(delivery, [OK])
    worker._threads.flush()
    hub.kill()
    hub.start()
    back(worker)
    assert intake.take(block=2.5) is None
    intake.close()


def test_a_disconnect_that_is_in_hand(hub, join, server):
    """A consumer that runs while the hub is killed runs once, and settles with the next hub."""
    worker, other = join("gone"), join("gone")
    say(server, lambda edge: edge.end(f"x.{server.process}!a", "gone", LEFT))
    intake = worker.intake(["gone"])
    delivery = intake.take(block=5)
    hub.kill()
    hub.start()
    back(worker, other)
    assert other.take(["gone"], block=2.5) is None
    worker.settle(delivery, [OK])
    hub_settled = lambda: worker.global_statistics().in_hand == 0  # noqa: E731
    wait_until(hub_settled, 5)
    intake.close()


def test_a_consumer_that_is_done_while_there_is_no_hub(hub, join, server):
    """What it settled meanwhile, with its sends, is done when the next hub is there."""
    worker = join("gone", "x")
    say(server, lambda edge: edge.end(f"x.{server.process}!a", "gone", LEFT))
    intake = worker.intake(["gone"])
    delivery = intake.take(block=5)
    hub.kill()
    wait_until(lambda: worker._threads._sock is None, 5)
    worker.settle(delivery, [OK], [send("x", {"sent": 1})])
    hub.start()
    back(worker)
    assert worker.receive(["x"], block=5)[1] == {"sent": 1}
    assert intake.take(block=2.5) is None
    intake.close()


def test_gateway_and_hub_are_both_killed(hub, join):
    """A gateway that does not come back within a lease has its disconnects delivered, once."""
    worker = join("gone")
    script = (
        "import asyncio, sys\n"
        "from gateway.core.layers import open_layer\n"
        "async def main():\n"
        "    layer = open_layer('unix://' + sys.argv[1])\n"
        "    edge = layer.edge(lambda items: None)\n"
        "    while not edge.available: await asyncio.sleep(0.01)\n"
        "    for n in range(3):\n"
        f"        edge.register(f'x.{{edge.process}}!{{n}}', 'gone', {BYE!r})\n"
        "    await layer.aannounced()\n"
        "    print('registered', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    gateway = subprocess.Popen(
        [sys.executable, "-c", script, hub.path], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout.readline() == "registered\n"
    hub.stop_still()
    gateway.kill()
    gateway.communicate()
    hub.kill()
    hub.start()
    back(worker)
    assert taken(worker, 3) == [{"code": "server-lost"}] * 3


def test_a_hub_that_stops_leaves_what_it_owes(hub, join, server):
    """What no worker was there for survives a clean stop, and the journal then goes."""
    say(server, lambda edge: edge.end(f"x.{server.process}!a", "gone", LEFT))
    journal = Path(f"{hub.path}.journal")
    wait_until(lambda: b"gone" in journal.read_bytes(), 5)
    hub.end()
    assert journal.exists()
    hub.start()
    worker = join("gone")
    assert taken(worker, 1) == [{"code": 1000}]
