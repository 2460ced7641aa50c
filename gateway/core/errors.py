"""The error tree: every error says whose fault it is, and carries what to answer.

::

    GatewayError
    ├── ConfigError            a setting, an option, a plugin's name: stops the start
    ├── PluginError            a plugin cannot be imported or breaks its contract
    ├── LayerError             the channel layer
    │   ├── ChannelFull        no room; the message was not sent
    │   ├── MessageTooLarge    over layer.message_bytes encoded; the message was not sent
    │   ├── LayerUnavailable   the layer cannot be reached now
    │   ├── Fenced             this process's lease has ended; it must rejoin
    │   └── StaleDelivery      settled before, or lost with its connection
    └── ProtocolError
        ├── LocalProtocolError   the application asked for what the protocol cannot do
        └── RemoteProtocolError  the peer broke the rules; ``answer`` says what to tell it
"""

from __future__ import annotations

from typing import Any


class GatewayError(Exception):
    """Base of all errors of this package."""


class ConfigError(GatewayError):
    """A setting is wrong. The message names the source, the key and the remedy."""


class PluginError(GatewayError):
    """A plugin cannot be loaded, started or used. The message names the plugin."""


class LayerError(GatewayError):
    """Base of what a channel layer raises."""


class ChannelFull(LayerError):  # noqa: N818 - the Channels specification's name
    """The channel has no room; nothing was sent. Attribute ``channel`` names it."""

    def __init__(self, channel: str) -> None:
        super().__init__(f"channel {channel!r} is full")
        self.channel = channel


class MessageTooLarge(LayerError):  # noqa: N818 - the Channels specification's name
    """The encoded message is over ``layer.message_bytes``: chunk it onto a channel of its own."""


class LayerUnavailable(LayerError):  # noqa: N818 - a state, not a mistake
    """The layer cannot be reached now; the client keeps trying in the background."""


class Fenced(LayerError):  # noqa: N818 - a state, not a mistake
    """The lease of this process has ended; what it held is lost to it."""


class StaleDelivery(LayerError):  # noqa: N818 - a state, not a mistake
    """The delivery is no longer in hand: settled before, or failed as lost."""


class ProtocolError(GatewayError):
    """Base of the two faults that a conversation can have."""


class LocalProtocolError(ProtocolError):
    """The application asked for something that the protocol cannot do.

    Raised by ``Session.send`` it makes the reply invalid: counted, logged with the
    connection, dropped; the connection goes on, with ``actions`` (of
    `gateway.core.plugin`) where the session has an answer for the peer.
    """

    def __init__(self, reason: str, actions: tuple[Any, ...] = ()) -> None:
        super().__init__(reason)
        self.actions = actions


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol's rules.

    ``answer`` is what to send before closing (bytes in stream plugins, the library's
    own terms elsewhere), ``None`` to close without a word.
    """

    def __init__(self, reason: str, answer: Any = None) -> None:
        super().__init__(reason)
        self.answer = answer
