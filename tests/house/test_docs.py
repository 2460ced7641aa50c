"""The manual: its code runs, its links lead somewhere, its generated parts are current."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.house import pages

NAMES = [str(page.relative_to(pages.ROOT)) for page in pages.pages()]
WITH_CODE = [
    name
    for name in NAMES
    if any(not block.title for block in pages.blocks(pages.ROOT / name) if block.language != "html")
]


@pytest.mark.timeout(60)  # some pages start a gateway: seconds, and more on a busy machine
@pytest.mark.parametrize("name", WITH_CODE)
def test_code_runs(name: str, tmp_path: Path) -> None:
    """Every block of code on a page runs, and every command prints what the page says."""
    pages.run(pages.ROOT / name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_links(name: str) -> None:
    """Every link within the project leads to a file and a heading that exist."""
    page = pages.ROOT / name
    broken = []
    for link in pages.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in pages.headings(target)):
            broken.append(link)
    assert not broken


def test_generated_parts_are_current() -> None:
    """What the manual says of settings, messages and commands is what the code says."""
    generate = runpy.run_path(str(pages.ROOT / "docs" / "generate.py"))
    stale = [
        str(page.relative_to(pages.ROOT))
        for page in generate["pages"]()
        if generate["render"](page.read_text()) != page.read_text()
    ]
    assert not stale, "run `make docs`"


def test_every_page_is_reachable() -> None:
    """Every page of the manual can be reached by links from its first page."""
    seen: set[Path] = set()
    todo = [pages.ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        todo += [(page.parent / link.partition("#")[0]).resolve() for link in pages.links(page)]
    assert set((pages.ROOT / "docs").rglob("*.md")) <= seen


@pytest.mark.parametrize("kind", ["untitled script", "failing command", "wrong output"])
def test_a_wrong_page_fails(kind: str, tmp_path: Path) -> None:
    """A block that raises, a command that fails or prints something else is noticed."""
    page = tmp_path / "page.md"
    page.write_text(
        {
            "untitled script": "```python\nassert 1 == 2\n```\n",
            "failing command": "```console\n$ false\n```\n",
            "wrong output": "```console\n$ echo one\ntwo\n```\n",
        }[kind]
    )
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises(AssertionError):
        pages.run(page, room)
