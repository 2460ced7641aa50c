"""The messages of the websocket plugin: what it emits, and what it understands. Pure.

The core adds ``reply_channel``, ``order``, ``client`` and ``server`` to what is emitted.
"""

from __future__ import annotations

from typing import Annotated, Final, NotRequired, TypedDict

from msgspec import Meta

from gateway.core import names

Headers = list[tuple[bytes, bytes]]


class Connect(TypedDict):
    """A client asks for a WebSocket. Its handshake is held open until this is decided."""

    scheme: Annotated[str, Meta(description='"ws", or "wss" over TLS.')]
    path: Annotated[str, Meta(description="The path, percent- and UTF-8-decoded.")]
    raw_path: Annotated[bytes, Meta(description="The path as it was sent, without the query.")]
    query_string: Annotated[
        bytes,
        Meta(
            description="What stands after the question mark, as it was sent.",
            extra={"secret": True},
        ),
    ]
    root_path: Annotated[str, Meta(description="Where the application is mounted.")]
    headers: Annotated[
        Headers,
        Meta(
            description="(lower-case name, value), in order, duplicates kept. Holds cookies.",
            extra={"secret": True},
        ),
    ]
    subprotocols: Annotated[
        list[str], Meta(description="What the client offers, by its own preference.")
    ]
    last_event_id: NotRequired[
        Annotated[
            str,
            Meta(
                description="The id of the last message that the client has had, empty if it had "
                "none: from the query key of that name. Absent where the query has none, unless "
                "the client speaks ``gateway.v1``."
            ),
        ]
    ]


class Receive(TypedDict, total=False):
    """A message of the client: exactly one of ``text`` and ``bytes``."""

    path: Annotated[str, Meta(description="The path that the connection was opened for.")]
    text: Annotated[str, Meta(description="A text message.")]
    bytes: Annotated[bytes, Meta(description="A binary message.")]


class Disconnect(TypedDict):
    """The connection is over, whoever ended it. One for each that was accepted."""

    path: Annotated[str, Meta(description="The path that the connection was opened for.")]
    code: Annotated[
        int,
        Meta(
            description="The client's close code; 1005 if it gave none, 1006 if it left without "
            "closing (RFC 6455 section 7.1.5)."
        ),
    ]
    reason: Annotated[
        str, Meta(description="The client's words; after a 1006, the gateway's own, if it knows.")
    ]


class Reply(TypedDict, total=False):
    """The uniform reply, and what WebSocket adds to it.

    What is sent before the connection is accepted accepts it, unless it refuses:
    ``{"accept": False}``, ``{"close": …}`` without data, or ``{"status": …}``. Data goes out
    before a ``close`` of the same reply.
    """

    text: Annotated[str, Meta(description="Send a text message. Not together with ``bytes``.")]
    bytes: Annotated[bytes, Meta(description="Send a binary message.")]
    accept: Annotated[
        bool, Meta(description="Accept the connection, or refuse it (HTTP 403, or ``status``).")
    ]
    id: Annotated[
        str,
        Meta(
            description="The id of this message; alone, the client's position. Only clients that "
            "speak ``gateway.v1`` are told."
        ),
    ]
    missed: Annotated[
        bool,
        Meta(
            description="More was missed than is kept. Only clients that speak ``gateway.v1`` are "
            "told."
        ),
    ]
    subprotocol: Annotated[
        str,
        Meta(
            description="On acceptance: the chosen one of what the client offered. The gateway "
            "itself chooses ``gateway.v1`` where that is among them."
        ),
    ]
    headers: Annotated[
        Headers,
        Meta(
            description="More headers of the response that accepts or refuses, [[name, value], "
            "…] as bytes.",
            extra={"secret": True},
        ),
    ]
    close: Annotated[
        bool | int,
        Meta(
            description="End the connection; an int is the close code (1000 if True, or if a "
            "WebSocket knows no such code)."
        ),
    ]
    reason: Annotated[
        str, Meta(description="The words for ``close``, cut at 123 bytes; the body of a refusal.")
    ]
    status: Annotated[
        int, Meta(ge=200, le=599, description="Refuse with this HTTP status instead of 403.")
    ]
    content: Annotated[bytes, Meta(description="The body of a refusal.")]
    pin: Annotated[
        str,
        Meta(
            pattern=names.PIN_PATTERN,
            description="From now on what this connection sends, and its disconnect, goes to one "
            "worker process: `pin.` and the name of that process on the layer. In a direct reply "
            "only.",
        ),
    ]
    ack: Annotated[int, Meta(description="Report under this number when it is done.")]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]


KINDS: Final = {"connect": Connect, "receive": Receive, "disconnect": Disconnect}
"""What the plugin emits, by kind."""

REPLY: Final = Reply
"""What the plugin understands."""
