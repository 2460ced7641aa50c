"""A gateway of its own for the code on a page, or for a test: started, waited for, ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_listener(
    where: int | str, process: subprocess.Popen[str] | None = None, seconds: float = 30
) -> None:
    """Wait until somebody listens on a port, or on a Unix socket's path.

    AssertionError if nobody does, or the process ended.
    """
    kind = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.socket(kind) as tried:
            tried.connect(("127.0.0.1", where) if isinstance(where, int) else where)
            return
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"nobody listens on {where}"
        time.sleep(0.05)


def serve(port: int, *options: str) -> None:
    """Run ``gateway run`` on the project in the current directory until this process ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "run", "--listen", f"127.0.0.1:{port}", *options],
        stdin=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(stop, process)
    wait_for_listener(port, process)


def stop(process: subprocess.Popen[str], *, group: bool = False) -> int:
    """Ask a process (or its whole group, as a terminal does) to end; return its status."""
    if process.poll() is None:
        if group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
