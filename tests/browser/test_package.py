"""The browser client as a package: its decisions (under node), its types, its size, where it ships."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests import npm

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "django_gateway" / "static" / "gateway"
TESTS = ["client", "parser"]
pytestmark = pytest.mark.timeout(120)  # compilers, and a wheel


def run(*command: str, cwd: Path = HERE, **environ: str) -> str:
    """What a command prints; AssertionError with all of it where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("the browser client needs node to be tested: apt install nodejs")
    version = run(found, "--version")
    if int(version[1:].partition(".")[0]) < 18:
        pytest.skip(f"node 18 or newer is needed for its test runner, and here is {version}")
    return found


def decide(name: str, **environ: str) -> None:
    said = run(node(), "--unhandled-rejections=none", f"{name}.test.mjs", **environ)
    counts = dict(re.findall(r"^# (\w+) (\d+)", said, re.MULTILINE))
    assert int(counts["pass"]) > 10
    assert int(counts["pass"]) == int(counts["tests"])


@pytest.mark.parametrize("name", TESTS)
def test_what_it_decides(name: str) -> None:
    """Each sentence of NAME.test.mjs, with a clock and a network that are the test's."""
    decide(name)


def test_types(tmp_path: Path) -> None:
    """What a page may write is accepted by tsc, and what it may not is refused."""
    if why := npm.missing("typescript"):
        pytest.skip(why)
    home = tmp_path / "node_modules" / "gateway-client"
    shutil.copytree(PACKAGE, home)
    shutil.copy(HERE / "types.ts", tmp_path)
    options = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom"]
    for resolution in ("bundler", "nodenext"):
        module = "nodenext" if resolution == "nodenext" else "esnext"
        how = ["--module", module, "--moduleResolution", resolution]
        (tmp_path / "package.json").write_text('{"type": "module"}')
        run(npm.program("tsc"), *options, *how, "types.ts", cwd=tmp_path)


def test_types_name_what_there_is() -> None:
    """What client.d.ts declares is exported by client.js, and the other way round."""
    code = (PACKAGE / "client.js").read_text()
    types = (PACKAGE / "client.d.ts").read_text()
    exported = set(re.findall(r"^export (?:const|class|function) (\w+)", code, re.MULTILINE))
    assert exported == set(
        re.findall(r"^export (?:const|class|function) (\w+)", types, re.MULTILINE)
    )
    table = re.search(r"^const DEFAULTS = \{(.*?)^\};", code, re.MULTILINE | re.DOTALL)
    assert table is not None
    defaults = re.findall(r"^  (\w+): ([^\n,]+|\[[^\n]+\]), *(?://|$)", table[1], re.MULTILINE)
    declared = re.search(r"^export interface Options \{(.*?)^\}", types, re.MULTILINE | re.DOTALL)
    assert declared is not None
    assert [name for name, _ in defaults] == re.findall(r"^  (\w+)\?:", declared[1], re.MULTILINE)
    for name, value in defaults:
        if value.isdigit():
            assert re.search(rf"Default: {value}\. \*/\n  {name}\?:", declared[1]), name


def test_size(tmp_path: Path) -> None:
    """Minified and compressed it is as small as the manual says, and decides the same."""
    if why := npm.missing("esbuild"):
        pytest.skip(why)
    out = tmp_path / "client.min.js"
    run(
        npm.program("esbuild"),
        "--minify",
        "--format=esm",
        f"--outfile={out}",
        str(PACKAGE / "client.js"),
    )
    size = len(gzip.compress(out.read_bytes(), 9))
    said = re.search(r"(\d\.\d) KB", (PACKAGE / "README.md").read_text())
    assert said is not None
    assert size <= float(said[1]) * 1000
    for name in TESTS:
        decide(name, GATEWAY_CLIENT=str(out))


def test_npm_package() -> None:
    """`npm pack` takes the four files; name and version are those that the project has."""
    npm_path = shutil.which("npm")
    if npm_path is None:
        pytest.skip("npm is not installed: apt install npm")
    [packed] = json.loads(run(npm_path, "pack", "--dry-run", "--json", cwd=PACKAGE))
    assert packed["name"] == "gateway-client"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert packed["version"] == project["version"]
    files = {file["path"] for file in packed["files"]}
    assert files == {"client.js", "client.d.ts", "package.json", "README.md"}


def test_wheel(tmp_path: Path) -> None:
    """The wheel has the client where Django's finder looks for static files, and the tag."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=lambda folder, names: [
            name for name in names if name.startswith(".") or name in {"tests", "build", "docs"}
        ],
    )
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    run(*pip, "--wheel-dir", str(tmp_path), str(source))
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in PACKAGE.iterdir():
            assert archive.read(f"django_gateway/static/gateway/{file.name}") == file.read_bytes()
    assert "django_gateway/templatetags/gateway.py" in names
