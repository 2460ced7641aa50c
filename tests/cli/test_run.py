"""``gateway run`` and its kin as processes: start, failures, restarts, the stop."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.layers import open_layer
from tests.cli.toy import Client, alive, asking, refused, wait_until

RUN = ("run", "--plugins", "toy")


def test_one_process(start):
    """With --workers 0 one process serves everything, says where, and exits 0 on SIGTERM."""
    gateway = start(*RUN, "--workers", "0")
    with asking(gateway.port()) as client:
        assert client.ask("pid") == str(gateway.process.pid)
    gateway.signal()
    assert gateway.wait() == 0
    assert "memory://" in gateway.text()
    assert refused(gateway.port())


def test_supervised(start, toys):
    """By default workers answer in processes of their own, over a hub socket of mode 0600."""
    gateway = start(*RUN, "--workers", "2")
    port = gateway.port()
    with asking(port) as client:
        worker = int(client.ask("pid"))
    assert worker in gateway.children()
    assert len(gateway.children()) == 3
    (hub,) = toys.glob("gateway-*.sock")
    assert stat.S_IMODE(hub.stat().st_mode) == 0o600
    children = gateway.children()
    gateway.signal()
    assert gateway.wait() == 0
    assert not [pid for pid in children if alive(pid)]
    assert refused(port)
    assert not hub.exists()


def test_interrupt_is_as_good(start):
    """SIGINT stops as SIGTERM does, without a traceback."""
    gateway = start(*RUN, "--workers", "1")
    with asking(gateway.port()):
        pass
    gateway.signal(signal.SIGINT)
    assert gateway.wait() == 0
    assert "Traceback" not in gateway.text()


def test_dead_worker_is_replaced(start):
    """A worker that dies is started again, with a line that says what happened to which."""
    gateway = start(*RUN, "--workers", "1")
    with asking(gateway.port()) as client:
        first = client.ask("pid")
        assert client.ask("die") == "failed"
        assert client.ask("pid") not in {first, "failed"}
    gateway.wait_for(rf"worker 1 \(pid {first}\) was killed by SIGKILL after .* again in 0\.1 s")
    gateway.wait_for(r"worker 1 started again \(pid \d+\)")


def test_dead_gateway_is_replaced(start):
    """A gateway process that dies comes back on the same port; the workers rejoin."""
    gateway = start(*RUN, "--workers", "1")
    port = gateway.port()
    with asking(port) as client:
        worker = client.ask("pid")
    (victim,) = set(gateway.children()) - {int(worker)}
    os.kill(victim, signal.SIGKILL)
    gateway.wait_for(rf"gateway \(pid {victim}\) was killed by SIGKILL")
    with asking(port) as client:
        assert client.ask("pid") == worker
    assert gateway.text().count("again to stop at once\n") == 1


def test_drain(start, toys):
    """After SIGTERM nobody new gets in, what runs finishes, and only then the process ends."""
    gateway = start(*RUN, "--workers", "1")
    port = gateway.port()
    release = toys / "release"
    with asking(port) as client, Client(port) as idle:
        client.say(f"wait {release}")
        gateway.signal()
        assert idle.hear() == ""  # idle connections are let go
        wait_until(lambda: refused(port))
        assert gateway.process.poll() is None
        release.touch()
        assert client.hear() == f"wait {release}"
    assert gateway.wait() == 0


def test_signals_to_children(start, toys):
    """A SIGTERM to every process at once, as process managers send it, is an ordered drain."""
    gateway = start(*RUN, "--workers", "1")
    release = toys / "release"
    with asking(gateway.port()) as client:
        client.say(f"wait {release}")
        for pid in [*gateway.children(), gateway.process.pid]:
            os.kill(pid, signal.SIGTERM)
        gateway.wait_for(r"supervisor\].* draining")
        release.touch()
        assert client.hear() == f"wait {release}"
    assert gateway.wait() == 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_second_signal(start, workers, tmp_path):
    """A second SIGTERM ends everything at once, whatever still runs, with status 1."""
    gateway = start(*RUN, "--workers", workers)
    port = gateway.port()
    with asking(port) as client:
        client.say(f"wait {tmp_path}/never")
        children = gateway.children()
        gateway.signal()
        gateway.wait_for("draining; the same again stops at once")
        wait_until(lambda: refused(port))
        gateway.signal()
        assert gateway.wait(3) == 1
    assert not [pid for pid in children if alive(pid)]
    assert not list(tmp_path.glob("*.sock"))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_stop_during_the_start(start, toys, workers):
    """A SIGTERM while the application still starts ends all in order, with status 0."""
    release = toys / "release"
    gateway = start(*RUN, "--workers", workers, TOY_START_WAITS=str(release))
    gateway.wait_for("waits to start")
    gateway.signal()
    release.touch()
    assert gateway.wait() == 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_grace(start, tmp_path, workers):
    """What does not finish within the grace is cut off, and the process ends."""
    gateway = start(
        *RUN, "--workers", workers, "--set", "gateway.grace=0.2", "--set", "workers.grace=0.2"
    )
    with asking(gateway.port()) as client:
        client.say(f"wait {tmp_path}/never")
        gateway.signal()
        assert gateway.wait(5) == 0
    gateway.wait_for(r"consumers that ran longer than 0\.2 s were cut off")


@pytest.mark.parametrize("workers", ["none", "1"])
def test_failed_start_is_rolled_back(start, workers, tmp_path):
    """A plugin that cannot start ends all with status 2, named; nothing is left running."""
    gateway = start("run", "--plugins", "bad", "--workers", workers)
    children = gateway.children()
    assert gateway.wait() == 2
    assert "plugin 'bad' cannot start: OSError: no luck today" in gateway.text()
    assert "bad stopped" in gateway.text()
    assert "toy://" not in gateway.text()
    assert not [pid for pid in children if alive(pid)]
    assert not list(tmp_path.glob("*.sock"))


@pytest.mark.parametrize("workers", ["none", "1"])
def test_port_in_use(start, workers):
    """A taken port ends the start with status 2 and names the setting."""
    first = start(*RUN, "--workers", "0")
    port = first.port()
    second = start(*RUN, "--workers", workers, "--set", f"toy.listen=127.0.0.1:{port}")
    assert second.wait() == 2
    assert f"gateway: toy.listen: '127.0.0.1:{port}': the address is in use" in second.text()


def test_worker_that_cannot_start(start):
    """A worker that says at its first start that it cannot, ends all with status 2."""
    gateway = start(*RUN, "--workers", "1", TOY_WORKER_FAILS="yes")
    assert gateway.wait() == 2
    assert "toys are broken" in gateway.text()
    assert "worker 1 cannot start" in gateway.text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--plugins", "misspelt"), r"'gateway_plugins', which is no hook.*'gateway_plugin'\?"),
        (("--plugins", "needy"), r"no_such_library.*pip install 'gateway-toy\[needy\]'"),
        (("--plugins", "tyo"), r"--plugins: there is no plugin 'tyo'; did you mean 'toy'\?"),
        (("--plugins", "toy", "--set", "toy.lsten=1"), r"no setting 'lsten'.*'listen'\?"),
        (("--plugins", "toy", "--workers", "many"), r"--workers: 'many' does not fit"),
        (("--plugins", "toy", "--set", "toy.listen=x"), r"toy\.listen: 'x': expected a port"),
        (("--plugins", "toy", "--layer", "carrier://x"), r"no layer has this scheme"),
        (("--plugins", "toy", "--workers", "2", "--layer", "carrier://x"), r"carrier"),
    ],
)
def test_wrong_settings(start, arguments, says):
    """Whatever is wrong before the start is one line that names it, and status 2."""
    gateway = start("run", "--workers", "none", *arguments)
    assert gateway.wait() == 2
    gateway.wait_for(says)
    assert "Traceback" not in gateway.text()


def test_no_application(start):
    """Without an application the text says where it was looked for and what to do."""
    gateway = start(*RUN, "--workers", "1", TOY_ABSENT="yes")
    assert gateway.wait() == 2
    gateway.wait_for("no application found: .*--settings, or .*--workers none")


def test_children_do_not_outlive_the_supervisor(start):
    """If the supervisor is killed outright, gateway and workers end by themselves."""
    gateway = start(*RUN, "--workers", "1")
    port = gateway.port()
    with asking(port):
        children = gateway.children()
    gateway.process.kill()
    gateway.wait()
    wait_until(lambda: not [pid for pid in children if alive(pid)])
    assert refused(port)


def test_stale_socket(start, toys):
    """A socket file that a killed gateway left is replaced."""
    path = toys / "hub.sock"
    layer = ("--layer", f"unix://{path}")
    first = start(*RUN, "--workers", "none", *layer)
    first.port()
    first.process.kill()
    first.wait()
    assert path.exists()
    second = start(*RUN, "--workers", "1", *layer)
    with asking(second.port()):
        pass


def test_two_hubs(start, toys):
    """Where a hub answers, a second gateway with workers does not start, and says why."""
    layer = ("--layer", f"unix://{toys}/hub.sock")
    start("hub", *layer).wait_for("hub at unix://")
    second = start(*RUN, "--workers", "1", *layer)
    assert second.wait() == 2
    second.wait_for("another gateway or hub serves it.*--workers none")


@pytest.mark.parametrize("gateways", ["1", "2"])
def test_apart(start, toys, gateways):
    """Hub, protocol servers and worker run apart, each ended by SIGTERM with status 0."""
    layer = ("--layer", f"unix://{toys}/hub.sock")
    hub = start("hub", *layer)
    hub.wait_for("hub at unix://")
    server = start(*RUN, "--workers", "none", "--gateways", gateways, *layer)
    port = server.port()
    worker = start("worker", *layer)
    for _ in range(8):
        with asking(port) as client:
            assert client.ask("pid") == str(worker.process.pid)
    asker = open_layer(layer[1])
    numbers = asker.metrics_text()
    asker.close()
    assert len(set(re.findall(r'gateway="(p_\w+)"', numbers))) == int(gateways)
    for process in (worker, server, hub):
        process.signal()
        assert process.wait() == 0
    assert not Path(toys / "hub.sock").exists()


def test_socket_group_and_mode(start, toys):
    """layer.socket_mode opens the hub's socket to a group; an unknown group is refused."""
    layer = ("--layer", f"unix://{toys}/hub.sock", "--set", "layer.socket_mode=0660")
    start("hub", *layer).wait_for("hub at unix://")
    assert stat.S_IMODE((toys / "hub.sock").stat().st_mode) == 0o660
    other = ("--layer", f"unix://{toys}/b.sock", "--set", "layer.socket_group=no-such-group")
    second = start("hub", *other)
    assert second.wait() == 2
    second.wait_for("layer.socket_group: 'no-such-group'")
    assert not (toys / "b.sock").exists()


