"""Messages as bytes: msgpack, with the rules of the message formats. Pure.

A message is encoded once, by its sender, and decoded once, by its reader; what lies
between routes it unread.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from gateway.core import names
from gateway.core.errors import MessageTooLarge

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of one encoded message where the layer does not allow more (`LayerOptions`)."""

MAX_META: Final = 64 * 1024
"""Bytes of a member's meta encoded: it is kept as long as the membership, and all of a group's
travel together to whoever asks for the members."""

MAX_KEY: Final = 1000
"""Characters of the key of a log: it is kept as often as what stands under it."""

HISTORY_SECONDS: Final = 3600.0
"""Seconds that a message with a ``history`` is kept where nothing else is said: far longer than
any change of networks takes, and most outages of a client."""

MAX_SECONDS: Final = 10 * 365 * 86400.0
"""Ten years, beyond which a number of seconds is a slip."""

checked = names.check_channel
"""`names.check_channel`: reply channels are used once each, too many to remember."""
checked_group = lru_cache(maxsize=2048)(names.check_group)
"""`names.check_group`, remembered."""


def _refuse(value: Any) -> Any:
    raise TypeError(
        f"a message cannot hold {type(value).__name__}: only bytes, str, int, float, list, "
        "dict with str keys, bool and None; send what names it, such as a primary key, or "
        "str(…) of it"
    )


_encode = msgspec.msgpack.Encoder(enc_hook=_refuse).encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


def encode(message: dict[str, Any], most: int = MAX_MESSAGE) -> bytes:
    """Return the payload of a message. Keys of dicts inside it are not looked at.

    Raises TypeError for a value that messages cannot hold, `MessageTooLarge` over ``most`` bytes.
    """
    if type(message) is not dict:
        raise TypeError(
            f"a message is a dict such as {{'text': 'hello'}}, not {type(message).__name__}"
        )
    for key in message:
        if key.__class__ is not str:
            raise TypeError(f"a message's keys are str, not {type(key).__name__}: {key!r}")
    try:
        payload = _encode(message)
    except (OverflowError, UnicodeEncodeError, msgspec.EncodeError) as error:
        raise TypeError(f"a message cannot hold this value: {error}") from None
    if len(payload) > most:
        raise MessageTooLarge(
            f"the message is {len(payload)} bytes encoded, over {most}: send large content in "
            "chunks on a channel of its own, or raise layer.message_bytes"
        )
    return payload


def encode_meta(meta: dict[str, Any]) -> bytes:
    """Return the payload of a member's meta. Raises as `encode`; over `MAX_META` bytes too."""
    if type(meta) is not dict:
        raise TypeError(f"the meta of a member is a dict, not {type(meta).__name__}")
    payload = encode(meta)
    if len(payload) > MAX_META:
        raise MessageTooLarge(
            f"the meta of a member is {len(payload)} bytes encoded, over {MAX_META}: keep what is "
            "large elsewhere, and its key in meta"
        )
    return payload


def checked_history(history: int, seconds: float | None) -> tuple[()] | tuple[int, float]:
    """Return how many messages to keep for how many seconds; nothing where none is kept.

    Raises TypeError or ValueError that says why not.
    """
    if history.__class__ is not int:
        raise TypeError(f"history is the number of messages to keep, an int, not {history!r}")
    if history < 0:
        raise ValueError(f"history is the number of messages to keep, 0 for none, not {history}")
    if not history:
        if seconds is not None:
            raise TypeError(
                f"history_seconds={seconds!r} says how long messages are kept: say how many, too, "
                "such as history=100"
            )
        return ()
    return (history, checked_seconds("history_seconds", HISTORY_SECONDS, seconds))


def checked_seconds(name: str, default: float, seconds: float | None) -> float:
    """Return a time to keep something. Raises TypeError or ValueError that says why not."""
    if seconds is None:
        return default
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} is a number of seconds, not {seconds!r}")
    if not 0 < seconds < MAX_SECONDS:
        raise ValueError(f"{name} is a number of seconds, more than 0, not {seconds!r}")
    return float(seconds)


def checked_since(since: str) -> str:
    """Return ``since``; raise TypeError that says why not, where it is no str."""
    if not isinstance(since, str):
        raise TypeError(
            f"since is the id that the client got last, a str, not {since!r}: '' for nothing of "
            "before, None where nothing is resumed"
        )
    return since


def checked_position(position: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a position of a log, or None; raise TypeError that says why it is none."""
    if position is None or (
        isinstance(position, tuple | list)
        and len(position) == 2
        and all(number.__class__ is int for number in position)
    ):
        return position
    raise TypeError(
        "since is a position, (epoch, offset), as log_append and log_read return it, or None for "
        f"all that is kept, not {position!r}; names.parse_position reads the id of a message"
    )


def checked_key(key: str) -> str:
    """Return ``key`` if it may name a log; raise TypeError or ValueError that says why not."""
    if not isinstance(key, str):
        raise TypeError(f"the key of a log is a str, not {type(key).__name__}")
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"the key of a log has 1 to {MAX_KEY} characters, not {len(key)}")
    return key


def checked_prefix(prefix: str) -> str:
    """Return what keys are to begin with; raise TypeError that says why it cannot be."""
    if not isinstance(prefix, str):
        raise TypeError(f"the prefix of keys is a str, not {type(prefix).__name__}")
    return prefix


_UNPINNED = _encode({"unpinned": True})[1:]


def unpinned(payload: bytes) -> bytes:
    """Return the payload of a message with ``"unpinned": True`` in it, too; it is not decoded.

    Its map header counts one key more::

        fixmap   1000nnnn
        map16    0xde  nnnnnnnn nnnnnnnn
        map32    0xdf  nnnnnnnn nnnnnnnn nnnnnnnn nnnnnnnn
    """
    head = payload[0]
    if head < 0x8F:
        return bytes((head + 1,)) + payload[1:] + _UNPINNED
    start = {0x8F: 1, 0xDE: 3, 0xDF: 5}[head]
    count = 15 if start == 1 else int.from_bytes(payload[1:start], "big")
    return b"\xdf" + (count + 1).to_bytes(4, "big") + payload[start:] + _UNPINNED


def decode(payload: bytes) -> dict[str, Any]:
    """Return the message of a payload that `encode` made."""
    return _decode(payload)
