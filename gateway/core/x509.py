"""What a certificate says of itself: names, identity, days of validity. Pure.

The part of RFC 5280 section 4.1 that is read, as DER (X.690)::

    Certificate ::= SEQUENCE {
        tbsCertificate  SEQUENCE {
            version         [0] EXPLICIT INTEGER OPTIONAL
            serialNumber        INTEGER
            signature           AlgorithmIdentifier
            issuer              Name
            validity            SEQUENCE { notBefore Time, notAfter Time }
            subject             Name            -- SEQUENCE OF SET OF SEQUENCE { type, value }
            subjectPublicKeyInfo SEQUENCE
            issuerUniqueID  [1] OPTIONAL, subjectUniqueID [2] OPTIONAL
            extensions      [3] EXPLICIT SEQUENCE OF SEQUENCE { id, critical DEFAULT FALSE, value }
        }
        …
    }

Nothing is verified here: that is OpenSSL's work, and done before. Python's own reading
(``getpeercert()``) keeps neither the order nor the quoting that make an identity unambiguous,
and says nothing of a server's own certificate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final, NamedTuple

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_ALTERNATIVE_NAMES: Final = "2.5.29.17"
_COMMON_NAME: Final = "2.5.4.3"

_SHORT: Final = {
    _COMMON_NAME: "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
"""RFC 4514 section 3: the types that every reader of such strings knows."""
_TEXTS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""The string types: UTF8, Numeric, Printable, Teletex, IA5, Visible, Universal, BMP."""
_KINDS: Final = {0x81: "email", 0x82: "DNS", 0x86: "URI"}
"""Alternative names that are text (RFC 5280 section 4.2.1.6)."""
_ADDRESS: Final = 0x87

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_ESCAPED = re.compile(r'["+,;<>\\]')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Attribute(NamedTuple):
    """One ``type=value`` of a subject."""

    type: str
    """The object identifier, dotted."""
    tag: int
    value: bytes
    """As it is encoded, without its tag."""

    @property
    def text(self) -> str | None:
        """The value as text, None if it is none."""
        try:
            return self.value.decode(_TEXTS[self.tag])
        except (KeyError, UnicodeDecodeError):
            return None