def test_blocked_loop_is_named(start):
    """What blocks the event loop is logged with its stack."""
    gateway = start(*RUN, "--workers", "0", "--set", "gateway.watchdog=0.2")
    with asking(gateway.port()) as client:
        assert client.ask("block") == "blocked"
    gateway.wait_for(r"has not turned for 0\.2 s; it is in:[\s\S]*time\.sleep\(0\.6\)")
    gateway.wait_for("turns again")


def test_json_log(start):
    """With --log-format json every line on standard error is an object."""
    gateway = start(*RUN, "--workers", "0", "--log-format", "json")
    gateway.port()
    gateway.signal()
    assert gateway.wait() == 0
    gateway.wait_for(r'"level":"info","logger":"gateway.process","message":"drained"')


@pytest.mark.parametrize("workers", ["0", "1"])
def test_access_log_on_standard_output(start, workers):
    """With log.access "-" each connection is a line among the output, the last ones included."""
    gateway = start(*RUN, "--workers", workers, "--set", "log.access=-")
    port = gateway.port()
    with asking(port):
        pass
    gateway.wait_for(
        r'\n[-0-9]+T[:.0-9]+Z toy - - "-" - client 6 6 \d\.\d\d\d toy\.send\.p_\w+!\d\n'
    )
    with asking(port):
        gateway.signal()
        assert gateway.wait() == 0
    assert re.search(r' toy - - "-" - gateway 6 6 ', gateway.text())


