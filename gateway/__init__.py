"""Gateway: one application for every protocol.

Public names: `open_layer`, `address`, `parse_address`, the errors, ``__version__``.
"""

from __future__ import annotations

from gateway.core.errors import (
    ChannelFull,
    ConfigError,
    Fenced,
    GatewayError,
    LayerError,
    LayerUnavailable,
    LocalProtocolError,
    MessageTooLarge,
    PluginError,
    RemoteProtocolError,
    StaleDelivery,
)
from gateway.core.layers import open_layer
from gateway.core.names import address, parse_address

__version__ = "0.1.0"

__all__ = [
    "ChannelFull",
    "ConfigError",
    "Fenced",
    "GatewayError",
    "LayerError",
    "LayerUnavailable",
    "LocalProtocolError",
    "MessageTooLarge",
    "PluginError",
    "RemoteProtocolError",
    "StaleDelivery",
    "__version__",
    "address",
    "open_layer",
    "parse_address",
]
