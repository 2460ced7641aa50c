"""The messages of the sse plugin: what it emits, and what it understands. Pure.

The core adds ``reply_channel``, ``order``, ``client`` and ``server`` to what is emitted.
"""

from __future__ import annotations

from typing import Annotated, Final, TypedDict

from msgspec import Meta

from gateway.core import names

Headers = list[tuple[bytes, bytes]]


class Connect(TypedDict):
    """A client asks for an event stream. Its request is held until this is decided."""

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
            description="The id of the last event that the client has seen: of its Last-Event-ID "
            "header, else of the query key `last_event_id`; empty on a first visit."
        ),
    ]


class Receive(TypedDict, total=False):
    """What the client has posted to the location of its stream: one of ``text`` and ``bytes``.

    The answer to its request is the outcome.
    """

    path: Annotated[str, Meta(description="The path that the stream was opened for.")]
    text: Annotated[str, Meta(description="A text: content of any type but that of bytes.")]
    bytes: Annotated[bytes, Meta(description="Content of the type application/octet-stream.")]


class Disconnect(TypedDict):
    """The stream is over, whoever ended it. One for each that was accepted."""

    path: Annotated[str, Meta(description="The path that the stream was opened for.")]


class Reply(TypedDict, total=False):
    """The uniform reply, and what event streams add to it.

    What is sent before the stream is accepted accepts it, unless it refuses: ``{"accept":
    False}``, ``{"close": …}`` without data, or ``{"status": …}``. Data goes out before a
    ``close`` of the same reply. A reply without ``text`` and ``bytes`` is no event: its ``id``,
    ``retry`` and ``comment`` go out all the same.
    """

    text: Annotated[
        str,
        Meta(description="Send an event with this data. Not together with ``bytes``."),
    ]
    bytes: Annotated[
        bytes,
        Meta(
            description="Send an event with these bytes in base64; it is named `bytes` where "
            "``event`` names it nothing else."
        ),
    ]
    event: Annotated[
        str,
        Meta(
            description="The event's name. Without CR, LF and NUL; not `open`, `close` or "
            "`missed`, which are the gateway's own."
        ),
    ]
    id: Annotated[
        str,
        Meta(
            description="What the client brings as Last-Event-ID when it comes back. Without CR, "
            "LF and NUL. Alone: the client is at this position, and no event is sent."
        ),
    ]
    retry: Annotated[
        int,
        Meta(ge=0, description="Milliseconds until the client comes back after an end."),
    ]
    comment: Annotated[str, Meta(description="A comment, which no page sees.")]
    missed: Annotated[
        bool,
        Meta(
            description="Send the event `missed`: more was missed than is kept. Without text, "
            "bytes and event."
        ),
    ]
    accept: Annotated[
        bool, Meta(description="Accept the stream, or refuse it (HTTP 403, or ``status``).")
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
            description="End the stream, after the event `close` with this code, one that a "
            "WebSocket may send (1000 if True, or if it is none)."
        ),
    ]
    reason: Annotated[str, Meta(description="The words for ``close``; the body of a refusal.")]
    status: Annotated[
        int,
        Meta(
            ge=200,
            le=599,
            description="Refuse with this HTTP status instead of 403. 204 tells a browser to stop "
            "coming back.",
        ),
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
