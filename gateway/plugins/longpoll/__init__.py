"""Long-polling: a connection both ways for clients that have nothing but plain requests.

On the port of the http plugin, which it brings with it. The consumers are a WebSocket's::

    @consumer
    def connect(message):            # longpoll.connect
        Group("room").add(message.reply_channel)

    def receive(message):            # longpoll.receive
        message.reply(f"you said {message.text}")

    def disconnect(message):         # longpoll.disconnect
        print(message["code"])

and a client makes it of requests::

    POST /room  Prefer: respond-async            201  Location: /room?gateway_connection=…
    GET  …      Prefer: wait=25                  200  ETag: "1"  [{"text": "hello"}]
    GET  …      If-None-Match: "1"               204  nothing within the wait
    POST …      hello                            204  the consumer has it
    DELETE …                                     204

* A ``POST`` without a body that prefers ``respond-async`` (RFC 7240) asks for a connection, at a
  path among ``paths``, where ``longpoll.connect`` is routed; any other request, and one that no
  route matches, goes on as ``http.request``. It is held until the application decides, as a
  WebSocket's handshake is, and answered 201 with its location, or refused.
* A poll is answered by all messages that there are, as an array, with a cursor, its ``ETag``; or by
  204 once it has waited. The next poll brings the cursor as ``If-None-Match``: it has the messages
  up to there. One that brings the cursor before, since the response was lost, gets just the same
  again. A second poll at a time ends the first, with 204.
* What is posted to the location is a message of the client's, answered by its outcome. With an
  ``Idempotency-Key`` a repeated one is answered as the first was, and nothing runs again.
* A client that does not poll for ``expires`` seconds is gone. One ``disconnect`` follows for each
  accepted connection. A ``close`` of the application is the last element of an array.
* Nobody can guess a location, whoever knows it may use it, and every gateway process serves it.

The settings stand in the table ``[longpoll]``: `LongpollConfig`.
"""

from __future__ import annotations

from typing import Any

from gateway.core.errors import ConfigError
from gateway.core.plugin import Context, LayerOptions, ProtocolPlugin, hookimpl
from gateway.core.web import Claim
from gateway.plugins.longpoll import messages
from gateway.plugins.longpoll.config import ENVELOPE, LongpollConfig
from gateway.plugins.longpoll.door import Door


class LongpollPlugin(ProtocolPlugin):
    """The plugin: its sockets are the http plugin's, its connections `door`'s."""

    name = "longpoll"
    Config = LongpollConfig
    messages = messages
    requires = ("http",)

    @classmethod
    def check(cls, config: Any, layer: LayerOptions) -> None:
        """Raise ConfigError where messages may be larger than the layer lets through."""
        for name in ("max_message", "max_answer"):
            most = getattr(config, name)
            if most + ENVELOPE > layer.message_bytes:
                raise ConfigError(
                    f"longpoll.{name} is {most}, and the layer lets {layer.message_bytes} bytes "
                    f"through, of which {ENVELOPE} are for path and addresses: set "
                    f"layer.message_bytes to {most + ENVELOPE} or more (and layer.channel_bytes "
                    f"to several times that), or {name} lower"
                )

    async def start(self) -> None:
        """Do nothing: what listens is the http plugin."""

    async def stop(self) -> None:
        """Do nothing: the http plugin takes no more, the core ends what is connected."""


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin."""
    return LongpollPlugin


@hookimpl
def gateway_http_claims(config: Any, context: Context) -> list[Claim]:
    """Claim requests for connections, and those of connections."""
    door = Door(config, context)
    return [Claim(door.matches, door.open, priority=-30)]
