"""WebSocket (RFC 6455) on the port of the http plugin, which it brings with it.

A consumer for each of three channels, none of which is obligatory::

    @consumer
    def connect(message):            # websocket.connect
        message.accept()

    def receive(message):            # websocket.receive
        message.reply(f"you said {message.text}")

    def disconnect(message):         # websocket.disconnect
        print(message["code"])

What happens to a connection:

* The handshake is checked first; a bad one is answered by the gateway itself (400, 405, or 426
  for another version than 13) and nobody is asked. Then it is held open until the application
  decides: by a reply (``accept``, data, ``close``, ``status``), by the outcome of its
  ``connect`` consumer, or by ``decision_timeout``.
* A browser is refused (403) whose page is not of the host that is asked, nor among ``origins``.
* Messages come one by one in order. Ping and pong, fragments, UTF-8, compression where that is
  on, and the closing handshake are the gateway's business. A client that breaks the rules is told
  so (1002, 1007, 1009), and so is one that sends too much at once (1008).
* One ``disconnect`` follows for each accepted connection, with the client's own close code,
  1005 if it gave none, 1006 if it left without a word.

The settings stand in the table ``[websocket]``: `WebsocketConfig`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import autobahn  # noqa: F401 - where it is missing, that is said at the start

from gateway.core.errors import ConfigError
from gateway.core.plugin import Context, LayerOptions, ProtocolPlugin, hookimpl
from gateway.core.web import Claim
from gateway.plugins.websocket import messages
from gateway.plugins.websocket.config import WebsocketConfig

ENVELOPE: Final = 16384
"""Bytes of a message beside its text: the path, decoded, is the one part without a fixed size."""


class WebsocketPlugin(ProtocolPlugin):
    """The plugin: its sockets are the http plugin's, its connections `door`'s."""

    name = "websocket"
    Config = WebsocketConfig
    messages = messages
    requires = ("http",)

    @classmethod
    def warnings(cls, config: Any) -> Iterable[str]:  # noqa: ARG003 - the contract says it
        """Say what makes it slow, if anything does."""
        from autobahn.websocket import USES_NVX  # noqa: PLC0415 - the supervisor does without

        if not USES_NVX:
            yield (
                "autobahn runs without its native part (NVX): large WebSocket messages cost "
                "many times as much; install it from a wheel, or with a C compiler at hand"
            )

    @classmethod
    def check(cls, config: Any, layer: LayerOptions) -> None:
        """Raise ConfigError where messages may be larger than the layer lets through."""
        if config.max_message + ENVELOPE > layer.message_bytes:
            raise ConfigError(
                f"websocket.max_message is {config.max_message}, and the layer lets "
                f"{layer.message_bytes} bytes through, of which {ENVELOPE} are for path and "
                f"addresses: set layer.message_bytes to {config.max_message + ENVELOPE} or more "
                "(and layer.channel_bytes to several times that), or max_message lower"
            )

    async def start(self) -> None:
        """Do nothing: what listens is the http plugin."""

    async def stop(self) -> None:
        """Do nothing: the http plugin takes no more, the core ends what is connected."""


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin."""
    return WebsocketPlugin


@hookimpl
def gateway_http_claims(config: Any, context: Context) -> list[Claim]:
    """Claim handshakes that no other plugin claimed."""
    from gateway.plugins.websocket.door import Door  # noqa: PLC0415 - as above

    door = Door(config, context)
    return [Claim(door.matches, door.open, priority=-10)]
