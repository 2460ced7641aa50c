"""A process may have the open files that it needs, or says at its start that it cannot."""

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gateway.core.descriptors import BESIDE, MOST, allow, shortage

ALLOW = "import sys, resource; from gateway.core.descriptors import allow; allow(int(sys.argv[1])); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


@pytest.mark.parametrize(
    ("count", "limits"),
    [(200, "200 500"), (MOST, "500 500"), (50, "100 500")],
)
def test_allow(count, limits):
    """The soft limit rises to what is wanted, at most to the hard one, and never falls."""
    done = subprocess.run(
        [sys.executable, "-c", ALLOW, str(count)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500)),
    )
    assert done.stdout.strip() == limits


def test_a_limit_of_the_kernel(monkeypatch):
    """Where the kernel refuses, things stay as they are."""

    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow(resource.getrlimit(resource.RLIMIT_NOFILE)[0] + 1)


@pytest.fixture
def hard(monkeypatch):
    """Set the hard limit that is found."""

    def set_(limit):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (64, limit))

    return set_


def table(connections):
    return SimpleNamespace(max_connections=connections, listen="127.0.0.1:0")


def test_shortage(hard):
    """Settings that allow more connections than there can be are named, with what to do."""
    tables = {"http": table(3000), "irc": table(1000), "plain": SimpleNamespace()}
    hard(4000 + BESIDE)
    assert shortage(tables) is None
    tables["guest"] = SimpleNamespace(max_connections=9000)  # on the connections of another
    assert shortage(tables) is None
    hard(4000 + BESIDE - 1)
    text = shortage(tables)
    assert text.startswith("http.max_connections = 3000 and irc.max_connections = 1000: ")
    assert f"needs {4000 + BESIDE} open files, and this process may have {3999 + BESIDE}" in text
    assert "LimitNOFILE=" in text


def test_no_shortage(hard):
    """Without a limit, or without connections, there is nothing to say."""
    hard(resource.RLIM_INFINITY)
    assert shortage({"http": table(10**9)}) is None
    hard(10)
    assert shortage({"plain": SimpleNamespace()}) is None
