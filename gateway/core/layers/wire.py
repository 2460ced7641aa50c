"""The wire protocol between the hub and its clients. Pure.

A frame is what one side has to say in one turn::

    ┌──────────────┬──────────────────────────────┐
    │ length, u32  │ msgpack array of commands    │   client to hub
    │ little-endian│ msgpack array of events      │   hub to client
    └──────────────┴──────────────────────────────┘

A command is ``[code, rid, …]``: one of `verbs.OPS` by number, or one of the numbers below.
``rid`` is the number that its answer carries, 0 where none is wanted. Payloads of messages
are ``bin``, which nobody but their reader opens. An outcome is 0 for ``accepted``, else
the array of `Outcome`; outcomes that are all ``accepted`` may be their number.

=============  =====================================  ======================================
command        fields                                 answer
=============  =====================================  ======================================
``HELLO``      version, process name                  process name, whether it was known,
                                                      options
``BEAT``       (none)                                 a sign of life; no answer
``SUBSCRIBE``  intake, channels, credit               (none); ``DELIVER`` events follow
``CREDIT``     intake, more                           (none)
``CLOSE``      intake                                 True; no ``DELIVER`` follows it
``SETTLE``     tag, outcomes, sends                   (none)
``PULL``       channels, inbox, wait                  a delivery or None
``UNPULL``     rid of the pull                        (none); the pull is answered None
``PUT_BACK``   tag, or 0 and name and payload         (none)
``EDGE``       (none)                                 (none); ``ITEMS`` events follow
``LISTEN``     channel                                (none)
``UNLISTEN``   channel                                (none)
``BYE``        (none)                                 (none); the lease ends
``ASIDE``      tag                                    (none); its credit returns now
``METRICS``    (none)                                 text in the Prometheus format
``TOLD``       number of the ``TELL``, text           (none); the answer to that event
=============  =====================================  ======================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.core.errors import ChannelFull, Fenced, LayerError, MessageTooLarge
from gateway.core.layers.base import OK, Outcome
from gateway.core.layers.edge import ANNOUNCED, OUTCOME, Item

VERSION: Final = 1
HEADER: Final = 4
MAX_FRAME: Final = 1 << 30
"""Bytes of one frame: far over what credit and inbox bounds let gather in one turn."""

HELLO: Final = 100
BEAT: Final = 101
SUBSCRIBE: Final = 102
CREDIT: Final = 103
CLOSE: Final = 104
SETTLE: Final = 105
PULL: Final = 106
UNPULL: Final = 107
PUT_BACK: Final = 108
EDGE: Final = 109
LISTEN: Final = 110
BYE: Final = 111
METRICS: Final = 112
ASIDE: Final = 113
TOLD: Final = 114
UNLISTEN: Final = 115

# Events: [REPLY, rid, result], [ERROR, rid, kind, text], [DELIVER, intake, tag, name,
# payloads, attempt], [ITEMS, [item, …]], [ENDED]: the lease of this process has ended,
# [TELL, number]: an edge is to say its own metrics.
REPLY: Final = 1
ERROR: Final = 2
DELIVER: Final = 3
ITEMS: Final = 4
ENDED: Final = 5
TELL: Final = 6

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode


def pack(commands: Sequence[Any]) -> bytes:
    """Return the frame of some commands or events."""
    body = _encode(commands)
    return len(body).to_bytes(HEADER, "little") + body


class Frames:
    """Cuts a stream of bytes into frames. A large one is put together once, not at every read."""

    __slots__ = ("_have", "_need", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        """What has come of a frame that is not whole."""
        self._have = 0
        self._need = HEADER
        """Bytes of it that are there, and that are to be there before it is looked at again."""

    def feed(self, data: bytes) -> list[list[Any]]:
        """Return the commands or events of all frames that ``data`` completes.

        Raises ValueError for what is no frame.
        """
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        found: list[list[Any]] = []
        need = HEADER
        start = 0
        end = len(data)
        while end - start >= HEADER:
            stop = start + HEADER + int.from_bytes(data[start : start + HEADER], "little")
            if stop - start > MAX_FRAME:
                raise ValueError("a frame over 1 GiB")
            if stop > end:
                need = stop - start
                break
            found += _decode(memoryview(data)[start + HEADER : stop])
            start = stop
        if start < end:
            self._pieces.append(data[start:])
            self._have = end - start
            self._need = need
        return found


def add_settle(
    commands: list[Any], tag: int, outcomes: Sequence[Outcome], sends: Sequence[Any]
) -> None:
    """Add a ``SETTLE`` to what is said in this turn.

    What is accepted without a word is counted in the one before (these alone are lists), if that
    is of the same delivery: a send is told before the outcome of its own message, and behind those
    before it.
    """
    if outcomes[0] is not OK or len(outcomes) > 1:
        commands.append((SETTLE, 0, tag, pack_outcomes(outcomes), sends))
        return
    if commands and not sends:
        last = commands[-1]
        if last.__class__ is list and last[2] == tag and not last[4]:
            last[3] += 1
            return
    commands.append([SETTLE, 0, tag, 1, sends])


def pack_outcomes(outcomes: Sequence[Outcome]) -> list[Any]:
    """Return outcomes as they travel."""
    return [0 if outcome is OK else outcome for outcome in outcomes]


def unpack_outcomes(packed: Sequence[Any]) -> Sequence[Outcome]:
    """Undo `pack_outcomes`."""
    return [OK if one == 0 else Outcome(*one) for one in packed]


def unpack_items(items: list[Any]) -> list[Item]:
    """Return an edge's items as their contract has them."""
    for place, item in enumerate(items):
        if item[0] == OUTCOME:
            outcome = item[3]
            items[place] = (OUTCOME, item[1], item[2], OK if outcome == 0 else Outcome(*outcome))
        elif item[0] == ANNOUNCED:
            items[place] = (ANNOUNCED, None if item[1] is None else frozenset(item[1]))
        else:
            items[place] = tuple(item)
    return items


def pack_items(items: Sequence[Item]) -> list[Any]:
    """Return items as they travel."""
    return [
        (OUTCOME, item[1], item[2], 0) if item[0] == OUTCOME and item[3] is OK else item
        for item in items
    ]


def pack_error(error: Exception) -> tuple[str, str]:
    """Return an error as it travels: its kind and its text."""
    if isinstance(error, ChannelFull):
        return "full", error.channel
    return type(error).__name__, str(error)


def unpack_error(kind: str, text: str) -> Exception:
    """Undo `pack_error`."""
    if kind == "full":
        return ChannelFull(text)
    known: dict[str, type[Exception]] = {
        "Fenced": Fenced,
        "MessageTooLarge": MessageTooLarge,
        "ValueError": ValueError,
        "TypeError": TypeError,
    }
    return known.get(kind, LayerError)(text)
