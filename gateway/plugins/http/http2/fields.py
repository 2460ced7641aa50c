"""HPACK (RFC 7541): header fields packed and unpacked, in the place of the library's own. Pure.

::

      0   1   2   3   4   5   6   7
    +---+---+---+---+---+---+---+---+
    | 1 |        Index (7+)         |   a field of the table
    +---+---+-----------------------+
    | 0 | 1 |      Index (6+)       |   a field to remember: name of the table, or 0 and a string
    +---+---+---+-------------------+
    | 0 | 0 | 1 |   Max size (5+)   |   the table's size from now on
    +---+---+---+---+---------------+
    | 0 | 0 | 0 | N |  Index (4+)   |   a field not to remember; N: nowhere on the way either
    +---+---+---+---+---------------+
    | H |     String Length (7+)    |   a string, H: in Huffman's code
    +---+---------------------------+

The library's takes half of the time of a small request, lets a client have our table grow
without bound (SETTINGS_HEADER_TABLE_SIZE), and forgets to tell a size that was set twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from gateway.core.web import Header
from gateway.plugins.http.http2.faults import Fault

ENTRY: Final = 32
"""What a field counts beside its bytes (RFC 7541 section 4.1, RFC 9113 section 6.5.2)."""
TABLE: Final = 4096
"""Bytes of each side's table: what every peer begins with. Larger ones cost memory a connection."""

_STATIC: Final[tuple[Header, ...]] = tuple(
    (name, value) for name, value in HeaderTable.STATIC_TABLE
)
_FIRST: Final = len(_STATIC) + 1
"""Index of the newest field that was remembered."""
_MOST_UPDATES: Final = 16
"""Changes of the table's size before a block; two are ever of use (RFC 7541 section 4.2)."""


def _integer(value: int, bits: int, first: int) -> bytes:
    """Return an integer behind the pattern ``first`` in a byte's upper bits (section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    value -= most
    found = bytearray((first | most,))
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


_INDEXED: Final = tuple(_integer(index, 7, 0x80) for index in range(_FIRST + TABLE // ENTRY))
_EXACT: Final = {field: _INDEXED[index] for index, field in reversed([*enumerate(_STATIC, 1)])}
_NAMES: Final = {name: index for index, (name, _) in reversed([*enumerate(_STATIC, 1)])}
# What has a value of its own each time would only push the others out of the table.
_FLEETING: Final = frozenset((b"age", b"content-length", b"content-range", b"etag", b"location"))
_SECRET: Final = frozenset((b"set-cookie",))
"""Never remembered, here or on the way (RFC 7541 section 7.1.3)."""


class FieldEncoder:
    """Packs the header fields of one connection's responses.

    Strings are sent as they are: Huffman's code saves a fifth of what is not in the table, and
    costs more than all the rest.
    """

    __slots__ = ("_most", "_number", "_resized", "_room", "_table")

    def __init__(self) -> None:
        self._table: dict[Header, int] = {}
        """The fields that the client remembers, oldest first, and their numbers."""
        self._number = 0
        """How many fields were remembered so far."""
        self._room = self._most = TABLE
        self._resized = False

    @property
    def header_table_size(self) -> int:
        """Bytes of the table; the client's setting, which counts up to `TABLE`."""
        return self._most

    @header_table_size.setter
    def header_table_size(self, size: int) -> None:
        self._table.clear()
        self._room = self._most = min(size, TABLE)
        self._resized = True

    def encode(self, headers: Iterable[Header]) -> bytes:
        """Return fields as a header block."""
        parts: list[bytes] = []
        if self._resized:
            self._resized = False
            # RFC 7541 section 4.2: the smallest size in between has to be told. Nothing is
            # smaller than nothing, and the table is empty anyway.
            parts.append(b"\x20")
            if self._most:
                parts.append(_integer(self._most, 5, 0x20))
        table = self._table
        for field in headers:
            code = _EXACT.get(field)
            if code is None:
                number = table.get(field)
                code = (
                    self._literal(field)
                    if number is None
                    else _INDEXED[_FIRST + self._number - number]
                )
            parts.append(code)
        return b"".join(parts)

    def _literal(self, field: Header) -> bytes:
        name, value = field
        size = len(name) + len(value) + ENTRY
        index = _NAMES.get(name, 0)
        if name in _SECRET:
            start = _integer(index, 4, 0x10)
        elif name in _FLEETING or 2 * size > self._most:
            start = _integer(index, 4, 0x00)
        else:
            start = _integer(index, 6, 0x40)
            self._remember(field, size)
        if not index:
            start += _integer(len(name), 7, 0) + name
        return start + _integer(len(value), 7, 0) + value

    def _remember(self, field: Header, size: int) -> None:
        self._room -= size
        while self._room < 0:
            name, value = oldest = next(iter(self._table))
            del self._table[oldest]
            self._room += len(name) + len(value) + ENTRY
        self._number += 1
        self._table[field] = self._number


