"""Each flavour as its author has it: installed with pip, checked, tested, run, talked to."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from gateway.scaffold import FLAVOURS
from tests.cli.toy import wait_until
from tests.house.serving import free_port, stop
from tests.scaffold.made import Made

# An environment is made, and tools read all of the package, on a machine that does more.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=FLAVOURS)
def made(request, tmp_path_factory) -> Made:
    """A project of each flavour."""
    return Made(tmp_path_factory.mktemp(request.param), f"new_{request.param}", request.param)


def test_its_checks(made, tmp_path_factory):
    """Its types are strict, and its code is as ruff would have it."""
    cache = tmp_path_factory.getbasetemp() / "mypy"  # what all flavours import is read once
    made.run(made.python, "-m", "mypy", "--cache-dir", str(cache))
    made.run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_its_suite(made):
    """Its own tests pass, without a warning."""
    said = made.run(made.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b\d+ passed", said)


def test_its_conformance(made):
    """What it calls its suite is found and run outside pytest, too."""
    if not (made.project / f"gateway_{made.name}" / "conformance.py").exists():
        assert made.name in {"new_client", "new_datagram"}
        return
    said = made.run(made.python, "-m", "gateway", "conformance", made.name)
    assert re.search(r"^\S.* ok$", said, re.MULTILINE)
    assert said.endswith(" 0 FAILED\n")


@contextlib.contextmanager
def running(made: Made, *options: str, serves: bool = True) -> Iterator[int]:
    """A gateway that serves the plugin; yields its port."""
    port = free_port()
    where = f"127.0.0.1:{port}"
    setting = {
        "new_http": f"http.listen={where}",
        "new_datagram": f"new_datagram.listen=udp:{where}",
        "new_client": f"new_client.connect={where}",
    }.get(made.name, f"{made.name}.listen={where}")
    command = [made.python, "-m", "gateway", "run", "--plugins", made.name]
    output = made.project.parent / "output"
    with output.open("w") as out:
        process = subprocess.Popen(
            [*command, "--set", setting, *options],
            cwd=made.django() if serves else made.project,
            env=made.environ(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        wait_until(
            lambda: "again to stop at once" in output.read_text() or process.poll() is not None,
            60,
            output.read_text,
        )
        assert process.poll() is None, output.read_text()
        yield port
    finally:
        stop(process)


def say(made: Made, port: int, text: str) -> str:
    """Say a line in the flavour's way; return the line that answers it."""
    if made.name == "new_http":
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/{made.name}", text.encode(), 20
            ) as response:
                return response.read().decode().strip()
        except urllib.error.HTTPError as error:
            with error:
                return str(error.code)
    if made.name == "new_client":
        return say_as_peer(port, text)
    if made.name == "new_datagram":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(20)
            client.connect(("127.0.0.1", port))
            client.send(text.encode())
            return client.recv(2000).decode()
    with socket.create_connection(("127.0.0.1", port), 20) as client, client.makefile() as lines:
        client.sendall(f"{text}\n".encode())
        return lines.readline().strip()


def say_as_peer(port: int, text: str) -> str:
    """Be the peer that the gateway connects to; return what it says back, or that it is silent."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(20)
        connection, _ = listener.accept()
        with connection, connection.makefile() as lines:
            connection.settimeout(20)
            assert lines.readline() == "HELLO\n"
            connection.sendall(f"lobby {text}\n".encode())
            return lines.readline().strip().removeprefix("lobby ")


def test_served(made):
    """In a Django project the consumer of the README answers."""
    with running(made, "--workers", "1") as port:
        assert say(made, port, "hello") == "hello"


def test_alone(made):
    """Without a Django project it starts; where no worker comes, its clients are told."""
    options = ("--workers", "none", "--set", "gateway.start_timeout=0.1")
    with running(made, *options, serves=False) as port:
        if made.name == "new_client":  # a peer has nothing to be told
            with socket.create_server(("127.0.0.1", port)) as listener:
                listener.settimeout(20)
                connection, _ = listener.accept()
                with connection, connection.makefile() as lines:
                    assert lines.readline() == "HELLO\n"
            return
        assert say(made, port, "hello") in {"LATER", "503"}
