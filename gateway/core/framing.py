"""Sessions of protocols that cut a stream into lines or into packets. Pure.

However the transport cuts the bytes, the same lines and packets come out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from gateway.core.errors import RemoteProtocolError
from gateway.core.session import Action, Close, Session


class _Cutting(Session):
    """A session that cuts bytes up, and reads no further once it has said `Close`."""

    _closed = False

    def _watched(self, actions: Iterable[Action]) -> Iterator[Action]:
        for action in actions:
            if action.__class__ is Close:
                self._closed = True
            yield action


class LineSession(_Cutting):
    r"""A protocol of lines, which end in LF or CRLF.

    A subclass writes ``line``; and ``send``, ``outcome``, ``refused`` as any session. After a
    `Close` no more lines are read. Bytes after the last line ending are no line: they are
    dropped when the peer sends no more.
    """

    max_line: ClassVar[int] = 8192
    """Bytes of a line without its ending: far over what people type, a page of memory or two."""

    _tail = b""
    _skips = False

    @abstractmethod
    def line(self, line: bytes) -> Iterable[Action]:
        """Take one line, without its ending."""

    def too_long(self) -> Iterable[Action]:
        """Refuse a line over ``max_line``, once, in the protocol's own words.

        Its bytes are skipped, and the next line is read, unless the answer closes. The
        default closes without a word.
        """
        raise RemoteProtocolError(f"a line is over {self.max_line} bytes")

    def received(self, data: bytes) -> Iterator[Action]:
        """Cut the bytes into lines."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            if self._closed:
                return
            yield from self._whole(line.removesuffix(b"\r"))
        # The CR of an ending that is still to come does not count.
        if not self._closed and len(self._tail.removesuffix(b"\r")) > self.max_line:
            self._tail = b""
            if not self._skips:
                self._skips = True
                yield from self._watched(self.too_long())

    def _whole(self, line: bytes) -> Iterator[Action]:
        if self._skips:
            self._skips = False
        elif len(line) > self.max_line:
            yield from self._watched(self.too_long())
        else:
            yield from self._watched(self.line(line))


class LengthSession(_Cutting):
    """A protocol of packets, each behind its length.

    ::

        length (``header`` bytes, unsigned, ``byteorder``) | packet of that many bytes

    A subclass writes ``packet``; and ``send``, ``outcome``, ``refused`` as any session. After a
    `Close` no more packets are read.
    """

    header: ClassVar[int] = 4
    """Bytes of the length."""
    byteorder: ClassVar[Literal["big", "little"]] = "big"
    """The order of those: network order."""
    max_packet: ClassVar[int] = 65536
    """Bytes of a packet, without its header."""

    _rest = b""
    _skip = 0

    @abstractmethod
    def packet(self, packet: bytes) -> Iterable[Action]:
        """Take one packet, without its header."""

    def too_long(self, length: int) -> Iterable[Action]:
        """Refuse a packet over ``max_packet``, in the protocol's own words.

        Its bytes are skipped, and the next packet is read, unless the answer closes. The
        default closes without a word.
        """
        raise RemoteProtocolError(f"a packet of {length} bytes is over {self.max_packet}")

    def pack(self, packet: bytes) -> bytes:
        """Return a packet behind its length. Raises OverflowError where the header is too small."""
        return len(packet).to_bytes(self.header, self.byteorder) + packet

    def received(self, data: bytes) -> Iterator[Action]:
        """Cut the bytes into packets."""
        data = self._rest + data
        header = self.header
        start = 0
        while not self._closed:
            if self._skip:
                skipped = min(self._skip, len(data) - start)
                start += skipped
                self._skip -= skipped
            if self._skip or len(data) - start < header:
                break
            length = int.from_bytes(data[start : start + header], self.byteorder)
            if length > self.max_packet:
                start += header
                self._skip = length
                yield from self._watched(self.too_long(length))
            elif len(data) - start - header < length:
                break
            else:
                start += header + length
                yield from self._watched(self.packet(data[start - length : start]))
        self._rest = data[start:]
