"""A plugin and an application of a few lines, installed through metadata in a directory.

Protocol: one line in, one line out. The application answers the text; its words are ``pid``
(the worker's process), ``die`` (the worker kills itself), ``wait PATH`` (until that file is
there), anything else comes back as it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

PLUGIN = '''
"""A toy: one line in, one line out."""
import asyncio, os, time
from typing import Annotated, TypedDict
import msgspec
from gateway.core.listen import bind
from gateway.core.plugin import Close, Emit, Peer, ProtocolPlugin, Session, Write, hookimpl

class Line(TypedDict):
    reply_channel: str
    order: int
    client: list | None
    server: list | None
    text: str

class Reply(TypedDict, total=False):
    text: str

class messages:
    KINDS = {"receive": Line}
    REPLY = Reply

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[tuple[str, ...], msgspec.Meta(description="Where toys listen.")] = ("0",)
    fail: str = ""
    password: Annotated[str, msgspec.Meta(extra={"secret": True})] = ""

class Toy(Session):
    waiting = 0
    last = False

    def received(self, data):
        text = data.decode().strip()
        if text == "block":
            time.sleep(0.6)
            return [Write(b"blocked\\n")]
        self.waiting += 1
        return [Emit("receive", {"text": text}, token=text)]

    def send(self, conversation, reply, token):
        return [Write(reply["text"].encode() + b"\\n")]

    def outcome(self, token, outcome):
        return self.over(None if outcome.kind == "accepted" else outcome.kind)

    def refused(self, token, refusal):
        return self.over(refusal.value)

    def over(self, text):
        self.waiting -= 1
        if text:
            yield Write(text.encode() + b"\\n")
        if self.last:
            yield Close()

    def draining(self, retry_after):
        self.last = True
        return [] if self.waiting else [Close()]

class Wire(asyncio.Protocol):
    def __init__(self, plugin):
        self.plugin = plugin

    def connection_made(self, transport):
        self.transport = transport
        self.plugin.wires.add(self)
        self.connection = self.plugin.context.attach(Toy(), self, Peer())

    def data_received(self, data):
        self.connection.received(data)

    def eof_received(self):
        self.connection.eof()

    def connection_lost(self, error):
        self.plugin.wires.discard(self)
        self.connection.lost()

    def write(self, output):
        if not self.transport.is_closing():
            self.transport.write(output)

    def close(self, data, *, abort):
        self.transport.abort() if abort else self.transport.close()

    def pause(self):
        self.transport.pause_reading()

    def resume(self):
        self.transport.resume_reading()

class ToyPlugin(ProtocolPlugin):
    name = "toy"
    Config = Config
    messages = messages
    servers = ()

    async def start(self):
        self.wires = set()
        loop = asyncio.get_running_loop()
        self.servers = [await loop.create_server(lambda: Wire(self), sock=bind(e))
                        for e in self.context.endpoints()]
        if self.config.fail:
            raise RuntimeError(f"toy.fail says {self.config.fail}")

    async def stop(self):
        for server in self.servers:
            server.close()

@hookimpl
def gateway_plugin():
    return ToyPlugin
'''

BAD = '''
"""Requires toy and fails to start."""
from gateway.core.plugin import ProtocolPlugin, hookimpl
from toy import messages

class Bad(ProtocolPlugin):
    name = "bad"
    messages = messages
    requires = ("toy",)

    async def start(self):
        raise OSError("no luck today")

    async def stop(self):
        print("bad stopped", flush=True)

@hookimpl
def gateway_plugin():
    return Bad
'''

MISSPELT = """
from gateway.core.plugin import hookimpl

@hookimpl
def gateway_plugins():
    return None
"""

NEEDY = "import no_such_library\n"

APPLICATION = """
import json, os, signal, sys, threading, time
from gateway.core.errors import ConfigError
from gateway.core.layers.base import OK, Outcome, send
from gateway.core.plugin import hookimpl

class Worker:
    def __init__(self, layer, version):
        self.layer = layer
        self.intake = layer.intake(["toy.receive"])
        self.over = threading.Event()
        self.ready = threading.Event()
        self.version = version
        self.count = 0
        self.thread = threading.Thread(target=self.run)

    def start(self):
        self.layer.announce(["toy.receive"], self.version)
        self.thread.start()
        self.ready.set()

    def handled(self):
        return self.count

    def run(self):
        while not self.over.is_set():
            delivery = self.intake.take(0.05)
            if delivery is None:
                continue
            for message in delivery.messages:
                text = message["text"]
                self.count += 1
                if text == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if text.startswith("wait "):
                    while not os.path.exists(text[5:]):
                        time.sleep(0.01)
                answer = str(os.getpid()) if text == "pid" else text
                self.layer.settle(
                    delivery, [OK], [send(message["reply_channel"], {"text": answer})])

    def stop(self, grace):
        self.over.set()
        self.thread.join(grace)
        self.intake.close()
        return not self.thread.is_alive()

