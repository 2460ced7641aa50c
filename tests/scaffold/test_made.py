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


def test_its_checks(made):
    """Its types are strict, and its code is as ruff would have it."""
    made.run(made.python, "-m", "mypy", "--cache-dir", str(made.project.parent / "cache"))
    made.run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_its_suite(made):
    """Its own tests pass, without a warning."""
    said = made.run(made.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b\d+ passed", said)
    assert "skipped" not in said


@contextlib.contextmanager
def running(made: Made, *options: str, serves: bool = True) -> Iterator[int]:
    """A gateway that serves the plugin; yields its port."""
    port = free_port()
    owner = made.name if made.name != "new_http" else "http"
    command = [made.python, "-m", "gateway", "run", "--plugins", made.name]
    process = subprocess.Popen(
        [*command, "--set", f"{owner}.listen=127.0.0.1:{port}", *options],
        cwd=made.django() if serves else made.project,
        env=made.environ(),
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, 30)
        assert process.poll() is None
        yield port
    finally:
        stop(process)


def listens(port: int) -> bool:
    """Whether somebody listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


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
    with socket.create_connection(("127.0.0.1", port), 20) as client, client.makefile() as lines:
        client.sendall(f"{text}\n".encode())
        return lines.readline().strip()


def test_served(made):
    """In a Django project the consumer of the README answers."""
    with running(made, "--workers", "1") as port:
        assert say(made, port, "hello") == "hello"


def test_alone(made):
    """Without a Django project it starts; where no worker comes, its clients are told."""
    options = ("--workers", "none", "--set", "gateway.start_timeout=0.1")
    with running(made, *options, serves=False) as port:
        assert say(made, port, "hello") in {"LATER", "503"}
