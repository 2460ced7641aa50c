"""The messages of xmpp, both directions. Pure.

The gateway adds ``reply_channel``, ``order``, ``client`` and ``server`` to what is received.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypedDict

from gateway.core.plugin import UniformReply
from msgspec import Meta


class Receive(TypedDict):
    """``xmpp.receive``: somebody writes to the bot."""

    sender: Annotated[str, Meta(description="Who, without the device: alice@example.org.")]
    resource: Annotated[str, Meta(description="At which of their devices; may be empty.")]
    id: Annotated[str, Meta(description="The client's own id of the message; may be empty.")]
    text: Annotated[str, Meta(description="What.")]


class Reply(UniformReply, total=False):
    """The uniform reply: a ``text`` is a message to whom the address names.

    Chat is text: ``bytes`` are invalid. It has no end: ``close`` means nothing here.
    """


KINDS: Final[dict[str, Any]] = {"receive": Receive}
REPLY: Final = Reply
