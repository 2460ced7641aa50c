"""Write the generated regions of the manual from the code that they describe.

A page carries ``<!-- generated: NAME ARGUMENTS -->`` … ``<!-- end -->``; what stands between
is made here, by the function of that name in REGIONS. ``make docs`` writes the pages,
``--check`` says which are out of date; the tests do that too.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required

import msgspec
from msgspec import Meta

from gateway.core import access, config, plugin
from gateway.core.metrics import Drop

ROOT = Path(__file__).resolve().parent.parent
REGION = re.compile(r"(<!-- generated: ([^>]*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


# ---------------------------------------------------------------- types as text


def peel(kind: Any) -> tuple[Any, list[Meta]]:
    """Return a type without its wrappers, and the Meta found on the way."""
    found: list[Meta] = []
    while True:
        origin = typing.get_origin(kind)
        if origin is Annotated:
            found += [extra for extra in kind.__metadata__ if isinstance(extra, Meta)]
            kind = kind.__origin__
        elif origin in (Required, NotRequired):
            kind = kind.__args__[0]
        else:
            return kind, found


def spell(kind: Any) -> str:
    """Return a type as Python spells it, wrappers left out."""
    kind, _ = peel(kind)
    origin = typing.get_origin(kind)
    if kind is None or kind is types.NoneType:
        return "None"
    if origin is Literal:
        return " | ".join(repr(value).replace("'", '"') for value in kind.__args__)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(spell(part) for part in kind.__args__)
    if kind is Ellipsis:
        return "…"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(spell(part) for part in kind.__args__)}]"
    return getattr(kind, "__name__", str(kind))


def described(metas: Iterable[Meta]) -> str:
    """Return the description among some Meta."""
    return prose(next((meta.description for meta in metas if meta.description), ""))


def limits(metas: Iterable[Meta]) -> str:
    """Return the bounds among some Meta, as words."""
    words = []
    for meta in metas:
        for value, word in (
            (meta.ge, "at least {}"),
            (meta.gt, "over {}"),
            (meta.le, "at most {}"),
            (meta.lt, "under {}"),
            (meta.pattern, "`{}`"),
        ):
            if value is not None:
                words.append(word.format(value))
    return ", ".join(words)


def cell(text: str) -> str:
    """Return text fit for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell(text) for text in row) + " |"


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the strings that stand below the fields of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue
        body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
        for field, text in zip(body, body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign | ast.Assign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                target = field.target if isinstance(field, ast.AnnAssign) else field.targets[0]
                found[target.id] = text.value.value  # type: ignore[attr-defined]
    return found


def prose(text: str) -> str:
    """Return a docstring as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", inspect.cleandoc(text))


# ---------------------------------------------------------------- settings


def fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, type, default and description of every field of a struct."""
    below = attribute_docs(struct)
    hints = typing.get_type_hints(struct, include_extras=True)
    for info in msgspec.structs.fields(struct):
        hint = hints[info.name]
        _, metas = peel(hint)
        default = info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        yield info.name, hint, default, described(metas) or prose(below.get(info.name, ""))


def toml(value: Any) -> str:
    """Return a default as one writes it in gateway.toml."""
    if value is None:
        return "absent"
    if value is msgspec.NODEFAULT:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | frozenset):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return str(value)


def settings_table(struct: type[msgspec.Struct]) -> Iterator[str]:
    """Yield the table of a settings struct."""
    rows = []
    for name, hint, default, text in fields(struct):
        kind, metas = peel(hint)
        bounds = limits(metas)
        spelled = f"`{spell(kind)}`" + (f", {bounds}" if bounds else "")
        rows.append((f"`{name}`", spelled, f"`{toml(default)}`", text))
    yield from table(("key", "type", "default", "meaning"), rows)


def settings() -> Iterator[str]:
    """Yield the tables of the core and of every built-in plugin."""
    for info in msgspec.structs.fields(config.Settings):
        if info.name in ("plugins", "tables"):
            continue
        struct = type(info.default)
        yield f"## `[{info.name}]`"
        yield ""
        yield sentence(struct)
        yield ""
        yield from settings_table(struct)
        yield ""
    for name in plugins():
        cls = plugin_class(name)
        yield f"## `[{name}]`"
        yield ""
        yield sentence(cls.Config)
        yield ""
        yield from settings_table(cls.Config)
        yield ""
        yield from nested(name, cls.Config)


