"""Settings within settings: ``email.smarthosts.sink.password``, by whatever source it is named.

A key that goes deeper is a path of names through structs and dicts. The command line parts them
by dots, the environment by underscores, which names have, too: so a path is what fits the structs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.core.annotated import (
    choices,
    default_within,
    description,
    did_you_mean,
    entry_in,
    fields,
    has_names,
    holds_secret,
    item_in,
    sentence,
    struct_in,
    within,
)

Path = tuple[str, ...]

_WORD = re.compile(r"""(?:"([^"]*)"|'([^']*)'|([^."']*))(?:\.|\Z)""")


class Unknown(Exception):  # noqa: N818 - it says what the name is
    """There is no such setting, in the words of an error; ``where`` is the table's path."""

    def __init__(self, where: Path, rest: str, known: Any) -> None:
        super().__init__()
        self.where = where
        self.rest = rest
        self.known = known

    def text(self, table: str) -> str:
        """Return the error, where all that is in ``table``."""
        place = ".".join((table, *self.where))
        if not self.rest and self.known:
            return f"{place} is a table; name one of its settings: {', '.join(self.known)}"
        return no_setting(place, self.rest, self.known)


def no_setting(place: str, name: str, known: Any) -> str:
    """Return the error about a name that is none."""
    return f"[{place}] has no setting {name!r}{did_you_mean(name, known)}"


def words(key: str, joint: str) -> list[str]:
    """Return the words of a key; between quotes a dot parts nothing."""
    if joint == "." and ("'" in key or '"' in key):
        found = [match for match in _WORD.finditer(key) if match[0]]
        if "".join(match[0] for match in found) == key:
            return [next(part for part in match.groups() if part is not None) for match in found]
    return key.split(joint) if joint else [key]


def resolve(kind: Any, key: list[str], joint: str, there: Any, *, whole: bool) -> Path:
    """Return the path that the words of a key mean within ``kind``. Raises Unknown.

    Of several the one with the longest names of settings; of a dict, names that are ``there``
    go before others, and of those the shortest. ``whole``: the value may be a table's.
    """
    if not key:
        return ()
    struct = struct_in(kind)
    first: Unknown | None = None
    for name, rest in _splits(kind, key, joint, there):
        inner = within(kind, name)
        below = there.get(name) if isinstance(there, Mapping) else None
        if rest and not has_names(inner):
            continue
        if not rest and struct is None and struct_in(inner) is not None and not whole:
            names = () if (found := struct_in(inner)) is None else tuple(fields(found))
            first = first or Unknown((name,), "", names)
            continue
        try:
            return (name, *resolve(inner, rest, joint, below, whole=whole))
        except Unknown as error:
            first = first or Unknown((name, *error.where), error.rest, error.known)
    raise first or Unknown((), joint.join(key), () if struct is None else fields(struct))


def _splits(kind: Any, key: list[str], joint: str, there: Any) -> Iterator[tuple[str, list[str]]]:
    """Iterate over what the name at the head of a key may be, with the words after it."""
    struct = struct_in(kind)
    heads = [(joint.join(key[:count]), key[count:]) for count in range(1, len(key) + 1)]
    if struct is not None:
        known = fields(struct)
        yield from ((name, rest) for name, rest in reversed(heads) if name in known)
        return
    known_names = {_plain(name, joint): name for name in there} if there else {}
    for name, rest in reversed(heads):
        if _plain(name, joint) in known_names:
            yield known_names[_plain(name, joint)], rest
    yield from ((name, rest) for name, rest in heads if name)


def _plain(name: str, joint: str) -> str:
    """Return a name as a variable's has it, where that is what it is compared with."""
    return re.sub(r"[^a-z0-9]", "_", str(name).lower()) if joint == "_" else str(name)


def put(tree: dict[str, Any], kind: Any, path: Path, value: Any) -> None:
    """Put a value into a tree of plain values, beside what is there, or is there by default.

    Raises KeyError with the path of what is there and is no table.
    """
    for depth, name in enumerate(path[:-1], 1):
        below = tree.get(name)
        if below is None:
            below = default_within(kind, name) or {}
        if not isinstance(below, Mapping):
            raise KeyError(path[:depth])
        # A copy: what a source holds is its own.
        below = tree[name] = dict(below)
        kind = within(kind, name)
        tree = below
    tree[path[-1]] = value


class Fault(Exception):  # noqa: N818 - as above
    """What is wrong within a value: where (of what is missing, the table), and in words to follow
    the name of its source.
    """  # noqa: D205 - one sentence

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


def look(value: Any, kind: Any, place: str, path: Path = ()) -> None:
    """Raise Fault for the first thing that is wrong within a value; ``place`` is its name."""
    struct, entry, item = struct_in(kind), entry_in(kind), item_in(kind)
    if isinstance(value, Mapping) and struct is not None:
        known = fields(struct)
        for name in value:
            if name not in known:
                raise Fault((*path, name), no_setting(place, name, known))
        for name, field in known.items():
            if name in value:
                look(value[name], within(kind, name), f"{place}.{name}", (*path, name))
            elif field.required:
                needed = description(within(kind, name))
                text = f"[{place}] needs {name!r}" + (f": {needed}" if needed else "")
                raise Fault(path, text)
    elif isinstance(value, Mapping) and entry is not None:
        for name, inner in value.items():
            look(inner, entry, f"{place}.{name}", (*path, str(name)))
    elif isinstance(value, list | tuple) and item is not None:
        for number, inner in enumerate(value):
            look(inner, item, f"{place}[{number}]", path)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at `$")[0]
        if isinstance(value, Mapping) and struct is not None:
            raise Fault(path, f"[{place}]: {reason}") from None
        shown = "the value" if holds_secret(kind) else repr(value)
        raise Fault(path, f"{place}: {shown} {misfit(reason, kind)}") from None


def misfit(reason: str, kind: Any) -> str:
    """Return why a value is none of ``kind``, from the reason that msgspec gives."""
    reason = reason.replace("`", "'")
    reason = reason[:1].lower() + reason[1:]
    listed = [repr(choice) for choice in choices(kind)]
    if listed:
        reason = f"expected {', '.join(listed[:-1])} or {listed[-1]}"
    elif (struct := struct_in(kind)) is not None and reason.startswith("expected 'object"):
        reason = f"expected a table, whose settings are {', '.join(fields(struct))}"
    return f"does not fit: {reason}{sentence(description(kind))}"
