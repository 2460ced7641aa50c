"""Replies that pin: from then on a connection's messages go to one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.reply import InvalidReply

if TYPE_CHECKING:
    from gateway.core.attached import Connection


def pin(connection: Connection, channel: str, *, registered: bool) -> None:
    """Have its messages go to one process, from the next on; its disconnect too."""
    connection.pin = channel
    if registered:
        connection.context.engine.edge.pin(connection.reply_channel, channel)


def pinned_late(connection: Connection, payload: bytes) -> bool:
    """Take the pin of a reply that came when the transport was gone: for the disconnect.

    Return whether there was nothing else in the reply.
    """
    try:
        reply = connection.context.reader.read(payload)
    except InvalidReply:
        return False
    if reply is None:
        return False
    if "pin" in reply:
        connection.pin = reply.pop("pin")
    return not reply
