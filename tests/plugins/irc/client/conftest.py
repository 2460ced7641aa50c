"""Servers for a whole module, and the plugin on a network of theirs."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core import client
from gateway.core.layers.base import OK
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.plugin import IrcPlugin
from gateway.testing.stage import Staged, wait_until
from tests.plugins.irc.client.servers import Atheme, Inspircd, Ngircd, Person

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def ngircd(tmp_path_factory):
    """A small server that is there for the whole module."""
    if why := Ngircd.missing():
        pytest.skip(why)
    with Ngircd(tmp_path_factory.mktemp("ngircd")) as made:
        yield made


@pytest.fixture(scope="module")
def inspircd(tmp_path_factory):
    """A server with capabilities and TLS, and with services that know one account."""
    if why := Inspircd.missing() or Atheme.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("inspircd")
    with (
        tempfile.TemporaryDirectory() as theirs,
        Inspircd(folder) as made,
        Atheme(Path(theirs), made),
    ):
        made.account = fresh("acc")
        with Person(made.port, made.account) as owner:
            owner.say("NickServ", "REGISTER secret a@b.test")
            owner.wait("loggedin")
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Failures are waited after for a moment only."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.05)


def fresh(name: str) -> str:
    """A nick or channel that no other test has."""
    return f"{name}{next(_numbers)}"


@contextlib.contextmanager
def joined(
    where: str, *, wait: bool = True, beside: Staged | None = None, **more: Any
) -> Iterator[On]:
    """The plugin on the network ``net``, in its channels; what it did until then is taken."""
    more = {"nick": fresh("gw"), "rate": 0, "retry_longest": 0.2, "rejoin_wait": 0.2, **more}
    config = IrcConfig(listen=(), networks={"net": Network(connect=where, **more)})
    with Staged(IrcPlugin, config, beside=beside) as staged:
        on = On(staged, more["nick"])
        if wait:
            on.until("connect")
            for _ in more.get("channels", ()):
                on.until("join")
        yield on


class On:
    """A gateway on a network, and its worker."""

    def __init__(self, staged: Staged, nick: str) -> None:
        self.staged = staged
        self.nick = nick
        self.passed: list[tuple[str, dict[str, Any]]] = []
        """What came before what was waited for."""

    def until(self, kind: str, **keys: Any) -> dict[str, Any]:
        """Take messages, accepted, to one of a kind and with such keys; return that.

        Those of different conversations come in any order, so it may have come already.
        """
        for place, (passed, message) in enumerate(self.passed):
            if passed == kind and keys.items() <= message.items():
                del self.passed[place]
                return message
        while True:
            heard = self.staged.hear(10)
            heard.settle(OK)
            if heard.kind == kind and keys.items() <= heard.message.items():
                return heard.message
            self.passed.append((heard.kind, heard.message))

    def say(self, address: str, text: str | None = None, **more: Any) -> None:
        reply = {**({} if text is None else {"text": text}), **more}
        self.staged.worker.send(address, reply)

    def ask(self, address: str, text: str | None = None, **more: Any) -> dict[str, Any]:
        """Say something; return what became of it."""
        channel = self.staged.worker.new_channel("acks?")
        self.say(address, text, ack=1, ack_channel=channel, **more)
        _, answer = self.staged.worker.receive([channel], block=10)
        assert answer is not None, "no ack"
        return answer

    @property
    def facts(self) -> dict[str, Any]:
        health = self.staged.call(self.staged.plugin.health)
        return dict(health["client"]["networks"]["net"])

    def wait_for(self, **facts: Any) -> None:
        """Wait until health says so."""
        wait_until(lambda: facts.items() <= self.facts.items(), 10)


def said(on: On, **keys: Any) -> dict[str, Any]:
    """Return the next message that somebody says."""
    return on.until("receive", **keys)
