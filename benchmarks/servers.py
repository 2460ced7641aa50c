"""The servers under test, each a process tree of its own on a port that the system chose."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import certificate, processes

ROOT = Path(__file__).resolve().parent.parent
PROJECT = Path(__file__).resolve().parent / "project"
BIN = Path(sys.executable).parent

START_SECONDS = 30.0
"""Django, two process starts and a busy machine need a few seconds; more is a fault."""
STOP_SECONDS = 5.0
"""How long a server may drain before it is killed."""


class ServerError(RuntimeError):
    """A server did not start, or changed its processes while it was measured."""


@dataclass(frozen=True)
class Server:
    """How to start one server. ``variant`` goes into the environment of the Django project."""

    name: str
    argv: tuple[str, ...]
    variant: dict[str, str] = field(default_factory=dict)
    redis: bool = False
    """Whether it needs a Redis of its own, whose CPU then counts as the server's."""
    tls: bool = False


class Running:
    """A started server."""

    def __init__(self, server: Server, roots: list[int], port: int) -> None:
        self.name = server.name
        self.tls = server.tls
        self.port = port
        self._roots = roots

    def pids(self) -> list[int]:
        """Return all processes of the server, those it started included."""
        return [pid for root in self._roots for pid in processes.tree(root)]

    def cpu(self) -> dict[int, float]:
        """Return the CPU seconds of each process of the server."""
        return {pid: processes.cpu_seconds(pid) for pid in self.pids()}

    def front(self) -> int:
        """Return the process that holds the client connections: the one with most sockets."""
        return max(self.pids(), key=lambda pid: len(processes.sockets(pid)))


@contextlib.contextmanager
def running(server: Server) -> Iterator[Running]:
    """Start ``server``, wait until it answers, stop it and all that it started at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        environment = dict(os.environ)
        environment.update(server.variant)
        environment["PYTHONPATH"] = f"{PROJECT}{os.pathsep}{ROOT}"
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment["GATEWAY_LAYER_URL"] = f"unix://{folder}/hub"  # nobody else's
        roots = []
        if server.redis:
            store = folder / "redis.sock"
            roots.append(stack.enter_context(_redis(store)))
            environment["BENCH_REDIS"] = f"unix://{store}"
        log = folder / "log"
        process = stack.enter_context(child(server.argv, environment, log))
        roots.insert(0, process.pid)
        try:
            port = _wait_until_ready(process, tls=server.tls)
        except ServerError as error:
            raise ServerError(f"{server.name}: {error}\n{tail(log)}") from None
        yield Running(server, roots, port)


def _wait_until_ready(process: subprocess.Popen[bytes], *, tls: bool) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"ended with status {process.returncode} before it answered")
        for port in processes.listening_ports(processes.tree(process.pid)):
            if _answers(port, tls=tls):
                return port
        time.sleep(0.1)
    raise ServerError(f"does not answer after {START_SECONDS:.0f} s")


def _answers(port: int, *, tls: bool) -> bool:
    try:
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            if tls:
                client = stack.enter_context(certificate.client().wrap_socket(client))
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextlib.contextmanager
def child(
    argv: tuple[str, ...], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, its output in ``log``; end it and all that it started at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = processes.tree(process.pid) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family[1:]:
            if _belongs(pid, process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _belongs(pid: int, session: int) -> bool:
    """Say whether ``pid`` still is a process of our server, not a stranger with its number."""
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False


@contextlib.contextmanager
def _redis(store: Path) -> Iterator[int]:
    argv = ("redis-server", "--port", "0", "--unixsocket", str(store), "--save", "")
    log = store.with_suffix(".log")
    with child((*argv, "--appendonly", "no"), dict(os.environ), log) as process:
        deadline = time.monotonic() + START_SECONDS
        while not store.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"redis-server did not start\n{tail(log)}")
            time.sleep(0.05)
        yield process.pid


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


# ---------------------------------------------------------------- the candidates


def gateway(
    *,
    middleware: str = "none",
    consumers: str = "sync_echo",
    options: tuple[str, ...] = (),
    tls: bool = False,
    name: str = "gateway",
    workers: int = 1,
    plugins: str = "http,websocket",
) -> Server:
    """``gateway run`` with one worker process: supervisor, gateway with its hub, worker."""
    listen = "127.0.0.1:0"
    if tls:
        listen = f"tls:{listen}"
        found, key = certificate.files()
        options += ("--set", f"tls.certificate={found}", "--set", f"tls.key={key}")
    argv = (
        *(str(BIN / "gateway"), "run", "--plugins", plugins),
        *("--workers", str(workers)),
        *("--listen", listen, "--log-level", "warning", *options),
    )
    return Server(name, argv, _variant("settings_gateway", middleware, consumers), tls=tls)


def gunicorn(*, middleware: str = "none", threads: int = 0) -> Server:
    """gunicorn with one worker, sync (it closes after each response) or with threads."""
    kind = ("-k", "gthread", "--threads", str(threads)) if threads else ("-k", "sync")
    argv = (
        *(str(BIN / "gunicorn"), *kind, "-w", "1", "-b", "127.0.0.1:0"),
        *("--log-level", "warning", "wsgi:application"),
    )
    name = "gunicorn gthread" if threads else "gunicorn"
    return Server(name, argv, _variant("settings", middleware))


def uvicorn(*, middleware: str = "none", consumers: str = "", tls: bool = False) -> Server:
    """uvicorn with uvloop, httptools and websockets, in one process; Channels for consumers."""
    variant = _variant("settings", middleware, consumers)
    argv = _uvicorn(_asgi(consumers), tls=tls)
    return Server("uvicorn", argv, variant, redis=consumers == "group", tls=tls)


def eventstream() -> Server:
    """django-eventstream under uvicorn: from a view to the streams of the same process."""
    name = "django-eventstream"
    return Server(name, _uvicorn(_asgi("")), _variant("settings_eventstream", "none"))


def polled() -> Server:
    """A view that waits, asynchronous Django's own means of long-polling, under uvicorn."""
    return Server("uvicorn", _uvicorn(_asgi("")), _variant("settings_polls", "none"))


