"""`make demo` from a clean clone, and what it tells people to try."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from urllib.request import urlopen

import pytest

from tests.demo.browser import Browser
from tests.house.serving import free_port, stop, wait_for_listener

# An environment is made and the project installed: seconds, and more on a busy machine.
pytestmark = pytest.mark.timeout(120)

OTHERS = ("MQTT", "IRC", "EMAIL")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Demo:
    clone: Path
    url: str
    commands: list[str]  # what it tells people to try, in order
    process: subprocess.Popen[str]


def start(clone: Path) -> Demo:
    """`make demo` in a clone whose environment finds what this one has installed.

    The environment is new, and the clone is installed into it as `make demo` does it; only
    the download of its dependencies is spared.
    """
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    venv.create(clone / ".venv", symlinks=True)
    inner = clone / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (inner / "site-packages" / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    port = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    process = subprocess.Popen(
        [
            "make",
            "demo",
            f"DEMO_PORT={port}",
            *(f"DEMO_{one}_PORT={free_port()}" for one in OTHERS),
        ],
        cwd=clone,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    wait_for_listener(port, process)
    found = re.search(r"http://\S+", said)
    assert found, said
    commands = re.findall(r"^    (\S.*)$", said, re.MULTILINE)
    return Demo(clone, found[0], commands, process)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, running; it ends by Ctrl-C and leaves nothing behind."""
    if not (shutil.which("make") and shutil.which("git")):
        pytest.skip("no make or git here")
    running = start(tmp_path_factory.mktemp("demo") / "clone")
    yield running
    stop(running.process, group=True)
    assert running.process.stdout is not None
    running.process.stdout.close()
    with pytest.raises(OSError, match="refused"):
        urlopen(running.url, timeout=5)


def test_printed_commands(demo: Demo) -> None:
    """Each command that `make demo` prints works as printed, in the clone."""
    say, say_over_http2, bell, hear, talk, subscribe, publish, chat, mail = demo.commands
    assert re.fullmatch(r"said to \d+\n", shell(demo, say))
    assert re.fullmatch(r"said to \d+\n", shell(demo, say_over_http2))
    assert shell(demo, bell) == "ding\n"
    with listening(demo, hear) as heard:
        shell(demo, say)
        assert heard("data: ") == "data: curl: hello\n"
    assert "< somebody: hello" in typed(demo, talk, "somebody: hello")
    if shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub"):
        with listening(demo, f"{subscribe} -d") as heard:  # -d says when it is subscribed
            heard("Subscribed")
            shell(demo, say)
            assert heard("curl") == "curl: hello\n"
            shell(demo, publish)
            assert heard("lamp") == "lamp: hello\n"
            assert shell(demo, mail) == ""
            assert heard("ann") == "ann: hello\n"
    if shutil.which("nc"):
        with listening(demo, hear) as heard, listening(demo, f"bash -c {quote(chat)}") as talked:
            assert heard("data: <irc>") == "data: <irc> hello\n"
            assert "366" in talked(":irc.gateway 366")
            shell(demo, say)
            assert talked(":curl!").endswith("PRIVMSG #room :hello\n")


def shell(demo: Demo, command: str) -> str:
    """What a command prints."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=demo.clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    ).stdout


@contextmanager
def listening(demo: Demo, command: str) -> Iterator[Callable[[str], str]]:
    """A command that goes on, once it prints; gives what returns its next line that begins so."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec stdbuf -oL {command}"],
        cwd=demo.clone,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = process.stdout
    try:
        lines.readline()
        yield lambda start: next(line for line in lines if line.startswith(start))
    finally:
        process.kill()
        process.wait()
        lines.close()


def typed(demo: Demo, command: str, line: str) -> str:
    """What a command prints into which a line is typed, until it is heard back."""
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=demo.clone,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        said = ""
        while f"< {line}" not in said:
            more = process.stdout.readline()
            assert more, said
            said += more
        process.stdin.close()
        process.stdout.read()
    return said


def test_page_in_a_browser(demo: Demo, browser: Browser) -> None:
    """A browser shows the page; what one says, and what curl says, all see, whatever brings it."""
    with (
        browser.open(demo.url) as ann,
        browser.open(f"{demo.url}?by=sse") as bob,
        browser.open(f"{demo.url}?by=longpoll") as cyn,
    ):
        for page, by in ((ann, "websocket"), (bob, "sse"), (cyn, "longpoll")):
            page.wait(f"document.querySelector('#state').textContent === 'connected by {by}'")
        for page, who in ((ann, "ann"), (bob, "bob"), (cyn, "cyn")):
            page.run(f"document.all.name.value = '{who}'; document.all.text.value = 'I am {who}'")
            page.run("say.requestSubmit()")
            for other in (ann, bob, cyn):
                other.wait(f"said.innerText.includes('I am {who}')")
        assert cyn.run("said.lastElementChild.className") == "mine"
        assert bob.run("said.lastElementChild.querySelector('b').textContent") == "cyn"

        say, say_over_http2, bell, *_ = demo.commands
        shell(demo, say)
        ann.wait("said.innerText.includes('curl')")
        shell(demo, say_over_http2)
        ann.wait("said.innerText.includes('over HTTP/2')")
        shell(demo, bell)
        bob.wait("said.innerText.includes('bell')")
