"""``gateway new plugin NAME``: writes the project of a plugin that works and is tested.

What it writes stands in ``templates`` as files: those of ``common`` for every flavour, those of
the flavour's own directory beside them. A file's name ends in ``.in``; ``package`` in its path
is the plugin's package, ``dot.`` a dot that would hide it, and ``@word@`` a word of `words`.
"""

from __future__ import annotations

import difflib
import importlib.util
import keyword
import re
import shlex
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import gateway
from gateway.core.errors import ConfigError
from gateway.core.sources import CORE

FLAVOURS: Final[Mapping[str, str]] = {
    "stream": "a session for each connection of TCP, TLS or a Unix socket",
    "datagram": "a session for each address that sends to a UDP socket",
    "client": "a session for each connection that the gateway begins and keeps",
    "http": "answers requests of the http port, below a path of its own",
}
"""What may be written, and what each is for."""
LONGEST: Final = 20
"""Characters of a name: with it the longest line of a template has 100."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*\Z", re.ASCII)
_WORD = re.compile(r"@(\w+)@")
_CONFORMANCE: Final = """
[project.entry-points."gateway.conformance"]
{0} = "gateway_{0}.conformance:{1}Suite"
"""
_TEMPLATES: Final = files(__name__) / "templates"


def new_plugin(
    name: str,
    flavour: str,
    directory: Path | None = None,
    installed: Collection[str] = (),
    commands: Collection[str] = (),
) -> Path:
    """Write the project of a plugin; return its directory, ``gateway-NAME`` unless told.

    ``installed`` are the names of plugins that exist, ``commands`` those of the gateway's own
    commands, which go before a plugin's. Either all files are written or none.
    Raises ConfigError that names the fix.
    """
    check_flavour(flavour)
    check_name(name, installed, commands)
    target = Path(f"gateway-{name.replace('_', '-')}") if directory is None else directory
    if target.exists() or target.is_symlink():
        raise ConfigError(
            f"{target} is there already, and nothing in it is touched; remove it, or name another "
            "with --directory"
        )
    known = words(name, flavour)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole, so beside it: a rename does not cross file systems.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as made:
            root = Path(made) / target.name
            for path, text in project(flavour, known):
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            shutil.move(root, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def farewell(name: str, target: Path) -> str:
    """Return what to tell whoever had a project written: what to do with it now."""
    return (
        f"written: {target}\n\n"
        f"  cd {shlex.quote(str(target))}\n"
        "  pip install -e '.[test]'\n"
        "  pytest\n"
        f"  gateway run --plugins {name}                   # in a Django project\n"
        f"  gateway run --plugins {name} --workers none    # or without one\n\n"
        f"README.md says how a consumer answers; the protocol is in gateway_{name}/"
        "translate.py.\n"
    )


def project(flavour: str, known: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Iterate over the files of a project: where they go and what is in them."""

    def filled(found: re.Match[str]) -> str:
        return known[found[1]]

    for part in ("common", flavour):
        for path, template in _walk(_TEMPLATES / part, Path()):
            parts = (known["package"] if p == "package" else p for p in path.parts)
            parts = (p.removeprefix("dot") if p.startswith("dot.") else p for p in parts)
            text = template.read_text(encoding="utf-8")
            where = _WORD.sub(filled, "/".join(parts)).removesuffix(".in")
            yield Path(where), _WORD.sub(filled, text)


def words(name: str, flavour: str) -> dict[str, str]:
    """Return what the words in templates stand for."""
    suite = (_TEMPLATES / flavour / "package" / "conformance.py.in").is_file()
    return {
        "name": name,
        "Name": _class(name),
        "NAME": name.upper(),
        "package": f"gateway_{name}",
        "project": f"gateway-{name.replace('_', '-')}",
        "conformance": _CONFORMANCE.format(name, _class(name)) if suite else "",
        "requirement": f"gateway>={gateway.__version__}",
    }


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def check_flavour(flavour: str) -> None:
    """Raise ConfigError for a flavour that there is not."""
    if flavour in FLAVOURS:
        return
    close = difflib.get_close_matches(flavour, FLAVOURS, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(f"{known} ({what})" for known, what in FLAVOURS.items())
    raise ConfigError(f"--flavour: there is no flavour {flavour!r}{hint}; there are {known}")


def check_name(name: str, installed: Collection[str], commands: Collection[str] = ()) -> None:
    """Raise ConfigError for what cannot be the name of a new plugin.

    It becomes part of channels, of a settings table, of variables, metrics, a module and a
    distribution: what all of these take is the least of them.
    """
    if not _NAME.match(name) or len(name) > LONGEST:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower().removeprefix("gateway-")).strip("_")
        plain = plain.lstrip("0123456789_")[:LONGEST].rstrip("_")
        raise ConfigError(
            f"{name!r} cannot be a plugin's name: it is made of lower-case letters, digits and "
            f"single underscores, begins with a letter and has at most {LONGEST} characters, since "
            "it becomes part of channels, settings, metrics and a module"
            + (f"; {plain!r} can" if _NAME.match(plain) else "")
        )
    if name in CORE or name in {"plugins", "gateway"}:
        raise ConfigError(
            f"{name!r} cannot be a plugin's name: the table [{name}] of the settings is the "
            f"gateway's own; choose another, as in {name}_protocol"
        )
    if name in commands:
        raise ConfigError(
            f"{name!r} cannot be a plugin's name: 'gateway {name}' is the gateway's own command; "
            f"choose another, as in {name}_protocol"
        )
    if name in installed:
        raise ConfigError(
            f"there is a plugin {name!r} already ('gateway plugins {name}' shows it); choose "
            f"another name, as in my_{name}"
        )
    if keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is a word of Python's; choose another name, as in {name}_1")
    package = f"gateway_{name}"
    if importlib.util.find_spec(package) is not None:
        raise ConfigError(
            f"there is a module {package} already, so nobody could import yours; choose another "
            "name"
        )


def _walk(directory: Traversable, path: Path) -> Iterator[tuple[Path, Traversable]]:
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, path / entry.name)
        elif entry.name.endswith(".in"):
            yield path / entry.name, entry