class FieldDecoder:
    """Unpacks the header blocks of one client; ``most`` bytes of fields at once."""

    __slots__ = ("_most", "_room", "_size", "_table", "fields")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = self._room = TABLE
        self._table: list[Header] = []
        """The fields remembered, newest last."""
        self.fields: list[Header] = []
        """The fields of the last block."""

    def decode(self, data: bytes, raw: bool = True) -> tuple[Header, ...]:
        """Unpack a block for the library, which shall not see what is in it."""
        self.fields = self.unpack(data)
        return ()

    def unpack(self, data: bytes) -> list[Header]:
        """Return the fields of a block. Raises `Fault` where it is none, or too large."""
        try:
            return self._unpack(data)
        except (HPACKError, IndexError):
            raise Fault("compression") from None

    def _unpack(self, data: bytes) -> list[Header]:
        fields: list[Header] = []
        table = self._table
        size = pos = updates = 0
        end = len(data)
        while pos < end:
            byte = data[pos]
            if byte & 0x80:
                index, pos = _read_integer(data, pos, 0x7F)
                field = _STATIC[index - 1] if index < _FIRST else table[_FIRST - 1 - index]
                if not index:
                    raise IndexError  # RFC 7541 section 6.1
            elif byte & 0x40:
                field, pos = self._read_literal(data, pos, 0x3F)
                self._remember(field)
            elif byte & 0x20:
                most, pos = _read_integer(data, pos, 0x1F)
                updates += 1
                # RFC 7541 sections 4.2 and 6.3
                if fields or most > TABLE or updates > _MOST_UPDATES:
                    raise Fault("compression")
                self._room += most - self._size
                self._size = most
                self._shrink()
                continue
            else:
                field, pos = self._read_literal(data, pos, 0x0F)
            size += len(field[0]) + len(field[1]) + ENTRY
            if size > self._most:
                raise Fault("header-block-size")
            fields.append(field)
        return fields

    def _read_literal(self, data: bytes, pos: int, mask: int) -> tuple[Header, int]:
        index, pos = _read_integer(data, pos, mask)
        if not index:
            name, pos = _read_string(data, pos)
        elif index < _FIRST:
            name = _STATIC[index - 1][0]
        else:
            name = self._table[_FIRST - 1 - index][0]
        value, pos = _read_string(data, pos)
        return (name, value), pos

    def _remember(self, field: Header) -> None:
        self._table.append(field)
        self._room -= len(field[0]) + len(field[1]) + ENTRY
        if self._room < 0:
            self._shrink()

    def _shrink(self) -> None:
        """Forget the oldest fields until the others have room (RFC 7541 section 4.4)."""
        room = self._room
        count = 0
        while room < 0:
            name, value = self._table[count]
            room += len(name) + len(value) + ENTRY
            count += 1
        del self._table[:count]
        self._room = room


def _read_integer(data: bytes, pos: int, mask: int) -> tuple[int, int]:
    """Return an integer and its end (RFC 7541 section 5.1). Raises IndexError, `Fault`."""
    value = data[pos] & mask
    pos += 1
    if value < mask:
        return value, pos
    for shift in range(0, 28, 7):
        byte = data[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise Fault("compression")  # beyond any size that is served


def _read_string(data: bytes, pos: int) -> tuple[bytes, int]:
    """Return a string and its end (RFC 7541 section 5.2). Raises IndexError, HPACKError."""
    coded = data[pos] & 0x80
    size, pos = _read_integer(data, pos, 0x7F)
    end = pos + size
    if end > len(data):
        raise IndexError
    string = data[pos:end]
    return (decode_huffman(string) if coded else string), end