class App:
    source = "toy settings"

    def settings(self):
        return json.loads(os.environ.get("TOY_SETTINGS", "{}"))

    def channels(self):
        return ["toy.receive"]

    def routes(self):
        return [("toy.receive", "text=.*", "toys.play")]

    def warnings(self):
        return []

    def run_worker(self, layer, config):
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        worker = self.start_worker(layer, config)
        stopped.wait()
        worker.stop(config.workers.grace)
        layer.close()
        return 0

    def start_worker(self, layer, config):
        if os.environ.get("TOY_WORKER_FAILS"):
            raise ConfigError("toys are broken")
        if path := os.environ.get("TOY_START_WAITS"):
            print("waits to start", flush=True)
            while not os.path.exists(path):
                time.sleep(0.01)
        worker = Worker(layer, config.workers.version)
        worker.start()
        return worker

@hookimpl
def gateway_application(config):
    return None if os.environ.get("TOY_ABSENT") else App()
"""

ENTRY_POINTS = """\
[gateway.plugins]
toy = toy
bad = bad
misspelt = misspelt
needy = needy

[gateway.applications]
toyapp = toyapp
"""


def install(directory: Path) -> None:
    """Install plugin and application into a directory that is put on PYTHONPATH."""
    for name, text in {
        "toy": PLUGIN,
        "bad": BAD,
        "misspelt": MISSPELT,
        "needy": NEEDY,
        "toyapp": APPLICATION,
    }.items():
        (directory / f"{name}.py").write_text(text)
    register(directory, "toy", "1.5", ENTRY_POINTS, "Provides-Extra: needy\n")


def install_plugin(directory: Path, name: str, source: str) -> None:
    """Install one plugin more there."""
    (directory / f"{name}.py").write_text(source)
    register(directory, name, "1.0", f"[gateway.plugins]\n{name} = {name}\n")


def register(directory: Path, name: str, version: str, points: str, more: str = "") -> None:
    """Write the metadata of the distribution ``gateway-NAME``."""
    info = directory / f"gateway_{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: gateway-{name}\nVersion: {version}\n{more}"
    )
    (info / "entry_points.txt").write_text(points)


PASS = """
import os, sys
for number, descriptor in enumerate(map(int, sys.argv[1].split())):
    os.dup2(descriptor, 3 + number)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Does as systemd: passes descriptors from 3 on, to this process."""


class Gateway:
    """One ``gateway`` command that runs, and what it has said so far.

    ``sockets`` are passed to it as systemd does; the variables but LISTEN_PID are the caller's.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        sockets: Sequence[socket.socket] = (),
        **environ: str,
    ) -> None:
        self.output = directory / f"output-{time.monotonic_ns()}"
        clean = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
        clean.pop("DJANGO_SETTINGS_MODULE", None)
        self.environ = (
            clean | {"PYTHONPATH": str(directory), "XDG_RUNTIME_DIR": str(directory)} | environ
        )
        command = [sys.executable, "-P", "-m", "gateway", *arguments]
        numbers = [sock.fileno() for sock in sockets]
        if sockets:
            command[1:1] = ["-c", PASS, " ".join(map(str, numbers))]
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                command,
                cwd=directory / "project",
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=numbers,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str, seconds: float = 12) -> re.Match[str]:
        """Return the first match in the output; AssertionError with it if there is none."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            if match := re.search(pattern, self.text()):
                found.append(match)
            return bool(found) or self.process.poll() is not None

        wait_until(look, seconds, self.text)
        if not found and (match := re.search(pattern, self.text())):
            found.append(match)
        assert found, f"no {pattern!r} in:\n{self.text()}"
        return found[0]

    def port(self) -> int:
        found = int(self.wait_for(r"toy://127\.0\.0\.1:(\d+)")[1])
        self.wait_for("again to stop at once\n")
        return found

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 12) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs:\n{self.text()}") from None

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for pid in [*self.children(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                if pid != self.process.pid or self.process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Client:
    """A client of the toy protocol."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("r")

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def hear(self) -> str:
        return self.file.readline().strip()

    def ask(self, text: str) -> str:
        self.say(text)
        return self.hear()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def wait_until(
    done: Callable[[], object], seconds: float = 10, tell: Callable[[], str] = str
) -> None:
    """Return once ``done()`` is true; AssertionError with ``tell()`` if it never is."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"never came true\n{tell()}"
        time.sleep(0.01)


def refused(port: int) -> bool:
    """Whether nobody listens on a port of the loopback interface."""
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process runs (one that is dead and not yet reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def asking(port: int) -> Iterator[Client]:
    """A client, once one gets an answer."""
    found: list[Client] = []

    def ask() -> bool:
        with contextlib.suppress(OSError):
            client = Client(port)
            if client.ask("hello") == "hello":
                found.append(client)
                return True
            client.close()
        return False

    wait_until(ask)
    with found[0] as client:
        yield client
