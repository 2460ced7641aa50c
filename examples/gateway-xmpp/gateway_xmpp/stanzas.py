"""A stream of XML, cut into the elements below its root. Pure.

::

    <stream:stream …>                   the root: told when it begins, and never whole
      <message …>…</message>            a stanza: told when it is whole
    </stream:stream>                    the end
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape

from gateway.core.plugin import LocalProtocolError, RemoteProtocolError

STREAM: Final = "{http://etherx.jabber.org/streams}stream"
END: Final = b"</stream:stream>"
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Stanzas:
    """What comes, in the order in which it comes."""

    def __init__(self, max_bytes: int) -> None:
        self.ended = False
        """Whether the peer has ended its stream."""
        self._max = max_bytes
        self._depth = 0
        self._builder = TreeBuilder()
        self._whole: list[Element] = []
        self._fed = self._begun = 0
        self._parser = parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        # Newer ones wait for more, where a stanza comes in pieces, and there may be no more.
        if (defer := getattr(parser, "SetReparseDeferralEnabled", None)) is not None:
            defer(False)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = self._forbidden

    def feed(self, data: bytes) -> Iterator[Element]:
        """Take bytes, return the elements that they complete. Raises RemoteProtocolError."""
        error: RemoteProtocolError | None = None
        try:
            self._parser.Parse(data, False)
        except RemoteProtocolError as found:
            error = found
        except expat.ExpatError as found:
            error = RemoteProtocolError(f"no XML: {found}", fault("not-well-formed"))
        self._fed += len(data)
        whole, self._whole = self._whole, []
        yield from whole
        if error is not None:
            raise error
        if self._fed - self._begun > self._max:
            raise RemoteProtocolError("a stanza is too long", fault("policy-violation"))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        name = f"{{{name}" if "}" in name else name
        if self._depth == 1:
            self._told(Element(name, attributes))
            return
        if self._depth == 2:
            self._builder = TreeBuilder()
        self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.ended = True
            return
        self._builder.end(f"{{{name}" if "}" in name else name)
        if self._depth == 1:
            self._told(self._builder.close())

    def _told(self, element: Element) -> None:
        self._whole.append(element)
        self._begun = self._parser.CurrentByteIndex

    def _data(self, text: str) -> None:
        if self._depth > 1:
            self._builder.data(text)
        elif not text.strip():
            self._begun = self._parser.CurrentByteIndex  # a space keeps the connection alive

    def _forbidden(self, *_: object) -> None:
        raise RemoteProtocolError("a DOCTYPE", fault("restricted-xml"))


def fault(condition: str) -> bytes:
    """Return what ends a stream for a fault (RFC 6120 section 4.9)."""
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    return f"<stream:error><{condition} xmlns='{namespace}'/></stream:error>".encode() + END


def quoted(text: str) -> str:
    """Return text as it stands in an element, or in an attribute between single quotes.

    Raises LocalProtocolError where XML cannot have it.
    """
    if _NO_XML.search(text):
        raise LocalProtocolError("XML has no such control characters")
    return escape(text, {"'": "&apos;", '"': "&quot;", "\r": "&#13;"})
