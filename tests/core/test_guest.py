"""A gateway as a guest: on a thread of its own, once in a process, so in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import signal, socket, sys, threading
from gateway.core.boot import Options, boot
from gateway.core.errors import ConfigError
from gateway.core.guest import Guest
def guest(listen="127.0.0.1:0"):
    layer = f"unix://{sys.argv[1]}/hub.sock"
    return Guest(boot(Options(plugins="http", listen=(listen,), workers="none", layer=layer)))
handlers = [signal.getsignal(number) for number in (2, 15, 1)]
"""


def run(code: str, room: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + code, str(room)],
        cwd=room,
        env={key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_a_guest(tmp_path: Path) -> None:
    """It serves once `start` returns, leaves signals and output alone, and ends by `stop`."""
    out = run(
        """
host = guest()
host.start()
(name, (place,)), = host.places
port = int(place.rpartition(":")[2])
socket.create_connection(("127.0.0.1", port)).close()
assert handlers == [signal.getsignal(number) for number in (2, 15, 1)]
waiting = threading.Thread(target=host.wait)
waiting.start()
print(name, place.rpartition(":")[0], host.stop(), host.stop())
waiting.join()
try:
    socket.create_connection(("127.0.0.1", port))
except ConnectionRefusedError:
    print("over")
""",
        tmp_path,
    )
    assert out == "http http://127.0.0.1 True True\nover\n"
    assert not (tmp_path / "hub.sock").exists()


def test_a_guest_that_cannot_start(tmp_path: Path) -> None:
    """What keeps it from starting is raised by `start`; nothing is left to stop."""
    out = run(
        """
with socket.create_server(("127.0.0.1", 0)) as taken:
    host = guest(f"127.0.0.1:{taken.getsockname()[1]}")
    try:
        host.start()
    except ConfigError as error:
        print(error)
print(host.stop())
""",
        tmp_path,
    )
    assert "the address is in use" in out
    assert out.endswith("\nTrue\n")


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_stop_that_comes_early(tmp_path: Path, when: str) -> None:
    """One that is stopped before it serves does not serve: `start` returns, and it is over."""
    out = run(
        f"""
host = guest()
if {when == "before"}:
    print(host.stop())
else:
    threading.Thread(target=host.stop).start()
host.start()
host.wait()
print(host.stop())
""",
        tmp_path,
    )
    assert out.endswith("True\n")
    assert not (tmp_path / "hub.sock").exists()
