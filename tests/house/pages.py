"""The manual's pages as the tests see them: blocks of code, headings, links.

A block is a fence, or an HTML comment that begins with a language (run, but not shown)::

    ```python title="consumers.py"        a file; a second block of that name goes on with it
    ```python                             part of the page's one script, in order
    ```console                            "$ command" and what it prints ("..." for anything)
    ```sh                                 for reading: what runs on, or needs a network

    <!-- python
    -->                                   what a reader need not see

Where a page says port 7000 or 8000, its code gets one that is free.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.house import serving

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(?P<mark>```+|<!-- )(?P<info>(?:python|toml|html|ini|console)\b[^\n]*)$")
ANY_FENCE = re.compile(r"^ *```")
TITLE = re.compile(r'title="([^"]+)"')
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    line: int  # of its first line of code, counted from 1
    code: str


def pages() -> list[Path]:
    """Every text of the project, as path."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return found + sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that the tests use."""
    found = []
    lines = page.read_text().splitlines()
    i = 0
    while i < len(lines):
        opening = FENCE.match(lines[i])
        i += 1
        if opening is None:
            if ANY_FENCE.match(lines[i - 1]):  # another language: skip to its end
                while i < len(lines) and not ANY_FENCE.match(lines[i]):
                    i += 1
                i += 1
            continue
        end = "-->" if opening["mark"].startswith("<") else opening["mark"]
        start = i
        while lines[i] != end:
            i += 1
        title = TITLE.search(opening["info"])
        code = "\n".join(lines[start:i]) + "\n"
        found.append(Block(opening["info"].split()[0], title[1] if title else "", start + 1, code))
        i += 1
    return found


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """The targets of a page's links that stay in the project."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def run(page: Path, room: Path) -> None:
    """Write the page's files into ``room``, run its script there, then its commands."""
    script = ""
    commands: list[str] = []
    ports = {said: str(serving.free_port()) for said in ("7000", "8000")}
    for block in blocks(page):
        code = re.sub("[78]000", lambda found: ports[found[0]], block.code)
        if block.title:
            file = room / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as out:
                out.write(code)
        elif block.language == "python":
            script += "\n" * (block.line - 1 - script.count("\n")) + code
        elif block.language == "console":
            commands.append(code)
    if script:
        (room / "_page").write_text(script)
        runner = (
            "import pathlib; "
            f"exec(compile(pathlib.Path('_page').read_text(), {str(page)!r}, 'exec'))"
        )
        shell([sys.executable, "-W", "error", "-c", runner], room)
    for code in commands:
        for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            got = shell(["bash", "-c", command], room)
            if expected.strip() and not doctest.OutputChecker().check_output(expected, got, SAME):
                raise AssertionError(f"$ {command}\nexpected:\n{expected}\ngot:\n{got}")


def shell(command: list[str], room: Path) -> str:
    """What a command prints; AssertionError with all of it where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        command,
        cwd=room,
        env={**env, "PATH": path, "PYTHONPATH": f"{room}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout
