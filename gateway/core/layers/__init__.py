"""The channel layers: the contract (`base`), `memory`, and `unix` with its `hub`."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.layers.base import Layer
from gateway.core.layers.options import LayerOptions

SCHEMES: dict[str, str] = {
    "memory": "gateway.core.layers.memory:MemoryLayer",
    "unix": "gateway.core.layers.unix:UnixLayer",
}
"""Layer classes by URL scheme; the hook ``gateway_layers`` adds to them."""
INSTALLED: Final = "gateway.layers"
"""The entry points (SCHEME = package.module:Class) of layers that are found by every process,
whether it loads plugins or not."""


def open_layer(url: str, **options: Any) -> Layer:
    """Return the layer at ``url``. Does no I/O yet; thread-safe; the child of a fork has its own.

    ``memory://`` is a new layer in this process, ``memory://NAME`` the one of that name;
    ``unix:///path`` a hub's socket. ``options`` are the fields of `LayerOptions`; a hub's
    own options win over a client's.

    Raises ConfigError for an unknown scheme or option, naming it.
    """
    scheme, mark, _ = url.partition("://")
    target = (SCHEMES.get(scheme) or _installed().get(scheme)) if mark else None
    if target is None:
        known = ", ".join(f"{name}://" for name in sorted({*SCHEMES, *_installed()}))
        raise ConfigError(f"layer URL {url!r}: no layer has this scheme; known are {known}")
    try:
        parsed = msgspec.convert(cast("Mapping[str, Any]", options), LayerOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"layer {url!r}: {error}") from None
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"layer {url!r}: {target} cannot be imported: {error}") from error
    return cast("Layer", found(url, parsed))


def _installed() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=INSTALLED)}