class Certificate(NamedTuple):
    """What is read of one certificate."""

    subject: tuple[tuple[Attribute, ...], ...]
    """The relative names, as they are ordered in the certificate."""
    alternatives: tuple[tuple[str, str], ...]
    """(kind, name): ``("DNS", "example.org")``; kinds DNS, URI, email, IP."""
    not_before: datetime
    not_after: datetime
    der: bytes

    @property
    def identity(self) -> str:
        """Who it is: the subject as RFC 4514 writes it, else the first alternative name.

        The whole subject, since parts of it are not unique: an authority may give two
        organizations a ``CN=alice`` each. Where both are absent, the fingerprint.
        """
        if self.subject:
            return ",".join(
                "+".join(_written(attribute) for attribute in relative)
                for relative in reversed(self.subject)
            )
        for kind, name in self.alternatives:
            return f"{kind}:{name}"
        return f"SHA256:{hashlib.sha256(self.der).hexdigest()}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that it is for, in lower case; ``*.example.org`` as it is written.

        RFC 6125 section 6.4.4: the common name counts only where there is no other.
        """
        names = [name for kind, name in self.alternatives if kind == "DNS"]
        if not names:
            common = (
                attribute.text
                for relative in self.subject
                for attribute in relative
                if attribute.type == _COMMON_NAME
            )
            names = [text for text in common if text]
        return tuple(name.lower() for name in names)


def first(pem: str) -> bytes | None:
    """Return the DER of the first certificate in a PEM text, None if it holds none."""
    found = _BLOCK.search(pem)
    if found is None:
        return None
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error:
        return None


def read(der: bytes) -> Certificate:
    """Return what a certificate says. Raises ValueError for what is none."""
    try:
        return _read(der)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError(f"no X.509 certificate ({type(error).__name__})") from None


def _read(der: bytes) -> Certificate:
    parts = _items(_only(_only(der, _SEQUENCE, whole=False), _SEQUENCE, whole=False))
    tag, _ = next(parts)
    if tag == 0xA0:  # version
        next(parts)
    next(parts)  # signature
    next(parts)  # issuer
    not_before, not_after = (_time(tag, value) for tag, value in _items(next(parts)[1]))
    subject = tuple(
        tuple(_attribute(value) for _, value in _items(relative))
        for _, relative in _items(next(parts)[1])
    )
    next(parts)  # the public key
    alternatives: tuple[tuple[str, str], ...] = ()
    for tag, value in parts:
        if tag == 0xA3:
            for _, extension in _items(_only(value, _SEQUENCE)):
                pieces = list(_items(extension))
                if _oid(pieces[0][1]) == _ALTERNATIVE_NAMES:
                    alternatives = tuple(_alternatives(_only(pieces[-1][1], _SEQUENCE)))
    return Certificate(subject, alternatives, not_before, not_after, der)


def _item(data: bytes, start: int) -> tuple[int, int, int]:
    """Return tag, and begin and end of the content, of the item that starts there."""
    tag = data[start]
    length = data[start + 1]
    begin = start + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("no X.509 certificate (a length is not DER)")
        begin += count
        length = int.from_bytes(data[start + 2 : begin], "big")
    if begin + length > len(data):
        raise ValueError("no X.509 certificate (it is cut off)")
    return tag, begin, begin + length


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over (tag, content) of what stands side by side."""
    start = 0
    while start < len(data):
        tag, begin, start = _item(data, start)
        yield tag, data[begin:start]


def _only(data: bytes, tag: int, *, whole: bool = True) -> bytes:
    """Return the content of the first item, which has this tag; the only one, if ``whole``."""
    found, begin, end = _item(data, 0)
    if found != tag or (whole and end != len(data)):
        raise ValueError("no X.509 certificate (its structure is another)")
    return data[begin:end]


def _oid(data: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for byte in data:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    top = min(numbers[0] // 40, 2)
    return ".".join(str(part) for part in (top, numbers[0] - 40 * top, *numbers[1:]))


def _time(tag: int, data: bytes) -> datetime:
    # RFC 5280 section 4.1.2.5: always to the second and in UTC; two digits from 50 on are 19…
    text = data.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _attribute(data: bytes) -> Attribute:
    (_, kind), (tag, value) = _items(data)
    return Attribute(_oid(kind), tag, value)


def _alternatives(data: bytes) -> Iterator[tuple[str, str]]:
    for tag, value in _items(data):
        if tag in _KINDS:
            yield _KINDS[tag], value.decode("utf-8", "backslashreplace")
        elif tag == _ADDRESS:
            yield "IP", str(ip_address(value))


def _written(attribute: Attribute) -> str:
    """Return ``type=value`` as RFC 4514 sections 2.3 and 2.4 write it."""
    name = _SHORT.get(attribute.type)
    text = attribute.text
    if name is None or text is None:
        # What has no short name, or is no text, is shown as it is encoded: "#" and hexadecimal.
        return f"{name or attribute.type}=#{_encoded(attribute).hex()}"
    text = _ESCAPED.sub(r"\\\g<0>", text)
    text = _CONTROL.sub(lambda found: f"\\{ord(found[0]):02X}", text)
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and text != r"\ ":
        text = text[:-1] + r"\ "
    return f"{name}={text}"


def _encoded(attribute: Attribute) -> bytes:
    length = len(attribute.value)
    if length < 0x80:
        size = bytes((length,))
    else:
        count = (length.bit_length() + 7) // 8
        size = bytes((0x80 | count,)) + length.to_bytes(count, "big")
    return bytes((attribute.tag,)) + size + attribute.value
