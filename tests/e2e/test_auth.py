"""Users log in over HTTP, and are who they are on their WebSockets, until they are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.serving import PROJECT, Served, wait_until

SETTINGS = ("--settings", "users_settings")
MAKE = """
import django; django.setup()
from django.core.management import call_command
from django.contrib.auth.models import User
call_command("migrate", verbosity=0)
for name in ("ann", "bob"): User.objects.create_user(name, password="secret-" + name)
"""


def manage(code: str, database: Path) -> None:
    """Run code in the project, as a management command of another process would."""
    environ = {
        "DJANGO_SETTINGS_MODULE": "users_settings",
        "E2E_DATABASE": str(database),
        "PYTHONPATH": str(PROJECT),
        "GATEWAY_LAYER_URL": f"unix://{database.parent}/hub.sock",
    }
    subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=os.environ | environ, check=True, timeout=15
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with two workers, for an application with two users."""
    folder = tmp_path_factory.mktemp("users")
    manage(MAKE, folder / "db")
    with Served(folder, *SETTINGS, workers=2, E2E_DATABASE=str(folder / "db")) as served:
        yield served


class Browser:
    """Keeps cookies, and sends them with requests and handshakes alike."""

    def __init__(self, site: Served) -> None:
        self.site = site
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str, data: bytes | None = None) -> str:
        with self._opener.open(self.site.url(path), data, timeout=10) as response:
            return str(response.read(), "utf-8")

    def log_in(self, name: str) -> None:
        token = self.get("/log-in")
        form = {"username": name, "password": f"secret-{name}", "csrfmiddlewaretoken": token}
        assert self.get("/log-in", urllib.parse.urlencode(form).encode()) == "welcome"

    def open(self, path: str = "/", origin: str | None = None) -> ClientConnection:
        cookies = "; ".join(f"{one.name}={one.value}" for one in self.cookies)
        return connect(
            self.site.url(path, "ws"),
            additional_headers={"Cookie": cookies},
            origin=origin,  # type: ignore[arg-type]  # a str of its own kind
            proxy=None,
        )


def closed(socket: ClientConnection) -> tuple[int, str]:
    """How a connection was closed that sends nothing more."""
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=10)
    assert socket.protocol.close_code is not None
    return socket.protocol.close_code, socket.protocol.close_reason or ""


def answerer(socket: ClientConnection) -> int:
    """Which worker says that this is ann's."""
    socket.send("who am I?")
    name, worker = str(socket.recv(timeout=10)).split()
    assert name == "ann"
    return int(worker)


def not_answered(socket: ClientConnection) -> bool:
    try:
        socket.send("and now?")
        return not str(socket.recv(timeout=10)).startswith("ann")
    except ConnectionClosed:
        return True


def records(site: Served) -> str:
    return site.seen.read_text() if site.seen.exists() else ""


@pytest.mark.parametrize("path", ["/", "/async"])
def test_logged_in_and_out(site: Served, path: str) -> None:
    """A WebSocket with a log-in's cookie is that user's, also on a worker that took over; logging
    out closes it, and no other session's; the consumer of its end still knows whose it was.
    """
    phone, desk = Browser(site), Browser(site)
    with pytest.raises(InvalidStatus) as refused:
        phone.open(path)
    assert refused.value.response.status_code == 401
    phone.log_in("ann")
    desk.log_in("ann")
    with phone.open(path) as one, phone.open(path) as two, desk.open(path) as other:
        first = answerer(one)
        wait_until(lambda: site.numbers()["gateway_unsettled"] == 0)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len({*site.processes()["worker"]} - {first}) == 2)
        assert answerer(one) != first
        assert phone.get("/log-out") == "bye"
        assert closed(one) == closed(two) == (4401, "logged out")
        other.send("and I?")
        assert str(other.recv(timeout=10)).startswith("ann")
    wait_until(lambda: records(site).count("ann left with") >= 3)
    with pytest.raises(InvalidStatus):
        phone.open(path)


def test_thrown_out(site: Served) -> None:
    """disconnect_user closes every connection of a user, from a view or from another process, and
    nobody else's.
    """
    ann, bob = Browser(site), Browser(site)
    ann.log_in("ann")
    bob.log_in("bob")
    with ann.open() as one, ann.open() as two, bob.open() as other:
        assert bob.get("/throw-out/ann") == "gone"
        assert closed(one) == closed(two) == (4401, "the user was disconnected")
        other.send("and I?")
        assert str(other.recv(timeout=10)).startswith("bob")
        manage(
            "import django; django.setup()\n"
            "from django.contrib.auth.models import User\n"
            "from django_gateway.auth import disconnect_user\n"
            "disconnect_user(User.objects.get(username='bob'), code=4000, reason='moved')",
            site.socket.parent / "db",
        )
        assert closed(other) == (4000, "moved")


def test_a_session_that_is_gone(site: Served) -> None:
    """A connection whose session has vanished without a log-out is closed at its next message
    after the expiry.
    """
    ann = Browser(site)
    ann.log_in("ann")
    key = next(one.value for one in ann.cookies if one.name == "sessionid")
    with ann.open() as socket:
        manage(
            "import django; django.setup()\n"
            "from django.contrib.sessions.models import Session\n"
            f"Session.objects.get(pk={key!r}).delete()",
            site.socket.parent / "db",
        )
        wait_until(lambda: not_answered(socket))
        assert closed(socket) == (
            4401,
            "the user of this connection has logged out, or was changed",
        )


def test_secrets_are_not_printed(site: Served) -> None:
    """Neither a session's key nor a token is in what a gateway and its workers print."""
    ann = Browser(site)
    ann.log_in("ann")
    keys = [str(one.value) for one in ann.cookies]
    with ann.open("/?token=n0t-to-be-seen"):
        pass
    assert not any(key in site.text() for key in [*keys, "n0t-to-be-seen"])


def test_pages_of_other_sites(tmp_path: Path) -> None:
    """Where the gateway lets every page in, a foreign one still is not the user."""
    manage(MAKE, tmp_path / "db")
    environ = {"GATEWAY_WEBSOCKET_ORIGINS": "*", "E2E_DATABASE": str(tmp_path / "db")}
    with Served(tmp_path, *SETTINGS, **environ) as site:
        ann = Browser(site)
        ann.log_in("ann")
        with ann.open(origin=site.url("")) as own:
            own.send("who am I?")
            assert str(own.recv(timeout=10)).startswith("ann")
        with pytest.raises(InvalidStatus) as refused:
            ann.open(origin="https://evil.example")
        assert refused.value.response.status_code == 401
        assert "add that to CSRF_TRUSTED_ORIGINS" in site.text()
