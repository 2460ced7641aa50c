"""The journal of registrations: what a successor of a hub must know that was killed. Pure.

A journal is records one after the other, each as it was written by one hub in one life::

    ┌──────────────┬──────────────┬───────────────┐
    │ length, u32  │ CRC-32, u32  │ msgpack array │
    │ little-endian│ of the array │ [code, …]     │
    └──────────────┴──────────────┴───────────────┘

=============  ======================================  =====================================
record         fields                                  meaning
=============  ======================================  =====================================
``HEAD``       version                                 the first record
``REGISTER``   process, connection, channel, payload   an accepted connection; process "" is
                                                       one that lived and died with the hub
``END``        connection                              it ended, and nothing is to be offered
``OFFER``      tag, connection, channel, payload       it ended, and this disconnect was
                                                       offered; None: as it was registered
``SETTLED``    tag                                     that disconnect was settled
``WORKER``     process                                 a process that announced channels
``GONE``       process                                 its lease ended
``PARTED``     connection                              its end was heard, long since
=============  ======================================  =====================================

A record that was cut short ends the journal: its hub was killed while it wrote, and told
nobody what stands in it. The tag of a disconnect is the one that its taker settles it by, in
whatever hub: so a worker can tell a successor what it has in hand.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import msgspec

VERSION: Final = 1
HEADER: Final = 8

HEAD: Final = 0
REGISTER: Final = 1
END: Final = 2
OFFER: Final = 3
SETTLED: Final = 4
WORKER: Final = 5
GONE: Final = 6
PARTED: Final = 7

LASTING: Final = 1 << 40
"""From here on a tag is that of a disconnect, the same whoever gets it; below, of one giving."""
MOST_PARTED: Final = 4096
"""So many ended connections are remembered by name, for a process that did not hear that its
word had arrived: that takes milliseconds, and this is a second of them."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


def pack(record: Iterable[Any]) -> bytes:
    """Return a record as it is written."""
    body = _encode(record)
    return len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body


class Left:
    """What a hub left behind."""

    def __init__(self) -> None:
        self.orphans: dict[str, tuple[str, bytes]] = {}
        """Channel and disconnect of the connections that ended with the hub itself."""
        self.owned: dict[str, dict[str, tuple[str, bytes]]] = {}
        """Those of processes that may live on, by the process's name."""
        self.offered: dict[int, tuple[str, bytes]] = {}
        """Channel and payload of the disconnects that were offered and not settled, by tag."""
        self.workers: set[str] = set()
        """The processes that may have such a disconnect in hand."""
        self.parted: deque[str] = deque(maxlen=MOST_PARTED)
        """Connections whose end was heard of late."""
        self.last = LASTING
        """The highest tag there was."""
        self.still = 0.0
        """Seconds since the successor began."""
        self.version = VERSION
        """That of the hub's journal; of another one nothing is read."""

    def __bool__(self) -> bool:
        """Whether there is anything to deliver."""
        return bool(self.orphans or self.offered or any(self.owned.values()))


def replay(data: bytes) -> tuple[Left, int]:
    """Return what the records of ``data`` leave, and how many of its bytes are whole records.

    Never raises: what follows a record that cannot be read is not looked at.
    """
    left = Left()
    owner: dict[str, str] = {}
    start = 0
    end = len(data)
    while end - start >= HEADER:
        stop = start + HEADER + int.from_bytes(data[start : start + 4], "little")
        body = data[start + HEADER : stop]
        check = int.from_bytes(data[start + 4 : start + HEADER], "little")
        if stop > end or zlib.crc32(body) != check:
            break
        try:
            _apply(left, owner, *_decode(body))
        except (msgspec.DecodeError, TypeError, ValueError, LookupError):
            break
        start = stop
    return left, start


def _apply(left: Left, owner: dict[str, str], code: int, *fields: Any) -> None:
    """Apply one record. Raises TypeError, ValueError, LookupError for what is none."""
    match code, fields:
        case 0, (int(version),):
            left.version = version
            if version != VERSION:
                raise ValueError(f"version {version}")
        case 1, (str(process), str(connection), str(channel), bytes(payload)):
            owner[connection] = process
            mine = left.owned.setdefault(process, {}) if process else left.orphans
            mine[connection] = (channel, payload)
        case 2, (str(connection),):
            _taken(left, owner, connection)
        case 3, (int(tag), str(connection), channel, payload):
            known = _taken(left, owner, connection)
            left.offered[tag] = known if payload is None and known else (channel, payload)
            left.last = max(left.last, tag)
            _part(left, connection)
        case 4, (int(tag),):
            left.offered.pop(tag, None)
            left.last = max(left.last, tag)
        case 5, (str(process),):
            left.workers.add(process)
        case 6, (str(process),):
            left.workers.discard(process)
        case 7, (str(connection),):
            _part(left, connection)
        case _:
            raise ValueError(f"a record of code {code}")


def _taken(left: Left, owner: dict[str, str], connection: str) -> tuple[str, bytes] | None:
    process = owner.pop(connection, None)
    if process is None:
        return None
    if not process:
        return left.orphans.pop(connection, None)
    mine = left.owned[process]
    found = mine.pop(connection, None)
    if not mine:
        del left.owned[process]
    return found


def _part(left: Left, connection: str) -> None:
    if connection:
        left.parted.append(connection)


class Journal:
    """Where a `State` says what its successor must know. This one says it to nobody.

    Called under the lock of the state. What was said is there before anything that follows
    from it leaves the hub.
    """

    def registered(self, process: str, connection: str, channel: str, payload: bytes) -> None:
        """Take note of an accepted connection; ``process`` is "" if it dies with the hub."""

    def ended(self, connection: str) -> None:
        """Take note that it ended, and that nothing is to be offered."""

    def offered(
        self, tag: int, connection: str, channel: str | None, payload: bytes | None
    ) -> None:
        """Take note that it ended, and its disconnect was offered; None: as registered."""

    def settled(self, tag: int) -> None:
        """Take note that a disconnect was settled."""

    def worker(self, process: str) -> None:
        """Take note of a process that may take disconnects."""

    def gone(self, process: str) -> None:
        """Take note that it ended."""
