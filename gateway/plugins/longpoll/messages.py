"""The messages of the longpoll plugin: what it emits, and what it understands. Pure.

They are those of a WebSocket. The core adds ``reply_channel``, ``order``, ``client`` and
``server`` to what is emitted.
"""

from __future__ import annotations

from typing import Annotated, Final, TypedDict

from msgspec import Meta

from gateway.core import names

Headers = list[tuple[bytes, bytes]]


class Connect(TypedDict):
    """A client asks for a connection. Its request is held until this is decided."""

    scheme: Annotated[str, Meta(description='"http", or "https" over TLS.')]
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
    last_event_id: Annotated[
        str,
        Meta(
            description="The id of the last message that the client has had: of its Last-Event-ID "
            "header, else of the query key `last_event_id`; empty on a first visit."
        ),
    ]


class Receive(TypedDict, total=False):
    """A message of the client: exactly one of ``text`` and ``bytes``."""

    path: Annotated[str, Meta(description="The path that the connection was opened for.")]
    text: Annotated[str, Meta(description="A text message.")]
    bytes: Annotated[
        bytes, Meta(description="A binary message: posted as application/octet-stream.")
    ]


class Disconnect(TypedDict):
    """The connection is over, whoever ended it. One for each that was accepted."""

    path: Annotated[str, Meta(description="The path that the connection was opened for.")]
    code: Annotated[
        int,
        Meta(
            description="A WebSocket's close code: 1000 if the client said that it leaves, what "
            "the application closed with, 1006 if no poll came any more."
        ),
    ]
    reason: Annotated[str, Meta(description="The application's or the gateway's words, if any.")]


class Reply(TypedDict, total=False):
    """The uniform reply, and what long-polling adds to it.

    What is sent before the connection is accepted accepts it, unless it refuses:
    ``{"accept": False}``, ``{"close": …}`` without data, or ``{"status": …}``. Data goes out
    before a ``close`` of the same reply. All of it waits for the client's next poll, and is an
    element of the array that answers it.
    """

    text: Annotated[str, Meta(description="Send a text message. Not together with ``bytes``.")]
    bytes: Annotated[bytes, Meta(description="Send a binary message, in base64.")]
    id: Annotated[
        str,
        Meta(
            description="The id of this message, which the client says as `last_event_id` when "
            "it comes back; alone, the client's position."
        ),
    ]
    missed: Annotated[bool, Meta(description="More was missed than is kept.")]
    accept: Annotated[
        bool, Meta(description="Accept the connection, or refuse it (HTTP 403, or ``status``).")
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
            description="End the connection, after the element `close` with this code, one that a "
            "WebSocket may send (1000 if True, or if it is none)."
        ),
    ]
    reason: Annotated[str, Meta(description="The words for ``close``; the body of a refusal.")]
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
    ack: Annotated[
        int,
        Meta(
            description="Report under this number when the client has it: once its next poll has "
            "brought the cursor."
        ),
    ]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]


KINDS: Final = {"connect": Connect, "receive": Receive, "disconnect": Disconnect}
"""What the plugin emits, by kind."""

REPLY: Final = Reply
"""What the plugin understands."""
