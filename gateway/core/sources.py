"""Where settings come from, and how they become `Settings`.

In rising order: defaults, the application (`Application.settings`), ``gateway.toml`` or
``[tool.gateway]`` in ``pyproject.toml``, ``GATEWAY_<TABLE>_<KEY>`` variables, the command
line. A value of a higher source replaces that of a lower one whole; a variable or an option may
name a setting within it instead (`gateway.core.nested`), and leaves the rest. Every error is a
`ConfigError` that names the source, the key and the remedy.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from gateway.core import nested
from gateway.core.annotated import (
    default_of,
    default_within,
    description,
    did_you_mean,
    fields,
    has_names,
    hints,
    holds_secret,
    sentence,
    within,
    without_secrets,
)
from gateway.core.config import Settings
from gateway.core.errors import ConfigError

PREFIX = "GATEWAY_"
CORE = {
    name: kind
    for name, kind in get_type_hints(Settings).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}
"""The core's own tables and their structs."""
OUTSIDE = frozenset(("plugins", "plugins_dir"))
"""What stands in no table."""

_MISSING = object()


class Given(NamedTuple):
    """One value that somebody set."""

    value: Any
    origin: str
    """Who set it, with the key in the source's own words: ``gateway.toml: http.listen``."""
    text: bool
    """Whether the value is text yet to be read (a variable, an option)."""
    joint: str = ""
    """What parts the names of a key that goes deeper, "" where none does."""


class Row(NamedTuple):
    """One effective setting, for ``gateway check`` and ``gateway plugins``."""

    key: str
    value: Any
    origin: str
    description: str
    default: Any


