"""The hub and its clients: what the layer contract does not say of sockets and processes."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest

from gateway.core.errors import ChannelFull, LayerUnavailable
from gateway.core.layers import open_layer, threads, wire
from gateway.core.layers.base import OK
from gateway.core.layers.hub import Hub, bind
from gateway.core.layers.journal import LASTING
from gateway.core.layers.options import LayerOptions
from gateway.testing.layer_suite import wait_until
from gateway.testing.layer_suite.harness import Server
from tests.layers.test_unix import HubThread

WORKER = """
import sys
from gateway.core.errors import LayerError
from gateway.core.layers import open_layer
from gateway.core.layers.base import OK, send
layer = open_layer("unix://" + sys.argv[1])
delivery = layer.take(["x"], block=10)
print(layer.process, flush=True)
sys.stdin.readline()
layer.settle(delivery, [OK], [send("late", {})])
while True:
    try:
        layer.announced()
        break
    except LayerError:  # Fenced, or away while it rejoins
        pass
layer.send("after", {"process": layer.process})
"""


@pytest.fixture
def folder():
    """A short path: a Unix socket's has 107 bytes at most."""
    path = Path(mkdtemp(prefix="gw-"))
    yield path
    path.rmdir()


@pytest.fixture
def hub(folder):
    """A hub with short leases, on the real clock."""
    thread = HubThread(str(folder / "hub.sock"), LayerOptions(lease=0.6), time.monotonic)
    yield thread
    thread.stop()


@pytest.fixture
def join(hub):
    """Open processes on the hub."""
    opened = []

    def join():
        opened.append(open_layer(f"unix://{hub.path}"))
        return opened[-1]

    yield join
    for layer in opened:
        layer.close()


@pytest.fixture
def worker(hub):
    """A worker process of its own, that takes one delivery from ``x``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, hub.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def outcome(layer):
    """Return the next outcome in the inbox."""
    message = layer.receive([f"outcome.{layer.process}!"], block=5)[1]
    return (message["receipt"], message["kind"], message["cause"])


def raw(hub, data):
    """Send bytes to the hub, and return what it answers until it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hub.path)
        sock.sendall(data)
        found = b""
        while more := sock.recv(65536):
            found += more
        return found


def test_numbers_of_every_gateway(hub, join, monkeypatch):
    """Who asks the hub for metrics gets those of each gateway process that answers in time."""
    monkeypatch.setattr("gateway.core.layers.hub.TELL_TIME", 0.3)
    servers = [Server(open_layer(f"unix://{hub.path}"), 5.0) for _ in range(3)]
    try:
        for number, server in enumerate(servers[:2]):
            server.layer.numbers = lambda number=number: f'toys{{gateway="{number}"}} 1\n'
        asker = join()
        found = asker.metrics_text()
        assert {'toys{gateway="0"} 1', 'toys{gateway="1"} 1'} <= set(found.splitlines())
        assert "gateway_layer_processes 4" in found
        resumed = threading.Event()
        servers[1].layer.numbers = lambda: str(resumed.wait(5)) and "late 1\n"  # it is stuck
        found = asker.metrics_text()
        resumed.set()
        assert 'toys{gateway="0"} 1' in found
        assert "late" not in found
        assert 'toys{gateway="0"} 1' in asker.metrics_text()
    finally:
        for server in servers:
            server.close()


def test_the_socket_is_private(folder):
    """The socket is open to its owner alone, whatever the umask; the folder is made."""
    before = os.umask(0)
    try:
        sock = bind(str(folder / "new" / "hub.sock"))
        other = bind(str(folder / "new" / "other.sock"), 0o660)
    finally:
        os.umask(before)
    try:
        new = folder / "new"
        modes = [
            stat.S_IMODE(path.stat().st_mode)
            for path in (new, new / "hub.sock", new / "other.sock")
        ]
        assert [oct(mode) for mode in modes] == ["0o700", "0o600", "0o660"]
    finally:
        for one in (sock, other):
            Path(one.getsockname()).unlink()
            one.close()
        (folder / "new").rmdir()


def test_no_hub(folder):
    """Where no hub listens a verb says what to start."""
    layer = open_layer(f"unix://{folder}/hub.sock")
    with pytest.raises(LayerUnavailable, match="gateway run"):
        layer.send("x", {})
    layer.close()


def test_what_is_no_frame(hub, join):
    """A client that sends what is no frame is hung up on; others do not notice."""
    layer = join()
    layer.send("x", {"n": 1})
    assert raw(hub, b"\xff\xff\xff\xff") == b""
    assert raw(hub, b"\x01\x00\x00\x00\xc1") == b""
    assert layer.receive(["x"]) == ("x", {"n": 1})


def test_another_version(hub):
    """A client of another version is told so."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hub.path)
        sock.sendall(wire.pack([(wire.HELLO, 1, wire.VERSION + 1, "p_a")]))
        ((kind, rid, error, text),) = wire.Frames().feed(sock.recv(65536))
    assert (kind, rid, error) == (wire.ERROR, 1, "ValueError")
    assert f"version {wire.VERSION}" in text


def test_hello_comes_first(hub):
    """A command before HELLO is refused."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hub.path)
        sock.sendall(wire.pack([(0, 7, "x", [b"\x80"])]))
        ((kind, rid, *_),) = wire.Frames().feed(sock.recv(65536))
    assert (kind, rid) == (wire.ERROR, 7)
    assert not hub.state.channels


