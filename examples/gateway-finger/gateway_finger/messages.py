"""The messages of finger, both directions. Pure."""

from typing import Annotated, TypedDict

from gateway.core.plugin import UniformReply
from msgspec import Meta


class Query(TypedDict):
    """``finger.query``: somebody wants to know. The first reply is the answer and the end."""

    user: Annotated[str, Meta(description="About whom; empty: about everybody.")]
    hosts: Annotated[list[str], Meta(description="Where to ask, the last one first.")]
    verbose: Annotated[bool, Meta(description="Whether at length (``/W``).")]


KINDS = {"query": Query}
REPLY = UniformReply