def _uvicorn(application: str, *, tls: bool = False) -> tuple[str, ...]:
    return (
        *(str(BIN / "uvicorn"), "--host", "127.0.0.1", "--port", "0", "--loop", "uvloop"),
        *("--http", "httptools", "--no-access-log", "--log-level", "warning"),
        *(_files("--ssl-certfile", "--ssl-keyfile") if tls else ()),
        application,
    )


def hypercorn() -> Server:
    """Hypercorn with uvloop and one worker, over TLS: HTTP/1.1 and HTTP/2."""
    argv = (
        *(str(BIN / "hypercorn"), "-b", "127.0.0.1:0", "-w", "1", "-k", "uvloop"),
        *("--log-level", "warning", *_files("--certfile", "--keyfile"), _asgi("")),
    )
    return Server("hypercorn", argv, _variant("settings", "none"), tls=True)


def granian() -> Server:
    """Granian with uvloop and one worker, over TLS: HTTP/1.1 and HTTP/2."""
    argv = (
        *(str(BIN / "granian"), "--host", "127.0.0.1", "--port", "0", "--interface", "asginl"),
        *("--workers", "1", "--loop", "uvloop", "--no-ws", "--log-level", "warning"),
        *("--no-access-log", *_files("--ssl-certificate", "--ssl-keyfile"), _asgi("")),
    )
    return Server("granian", argv, _variant("settings", "none"), tls=True)


def daphne(*, middleware: str = "none", consumers: str = "") -> Server:
    """Daphne, in one process; Channels for consumers."""
    argv = (str(BIN / "daphne"), "-b", "127.0.0.1", "-p", "0", "-v", "0", _asgi(consumers))
    return Server("daphne", argv, _variant("settings", middleware, consumers))


def _files(certificate_option: str, key_option: str) -> tuple[str, ...]:
    found, key = certificate.files()
    return (certificate_option, found, key_option, key)


def _asgi(consumers: str) -> str:
    return "asgi_channels:application" if consumers else "asgi_http:application"


def _variant(settings: str, middleware: str, consumers: str = "") -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": settings,
        "BENCH_MIDDLEWARE": middleware,
        "BENCH_CONSUMERS": consumers,
    }