@pytest.mark.parametrize("workers", ["0", "1"])
def test_access_log_is_opened_anew(start, toys, workers):
    """After a rename and SIGHUP what comes is in a new file, and nothing is lost."""
    path, old = toys / "project" / "access.log", toys / "project" / "access.log.1"
    gateway = start(*RUN, "--workers", workers, "--set", "log.access=access.log")
    with asking(gateway.port()):
        pass
    wait_until(lambda: path.read_text().count(" toy ") == 1)
    path.rename(old)
    gateway.signal(signal.SIGHUP)
    wait_until(path.exists)
    with asking(gateway.port()):
        pass
    wait_until(lambda: path.read_text().count(" toy ") == 1)
    assert old.read_text().count(" toy ") == 1


def test_access_log_in_a_file(start, toys):
    """A relative path is one from the working directory; what cannot be opened stops the start."""
    arguments = (*RUN, "--workers", "0", "--set", "log.access=access.log")
    gateway = start(*arguments, "--set", "log.access_format=json")
    with asking(gateway.port()):
        pass
    path = toys / "project" / "access.log"
    wait_until(lambda: '"protocol":"toy"' in path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    assert '"protocol"' not in gateway.text()
    second = start(*RUN, "--workers", "none", "--set", "log.access=nowhere/access.log")
    assert second.wait() == 2
    second.wait_for(r"gateway: log\.access: cannot open 'nowhere/access\.log': No such file")


def reload(gateway, *arguments):
    """Run ``gateway reload`` for it; return its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "reload", *arguments],
        cwd=gateway.output.parent / "project",
        env=gateway.environ,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_reload(start):
    """`gateway reload` finds the gateway of its project, and ends once the workers are new."""
    gateway = start(*RUN, "--workers", "1")
    with asking(gateway.port()) as client:
        old = client.ask("pid")
        status, said = reload(gateway)
        assert status == 0, said
        assert said.startswith("reloaded: 1 worker of generation 2 in ")
        assert client.ask("pid") not in {old, "failed"}
    assert not alive(int(old))
    gateway.signal()
    assert gateway.wait() == 0
    assert reload(gateway)[0] == 1


@pytest.mark.parametrize("workers", ["0", "none"])
def test_reload_of_one_process(start, workers, tmp_path):
    """Where there are no workers to replace `gateway reload` says so."""
    layer = ("--layer", f"unix://{tmp_path}/hub.sock")
    gateway = start(*RUN, "--workers", workers, *layer)
    gateway.port()
    status, said = reload(gateway, *layer)
    assert status == 1
    assert "has no workers of its own (--workers 0 or none)" in said


def test_reload_with_broken_settings(start):
    """Settings that cannot be read are told as such, and nothing is replaced."""
    gateway = start(*RUN, "--workers", "1")
    with asking(gateway.port()) as client:
        old = client.ask("pid")
        gateway.environ["TOY_SETTINGS"] = "{"
        status, said = reload(gateway)
        assert status == 2
        assert "the settings cannot be read, nothing is replaced: JSONDecodeError" in said
        assert "Traceback" not in said
        assert client.ask("pid") == old