class Sources:
    """All that was set anywhere, in rising order of the calls that add it."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], Given] = {}
        self.warnings: list[str] = []
        """What is suspicious but stops nothing."""

    # ------------------------------------------------ the sources, lowest first

    def add_tables(self, tables: Mapping[str, Any], origin: str) -> None:
        """Add nested tables: what a file holds, or an application's settings."""
        for table, content in tables.items():
            if table in OUTSIDE:
                self._add("", table, Given(content, f"{origin}: {table}", text=False))
            elif isinstance(content, Mapping):
                for key, value in content.items():
                    given = Given(value, f"{origin}: {table}.{key}", text=False)
                    self._add(table, str(key), given)
            else:
                raise ConfigError(
                    f"{origin}: {table!r} stands outside any table; only 'plugins' and "
                    "'plugins_dir' do" + did_you_mean(table, _homes(table))
                )

    def add_file(self, path: Path) -> None:
        """Add a TOML file; of a ``pyproject.toml`` its table ``[tool.gateway]``."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not TOML: {error}") from None
        if path.name == "pyproject.toml":
            tables = tables.get("tool", {}).get("gateway", {})
        self.add_tables(tables, str(path))

    def add_environment(self, environ: Mapping[str, str], tables: Collection[str]) -> None:
        """Add the ``GATEWAY_…`` variables of the core's tables and of ``tables``.

        A variable of no table is left alone, as others use the prefix too; one whose table
        is nearly right is refused.
        """
        names = {_variable(table): table for table in (*CORE, *tables)}
        for variable in sorted(environ):
            if not variable.startswith(PREFIX):
                continue
            rest = variable[len(PREFIX) :]
            if rest.lower() in OUTSIDE:
                self.add_option("", rest.lower(), environ[variable], variable)
                continue
            fitting = [name for name in names if rest.startswith(f"{name}_")]
            if fitting:
                name = max(fitting, key=len)
                key = rest[len(name) + 1 :].lower()
                given = Given(environ[variable], variable, text=True, joint="_")
                self._add(names[name], key, given)
                continue
            close = difflib.get_close_matches(rest.partition("_")[0], names, n=1, cutoff=0.75)
            if close:
                raise ConfigError(
                    f"{variable}: there is no table {rest.partition('_')[0].lower()!r}; "
                    f"did you mean {PREFIX}{close[0]}_{rest.partition('_')[2]}?"
                )
            self.warnings.append(f"{variable}: names no table of the gateway's; ignored")

    def add_assignment(self, assignment: str) -> None:
        """Add ``table.key=value``, as ``--set`` takes it; the key may go deeper."""
        name, mark, text = assignment.partition("=")
        table, dot, key = name.strip().partition(".")
        if not mark or not dot or not table or not key:
            raise ConfigError(
                f"--set {assignment!r}: expected table.key=value, as in --set http.listen=8000"
            )
        self._add(table, key, Given(text, f"--set {name.strip()}", text=True, joint="."))

    def add_option(self, table: str, key: str, text: str, option: str) -> None:
        """Add the text of a command-line option; table "" for what stands in no table."""
        self._add(table, key, Given(text, option, text=True))

    def _add(self, table: str, key: str, given: Given) -> None:
        # What was added last comes last, too, if there was one of this key before.
        self._given.pop((table, key), None)
        self._given[table, key] = given

    # ------------------------------------------------ the result

    def plugins(self) -> tuple[tuple[str, ...], str]:
        """Return the names of the plugins asked for, and who asked."""
        given = self._given.get(("", "plugins"))
        if given is None:
            return Settings().plugins, "default"
        value = given.value
        if given.text:
            value = [name.strip() for name in value.split(",") if name.strip()]
        if not isinstance(value, list | tuple) or not all(isinstance(n, str) for n in value):
            raise ConfigError(
                f"{given.origin}: expected a list of plugin names, as in "
                f"['http', 'websocket'], not {value!r}"
            )
        return tuple(dict.fromkeys(value)), given.origin

    def plugins_dir(self) -> tuple[Path | None, str]:
        """Return the directory of plugins of one file, None for none, and who named it."""
        given = self._given.get(("", "plugins_dir"))
        if given is None or given.value == "":
            return None, "default"
        if not isinstance(given.value, str):
            raise ConfigError(f"{given.origin}: expected the path of a directory")
        return Path(given.value).absolute(), given.origin

    def table(self, name: str) -> msgspec.Struct:
        """Return one table of the core's own, whatever may be wrong with others."""
        return self._build(name, CORE[name])

    def settings(
        self, plugins: Mapping[str, type[msgspec.Struct]], known: Collection[str] = ()
    ) -> Settings:
        """Return all settings, with a table for each of ``plugins`` (name -> its ``Config``).

        ``known`` are the names of plugins that exist but were not asked for: their tables are
        left unread. Raises ConfigError for the first thing that is wrong.
        """
        structs = CORE | dict(plugins)
        for table, key in self._given:
            if table and table not in structs and table not in known:
                raise ConfigError(
                    f"{self._given[table, key].origin}: there is no table {table!r}"
                    + did_you_mean(table, {*structs, *known})
                )
        built = {table: self._build(table, struct) for table, struct in structs.items()}
        names, _ = self.plugins()
        tables = {name: built[name] for name in plugins}
        core: dict[str, Any] = {name: built[name] for name in CORE}
        return Settings(plugins=names, tables=tables, **core)

    def check_options(self, plugins: Collection[str]) -> None:
        """Raise ConfigError for an option that sets a plugin's table that is not in ``plugins``.

        Files and variables may be shared between processes; an option means this one.
        """
        for (table, _), given in self._given.items():
            if given.origin.startswith("-") and table and table not in {*CORE, *plugins}:
                names = ", ".join(plugins)
                raise ConfigError(
                    f"{given.origin}: {table!r} is not among the plugins ({names}); add it to "
                    "--plugins"
                )

    def rows(self, table: str, struct: msgspec.Struct) -> Iterator[Row]:
        """Iterate over the effective settings of a built table, with their origins.

        What was set within a setting follows it, in a row of its own.
        """
        kind = type(struct)
        tree, givens = self._merged(table, kind)
        for name, field in fields(kind).items():
            given = givens.get((name,))
            inner = {path: g for path, g in givens.items() if path[0] == name and len(path) > 1}
            origin = given.origin if given else "default"
            yield Row(
                f"{table}.{name}",
                without_secrets(getattr(struct, field.name), hints(kind)[field.name]),
                f"{origin}, and what follows" if inner else origin,
                description(hints(kind)[field.name]),
                default_of(field),
            )
            for path, one in inner.items():
                yield _inner_row(table, kind, path, tree, one.origin)

    def _merged(
        self, table: str, struct: type[msgspec.Struct]
    ) -> tuple[dict[str, Any], dict[nested.Path, Given]]:
        """Return what was set in a table, in plain values, and who set what of it.

        Raises ConfigError for a name that there is not.
        """
        tree: dict[str, Any] = {}
        givens: dict[nested.Path, Given] = {}
        for (given_table, key), given in self._given.items():
            if given_table != table:
                continue
            value = _toml(given.value) if given.text else given.value
            words = nested.words(key, given.joint)
            whole = isinstance(value, Mapping)
            try:
                path = nested.resolve(struct, words, given.joint, tree, whole=whole)
            except nested.Unknown as error:
                raise ConfigError(f"{given.origin}: {error.text(table)}") from None
            kind: Any = struct
            for name in path:
                kind = within(kind, name)
            if len(path) > 1 and not (whole and has_names(kind)):
                value = _converted(given, kind, ".".join((table, *path)))
            elif given.text and not whole:
                value = given.value
            try:
                nested.put(tree, struct, path, value)
            except KeyError as error:
                lower = givens[max(set(givens) & set(_heads(path)), key=len)]
                where = ".".join((table, *error.args[0]))
                raise ConfigError(
                    f"{lower.origin}: {where} is no table, and {given.origin} sets something in it"
                ) from None
            for other in [one for one in givens if one[: len(path)] == path]:
                del givens[other]
            givens[path] = given
        return tree, givens

    def _build(self, table: str, struct: type[msgspec.Struct]) -> msgspec.Struct:
        known = fields(struct)
        kinds = hints(struct)
        tree, givens = self._merged(table, struct)
        values: dict[str, Any] = {}
        for name, value in tree.items():
            field = known[name]
            kind = kinds[field.name]
            own = {path: given for path, given in givens.items() if path[0] == name}
            if list(own) == [(name,)]:
                values[field.name] = _converted(own[name,], kind, f"{table}.{name}")
            else:
                values[field.name] = _put_together(value, kind, table, name, own)
        origins = [given.origin for given in givens.values()]
        missing = [name for name, f in known.items() if f.required and f.name not in values]
        if missing:
            raise ConfigError(
                f"[{table}] needs the setting {missing[0]!r}: set {table}.{missing[0]} in "
                f"gateway.toml, or {_variable(table, missing[0])}"
                + sentence(description(kinds[known[missing[0]].name]))
            )
        try:
            return struct(**values)
        except (ValueError, TypeError, ConfigError) as error:
            # What a struct checks over several of its fields.
            raise ConfigError(f"[{table}] ({', '.join(origins) or 'default'}): {error}") from None


