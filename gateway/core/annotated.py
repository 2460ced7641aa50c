"""What the annotation of a setting says: its description, its secrets, what stands within it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_HIDDEN = "…"


def description(kind: Any) -> str:
    """Return the description that an annotation carries, or "" for none."""
    for meta in _metas(kind):
        if meta.description:
            return str(meta.description)
    return ""


def is_secret(kind: Any) -> bool:
    """Return whether an annotation is marked ``Meta(extra={"secret": True})``."""
    return any((meta.extra or {}).get("secret") for meta in _metas(kind))


def holds_secret(kind: Any) -> bool:
    """Return whether an annotation is marked so, or something within it is."""
    if is_secret(kind):
        return True
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any(holds_secret(part) for part in hints(kind).values())
    return any(holds_secret(part) for part in get_args(kind) if not isinstance(part, str))


def without_secrets(value: Any, kind: Any) -> Any:
    """Return a setting's value as it may be shown."""
    if not value or not holds_secret(kind):
        return value
    if is_secret(kind):
        return _HIDDEN
    if isinstance(value, msgspec.Struct):
        own = hints(type(value))
        return {name: without_secrets(getattr(value, name), own[name]) for name in own}
    if isinstance(value, dict) and struct_in(kind) is not None:  # not yet read as one
        return {name: without_secrets(item, within(kind, name)) for name, item in value.items()}
    parts = [part for part in get_args(kind) if holds_secret(part)]
    if len(parts) != 1:
        return _HIDDEN
    if isinstance(value, dict):
        return {key: without_secrets(item, parts[0]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item, parts[0]) for item in value]
    return without_secrets(value, parts[0])


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    if get_origin(kind) is Annotated:
        yield from (m for m in reversed(kind.__metadata__) if isinstance(m, msgspec.Meta))


def choices(kind: Any) -> tuple[Any, ...]:
    """Return what an annotation lists in a Literal, () for any other."""
    kind = _plain(kind)
    return get_args(kind) if get_origin(kind) is Literal else ()


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct that an annotation is, or may be (``Struct | None``), None for none."""
    kind = _plain(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) in {Union, UnionType}:
        found = [struct_in(part) for part in get_args(kind) if part is not type(None)]
        return found[0] if len(found) == 1 else None
    return None


def entry_in(kind: Any) -> Any:
    """Return the annotation of a dict's entries, None where an annotation is no dict."""
    plain = _plain(kind)
    return _of(kind, get_args(plain)[1]) if get_origin(plain) in {dict, Mapping} else None


def item_in(kind: Any) -> Any:
    """Return the annotation of a list's items, None where an annotation is no list."""
    plain = _plain(kind)
    lists = {list, tuple, set, frozenset}
    return _of(kind, get_args(plain)[0]) if get_origin(plain) in lists else None


def _plain(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    return kind


def _of(kind: Any, inner: Any) -> Any:
    """Return an annotation within ``kind``: what stands within a secret is one."""
    secret = msgspec.Meta(extra={"secret": True})
    return Annotated[inner, secret] if is_secret(kind) and not is_secret(inner) else inner


def within(kind: Any, name: str) -> Any:
    """Return the annotation of ``name`` in a struct or dict, None where there is none."""
    struct = struct_in(kind)
    if struct is None:
        return entry_in(kind)
    field = fields(struct).get(name)
    return None if field is None else _of(kind, hints(struct)[field.name])


def has_names(kind: Any) -> bool:
    """Return whether settings stand within an annotation: it is a struct, or a dict."""
    return struct_in(kind) is not None or entry_in(kind) is not None


def default_within(kind: Any, name: str) -> Any:
    """Return the default of ``name`` in a struct in plain types, None where there is none."""
    struct = struct_in(kind)
    field = None if struct is None else fields(struct).get(name)
    if field is None:
        return None
    return msgspec.to_builtins(default_of(field), enc_hook=str)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """Return the default of a field, None where there is none."""
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    return None if default is msgspec.NODEFAULT else default


def fields(struct: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """Return the fields of a struct by the names that settings have."""
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


@cache
def hints(struct: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the annotations of a struct by the names that Python has."""
    return get_type_hints(struct, include_extras=True)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about ``name``: the nearest of those that are, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def sentence(text: str) -> str:
    """Return the first sentence of a description in parentheses, "" for none."""
    return f" ({text.split('. ', maxsplit=1)[0].rstrip('.')})" if text else ""
