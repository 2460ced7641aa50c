"""The messages of udp, both directions."""

from typing import Annotated, TypedDict

from gateway.core.plugin import UniformReply
from msgspec import Meta


class Receive(TypedDict):
    """``udp.receive``: a datagram."""

    data: Annotated[bytes, Meta(description="All of it.")]


class Reply(UniformReply, total=False):
    """A datagram to send; after a ``close`` the next one begins a new conversation."""

    data: Annotated[bytes, Meta(description="Send these bytes, as ``bytes`` does.")]


KINDS = {"receive": Receive}
REPLY = Reply