def nested(where: str, struct: type[msgspec.Struct]) -> Iterator[str]:
    """Yield the tables of structs within a settings struct."""
    for name, hint, _, _ in fields(struct):
        kind, _ = peel(hint)
        found = [kind, *typing.get_args(kind)]
        inner = next(
            (one for one in found if isinstance(one, type) and issubclass(one, msgspec.Struct)),
            None,
        )
        if inner is not None:
            place = f"{where}.{name}.NAME" if typing.get_origin(kind) is dict else f"{where}.{name}"
            yield f"### `[{place}]`"
            yield ""
            yield sentence(inner)
            yield ""
            yield from settings_table(inner)
            yield ""
            yield from nested(place, inner)


def auth_settings() -> Iterator[str]:
    """Yield the table of ``GATEWAY_AUTH``, in Python's spelling."""
    from django_gateway.auth_settings import AuthSettings

    rows = []
    for name, hint, default, text in fields(AuthSettings):
        kind, metas = peel(hint)
        bounds = limits(metas)
        spelled = f"`{spell(kind)}`" + (f", {bounds}" if bounds else "")
        rows.append((f'`"{name}"`', spelled, f"`{default!r}`", text))
    yield from table(("key", "type", "default", "meaning"), rows)


def sentence(thing: Any) -> str:
    """Return what a docstring says, without the name it may begin with, from a capital on."""
    text = prose(thing.__doc__ or "")
    text = re.sub(r"^`[^`]+`:\s*", "", text)
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- messages


def plugins() -> list[str]:
    """Return the names of the built-in plugins, as pyproject.toml lists them."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["entry-points"]["gateway.plugins"])


def plugin_class(name: str) -> type[plugin.ProtocolPlugin]:
    """Return the class of a built-in plugin."""
    return importlib.import_module(f"gateway.plugins.{name}").gateway_plugin()


COMMON = {"reply_channel", "order", "client", "server"}
"""Keys of every message, explained once."""


def keys_table(schema: Any) -> Iterator[str]:
    """Yield the table of a message's own keys."""
    rows = []
    for key, hint in typing.get_type_hints(schema, include_extras=True).items():
        if key in COMMON:
            continue
        kind, metas = peel(hint)
        note = described(metas)
        if any((meta.extra or {}).get("secret") for meta in metas):
            note += " Secret: redacted in logs."
        needed = key in schema.__required_keys__ and typing.get_origin(hint) is not NotRequired
        need = "" if needed else ", optional"
        rows.append((f"`{key}`", f"`{spell(kind)}`{need}", note))
    yield from table(("key", "type", "meaning"), rows)


def messages(name: str) -> Iterator[str]:
    """Yield what a plugin emits and what it understands."""
    module = plugin_class(name).messages
    for kind, schema in module.KINDS.items():
        yield f"### `{name}.{kind}`"
        yield ""
        yield sentence(schema)
        yield ""
        yield from keys_table(schema)
        yield ""
    if body := getattr(module, "BODY", None):
        yield f"### On the `body_channel` of {name}"
        yield ""
        yield sentence(body)
        yield ""
        yield from keys_table(body)
        yield ""
    yield f"### Replies to {name}"
    yield ""
    yield prose(module.REPLY.__doc__ or "")
    yield ""
    yield from keys_table(module.REPLY)


# ---------------------------------------------------------------- the rest


def drops() -> Iterator[str]:
    """Yield the causes of drops."""
    meanings = attribute_docs(Drop)
    rows = ((f"`{drop.value}`", prose(meanings[drop.name])) for drop in Drop)
    yield from table(("cause", "meaning"), rows)


def record() -> Iterator[str]:
    """Yield the keys of a record of the access log."""
    meanings = attribute_docs(access.Record)
    rows = (
        (f"`{info.name}`", "always" if info.required else "if known", prose(meanings[info.name]))
        for info in msgspec.structs.fields(access.Record)
    )
    yield from table(("key", "there", "meaning"), rows)


def summary() -> Iterator[str]:
    """Yield what a session may say of itself for the access log."""
    meanings = attribute_docs(plugin.Summary)
    rows = (
        (f"`{info.name}`", prose(meanings[info.name]))
        for info in msgspec.structs.fields(plugin.Summary)
    )
    yield from table(("field", "meaning"), rows)


