"""The channel layers: the contract (`base`), `memory`, and `unix` with its `hub`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.layers.base import Layer
from gateway.core.layers.options import LayerOptions

SCHEMES: dict[str, str] = {
    "memory": "gateway.core.layers.memory:MemoryLayer",
    "unix": "gateway.core.layers.unix:UnixLayer",
}
"""Layer classes by URL scheme; the hook ``gateway_layers`` adds to them."""


def open_layer(url: str, **options: Any) -> Layer:
    """Return the layer at ``url``. Does no I/O yet; thread-safe; the child of a fork has its own.

    ``memory://`` is a new layer in this process, ``memory://NAME`` the one of that name;
    ``unix:///path`` a hub's socket. ``options`` are the fields of `LayerOptions`; a hub's
    own options win over a client's.

    Raises ConfigError for an unknown scheme or option, naming it.
    """
    scheme, mark, _ = url.partition("://")
    target = SCHEMES.get(scheme) if mark else None
    if target is None:
        known = ", ".join(f"{name}://" for name in sorted(SCHEMES))
        raise ConfigError(f"layer URL {url!r}: no layer has this scheme; known are {known}")
    try:
        parsed = msgspec.convert(cast("Mapping[str, Any]", options), LayerOptions)
    except msgspec.ValidationError as error:
        raise ConfigError(f"layer {url!r}: {error}") from None
    module, _, name = target.partition(":")
    return cast("Layer", getattr(importlib.import_module(module), name)(url, parsed))
