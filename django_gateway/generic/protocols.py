"""Which kinds of messages a protocol has, as its plugin's ``messages`` say.

A worker need not have what a plugin needs to run (a TLS or a broker's library), so the plugin
itself is not imported: its ``messages`` are a file of their own, and pure.
"""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final, is_typeddict

from django.core.exceptions import ImproperlyConfigured


def kinds_of(where: str, protocol: str) -> tuple[str, ...]:
    """Return the kinds of messages of a protocol: ``("connect", "receive", "disconnect")``.

    Raises ImproperlyConfigured, which names the fix, where it is not installed.
    """
    found = _installed(tuple(sys.path))
    if protocol not in found:
        close = difflib.get_close_matches(protocol, found, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ImproperlyConfigured(
            f"{where}: there is no protocol {protocol!r}; {hint}installed are "
            f"{', '.join(sorted(found)) or 'none'}. For one that only the gateway has, name its "
            f"channels: method_mapping = {{'{protocol}.receive': 'receive'}}"
        )
    return _kinds(found[protocol])


def known_kinds(protocol: str) -> tuple[str, ...]:
    """Return the kinds of a protocol, none where it, or what it needs, is not installed here."""
    point = _installed(tuple(sys.path)).get(protocol)
    try:
        return () if point is None else _kinds(point)
    except ImportError:
        return ()


COMMON: Final = frozenset({"reply_channel", "order", "client", "server", "identity"})
"""What the core adds to every message (`gateway.core.emission`)."""


def keys_of(channels: Iterable[str]) -> frozenset[str]:
    """Return the keys that messages of the protocols of ``channels`` have, of whichever kind.

    Nothing where that cannot be said of one of them: a channel of one's own, say, or of a protocol
    that only the gateway has.
    """
    points = _installed(tuple(sys.path))
    found = COMMON
    for channel in channels:
        protocol = channel.partition(".")[0]
        try:
            keys = None if "!" in channel else _keys(points[protocol])
        except (ImportError, KeyError):
            keys = None
        if keys is None:
            return frozenset()
        found |= keys
    return found


def meant_by(channel: str) -> str | None:
    """Return the channel of an installed protocol that one of an unknown protocol looks like."""
    protocol, _, kind = channel.partition(".")
    found = _installed(tuple(sys.path))
    if protocol not in found:
        for near in difflib.get_close_matches(protocol, found, n=1):
            if kind in known_kinds(near):
                return f"{near}.{kind}"
    return None


@functools.cache
def _installed(_path: tuple[str, ...]) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group="gateway.plugins")}


@functools.cache
def _kinds(point: metadata.EntryPoint) -> tuple[str, ...]:
    return tuple(_messages(point).KINDS)


@functools.cache
def _keys(point: metadata.EntryPoint) -> frozenset[str] | None:
    schemas = _messages(point).KINDS.values()
    if not all(map(is_typeddict, schemas)):
        return None
    return frozenset(
        key for one in schemas for key in one.__required_keys__ | one.__optional_keys__
    )


def _messages(point: metadata.EntryPoint) -> ModuleType:
    name = f"{point.module}.messages"
    if name in sys.modules:
        return sys.modules[name]
    package = find_spec(point.module)  # imports what it is in, not itself
    for place in (package and package.submodule_search_locations) or ():
        spec = spec_from_file_location(name, Path(place) / "messages.py")
        if spec is not None and spec.loader is not None and Path(place, "messages.py").exists():
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    found: ModuleType = point.load().gateway_plugin().messages
    return found
