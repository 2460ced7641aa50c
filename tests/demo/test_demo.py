"""`make demo` from a clean clone, and what it tells people to try."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.demo.browser import Browser
from tests.house.serving import free_port, stop, wait_for_listener

# An environment is made and the project installed: seconds, and more on a busy machine.
pytestmark = pytest.mark.timeout(120)

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
        ["make", "demo", f"DEMO_PORT={port}"],
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
    say, say_over_http2, bell, talk = demo.commands
    assert re.fullmatch(r"said to \d+\n", shell(demo, say))
    assert re.fullmatch(r"said to \d+\n", shell(demo, say_over_http2))
    assert shell(demo, bell) == "ding\n"
    assert "< somebody: hello" in typed(demo, talk, "somebody: hello")


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
    """A browser shows the page; what one says, and what curl says, the other sees."""
    with browser.open(demo.url) as ann, browser.open(demo.url) as bob:
        for page in (ann, bob):
            page.wait("document.querySelector('#state').textContent === 'connected'")
        ann.run("name.value = 'ann'; text.value = 'hello, bob'; form.requestSubmit()")
        for page in (ann, bob):
            page.wait("said.innerText.includes('hello, bob')")
        assert ann.run("said.lastElementChild.className") == "mine"
        assert bob.run("said.lastElementChild.querySelector('b').textContent") == "ann"

        say, say_over_http2, bell, _ = demo.commands
        shell(demo, say)
        ann.wait("said.innerText.includes('curl')")
        shell(demo, say_over_http2)
        ann.wait("said.innerText.includes('over HTTP/2')")
        shell(demo, bell)
        bob.wait("said.innerText.includes('bell')")
