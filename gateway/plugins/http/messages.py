"""The messages of http, both directions. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypedDict

from msgspec import Meta

from gateway.core import names

Headers = Annotated[
    list[tuple[bytes, bytes]],
    Meta(
        description="[[name, value], …]: names lower-case; order and duplicates kept. Hold cookies "
        "and tokens.",
        extra={"secret": True},
    ),
]


class Request(TypedDict):
    """``http.request``: one HTTP request."""

    http_version: Annotated[str, Meta(description='"1.0", "1.1" or "2".')]
    method: Annotated[str, Meta(description="The method, upper-case.")]
    scheme: Annotated[str, Meta(description='"http" or "https".')]
    path: Annotated[
        str,
        Meta(
            description="The path, percent- and UTF-8-decoded; what is not UTF-8 becomes U+FFFD "
            "(raw_path is exact)."
        ),
    ]
    raw_path: Annotated[bytes, Meta(description="The path as it came, without the query.")]
    query_string: Annotated[
        bytes, Meta(description="What follows the '?', as it came.", extra={"secret": True})
    ]
    root_path: Annotated[str, Meta(description="Where the application is mounted.")]
    headers: Headers
    body: Annotated[
        bytes,
        Meta(
            description="The body, or its start where body_channel is not None.",
            extra={"secret": True},
        ),
    ]
    body_channel: Annotated[
        str | None,
        Meta(description="Single-reader channel of the rest of the body (`BodyChunk`), or None."),
    ]


class Disconnect(TypedDict):
    """``http.disconnect``: the client left before the response was complete."""

    path: Annotated[str, Meta(description="The request's path.")]


class BodyChunk(TypedDict, total=False):
    """What comes on a ``body_channel``: a piece of the body, or that the client left."""

    offset: Annotated[
        int,
        Meta(
            description="Position of the content in the body, in bytes; the first is the length "
            "of the request's body. A gap means that a piece was lost."
        ),
    ]
    content: Annotated[bytes, Meta(description="The bytes.")]
    more_content: Annotated[bool, Meta(description="Whether more follows.")]
    closed: Annotated[
        bool, Meta(description="True, alone: the client left; the body will never be complete.")
    ]


class Reply(TypedDict, total=False):
    """What an http reply channel understands: a response, a piece of one, the uniform reply."""

    status: Annotated[
        int, Meta(ge=200, le=599, description="Status code; begins a response. Required there.")
    ]
    headers: Headers
    content: Annotated[bytes, Meta(description="The body, or a piece of it. Default: empty.")]
    more_content: Annotated[
        bool, Meta(description="Whether pieces follow. Default: False, the response is complete.")
    ]
    offset: Annotated[
        int,
        Meta(
            ge=0,
            description="Of a later piece: how many bytes of content were sent before it. A gap "
            "cuts the response off.",
        ),
    ]
    text: Annotated[str, Meta(description="Answer 200, text/plain; charset=utf-8.")]
    bytes: Annotated[bytes, Meta(description="Answer 200, application/octet-stream.")]
    accept: Annotated[bool, Meta(description="False: refuse, 403, with text or bytes as the body.")]
    close: Annotated[
        bool | int,
        Meta(
            description="Close the connection after the response; without one yet, answer 204. "
            "An int is the status to answer with (200 to 599, another becomes 204, counted)."
        ),
    ]
    ack: Annotated[int, Meta(description="Number to say on ack_channel once it is done.")]
    ack_channel: Annotated[str, Meta(description="Single-reader channel for the ack.")]


KINDS: Final[dict[str, Any]] = {"request": Request, "disconnect": Disconnect}
REPLY: Final = Reply
BODY: Final = BodyChunk


def new_body_channel() -> str:
    """Return a new name for the pieces of a body."""
    return names.fill("http.request.body?")
