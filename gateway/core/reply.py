"""Replies of the application: decoded and checked against a plugin's schema. Pure.

The types are checked while decoding, in C. A key that the schema does not know is not decoded,
so that a message has one exactly if its map header counts more keys than came out::

    fixmap   1000nnnn
    map16    0xde  nnnnnnnn nnnnnnnn
    map32    0xdf  nnnnnnnn nnnnnnnn nnnnnnnn nnnnnnnn
"""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from gateway.core.layers import codec

Message = dict[str, Any]


class InvalidReply(ValueError):  # noqa: N818 - the word of the message formats
    """A reply that its format does not allow. The text names keys, never values."""


class ReplyReader:
    """Reads the replies of one plugin; ``schema`` is its ``messages.REPLY``, a TypedDict."""

    __slots__ = ("_decode", "_known")

    def __init__(self, schema: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(schema).decode
        self._known = frozenset(get_type_hints(schema))

    def read(self, payload: bytes) -> Message:
        """Return the reply. Raises `InvalidReply` that says why not."""
        try:
            reply: Message = self._decode(payload)
        except msgspec.MsgspecError as error:
            raise InvalidReply(_without_values(str(error))) from None
        # 0x80 | n is the whole header of a map of up to 15 keys: nearly every reply.
        if payload[0] != 0x80 | len(reply):
            self._check_keys(payload, reply)
        if "bytes" in reply and "text" in reply:
            raise InvalidReply("both 'text' and 'bytes'")
        return reply

    def _check_keys(self, payload: bytes, reply: Message) -> None:
        head = payload[0]
        if head == 0xDE:
            count = int.from_bytes(payload[1:3], "big")
        elif head == 0xDF:
            count = int.from_bytes(payload[1:5], "big")
        else:
            count = head & 0x0F
        if count != len(reply):
            unknown = sorted(set(codec.decode(payload)) - self._known)
            names = ", ".join(repr(key[:40]) for key in unknown[:5])
            raise InvalidReply(f"unknown key {names}" if unknown else "a key stands twice")


def ack_of(payload: bytes) -> tuple[int, str] | None:
    """Return (ack, ack_channel) of a reply that nobody could deliver, or None."""
    if b"ack_channel" not in payload:
        return None
    try:
        reply = codec.decode(payload)
    except msgspec.MsgspecError:
        return None
    ack, channel = reply.get("ack"), reply.get("ack_channel")
    if type(ack) is int and isinstance(channel, str) and is_ack_channel(channel):
        return ack, channel
    return None


def is_ack_channel(channel: Any) -> bool:
    """Return whether acknowledgements can be sent there: a single-reader channel's name."""
    try:
        codec.checked(channel)
    except (TypeError, ValueError):
        return False
    return "?" in channel


def _without_values(text: str) -> str:
    """Return msgspec's reason without the values that it quotes: they may be secret."""
    reason, mark, place = text.partition(" - at ")
    if reason.startswith("Invalid"):
        reason = "a value that is not allowed"
    return f"{reason}{' at ' if mark else ''}{place}"
