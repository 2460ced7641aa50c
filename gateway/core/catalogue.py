"""What ``gateway plugins`` tells: which plugins there are, and one of them in full."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from gateway.core.annotated import description
from gateway.core.boot import Boot, Options, boot
from gateway.core.errors import ConfigError, GatewayError
from gateway.core.pluginfiles import PluginFile
from gateway.core.registry import Loaded, Point, hooks_of, origin, unmet, version

HEAD = ("plugin", "version", "from", "served", "what it is")


def table(started: Boot) -> tuple[list[str], bool]:
    """Return a line for each plugin, and what is wrong; and whether all is well.

    Those that are asked for are imported, the others are not.
    """
    registry = started.registry
    names, asked_by = started.sources.plugins()
    problems: list[str] = []
    served: dict[str, str] = {}
    for name in names:
        try:
            loaded = registry.load([name], asked_by)
        except GatewayError as error:
            problems.append(str(error))
            served[name] = "broken"
        else:
            served |= {found.name: "yes" for found in loaded}
    rows = [HEAD]
    for name, point in sorted(registry.available.items()):
        where = origin(point).rpartition(" ")[0] or origin(point)
        if isinstance(point, PluginFile):
            where = _short(point.path)
        rows.append((name, version(point) or "-", where, served.get(name, "no"), summary(point)))
    problems += [
        f"{file.path}: {name!r} is {origin(registry.available[name])} already; rename the file"
        for name, file in registry.shadowed.items()
        if name not in served
    ]
    for name, word in served.items():
        if word == "yes":
            problems += [f"plugin {name!r}: {text}" for text in unmet(registry.available[name])]
    lines = list(_aligned(rows))
    lines.append(f"served: {', '.join(names)}  # {asked_by}")
    lines += [f"problem: {text}" for text in problems]
    return lines, not problems


def sheet(options: Options, name: str) -> tuple[list[str], bool]:
    """Return all that there is to say of one plugin, and whether all is well with it.

    Raises ConfigError and PluginError where there is none of that name, or it is broken.
    """
    plain = boot(options, load_plugins=False)
    names, asked_by = plain.sources.plugins()
    # Alone, so that what is wrong with another one is not in its way.
    started = boot(msgspec.structs.replace(options, plugins=name))
    loaded = next(found for found in started.plugins if found.name == name)
    problems = unmet(loaded.point)
    served = f"yes ({asked_by})" if name in names else "no; add it to --plugins or 'plugins'"
    return [*_sheet(started, loaded, served), *(f"problem: {p}" for p in problems)], not problems


def _sheet(started: Boot, loaded: Loaded, served: str) -> Iterator[str]:
    kind, name = loaded.kind, loaded.name
    yield f"{name} {version(loaded.point)}".rstrip()
    for line in (inspect.cleandoc(loaded.module.__doc__ or "")).splitlines():
        yield f"  {line}".rstrip()
    yield ""
    yield from _aligned(
        [
            ("from", origin(loaded.point)),
            ("module", f"{loaded.module.__name__} ({loaded.module.__file__})"),
            ("class", kind.__qualname__),
            ("served", served),
            ("requires", ", ".join(kind.requires) or "no other plugin"),
            ("hooks", ", ".join(sorted(hooks_of(loaded.module)))),
            ("commands", ", ".join(sorted(started.registry.commands(name))) or "none"),
            ("reads", ", ".join(kind.reads) or "no channel"),
            ("listens", ", ".join(_listens(started, name)) or "nowhere itself"),
        ]
    )
    yield "messages that it sends"
    for word, schema in kind.messages.KINDS.items():
        yield from _schema(f"{name}.{word}", schema)
    yield "replies that it understands"
    yield from _schema("", kind.messages.REPLY)
    yield "settings"
    for row in started.sources.rows(name, started.settings.tables[name]):
        yield f"  {row.key} = {shown(row.value)}  # {row.origin}"
        if row.description:
            yield f"      {row.description}"
    for text in kind.warnings(started.settings.tables[name]):
        yield f"warning: {text}"


def _listens(started: Boot, name: str) -> list[str]:
    try:
        return [endpoint.text for endpoint in started.endpoints()[name]]
    except ConfigError as error:
        return [str(error)]


def _schema(channel: str, schema: Any) -> Iterator[str]:
    if channel:
        yield f"  {channel}  {_first_line(schema.__doc__)}".rstrip()
    try:
        hints = get_type_hints(schema, include_extras=True)
    except (NameError, TypeError):
        hints = getattr(schema, "__annotations__", {})
    for key, hint in hints.items():
        yield f"      {key}  {description(hint)}".rstrip()


def summary(point: Point) -> str:
    """Return the first line of a plugin's manual page, without importing the plugin."""
    path = point.path if isinstance(point, PluginFile) else _source(point.module)
    if path is None:
        return ""
    try:
        return _first_line(ast.get_docstring(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return ""


def _source(module: str) -> Path | None:
    """Return the file of a module that is not imported; its packages may be."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # noqa: BLE001 - a package's own code; whoever loads it will be told
        return None
    return None if spec is None or not spec.has_location else Path(str(spec.origin))


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = (f"{text:<{width}}" for text, width in zip(row, widths, strict=False))
        yield "  ".join([*cells, row[-1]]).rstrip()


def shown(value: object) -> str:
    """Return a value of a setting as JSON."""
    return msgspec.json.encode(value, enc_hook=str).decode()