def test_an_unknown_command(hub, join):
    """A command that does not exist is refused, and its connection goes on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hub.path)
        sock.sendall(
            wire.pack([(wire.HELLO, 1, wire.VERSION, "p_a"), (99, 2), (0, 3, "x", [b"\x80"])])
        )
        frames, found = wire.Frames(), []
        while len(found) < 3:
            found += frames.feed(sock.recv(65536))
        assert [(event[0], event[1]) for event in found] == [
            (wire.REPLY, 1),
            (wire.ERROR, 2),
            (wire.REPLY, 3),
        ]
        assert join().receive(["x"], block=5) == ("x", {})


def test_an_idle_client_keeps_its_lease(hub, join):
    """A client that says nothing for long gives signs of life by itself."""
    layer, other = join(), join()
    layer.send_many("x", [{}], receipt=1)
    delivery = other.take(["x"], block=5)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.5, 5)
    other.settle(delivery, [OK])
    assert outcome(layer) == (1, "accepted", "")


def test_a_hub_may_have_shorter_leases_than_its_client_thinks(join, monkeypatch):
    """A client that rests before it is welcomed gives signs of life as the hub wants them."""
    monkeypatch.setattr(threads, "MIND_ON", -1)
    layer = join()
    layer.announced()
    process, began = layer.process, time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.2, 5)
    layer.announced()
    assert layer.process == process


def test_kill_9(join, worker):
    """What a worker that is killed has in hand fails at once."""
    layer = join()
    layer.send_many("x", [{}], receipt=1)
    assert worker.stdout.readline().startswith("p_")
    began = time.monotonic()
    worker.kill()
    assert outcome(layer) == (1, "failed", "lost")
    assert time.monotonic() - began < 0.5  # less than the lease


def test_a_stopped_worker(join, worker):
    """A worker that is stopped loses its lease; woken, its settlement is refused, and it goes on
    under a new name.
    """
    layer = join()
    layer.send_many("x", [{}], receipt=1)
    name = worker.stdout.readline().strip()
    worker.send_signal(signal.SIGSTOP)
    assert outcome(layer) == (1, "failed", "lost")
    worker.send_signal(signal.SIGCONT)
    worker.stdin.write("go\n")
    worker.stdin.flush()
    assert layer.receive(["after"], block=5)[1]["process"] not in ("", name)
    assert layer.receive(["late"]) == (None, None)
    assert layer.receive([f"outcome.{layer.process}!"]) == (None, None)


def test_a_fork_before_first_use(hub, join):
    """A layer that was opened and not used may be forked: each child is a process of its own."""
    layer = join()
    child = os.fork()
    if child == 0:
        try:
            layer.send("x", {"process": layer.process})
            layer.close()
        finally:
            os._exit(0)
    layer.send("x", {"process": layer.process})
    found = {layer.receive(["x"], block=5)[1]["process"] for _ in range(2)}
    os.waitpid(child, 0)
    assert len(found) == 2
    assert None not in found


MANY_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def in_child(act):
    """Run ``act`` in the child of a fork, and return what it returned or raised, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(10)  # whatever happens, it ends
            try:
                said = str(act())
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@MANY_THREADS
def test_a_fork_after_first_use(hub, join):
    """The child of a fork shares no connection with its parent: each is a process of its own."""
    layer = join()
    layer.send("x", {"from": "before"})
    before = layer.process

    def act():
        layer.send("x", {"from": "child"})
        layer.close()
        return layer.process

    assert in_child(act) not in {"", before}
    assert layer.process == before
    for _ in range(3):  # the child's good-bye was its own
        layer.send("x", {"from": "parent"})
        assert before in hub.state.processes
    found = [layer.receive(["x"], block=5)[1]["from"] for _ in range(5)]
    assert found == ["before", "child", "parent", "parent", "parent"]


@MANY_THREADS
def test_a_fork_with_a_disconnect_in_hand(folder):
    """What a parent has in hand the child of a fork does not claim from the next hub."""
    layer = open_layer(f"unix://{folder}/none.sock")
    layer.held.begun(LASTING + 1)
    layer.held.settled(LASTING + 2, [OK])
    assert in_child(lambda: layer.held.claims()) == "[]"
    assert layer.held.claims()


@MANY_THREADS
def test_a_fork_while_threads_wait(hub, join):
    """A child forked while another thread waits in the layer waits for nobody."""
    layer = join()
    waiting = threading.Thread(target=lambda: layer.receive(["never"], block=3), daemon=True)
    waiting.start()
    wait_until(lambda: "never" in hub.state.channels, 5)
    assert in_child(lambda: layer.send("x", {})) == "None"
    layer.send("never", {})
    waiting.join(5)
    assert not waiting.is_alive()


