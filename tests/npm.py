"""Packages of npm that tests use as users do: which, where they are, how they are installed.

`python -m tests.npm` installs them below ``.cache`` of the project, once; without npm it says so.
Nothing of them is part of the project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".cache" / "npm"
PACKAGES = {
    "esbuild": "0.25.12",  # says how large the client is once it is minified
    "eventsource": "3.0.7",  # reads event streams in Node, from version 18 on
    "irc-framework": "4.14.0",  # what web clients of IRC are made with
    "mqtt": "5.16.0",  # MQTT.js, the client of pages and of node
    "typescript": "5.9.3",  # reads its types
}


def present(name: str) -> bool:
    """Whether a package is there, in the version that is wanted."""
    manifest = HOME / "node_modules" / name / "package.json"
    return manifest.is_file() and json.loads(manifest.read_text())["version"] == PACKAGES[name]


def missing(name: str) -> str:
    """Return why a package cannot be used, nothing if it can."""
    if shutil.which("node") is None:
        return f"{name} needs node: apt install nodejs"
    return "" if present(name) else f"{name} of npm is not installed: python -m tests.npm"


def program(name: str) -> str:
    """The path of a program that a package brings."""
    return str(HOME / "node_modules" / ".bin" / name)


def install() -> bool:
    """Install what is missing; return whether all is there."""
    if not all(map(present, PACKAGES)):
        npm = shutil.which("npm")
        if npm is None:
            print("npm is not here (Debian: apt install npm)")
            return False
        print("== npm install", *PACKAGES, flush=True)
        made = HOME.with_name(f"{HOME.name}.{os.getpid()}")
        made.mkdir(parents=True)
        (made / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--no-package-lock"],
            cwd=made,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode == 0:
            shutil.rmtree(HOME, ignore_errors=True)
            made.rename(HOME)
        else:
            print(done.stdout.decode(errors="replace")[-1000:])
            shutil.rmtree(made)
    return all(map(present, PACKAGES))


if __name__ == "__main__":
    sys.exit(not install())
