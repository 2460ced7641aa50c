"""Commands that plugins bring: ``gateway NAME COMMAND``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.toy import install_plugin

PLUGIN = '''
"""A plugin with commands."""
from typing import TypedDict
import msgspec
from gateway.core.errors import ConfigError
from gateway.core.plugin import ProtocolPlugin, hookimpl

class Line(TypedDict):
    text: str

class messages:
    KINDS = {"receive": Line}
    REPLY = Line

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    word: str = "hello"

class Lamp(ProtocolPlugin):
    name = "lamp"
    Config = Config
    messages = messages

    async def start(self): ...
    async def stop(self): ...

def say(arguments, config):
    """Say the word to somebody.

    More about it.
    """
    print(config.word, *arguments)

def fail(arguments, config):
    """Fail."""
    if arguments:
        raise ConfigError(f"lamp: {arguments[0]!r} is no lamp of ours")
    return 7

@hookimpl
def gateway_plugin():
    return Lamp

@hookimpl
def gateway_commands():
    return {"say": say, "fail": fail, "odd": lambda arguments, config: "odd"}
'''


@pytest.fixture
def gateway(toys):
    """Run ``gateway ARGUMENTS`` to its end where the plugin is installed."""
    install_plugin(toys, "lamp", PLUGIN)

    def run(*arguments, **environ):
        return subprocess.run(
            [sys.executable, "-P", "-m", "gateway", *arguments],
            cwd=toys / "project",
            env=os.environ | {"PYTHONPATH": str(toys)} | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=15,
        )

    return run


def test_runs(gateway):
    """It is called with the words after it and the plugin's settings; None is status 0."""
    done = gateway("lamp", "say", "--to", "you", GATEWAY_LAMP_WORD="bye")
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye --to you\n", "")


def test_status(gateway):
    """What it returns is the exit status; an error of ours is told without a traceback."""
    assert gateway("lamp", "fail").returncode == 7
    done = gateway("lamp", "fail", "x")
    assert (done.returncode, done.stderr) == (2, "gateway: lamp: 'x' is no lamp of ours\n")


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_listed(gateway, arguments):
    """Without a command, or asked for help, those that there are are shown with their first lines."""
    done = gateway("lamp", *arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: gateway lamp COMMAND …\n")
    assert "  say          Say the word to somebody.\n" in done.stdout
    assert "More" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lamp", "sai"), "plugin 'lamp' has no command 'sai'; did you mean 'say'?"),
        (("lamp", "zzz"), "there are say, fail, odd"),
        (("lamp", "odd"), "its command 'odd' returned 'odd'; it returns the exit status"),
        (("toy",), "plugin 'toy' has no commands of its own"),
        (("needy", "x"), "plugin 'needy': needy cannot be imported"),
        (("lampe",), "there is no command 'lampe'"),
    ],
)
def test_wrong(gateway, arguments, says):
    """What is wrong is said in a line, with status 2."""
    done = gateway(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings(gateway):
    """Settings that are wrong stop it, by their source."""
    done = gateway("lamp", "say", GATEWAY_LAMP_WROD="x")
    assert done.returncode == 2
    assert "GATEWAY_LAMP_WROD" in done.stderr
