"""Server-Sent Events (the HTML standard's event streams) on the port of the http plugin.

A consumer joins the client to a group, and what is sent to the group comes to its page::

    def connect(message):            # sse.connect
        Group("news").add(message.reply_channel)

    Group("news").send({"text": "hello", "event": "greeting"})

in the page ``new EventSource("/news")``. What happens to a stream:

* A ``GET`` that accepts ``text/event-stream`` asks for one, at a path among ``paths``, where
  ``sse.connect`` is routed; any other request, and one that no route matches, goes on as
  ``http.request``. It is held until the application decides: by a reply (``accept``, data,
  ``close``, ``status``), by the outcome of its ``connect`` consumer, or by ``decision_timeout``.
* A page is refused (403) that is not of the host that is asked, nor among ``origins``; one that
  is may read the stream (CORS).
* Text becomes an event, its lines ``data`` lines; ``event``, ``id``, ``retry`` and ``comment`` are
  the standard's fields. Bytes travel in base64, as the event ``bytes``.
* A ``close`` is an event of that name, with ``code`` and ``reason``, and the stream's end; the
  page closes its EventSource then, which would come back otherwise. A page that does come back
  is refused for good by ``status`` 204.
* A client that asks with ``?gateway_connection=new`` is told a location by the event ``open``. What
  it posts there, by whichever gateway process, is an ``sse.receive`` of its stream, in order, and
  the outcome is what the post is answered. With an ``Idempotency-Key`` a repeated one is answered
  as the first was, and nothing runs again.
* One ``disconnect`` follows for each accepted stream.

The settings stand in the table ``[sse]``: `SseConfig`.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.core.errors import ConfigError
from gateway.core.plugin import Context, LayerOptions, ProtocolPlugin, hookimpl
from gateway.core.web import Claim
from gateway.plugins.sse import messages
from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.door import Door

ENVELOPE: Final = 16384
"""Bytes of a message beside its text: the path, decoded, is the one part without a fixed size."""


class SsePlugin(ProtocolPlugin):
    """The plugin: its sockets are the http plugin's, its streams `door`'s."""

    name = "sse"
    Config = SseConfig
    messages = messages
    requires = ("http",)

    @classmethod
    def check(cls, config: Any, layer: LayerOptions) -> None:
        """Raise ConfigError where what is posted may be larger than the layer lets through."""
        if config.max_message + ENVELOPE > layer.message_bytes:
            raise ConfigError(
                f"sse.max_message is {config.max_message}, and the layer lets "
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
    return SsePlugin


@hookimpl
def gateway_http_claims(config: Any, context: Context) -> list[Claim]:
    """Claim requests for event streams that no other plugin claimed."""
    door = Door(config, context)
    return [Claim(door.matches, door.open, priority=-20)]
