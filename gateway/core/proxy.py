r"""The PROXY protocol's header, versions 1 and 2 (haproxy's ``proxy-protocol.txt``). Pure.

Version 1, a line of at most 107 bytes::

    PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n
    PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n
    PROXY UNKNOWN …\r\n

Version 2::

    0                          12         13          14       16
    +--------------------------+----------+-----------+--------+-----------+----------------+
    | \r\n\r\n\0\r\nQUIT\n     | version, | family,   | length | addresses | type, length,  |
    | (the signature)          | command  | transport |        | and ports | value; again … |
    +--------------------------+----------+-----------+--------+-----------+----------------+

The header is read from a socket that other bytes follow on: `Header.feed` is shown what has
come and says how much of it belongs to the header, never a byte more.
"""

from __future__ import annotations

import re
import socket
from typing import Final

from gateway.core.errors import RemoteProtocolError

MAX_LINE: Final = 107
"""Bytes of a version 1 header, which the specification gives as the longest there can be."""
MAX_BLOCK: Final = 8192
"""Bytes of a version 2 header after its first 16. Addresses take at most 216; the rest is room
for what proxies add of their own, such as the certificate of a client."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]+) ([0-9]+)\r\n")
_FAMILIES: Final = {
    0x11: (socket.AF_INET, 4),
    0x12: (socket.AF_INET, 4),
    0x21: (socket.AF_INET6, 16),
    0x22: (socket.AF_INET6, 16),
}
"""Family and protocol: IPv4, IPv6, each over TCP or UDP; and the bytes of an address."""
_UNIX: Final = frozenset((0x31, 0x32))
_UNSPECIFIED: Final = 0x00
_CRC32C: Final = 0x03
"""Type of the value that holds the header's checksum."""

Address = tuple[str, int]


class ProxyError(RemoteProtocolError):
    """A connection does not begin with a header, or with a malformed one."""


class Header:
    """The header of one connection, as it comes."""

    __slots__ = ("_read", "client", "complete", "own", "server")

    def __init__(self) -> None:
        self._read = b""
        self.complete = False
        self.own = False
        """Whether the header says nothing of the client: the connection's own addresses count
        (``LOCAL``, as health checks of the proxy send it, and ``UNKNOWN``)."""
        self.client: Address | None = None
        """The client's address; None on a Unix socket, and where ``own``."""
        self.server: Address | None = None

    def feed(self, data: bytes) -> int:
        """Take what follows what was taken before; return how much of it is the header's.

        Raises `ProxyError` as soon as it cannot be a header any more. Not to be called once
        it is ``complete``.
        """
        before = len(self._read)
        read = self._read + data
        if read.startswith(_SIGNATURE[: len(read)]):
            size = self._feed_block(read)
        elif read.startswith(b"PROXY "[: len(read)]):
            size = self._feed_line(read)
        else:
            raise ProxyError("no PROXY header")
        self._read = read[:size]
        return size - before

    def _feed_line(self, read: bytes) -> int:
        end = read.find(b"\r\n", 0, MAX_LINE)
        if end < 0:
            if len(read) >= MAX_LINE:
                raise ProxyError(f"a PROXY line of over {MAX_LINE} bytes")
            return len(read)
        end += 2
        self._read_line(read[:end])
        self.complete = True
        return end

    def _read_line(self, line: bytes) -> None:
        if line.startswith((b"PROXY UNKNOWN\r", b"PROXY UNKNOWN ")):
            self.own = True
            return
        found = _LINE.fullmatch(line)
        if found is None:
            raise ProxyError("a malformed PROXY line")
        family = socket.AF_INET if found[1] == b"TCP4" else socket.AF_INET6
        self.client = (_address(family, found[2]), _port(found[4]))
        self.server = (_address(family, found[3]), _port(found[5]))

    def _feed_block(self, read: bytes) -> int:
        if len(read) < _FIXED:
            return len(read)
        if read[12] >> 4 != 2:
            raise ProxyError(f"version {read[12] >> 4} of the PROXY protocol, not 2")
        length = int.from_bytes(read[14:16], "big")
        if length > MAX_BLOCK:
            raise ProxyError(f"a PROXY header of over {MAX_BLOCK} bytes")
        size = _FIXED + length
        if len(read) < size:
            return len(read)
        self._read_block(read[:size])
        self.complete = True
        return size

    def _read_block(self, block: bytes) -> None:
        command = block[12] & 0x0F
        family = block[13]
        if command == 0:
            # "The receiver must accept this connection as valid and must use the real
            # connection endpoints and discard the protocol block."
            self.own = True
            return
        if command != 1:
            raise ProxyError(f"command {command} of the PROXY protocol is not known")
        if family == _UNSPECIFIED:
            self.own = True
            return
        if family in _UNIX:
            self._check(block, 216)
        elif family in _FAMILIES:
            kind, size = _FAMILIES[family]
            self._check(block, 2 * size + 4)
            client, server = block[16 : 16 + size], block[16 + size : 16 + 2 * size]
            ports = block[16 + 2 * size : 20 + 2 * size]
            self.client = (socket.inet_ntop(kind, client), int.from_bytes(ports[:2], "big"))
            self.server = (socket.inet_ntop(kind, server), int.from_bytes(ports[2:], "big"))
        else:
            raise ProxyError(f"address family {family:#04x} of the PROXY protocol is not known")

    @staticmethod
    def _check(block: bytes, size: int) -> None:
        """Check that the addresses are whole, and the values behind them."""
        start = _FIXED + size
        if start > len(block):
            raise ProxyError("a PROXY header that is shorter than its addresses")
        while start < len(block):
            if start + 3 > len(block):
                raise ProxyError("a PROXY header that ends within a value")
            kind, length = block[start], int.from_bytes(block[start + 1 : start + 3], "big")
            start += 3
            if start + length > len(block):
                raise ProxyError("a PROXY header that ends within a value")
            if kind == _CRC32C:
                _check_sum(block, start, length)
            start += length


def _address(family: int, text: bytes) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text.decode()))
    except OSError:
        raise ProxyError("a malformed address in a PROXY line") from None


def _port(text: bytes) -> int:
    if len(text) > 5 or (text[:1] == b"0" and text != b"0") or int(text) > 65535:
        raise ProxyError("a malformed port in a PROXY line")
    return int(text)


def _check_sum(block: bytes, start: int, length: int) -> None:
    # "The receiver MUST calculate the checksum over the entire header with the checksum field
    # filled with zeroes", and drop a connection where it differs.
    if length != 4:
        raise ProxyError("a PROXY header's checksum is not 4 bytes long")
    zeroed = block[:start] + bytes(4) + block[start + 4 :]
    if crc32c(zeroed) != int.from_bytes(block[start : start + 4], "big"):
        raise ProxyError("a PROXY header's checksum is wrong")


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 4960 appendix B (Castagnoli's polynomial)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
