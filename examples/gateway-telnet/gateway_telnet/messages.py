"""The messages of telnet, both directions. Pure."""

from typing import Annotated, TypedDict

from gateway.core.plugin import UniformReply
from msgspec import Meta


class Event(TypedDict):
    """``telnet.connect``: somebody is there; ``telnet.disconnect``: and gone."""


class Receive(TypedDict):
    """``telnet.receive``: a line."""

    text: Annotated[str, Meta(description="The line, without its ending.")]


KINDS = {"connect": Event, "receive": Receive, "disconnect": Event}
REPLY = UniformReply
