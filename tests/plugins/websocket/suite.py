"""Autobahn's fuzzing client: where it is, how it is installed, how it is run.

It needs Python 2.7, which few machines have. `python -m tests.plugins.websocket.suite` looks for
one and installs the suite below ``.cache`` of the project, once; without one it says so.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[3] / ".cache" / "autobahntestsuite"
PACKAGE = "autobahntestsuite"
VERSION = "25.10.1"
RUN = f"""
import site, sys
site.addsitedir({str(HOME)!r})
from autobahntestsuite import wstest
sys.argv = ["wstest", "-m", "fuzzingclient", "-s", sys.argv[1]]
wstest.run()
"""


def pythons() -> Iterator[str]:
    """Yield what may be a Python 2.7: those on the path, those of pyenv."""
    for name in ("python2.7", "python2"):
        if found := shutil.which(name):
            yield found
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from (str(path) for path in sorted(root.glob("versions/2.7*/bin/python")))


@functools.cache
def python() -> str | None:
    """Return a Python 2.7 that runs, or None."""
    check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    for path in pythons():
        if subprocess.run([path, "-c", check], capture_output=True, check=False).returncode == 0:
            return path
    return None


def missing() -> str:
    """Return why the suite cannot be run, nothing if it can."""
    if python() is None:
        return "Autobahn's fuzzing client needs Python 2.7, and there is none here"
    if not (HOME / PACKAGE).is_dir():
        return "Autobahn's fuzzing client is not installed: python -m tests.plugins.websocket.suite"
    return ""


def install() -> str:
    """Install the suite if that is possible and needed; return what is missing still."""
    if (interpreter := python()) and not (HOME / PACKAGE).is_dir():
        print(f"== installing {PACKAGE} for {interpreter}", flush=True)
        made = HOME.with_name(f"{HOME.name}.{os.getpid()}")
        made.mkdir(parents=True)
        command = [interpreter, "-m", "pip", "install", "--prefer-binary", "--target", str(made)]
        done = subprocess.run(
            [*command, f"{PACKAGE}=={VERSION}"],
            cwd=made,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode == 0:
            made.rename(HOME)
        else:
            print(done.stdout.decode(errors="replace")[-1000:])
            shutil.rmtree(made)
    return missing()


async def fuzz(url: str, cases: Sequence[str], into: Path) -> dict[str, dict[str, Any]]:
    """Run cases against a server; return the report of each by its number."""
    spec = into / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(into),
                "servers": [{"agent": "gateway", "url": url}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        str(python()),
        "-c",
        RUN,
        str(spec),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    index = into / "index.json"
    assert index.is_file(), said.decode(errors="replace")[-2000:]
    found: dict[str, dict[str, Any]] = json.loads(index.read_text())["gateway"]
    return found


if __name__ == "__main__":
    if text := install():
        print(text)
        sys.exit(python() is not None)