@MANY_THREADS
def test_a_fork_on_a_loop(hub, join):
    """So it is where a loop has the connection; the child's end of it is closed."""
    layer = join()

    async def parent():
        await layer.asend("x", {"from": "before"})
        process = layer.process

        def act():
            # on a thread, since asyncio believes that this one still runs the parent's loop
            result = []
            thread = threading.Thread(
                target=lambda: result.append(asyncio.run(layer.asend("x", {"from": "child"})))
            )
            thread.start()
            thread.join(5)
            return f"{result} of another" if layer.process != process else result

        assert await asyncio.to_thread(in_child, act) == "[None] of another"
        await layer.asend("x", {"from": "parent"})
        assert process == layer.process
        assert process in hub.state.processes
        await layer.aclose()

    asyncio.run(parent())
    other = join()
    found = [other.receive(["x"], block=5)[1]["from"] for _ in range(3)]
    assert found == ["before", "child", "parent"]


PARENT = """
import asyncio, os, signal, sys
from gateway.core.layers import open_layer
layer = open_layer("unix://" + sys.argv[1])
def fork():
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        while True:
            signal.pause()
    print(child, flush=True)
    signal.pause()
async def on_loop():
    await layer.atake(["x"], block=10)
    fork()
if sys.argv[2] == "thread":
    layer.take(["x"], block=10)
    fork()
else:
    asyncio.run(on_loop())
"""


@pytest.mark.parametrize("client", ["thread", "loop"])
def test_a_parent_killed_before_its_child(hub, join, client):
    """What a parent held fails as it dies, although a child of its fork lives on."""
    layer = join()
    layer.send_many("x", [{}], receipt=1)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, hub.path, client], stdout=subprocess.PIPE, text=True
    )
    try:
        child = int(parent.stdout.readline())
        began = time.monotonic()
        parent.kill()
        assert outcome(layer) == (1, "failed", "lost")
        assert time.monotonic() - began < 0.5  # less than the lease
        os.kill(child, signal.SIGKILL)
    finally:
        parent.kill()
        parent.communicate()


@MANY_THREADS
def test_a_fork_of_the_memory_layer():
    """A forked memory layer would reach nobody: it says so; one that the child opens is its own."""
    layer = open_layer("memory://forked")
    said = in_child(lambda: layer.send("x", {}))
    assert said.startswith("LayerUnavailable: a memory:// layer reaches no process but its own")
    assert "layer.url" in said

    def act():
        own = open_layer("memory://forked")
        own.send("x", {"n": 1})
        return own.receive(["x"])

    assert in_child(act) == "('x', {'n': 1})"
    assert layer.receive(["x"]) == (None, None)
    layer.close()


def test_a_client_that_does_not_read(hub, join):
    """What a process does not read is bounded: its sender gets ChannelFull, others go on."""
    hub.state.options = LayerOptions(lease=60, process_bytes=1 << 20)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(hub.path)
        sock.sendall(wire.pack([(wire.HELLO, 1, wire.VERSION, "p_slow"), (wire.EDGE, 0)]))
        layer = join()
        wait_until(
            lambda: "p_slow" in hub.state.processes and hub.state.processes["p_slow"].edge, 5
        )
        sent = 0
        try:
            while sent < 100:
                layer.send("x.p_slow!a", {"data": b"x" * 100_000})
                sent += 1
        except ChannelFull:
            pass
        assert sent < 60  # 1 MiB in the inbox, about as much in the transport and the kernel
        layer.send("y", {})
        assert layer.receive(["y"]) == ("y", {})


def test_versions(hub, join):
    """Living workers are counted by the version that they announced; a new hub is told again."""

    def versions(layer):
        found = [line for line in layer.metrics_text().splitlines() if "gateway_workers" in line]
        return sorted(line.removeprefix("gateway_workers") for line in found)

    watcher, one, two, three = join(), join(), join(), join()
    assert versions(watcher) == []
    one.announce(["x"], "1.0")
    two.announce(["x"], "1.0")
    three.announce(["y"])
    assert versions(watcher) == ['{version=""} 1', '{version="1.0"} 2']
    two.announce(["x"], '2 "quoted"')
    three.close()
    left = ['{version="1.0"} 1', '{version="2 \\"quoted\\""} 1']
    wait_until(lambda: versions(watcher) == left, 5)

    async def cut():
        for client in list(hub.hub.clients):
            client.transport.abort()

    hub.run(cut())
    wait_until(lambda: hub.state.versions() == {"1.0": 1, '2 "quoted"': 1}, 5)


@pytest.mark.parametrize("killed", [False, True])
def test_held_after_a_kill(tmp_path, killed):
    """Who lives with a hub is given what it wants at once, but for the successor of a hub that was
    killed: who held it may come back.
    """
    journal = tmp_path / "hub.sock.journal"
    if killed:
        journal.write_bytes(b"")
    now = [0.0]
    hub = Hub(clock=lambda: now[0])
    hub.keep_journal(str(journal))
    layer = hub.layer()
    assert (layer.acquire("k") is None) == killed
    assert layer.acquire("l", 7) == 7
    now[0] += 2.5
    assert layer.acquire("k") is not None
    layer.close()
    hub.journal.close(keep=False)
