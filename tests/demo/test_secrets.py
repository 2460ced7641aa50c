"""The example whose one worker alone holds a secret, as one user and as several."""

from __future__ import annotations

import grp
import hmac
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.serving import free_port, stop, wait_for_listener

pytestmark = pytest.mark.timeout(60)  # processes, on a busy machine

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "secrets"
KEY = b"nobody else knows"
PUBLIC, VAULT, STRANGER, GROUP = "nobody", "daemon", "mail", "games"
"""Users and a group that every Debian has."""
MAY_RUN = """
import subprocess, sys
code = "import gateway, django_gateway, uvloop"
sys.exit(subprocess.run([sys.executable, "-P", "-c", code]).returncode)
"""
"""Succeeds where a user may run a Python, and what that runs may too."""


class Room:
    """A directory that all users may enter, and processes in the example as one of them."""

    def __init__(self, python: str, users: bool) -> None:
        self.python = python
        self.users = users
        self.path = Path(tempfile.mkdtemp())
        self.path.chmod(0o755)
        self.key = self.path / "key"
        self.key.write_bytes(KEY)
        self.key.chmod(0o400)
        self.run = self.path / "run"
        self.run.mkdir()
        self.url = f"unix://{self.run}/hub.sock"
        if users:
            shutil.chown(self.key, VAULT)
            shutil.chown(self.run, PUBLIC, GROUP)
            self.run.chmod(0o750)
        self.running: list[subprocess.Popen[str]] = []

    def command(self, user: str, *command: str) -> list[str]:
        """What runs a command as a user, in the group if it is not a stranger's."""
        if not self.users:
            return list(command)
        groups = ["--clear-groups"] if user == STRANGER else ["--groups", GROUP]
        gid = str(pwd.getpwnam(user).pw_gid)
        return ["setpriv", "--reuid", user, "--regid", gid, *groups, "--no-new-privs", *command]

    def environ(self, **more: str) -> dict[str, str]:
        site = sysconfig.get_path("purelib")
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{site}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **more,
        }

    def start(self, user: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(user, self.python, "-P", "-m", "gateway", *arguments),
            cwd=EXAMPLE,
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self.running.append(process)
        return process

    def public(self) -> int:
        """Start gateway and workers that face the public; the port."""
        port = free_port()
        group = {"GATEWAY_LAYER_SOCKET_MODE": "0660", "GATEWAY_LAYER_SOCKET_GROUP": GROUP}
        process = self.start(
            *(PUBLIC, "run", "--listen", f"127.0.0.1:{port}", "--workers", "1"),
            *("--layer", self.url, "--exclude-channels", "vault.*"),
            **(group if self.users else {}),
        )
        wait_for_listener(port, process)
        return port

    def vault(self) -> subprocess.Popen[str]:
        return self.start(
            *(VAULT, "worker", "--layer", self.url, "--only-channels", "vault.*"),
            VAULT_KEY_FILE=str(self.key),
        )

    def end(self) -> None:
        for process in reversed(self.running):
            stop(process)
        shutil.rmtree(self.path)


def sign(port: int, document: bytes) -> str:
    """What the notary answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/sign", data=document)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def signature(document: bytes) -> str:
    return hmac.digest(KEY, document, "sha256").hex() + "\n"


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room(sys.executable, users=False)
    yield room
    room.end()


@pytest.fixture
def users() -> Iterator[Room]:
    if os.geteuid() != 0:
        pytest.skip("needs root to be several users")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here (Debian: apt install util-linux)")
    try:
        for user in (PUBLIC, VAULT, STRANGER):
            pwd.getpwnam(user)
        grp.getgrnam(GROUP)
    except KeyError as error:
        pytest.skip(f"a user or group of Debian's is missing: {error}")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        room = Room(python, users=True)
        command = room.command(PUBLIC, python, "-P", "-c", MAY_RUN)
        try:
            done = subprocess.run(command, env=room.environ(), capture_output=True, check=False)
            if done.returncode == 0:
                yield room
                return
        finally:
            room.end()
    pytest.skip(f"no {version} that user {PUBLIC} may run")


def test_one_user(room: Room) -> None:
    """The vault's worker signs what the public's worker was asked; the client hears it."""
    port = room.public()
    room.vault()
    assert sign(port, b"I owe you") == signature(b"I owe you")


def test_several_users(users: Room) -> None:
    """The vault is a user of its own, whose key the public's user cannot read; they share a hub."""
    port = users.public()
    vault = users.vault()
    assert sign(port, b"I owe you") == signature(b"I owe you")
    owner = Path(f"/proc/{vault.pid}").stat().st_uid
    assert owner == pwd.getpwnam(VAULT).pw_uid
    public = users.running[0].pid
    children = Path(f"/proc/{public}/task/{public}/children").read_text().split()
    assert len(children) == 2
    for pid in (public, *children):
        assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(PUBLIC).pw_uid
        assert b"VAULT_KEY_FILE" not in Path(f"/proc/{pid}/environ").read_bytes()
    for secret in (users.key, Path(f"/proc/{vault.pid}/environ")):
        stolen = subprocess.run(
            users.command(PUBLIC, "cat", str(secret)), capture_output=True, check=False
        )
        assert stolen.returncode == 1
        assert b"Permission denied" in stolen.stderr
        assert not stolen.stdout


def test_strangers(users: Room) -> None:
    """Who is not in the group cannot speak to the hub, let alone answer for the vault."""
    users.public()
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    path = users.url.removeprefix("unix://")
    outcomes = {}
    for user in (VAULT, STRANGER):
        command = users.command(user, users.python, "-P", "-c", knock, path)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        outcomes[user] = done.stderr.strip().rpartition("\n")[2]
    assert outcomes == {VAULT: "", STRANGER: "PermissionError: [Errno 13] Permission denied"}
