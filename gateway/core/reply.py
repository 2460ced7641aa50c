"""Replies of the application: decoded and checked against a plugin's schema. Pure.

The types are checked while decoding, in C. A key that the schema does not know is not decoded,
so that a message has one exactly if its map header counts more keys than came out::

    fixmap   1000nnnn
    map16    0xde  nnnnnnnn nnnnnnnn
    map32    0xdf  nnnnnnnn nnnnnnnn nnnnnnnn nnnnnnnn

A key that is the name of a plugin is no such key, but that protocol's own: see `ReplyReader.own`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Final, get_type_hints

import msgspec

from gateway.core.layers import codec

Message = dict[str, Any]

OURS: Final = ("ack", "ack_channel", "pin", "accept", "close")
"""The keys of a reply that are the core's to heed."""
ASKS: Final = frozenset(("ack", "ack_channel"))
"""Keys that say nothing to the peer: they ask for an answer."""
INSTEAD: Final = (("text", "bytes"), ("bytes", "text"))
"""Keys of which one's own takes the place of the other that is for all."""


class InvalidReply(ValueError):  # noqa: N818 - the word of the message formats
    """A reply that its format does not allow. The text names keys, never values."""


class ReplyReader:
    """Reads the replies of one plugin; ``schema`` is its ``messages.REPLY``, a TypedDict.

    ``name`` is the plugin's, ``protocols`` are those of all plugins that there are.
    """

    __slots__ = ("_decode", "_known", "_name", "protocols")

    def __init__(self, schema: Any, name: str, protocols: Collection[str] = ()) -> None:
        self._decode = msgspec.msgpack.Decoder(schema).decode
        self._known = frozenset(get_type_hints(schema))
        self._name = name
        self.protocols = frozenset((name, *protocols)) - self._known
        """Keys that are one protocol's own; what the schema itself calls so is its key."""

    def read(self, payload: bytes) -> Message | None:
        """Return the reply; None if it is for other protocols alone.

        Raises `InvalidReply` that says why not.
        """
        try:
            reply: Message = self._decode(payload)
        except msgspec.MsgspecError as error:
            raise InvalidReply(_without_values(str(error))) from None
        # 0x80 | n is the whole header of a map of up to 15 keys: nearly every reply.
        if payload[0] != 0x80 | len(reply):
            found = self._with_more_keys(payload, reply)
            if found is None:
                return None
            reply = found
        if "bytes" in reply and "text" in reply:
            raise InvalidReply("both 'text' and 'bytes'")
        return reply

    def own(self, reply: Message) -> Message | None:
        """Return what a reply says to this protocol, without any protocol's own keys.

        What stands under its own name is laid over the rest. None: what is left says nothing.
        Raises InvalidReply where one protocol's own is no dict, or what is laid over is not known.
        """
        protocols = self.protocols
        left: Message = {}
        for key, value in reply.items():
            if key not in protocols:
                left[key] = value
            elif not isinstance(value, dict):
                raise InvalidReply(f"{key!r} is a protocol: what is for it alone is a dict")
        own: Message | None = reply.get(self._name) if self._name in protocols else None
        if not own:
            return None if ASKS.issuperset(left) else left
        if not self._known.issuperset(own):
            raise InvalidReply(_unknown(self._known, own, f" in {self._name!r}"))
        for key, other in INSTEAD:
            if key in own:
                left.pop(other, None)
        return left | own

    def _with_more_keys(self, payload: bytes, reply: Message) -> Message | None:
        """Read a reply whose header counts more keys than were decoded, or is longer than usual."""
        head = payload[0]
        if head == 0xDE:
            count = int.from_bytes(payload[1:3], "big")
        elif head == 0xDF:
            count = int.from_bytes(payload[1:5], "big")
        else:
            count = head & 0x0F
        if count == len(reply):
            return reply
        whole = codec.decode(payload)
        known = self._known | self.protocols
        if not known.issuperset(whole):
            raise InvalidReply(_unknown(known, whole))
        if count != len(whole):
            raise InvalidReply("a key stands twice")
        own = self.own(whole)
        if own is None:
            return None
        try:
            found: Message = self._decode(codec.encode(own))
        except msgspec.MsgspecError as error:
            reason = _without_values(str(error))
            raise InvalidReply(f"{reason}, together with what is in {self._name!r}") from None
        return found


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


def _unknown(known: frozenset[str], keys: Collection[str], where: str = "") -> str:
    unknown = sorted(set(keys) - known)[:5]
    text = f"unknown key {', '.join(repr(key[:40]) for key in unknown)}{where}"
    close = difflib.get_close_matches(unknown[0], known, n=1)
    return f"{text}; did you mean {close[0]!r}?" if close else text


def _without_values(text: str) -> str:
    """Return msgspec's reason without the values that it quotes: they may be secret."""
    reason, mark, place = text.partition(" - at ")
    if reason.startswith("Invalid"):
        reason = "a value that is not allowed"
    return f"{reason}{' at ' if mark else ''}{place}"