def refusals() -> Iterator[str]:
    """Yield the reasons for which an Emit is refused."""
    meanings = attribute_docs(plugin.Refusal)
    rows = ((f"`{item.name}`", prose(meanings[item.name])) for item in plugin.Refusal)
    yield from table(("refusal", "meaning"), rows)


def actions() -> Iterator[str]:
    """Yield the actions of a session with their fields."""
    for action in typing.get_args(plugin.Action):
        arguments = ", ".join(
            info.name
            if info.required
            else f"{info.name}={'OK' if info.default is plugin.OK else repr(info.default)}"
            for info in msgspec.structs.fields(action)
        )
        yield f"### `{action.__name__}({arguments})`"
        yield ""
        yield prose(action.__doc__ or "")
        yield ""


def methods(name: str) -> Iterator[str]:
    """Yield the public methods of a class of the plugin contract, in the source's order."""
    cls = getattr(plugin, name)
    rows = []
    for verb, member in vars(cls).items():
        function = getattr(member, "__func__", member)
        if verb.startswith("_") or not inspect.isfunction(function):
            continue
        names = ", ".join(list(inspect.signature(function).parameters)[1:])
        rows.append((f"`{verb}({names})`", prose(function.__doc__ or "")))
    yield from table(("method", "promise and duty"), rows)


def hooks() -> Iterator[str]:
    """Yield every hook with its exact arguments."""
    for name, function in inspect.getmembers(plugin, inspect.isfunction):
        if not hasattr(function, "gateway_spec"):
            continue
        yield f"### `{name}{signature(function)}`"
        yield ""
        yield prose(function.__doc__ or "")
        yield ""


def signature(function: Callable[..., Any]) -> str:
    """Return a signature as the source spells it."""
    return str(inspect.signature(function)).replace("'", "")


def command_line() -> Iterator[str]:
    """Yield the options of all commands, then every command with its own."""
    from gateway import cli

    _, commands = cli._parser()
    known = {name: options(parser) for name, parser in commands.items()}
    # All but those that read no settings.
    usual = [rows for name, rows in known.items() if name not in {"new", "conformance"}]
    shared = [row for row in usual[0] if all(row in rows for rows in usual)]
    yield "## Options of every command that reads settings"
    yield ""
    yield from table(("option", "meaning"), shared)
    for name, rows in known.items():
        yield ""
        yield f"## `gateway {name}`"
        yield ""
        yield commands[name].description or ""
        own = [row for row in rows if row not in shared]
        if own:
            yield ""
            yield from table(("option", "meaning"), own)


def options(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Return the options of a command, as they are written, and what they mean."""
    rows = []
    for action in parser._actions:  # argparse has no public way to them
        if action.help is not argparse.SUPPRESS and "--help" not in action.option_strings:
            words = " ".join([*action.option_strings, action.metavar or ""])
            rows.append((f"`{words.strip()}`", action.help or ""))
    return rows


def benchmarks() -> Iterator[str]:
    """Yield the figures of benchmarks/README.md: what stands between its two marks."""
    page = ROOT / "benchmarks" / "README.md"
    text = page.read_text() if page.exists() else ""
    found = re.search(r"<!-- figures -->\n(.*?)<!-- end -->", text, re.DOTALL)
    yield found[1].strip() if found else ""


def checks() -> Iterator[str]:
    """Yield the checks of PluginSuite."""
    from gateway.testing import PluginSuite

    rows = [
        (name, prose(" ".join((check.__doc__ or "").split())))
        for name, check in PluginSuite.checks()
    ]
    yield from table(("check", "what must be so"), rows)


REGIONS: dict[str, Callable[..., Iterator[str]]] = {
    function.__name__: function
    for function in (
        settings,
        auth_settings,
        messages,
        drops,
        record,
        summary,
        refusals,
        actions,
        methods,
        hooks,
        checks,
        command_line,
        benchmarks,
    )
}


def render(text: str) -> str:
    """Return a page with its regions made anew."""

    def fill(found: re.Match[str]) -> str:
        name, *arguments = found[2].split()
        return found[1] + "\n".join(REGIONS[name](*arguments)).strip() + "\n" + found[4]

    return REGION.sub(fill, text)


def pages() -> list[Path]:
    """Return every page of the manual, the README included."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is old")
    check = parser.parse_args().check
    stale = [page for page in pages() if render(page.read_text()) != page.read_text()]
    for page in stale:
        print(("out of date: " if check else "written: ") + str(page.relative_to(ROOT)))
        if not check:
            page.write_text(render(page.read_text()))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
