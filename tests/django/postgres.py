"""A PostgreSQL of a test's own: a cluster in a temporary directory, behind a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def programs() -> Path | None:
    """Where the server's programs are; Debian keeps them off the PATH."""
    if (found := shutil.which("initdb")) is not None and shutil.which("postgres") is not None:
        return Path(found).resolve().parent
    known = Path("/usr/lib/postgresql").glob("*/bin")
    return max((folder for folder in known if (folder / "initdb").exists()), default=None)


def user() -> dict[str, Any]:
    """As whom to run it: it refuses to be root's."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Run one; yield the directory of its socket. Skips the test where there is none."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    who = user()
    folder = tempfile.mkdtemp(prefix="gw-pg-")
    server = None
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        subprocess.run(
            [binaries / "initdb", "-D", folder, "-A", "trust", "-U", "gateway", "--no-sync"],
            check=True,
            capture_output=True,
            cwd="/",
            **who,
        )
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder, "-k", folder]
            + [part for given in ("listen_addresses=", "fsync=off") for part in ("-c", given)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **who,
        )
        end = time.monotonic() + 15
        while True:
            try:
                psycopg.connect(host=folder, user="gateway", dbname="postgres").close()
                break
            except psycopg.OperationalError:
                assert server.poll() is None, "PostgreSQL did not start"
                assert time.monotonic() < end, "PostgreSQL did not start in time"
                time.sleep(0.05)
        yield folder
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # nothing of it is kept
            server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
