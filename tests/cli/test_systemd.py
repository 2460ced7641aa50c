"""``gateway run`` with the sockets that systemd passes; in one process, and supervised."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.cli.toy import Client, wait_until

RUN = ("run", "--plugins", "toy")


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Listening on IPv4, IPv6 and a path, as a .socket unit may."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(socket.socket(family))
            for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        ]
        found[0].bind(("127.0.0.1", 0))
        found[1].bind(("::1", 0))
        found[2].bind(str(tmp_path / "passed.sock"))
        for sock in found:
            sock.listen()
        yield found


def ask(sock: socket.socket, text: str) -> str:
    """Ask at the address of a listening socket, and return the answer."""
    with socket.socket(sock.family) as client:
        client.settimeout(10)
        client.connect(sock.getsockname())
        client.sendall(f"{text}\n".encode())
        return client.makefile("r").readline().strip()


@pytest.mark.parametrize(("workers", "gateways"), [("0", "1"), ("2", "1"), ("1", "2")])
def test_every_socket_is_served(start, sockets, workers, gateways, tmp_path):
    """All that were passed are served, by every gateway process; the variables stay with the
    process they were for.
    """
    gateway = start(
        *(*RUN, "--workers", workers, "--gateways", gateways, "--set", "toy.listen=systemd:"),
        sockets=sockets,
        LISTEN_FDS="3",
    )
    gateway.wait_for("again to stop at once\n")
    for sock in sockets:
        wait_until(lambda sock=sock: ask(sock, "hello") == "hello")
    said = gateway.text()
    assert f"toy://127.0.0.1:{sockets[0].getsockname()[1]}, toy://[::1]:" in said
    assert f"unix:{tmp_path}/passed.sock" in said
    for pid in gateway.children():
        assert b"LISTEN_" not in Path(f"/proc/{pid}/environ").read_bytes()
        held = set()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                held.add(str(fd.readlink()))
        ours = {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in sockets}
        is_gateway = b'"role":"gateway"' in Path(f"/proc/{pid}/environ").read_bytes()
        assert held & ours == (ours if is_gateway else set())
    gateway.signal()
    assert gateway.wait() == 0
    assert stat.S_ISSOCK((tmp_path / "passed.sock").stat().st_mode)  # systemd's, not ours


def test_clients_wait_while_it_restarts(start, sockets):
    """The sockets stay with systemd: who connects between two runs is served by the next."""
    options = (*RUN, "--workers", "0", "--set", "toy.listen=systemd:0")
    first = start(*options, sockets=sockets[:1], LISTEN_FDS="1")
    first.wait_for("again to stop at once\n")
    first.signal()
    assert first.wait() == 0
    with Client(sockets[0].getsockname()[1]) as client:
        client.say("are you there")
        start(*options, sockets=sockets[:1], LISTEN_FDS="1")
        assert client.hear() == "are you there"


def test_by_name(start, sockets):
    """A name picks its sockets; what no setting names is told, and not served."""
    gateway = start(
        *(*RUN, "--workers", "1", "--set", "toy.listen=systemd:web"),
        sockets=sockets,
        LISTEN_FDS="3",
        LISTEN_FDNAMES="api:web:other",
    )
    gateway.wait_for("again to stop at once\n")
    wait_until(lambda: ask(sockets[1], "hello") == "hello")
    gateway.wait_for(r"passed sockets that no 'listen' setting names: 0 \(api\), 2 \(other\)")


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "LISTEN_FDS is not set"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, "passed to process 1, and this is"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "api"}, r"no such socket .* there are 0 \(api\)"),
    ],
)
def test_missing_sockets(start, sockets, workers, environ, says):
    """What is missing or wrong is one line that names the setting, and status 2."""
    listen = "toy.listen=systemd:web"
    gateway = start(*RUN, "--workers", workers, "--set", listen, sockets=sockets[:1], **environ)
    assert gateway.wait() == 2
    gateway.wait_for(rf"^gateway: toy\.listen: 'systemd:web': .*{says}")
    assert "Traceback" not in gateway.text()
