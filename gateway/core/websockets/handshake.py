"""The opening handshake of RFC 6455 section 4, the server's side. Pure.

A request is checked before the application is asked, the answer made after it has said yes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.core.errors import RemoteProtocolError
from gateway.core.opening import refusal
from gateway.core.web import Head, Header

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110 section 5.6.2
_EXTENSION_PART: Final = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rb"(?:[ \t]*=[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+|\"(?:[^\"\\]|\\.)*\"))?[ \t]*"
)


class Accept(msgspec.Struct, frozen=True):
    """The answer that opens the connection."""

    subprotocol: str | None = None
    headers: Sequence[Header] = ()


Parameter = tuple[bytes, bytes | None]
"""A parameter of an extension: its name, its value, None for one without."""
Extension = tuple[bytes, list[Parameter]]
"""An extension by its name, with its parameters as they stand there."""


class Offer(msgspec.Struct, frozen=True):
    """What a valid handshake brings: the client's key, and what it offers, best liked first."""

    key: bytes
    """Empty over HTTP/2, which needs none (RFC 8441 section 5)."""
    subprotocols: list[str]
    extensions: list[Extension] = []


def asks(head: Head) -> bool:
    """Return whether a request asks for the WebSocket protocol, well or badly."""
    if head.protocol:
        return head.protocol == "websocket"  # RFC 8441 section 5
    upgrade = head.header(b"upgrade")
    # RFC 9110 section 7.8: an Upgrade in an HTTP/1.0 request is ignored; HTTP/2 has none.
    return (
        upgrade is not None
        and head.http_version == "1.1"
        and b"websocket" in _items(head, b"upgrade")
    )


def check(head: Head) -> Offer:
    """Return what a handshake offers.

    Raises `RemoteProtocolError` whose ``answer`` is the refusal to send. Quotations are from
    RFC 6455 section 4.2.1.
    """
    if head.protocol:
        return Offer(b"", _checked_offer(head), _extended(head))
    if head.method != "GET":
        # "An HTTP/1.1 or higher GET request"
        raise _bad("a WebSocket is opened with GET", 405, ((b"allow", b"GET"),))
    if b"upgrade" not in _items(head, b"connection"):
        # "A |Connection| header field that includes the token "Upgrade""
        raise _bad("the Connection header does not name Upgrade")
    if head.header(b"transfer-encoding") or head.header(b"content-length") not in (None, b"0"):
        # Its bytes would be read as frames.
        raise _bad("a handshake has no body")
    names = _checked_offer(head)
    keys = _values(head, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        # "a base64-encoded value that, when decoded, is 16 bytes in length"
        raise _bad("one Sec-WebSocket-Key of 16 bytes in base64 is needed")
    return Offer(keys[0], names, _extended(head))


def _checked_offer(head: Head) -> list[str]:
    """Return the subprotocols offered, once what every handshake has is checked."""
    versions = _values(head, b"sec-websocket-version")
    if len(versions) > 1:
        # Section 11.3.5: "MUST NOT appear more than once in an HTTP request"
        raise _bad("several Sec-WebSocket-Version headers")
    if versions != [b"13"]:
        # "A |Sec-WebSocket-Version| header field, with a value of 13"; section 4.4 for the answer
        raise _bad(
            "only version 13 of the WebSocket protocol is spoken here",
            426,
            ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")),
        )
    if len(_values(head, b"origin")) > 1:
        # RFC 6454 section 7.3: "MUST NOT include more than one Origin header field"
        raise _bad("several Origin headers")
    names: list[str] = []
    for value in _values(head, b"sec-websocket-protocol"):
        for item in value.split(b","):
            name = item.strip(b" \t")
            # Section 4.1: "The elements that comprise this value MUST be non-empty strings
            # with characters in the range U+0021 to U+007E not including separator characters
            # […] and MUST all be unique strings."
            if not _TOKEN.match(name) or name.decode() in names:
                raise _bad("a Sec-WebSocket-Protocol that is not a list of different tokens")
            names.append(name.decode())
    return names


def _extended(head: Head) -> list[Extension]:
    """Return what the lines of Sec-WebSocket-Extensions offer.

    Section 9.1: "If a value is received by either the client or the server during negotiation
    that does not conform to the ABNF below, the recipient of such malformed data MUST immediately
    _Fail the WebSocket Connection_." Empty elements of a list are no elements (RFC 9110 section
    5.6.1.2).
    """
    found: list[Extension] = []
    for value in _values(head, b"sec-websocket-extensions"):
        for item in value.split(b","):
            if not item.strip(b" \t"):
                continue
            name, *parameters = [_EXTENSION_PART.fullmatch(part) for part in item.split(b";")]
            if name is None or name[2] is not None or None in parameters:
                raise _bad("a Sec-WebSocket-Extensions that is no list of extensions")
            found.append((name[1], [(m[1], _unquoted(m[2])) for m in parameters if m]))
    return found


def _unquoted(value: bytes | None) -> bytes | None:
    """Return a parameter's value. A quoted one has to be a token as well (section 9.1)."""
    if value is None or not value.startswith(b'"'):
        return value
    value = re.sub(rb"\\(.)", rb"\1", value[1:-1])
    if not _TOKEN.match(value):
        raise _bad("a Sec-WebSocket-Extensions with a quoted value that is no token")
    return value


def _bad(reason: str, status: int = 400, headers: Sequence[Header] = ()) -> RemoteProtocolError:
    return RemoteProtocolError(reason, refusal(status, reason, headers))


def _values(head: Head, name: bytes) -> list[bytes]:
    return [value.strip(b" \t") for key, value in head.headers if key == name]


def _items(head: Head, name: bytes) -> list[bytes]:
    """Return the items of a comma-separated header, lower-case, its lines together."""
    return [
        item.strip(b" \t").lower() for value in _values(head, name) for item in value.split(b",")
    ]


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def fields(key: bytes, accept: Accept, extensions: bytes = b"") -> list[Header]:
    """Return the headers of the answer that opens the connection."""
    found = [(b"Sec-WebSocket-Accept", accept_key(key))] if key else []
    if accept.subprotocol is not None:
        found.append((b"Sec-WebSocket-Protocol", accept.subprotocol.encode()))
    if extensions:
        found.append((b"Sec-WebSocket-Extensions", extensions))
    return [*found, *accept.headers]