def _inner_row(
    table: str, kind: Any, path: nested.Path, tree: Mapping[str, Any], origin: str
) -> Row:
    """Return the row of a setting within one of a table."""
    value: Any = tree
    default = None
    for name in path:
        default = default_within(kind, name)
        kind, value = within(kind, name), value[name]
    shown = without_secrets(value, kind)
    return Row(".".join((table, *path)), shown, origin, description(kind), default)


def _heads(path: nested.Path) -> list[nested.Path]:
    return [path[:length] for length in range(1, len(path))]


def find_file(directories: Iterable[Path]) -> Path | None:
    """Return the first ``gateway.toml``, or ``pyproject.toml`` with ``[tool.gateway]``."""
    for directory in directories:
        own = directory / "gateway.toml"
        if own.is_file():
            return own
        shared = directory / "pyproject.toml"
        if shared.is_file():
            try:
                tool = tomllib.loads(shared.read_text(encoding="utf-8")).get("tool", {})
            except (OSError, ValueError):
                continue  # somebody else's file: whoever needs it will complain
            if "gateway" in tool:
                return shared
    return None


def _converted(given: Given, kind: Any, place: str) -> Any:
    """Return the value of what was given for the setting ``place``. Raises ConfigError."""
    if not given.text:
        try:
            return msgspec.convert(given.value, kind)
        except msgspec.ValidationError as error:
            raise _misfit(given, given.value, kind, place, error) from None
    last: msgspec.ValidationError | None = None
    for candidate in _readings(given.value, kind):
        for strict in (True, False):
            try:
                return msgspec.convert(candidate, kind, strict=strict)
            except msgspec.ValidationError as error:
                last = last or error
    value = _toml(given.value)
    if not isinstance(value, Mapping):
        value = given.value
    raise _misfit(given, value, kind, place, last) from None


def _put_together(
    value: Any, kind: Any, table: str, name: str, own: Mapping[nested.Path, Given]
) -> Any:
    """Return the value of a setting that several sources have set parts of."""
    try:
        nested.look(value, kind, f"{table}.{name}", (name,))
    except nested.Fault as fault:
        # The last who said something of it; else who said what it stands in.
        where = fault.path
        said = [path for path in own if path[: len(where)] == where]
        said = said or [path for path in own if path == where[: len(path)]]
        raise _fault(own[said[-1]], f"{table}.{name}", fault) from None
    return msgspec.convert(value, kind)


def _readings(text: str, kind: Any) -> Iterator[Any]:
    """Iterate over what a text may mean: a TOML value, a list by commas, itself."""
    value = _toml(text)
    if value is not _MISSING:
        yield value
    if _takes_list(kind) and (parts := [part.strip() for part in text.split(",")]):
        yield parts if any(parts) else []
    yield text


def _toml(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return _MISSING
    return document["value"] if len(document) == 1 else _MISSING


def _takes_list(kind: Any) -> bool:
    if kind in {list, tuple, set, frozenset} or get_origin(kind) in {list, tuple, set, frozenset}:
        return True
    return any(_takes_list(part) for part in get_args(kind) if not isinstance(part, str))


def _misfit(
    given: Given, value: Any, kind: Any, place: str, error: Exception | None
) -> ConfigError:
    if has_names(kind) or isinstance(value, list | tuple):
        try:
            nested.look(value, kind, place)
        except nested.Fault as fault:
            return _fault(given, place, fault)
    shown = "the value" if holds_secret(kind) else repr(given.value)
    return ConfigError(f"{given.origin}: {shown} {nested.misfit(str(error), kind)}")


def _fault(given: Given, place: str, fault: nested.Fault) -> ConfigError:
    """Return the error about what was given for ``place``, which it names once."""
    if given.text:
        return ConfigError(f"{given.origin}: {fault.text.removeprefix(f'{place}: ')}")
    return ConfigError(f"{given.origin.removesuffix(f': {place}')}: {fault.text}")


def _variable(*parts: str) -> str:
    name = "_".join(part.upper().replace("-", "_") for part in parts)
    return name if len(parts) == 1 else PREFIX + name


def _homes(key: str) -> list[str]:
    """Return where the core has a setting ``key``."""
    return [f"{table}.{key}" for table, struct in CORE.items() if key in fields(struct)]
