"""Where settings come from, and how they become `Settings`.

In rising order: defaults, the application (`Application.settings`), ``gateway.toml`` or
``[tool.gateway]`` in ``pyproject.toml``, ``GATEWAY_<TABLE>_<KEY>`` variables, the command
line. A value of a higher source replaces that of a lower one whole. Every error is a
`ConfigError` that names the source, the key and the remedy.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

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

_HIDDEN = "…"
_MISSING = object()


class Given(NamedTuple):
    """One value that somebody set."""

    value: Any
    origin: str
    """Who set it, with the key in the source's own words: ``gateway.toml: http.listen``."""
    text: bool
    """Whether the value is text yet to be read (a variable, an option)."""


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
                self._given["", table] = Given(content, f"{origin}: {table}", text=False)
            elif isinstance(content, Mapping):
                for key, value in content.items():
                    self._given[table, str(key)] = Given(
                        value, f"{origin}: {table}.{key}", text=False
                    )
            else:
                raise ConfigError(
                    f"{origin}: {table!r} stands outside any table; only 'plugins' and "
                    "'plugins_dir' do" + _did_you_mean(table, _homes(table))
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
                self._given[names[name], key] = Given(environ[variable], variable, text=True)
                continue
            close = difflib.get_close_matches(rest.partition("_")[0], names, n=1, cutoff=0.75)
            if close:
                raise ConfigError(
                    f"{variable}: there is no table {rest.partition('_')[0].lower()!r}; "
                    f"did you mean {PREFIX}{close[0]}_{rest.partition('_')[2]}?"
                )
            self.warnings.append(f"{variable}: names no table of the gateway's; ignored")

    def add_assignment(self, assignment: str) -> None:
        """Add ``table.key=value``, as ``--set`` takes it."""
        name, mark, text = assignment.partition("=")
        table, dot, key = name.strip().partition(".")
        if not mark or not dot or not table or not key:
            raise ConfigError(
                f"--set {assignment!r}: expected table.key=value, as in --set http.listen=8000"
            )
        self.add_option(table, key, text, f"--set {name.strip()}")

    def add_option(self, table: str, key: str, text: str, option: str) -> None:
        """Add the text of a command-line option; table "" for what stands in no table."""
        self._given[table, key] = Given(text, option, text=True)

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
                    + _did_you_mean(table, {*structs, *known})
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
        """Iterate over the effective settings of a built table, with their origins."""
        for name, field in _fields(type(struct)).items():
            given = self._given.get((table, name))
            value = getattr(struct, field.name)
            default = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            kind = _hints(type(struct))[field.name]
            yield Row(
                f"{table}.{name}",
                _without_secrets(value, kind),
                given.origin if given else "default",
                description(kind),
                None if default is msgspec.NODEFAULT else default,
            )

    def _build(self, table: str, struct: type[msgspec.Struct]) -> msgspec.Struct:
        fields = _fields(struct)
        hints = _hints(struct)
        values: dict[str, Any] = {}
        origins = []
        for (given_table, key), given in self._given.items():
            if given_table != table:
                continue
            field = fields.get(key)
            if field is None:
                raise ConfigError(
                    f"{given.origin}: [{table}] has no setting {key!r}" + _did_you_mean(key, fields)
                )
            values[field.name] = _converted(given, hints[field.name])
            origins.append(given.origin)
        missing = [name for name, f in fields.items() if f.required and f.name not in values]
        if missing:
            raise ConfigError(
                f"[{table}] needs the setting {missing[0]!r}: set {table}.{missing[0]} in "
                f"gateway.toml, or {_variable(table, missing[0])}"
                + _sentence(description(hints[fields[missing[0]].name]))
            )
        try:
            return struct(**values)
        except (ValueError, TypeError, ConfigError) as error:
            # What a struct checks over several of its fields.
            raise ConfigError(f"[{table}] ({', '.join(origins) or 'default'}): {error}") from None


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


def description(kind: Any) -> str:
    """Return the description that an annotation carries, or "" for none."""
    for meta in _metas(kind):
        if meta.description:
            return str(meta.description)
    return ""


def is_secret(kind: Any) -> bool:
    """Return whether an annotation is marked ``Meta(extra={"secret": True})``."""
    return any((meta.extra or {}).get("secret") for meta in _metas(kind))


def _holds_secret(kind: Any) -> bool:
    """Return whether an annotation is marked so, or something within it is."""
    if is_secret(kind):
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any(_holds_secret(part) for part in _hints(kind).values())
    return any(_holds_secret(part) for part in get_args(kind) if not isinstance(part, str))


def _without_secrets(value: Any, kind: Any) -> Any:
    """Return a setting's value as it may be shown."""
    if not value or not _holds_secret(kind):
        return value
    if is_secret(kind):
        return _HIDDEN
    if isinstance(value, msgspec.Struct):
        hints = _hints(type(value))
        return {name: _without_secrets(getattr(value, name), hints[name]) for name in hints}
    parts = [part for part in get_args(kind) if _holds_secret(part)]
    if len(parts) != 1:
        return _HIDDEN
    if isinstance(value, dict):
        return {key: _without_secrets(item, parts[0]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item, parts[0]) for item in value]
    return _without_secrets(value, parts[0])


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    if get_origin(kind) is Annotated:
        yield from (m for m in reversed(kind.__metadata__) if isinstance(m, msgspec.Meta))


def _converted(given: Given, kind: Any) -> Any:
    if not given.text:
        try:
            return msgspec.convert(given.value, kind)
        except msgspec.ValidationError as error:
            raise _misfit(given, kind, error) from None
    last: msgspec.ValidationError | None = None
    for candidate in _readings(given.value, kind):
        for strict in (True, False):
            try:
                return msgspec.convert(candidate, kind, strict=strict)
            except msgspec.ValidationError as error:
                last = last or error
    raise _misfit(given, kind, last) from None


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


def _misfit(given: Given, kind: Any, error: Exception | None) -> ConfigError:
    shown = "the value" if _holds_secret(kind) else repr(given.value)
    reason = str(error).replace("`", "'")
    reason = reason[:1].lower() + reason[1:]
    choices = [repr(choice) for choice in _choices(kind)]
    if choices:
        reason = f"expected {', '.join(choices[:-1])} or {choices[-1]}"
    return ConfigError(
        f"{given.origin}: {shown} does not fit: {reason}{_sentence(description(kind))}"
    )


def _choices(kind: Any) -> tuple[Any, ...]:
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    return get_args(kind) if get_origin(kind) is Literal else ()


def _fields(struct: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


@cache
def _hints(struct: type[msgspec.Struct]) -> Mapping[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _variable(*parts: str) -> str:
    name = "_".join(part.upper().replace("-", "_") for part in parts)
    return name if len(parts) == 1 else PREFIX + name


def _homes(key: str) -> list[str]:
    """Return where the core has a setting ``key``."""
    return [f"{table}.{key}" for table, struct in CORE.items() if key in _fields(struct)]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def _sentence(text: str) -> str:
    return f" ({text.split('. ', maxsplit=1)[0].rstrip('.')})" if text else ""
