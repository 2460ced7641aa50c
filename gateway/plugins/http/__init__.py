"""HTTP/2, HTTP/1.1 and HTTP/1.0, for views and for any consumer.

A request becomes one message on ``http.request``; whoever consumes it answers on its
``reply_channel``, at once or later, from anywhere::

    def hello(message):
        message.reply_channel.send(
            {
                "status": 200,
                "headers": [(b"content-type", b"text/plain")],
                "content": b"Hello",
            }
        )

or in the words that every protocol understands::

    def hello(message):
        message.reply_channel.send({"text": "Hello"})

**Bodies** up to 64 KiB travel with the request; of a larger one the rest comes in pieces on
``body_channel``, and the client is read no faster than they are consumed.

**Responses** may come in pieces too: ``more_content`` with the first one, then ``offset``,
``content`` and ``more_content``. With ``ack`` a piece is acknowledged once the client's socket
took it. Framing is the gateway's business: ``Transfer-Encoding``, ``Connection`` (but for
``close``) and other headers between two hops are left out of a response, ``Content-Length`` is
completed or checked, ``Date`` and ``Server`` are added unless they are there.

**When nobody answers** the gateway does: 403 or its code where the consumer rejected the
request, 404 where no route names it, 500 where the consumer failed or its answer cannot be
sent, 503 with ``Retry-After`` where the queue stayed full or no worker could run it, 504 where
nothing came in time. A response that has begun is cut off instead, so that the client sees
that it is not complete. A client that leaves first makes an ``http.disconnect``; one that
closes its sending side has left if the answer does not begin within a second.

**Over TLS** it is served at endpoints that begin with ``tls:``, with the site's certificate (the
table ``[tls]``), and ``scheme`` is ``https``; a client's certificate becomes ``identity``.

**HTTP/2** is spoken where TLS agreed on it, and with clients that begin with its preface. Each
stream is a request like any other: the same messages, of ``http_version`` "2", the same answers,
limits and timeouts, for that stream alone. ``:authority`` stands among the headers as ``host``,
and a ``cookie`` in pieces is put together. A response goes as the client's windows open, and an
``ack`` comes when it has taken the piece; a response that is cut off is a stream that is reset.
A client that resets a stream has left that request. Server push and priorities are not spoken;
trailers of a request are checked and dropped. Frames that are wrong or too many end the stream
or the connection: `gateway.plugins.http.http2.faults` lists every case.

**What is ambiguous is refused**, with an id in the answer, and the connection, over HTTP/2 the
stream, ends: `gateway.plugins.http.refusals` lists every case.

Other plugins claim requests of this port (`gateway.core.web`): WebSocket handshakes do not
come to ``http.request`` where ``websocket`` runs.
"""

from __future__ import annotations

from gateway.core.plugin import ProtocolPlugin, hookimpl
from gateway.plugins.http.server import HttpPlugin


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin's class."""
    return HttpPlugin
