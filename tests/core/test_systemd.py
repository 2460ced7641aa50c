"""Sockets that systemd passes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from gateway.core import systemd
from gateway.core.errors import ConfigError
from gateway.core.listen import parse
from gateway.core.listeners import Listeners
from gateway.core.systemd import Passed


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Three listening sockets whose descriptors follow each other, the first of them FIRST."""
    with ExitStack() as stack:
        found: list[socket.socket] = []
        for kind in (socket.AF_INET, socket.AF_INET6, socket.AF_INET):
            sock = stack.enter_context(socket.socket(kind))
            sock.bind(("localhost" if kind == socket.AF_INET else "::1", 0))
            sock.listen()
            found.append(sock)
        # Far above all others, so that they can stand in a row.
        first = 700
        for number, sock in enumerate(found):
            os.dup2(sock.fileno(), first + number)
        monkeypatch.setattr(systemd, "FIRST", first)
        yield found
        for number in range(len(found)):
            with suppress(OSError):
                os.close(first + number)


def environ(
    count: object = 3, names: str | None = "web:web:api", pid: object = None
) -> dict[str, str]:
    found = {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid() if pid is None else pid)}
    return found if names is None else found | {"LISTEN_FDNAMES": names}


@pytest.mark.parametrize(
    ("text", "found"),
    [("systemd:", [0, 1, 2]), ("systemd:web", [0, 1]), ("systemd:api", [2]), ("systemd:1", [1])],
)
def test_by_name_and_number(sockets, text, found):
    """An endpoint means all sockets, those of a name, or one by its number."""
    assert Passed(environ()).take(parse(text)) == [systemd.FIRST + number for number in found]


def test_without_names(sockets):
    """Numbers work where no names were passed."""
    passed = Passed(environ(names=None))
    assert passed.take(parse("systemd:2")) == [systemd.FIRST + 2]
    with pytest.raises(ConfigError, match=r"no such socket was passed; there are 0, 1, 2$"):
        passed.take(parse("systemd:web"))


def test_the_variables_are_taken(sockets):
    """What this process starts does not find them, whoever they were for."""
    for variables in (environ(), environ(pid=1), {"LISTEN_FDS": "x"}):
        variables["OTHER"] = "kept"
        Passed(variables)
        assert variables == {"OTHER": "kept"}


def test_they_are_not_inherited(sockets):
    """Programs that this process starts do not inherit the sockets."""
    os.set_inheritable(systemd.FIRST, True)
    Passed(environ())
    assert not os.get_inheritable(systemd.FIRST)


@pytest.mark.parametrize(
    ("variables", "text", "says"),
    [
        ({}, "systemd:", r"LISTEN_FDS is not set\); start the gateway by its \.socket unit"),
        ({"LISTEN_PID": str(os.getpid())}, "systemd:", "LISTEN_FDS is not set"),
        (environ(pid=1), "systemd:", r"passed to process 1, and this is [0-9]+; .*exec"),
        (environ(count="many"), "systemd:", "LISTEN_FDS is 'many', which is no number"),
        (environ(count=0, names=None), "systemd:", "LISTEN_FDS is '0'"),
        (environ(count=-1), "systemd:", "LISTEN_FDS is '-1'"),
        (environ(count=10**9), "systemd:", "LISTEN_FDS is '1000000000'"),
        (environ(names="web"), "systemd:", "LISTEN_FDNAMES has 1 names for 3 sockets"),
        (environ(), "systemd:wbe", r"no such socket .* there are 0 \(web\), 1 \(web\), 2 \(api\)"),
        (environ(), "systemd:3", "no such socket"),
    ],
)
def test_what_is_missing(variables, text, says):
    """Each way in which sockets can be missing is told, with the setting."""
    with pytest.raises(ConfigError, match=says) as caught:
        Passed(dict(variables)).take(parse(text, "http.listen"))
    assert str(caught.value).startswith(f"http.listen: {text!r}: ")


def test_taken_once(sockets):
    """Two endpoints cannot share a socket."""
    passed = Passed(environ())
    passed.take(parse("systemd:0"))
    with pytest.raises(ConfigError, match=r"0 \(web\) is taken by another endpoint"):
        passed.take(parse("systemd:"))
    assert passed.take(parse("systemd:1")) == [systemd.FIRST + 1]


def test_listeners(sockets, monkeypatch, caplog):
    """Several sockets of one endpoint are served, listed and closed; one that is left is told."""
    for name, value in environ().items():
        monkeypatch.setenv(name, value)
    addresses = [sock.getsockname()[:2] for sock in sockets]
    for sock in sockets:
        sock.close()
    listeners = Listeners({"a": [parse("127.0.0.1:0"), parse("systemd:web")], "b": []})
    with caplog.at_level(logging.WARNING):
        listeners.bind()
    assert "no 'listen' setting names: 2 (api); the first is 'systemd:2'" in caplog.text
    assert "LISTEN_FDS" not in os.environ
    places = listeners.places("a")
    assert places[1:] == [f"127.0.0.1:{addresses[0][1]}", f"[::1]:{addresses[1][1]}"]
    assert [endpoint.text for endpoint in listeners.endpoints("a")][1:] == ["systemd:web"] * 2
    second = Listeners({"a": [parse("127.0.0.1:0"), parse("systemd:web")]})
    second.adopt({"a": [[os.dup(fd) for fd in fds] for fds in listeners.descriptors()["a"]]})
    assert second.places("a") == places
    listeners.close()
    socket.create_connection(addresses[1]).close()
    second.close()
    for address in addresses[:2]:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


@pytest.mark.parametrize("what", ["connection", "datagrams", "nothing"])
def test_what_is_no_listening_socket(sockets, monkeypatch, what):
    """A socket of another kind, or none, stops the start with the unit's remedy."""
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as connection:
        os.close(systemd.FIRST)
        if what != "nothing":
            other = datagrams if what == "datagrams" else connection
            os.dup2(other.fileno(), systemd.FIRST)
        for name, value in environ().items():
            monkeypatch.setenv(name, value)
        says = "is not a socket" if what == "nothing" else "needs ListenStream= and Accept=no"
        with pytest.raises(ConfigError, match=says):
            Listeners({"a": [parse("systemd:0")]}).bind()


def test_nothing_is_said_where_nothing_was_passed(caplog):
    """Without systemd nobody hears of it, nor where a socket is named as fd:N."""
    with caplog.at_level(logging.WARNING):
        Passed({}).leave(set())
        Passed(environ(count=1, names=None)).leave({systemd.FIRST})
    assert not caplog.text
