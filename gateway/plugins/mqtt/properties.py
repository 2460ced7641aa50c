"""Properties of MQTT 5 packets (section 2.2.2): which there are, where, and their bytes. Pure.

::

    property length (variable byte integer) | identifier | value | identifier | value | …

``user_properties`` is a list of (name, value), ``subscription_identifiers`` a list of numbers;
every other property stands at most once.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.plugins.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NOTHING,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Properties,
)
from gateway.plugins.mqtt.reasons import MALFORMED, PROTOCOL_ERROR

BYTE: Final = 0
FLAG: Final = 1
TWO: Final = 2
FOUR: Final = 3
VARIABLE: Final = 4
TEXT: Final = 5
BINARY: Final = 6
PAIR: Final = 7
"""Types of values (section 1.5); a flag is a byte that is 0 or 1."""

WILL: Final = 0
"""The will properties of CONNECT, as if they were a packet of their own."""

_ACKS: Final = (PUBACK, PUBREC, PUBREL, PUBCOMP)
_REASONED: Final = (CONNACK, *_ACKS, SUBACK, UNSUBACK, DISCONNECT, AUTH)
_ALL: Final = (CONNECT, PUBLISH, WILL, SUBSCRIBE, UNSUBSCRIBE, *_REASONED)

TABLE: Final[dict[int, tuple[str, int, frozenset[int]]]] = {
    number: (name, kind, frozenset(where))
    for number, name, kind, where in (
        (0x01, "payload_format_indicator", FLAG, (PUBLISH, WILL)),
        (0x02, "message_expiry_interval", FOUR, (PUBLISH, WILL)),
        (0x03, "content_type", TEXT, (PUBLISH, WILL)),
        (0x08, "response_topic", TEXT, (PUBLISH, WILL)),
        (0x09, "correlation_data", BINARY, (PUBLISH, WILL)),
        (0x0B, "subscription_identifiers", VARIABLE, (PUBLISH, SUBSCRIBE)),
        (0x11, "session_expiry_interval", FOUR, (CONNECT, CONNACK, DISCONNECT)),
        (0x12, "assigned_client_identifier", TEXT, (CONNACK,)),
        (0x13, "server_keep_alive", TWO, (CONNACK,)),
        (0x15, "authentication_method", TEXT, (CONNECT, CONNACK, AUTH)),
        (0x16, "authentication_data", BINARY, (CONNECT, CONNACK, AUTH)),
        (0x17, "request_problem_information", FLAG, (CONNECT,)),
        (0x18, "will_delay_interval", FOUR, (WILL,)),
        (0x19, "request_response_information", FLAG, (CONNECT,)),
        (0x1A, "response_information", TEXT, (CONNACK,)),
        (0x1C, "server_reference", TEXT, (CONNACK, DISCONNECT)),
        (0x1F, "reason_string", TEXT, _REASONED),
        (0x21, "receive_maximum", TWO, (CONNECT, CONNACK)),
        (0x22, "topic_alias_maximum", TWO, (CONNECT, CONNACK)),
        (0x23, "topic_alias", TWO, (PUBLISH,)),
        (0x24, "maximum_qos", FLAG, (CONNACK,)),
        (0x25, "retain_available", FLAG, (CONNACK,)),
        (0x26, "user_properties", PAIR, _ALL),
        (0x27, "maximum_packet_size", FOUR, (CONNECT, CONNACK)),
        (0x28, "wildcard_subscription_available", FLAG, (CONNACK,)),
        (0x29, "subscription_identifier_available", FLAG, (CONNACK,)),
        (0x2A, "shared_subscription_available", FLAG, (CONNACK,)),
    )
}
"""By identifier: name, type of value, the packets that may have it (table 2-4)."""

_BY_NAME: Final = {name: (number, kind) for number, (name, kind, _) in TABLE.items()}
_NOT_ZERO: Final = frozenset(
    ("receive_maximum", "maximum_packet_size", "topic_alias", "subscription_identifiers")
)
"""Whose value must not be 0 (sections 3.1.2.11.3, 3.1.2.11.4, 3.3.2.3.4, 3.8.2.1.2)."""


class MalformedError(ValueError):
    """Bytes that are no packet; ``code`` is the reason to answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def variable(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer (section 1.5.5): return its value and where it ends."""
    value = shift = 0
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if shift and not byte:
                # "The encoded value MUST use the minimum number of bytes"
                raise MalformedError(MALFORMED, "a length in more bytes than it needs")
            return value, pos
        shift += 7
        if shift > 21:
            break
    raise MalformedError(MALFORMED, "a length that does not end")


def binary(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Read binary data (section 1.5.6): two bytes of length, then the bytes."""
    start = pos + 2
    if start > end:
        raise MalformedError(MALFORMED, "a field is cut off")
    stop = start + (data[pos] << 8 | data[pos + 1])
    if stop > end:
        raise MalformedError(MALFORMED, "a field is cut off")
    return data[start:stop], stop


def text(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """Read a UTF-8 string (section 1.5.4): no surrogates, no U+0000."""
    raw, pos = binary(data, pos, end)
    try:
        found = raw.decode()
    except UnicodeDecodeError:
        raise MalformedError(MALFORMED, "a text that is not UTF-8") from None
    if "\0" in found:
        raise MalformedError(MALFORMED, "a text with U+0000")
    return found, pos


def read(data: bytes, pos: int, end: int, packet: int) -> tuple[Properties, int]:
    """Read the properties of a packet of that type: return them and where they end."""
    length, pos = variable(data, pos, end)
    stop = pos + length
    if stop > end:
        raise MalformedError(MALFORMED, "the properties are cut off")
    if not length:
        return NOTHING, pos
    found: Properties = {}
    while pos < stop:
        number, pos = variable(data, pos, stop)
        entry = TABLE.get(number)
        if entry is None:
            raise MalformedError(MALFORMED, f"there is no property 0x{number:02X}")
        name, kind, where = entry
        if packet not in where:
            # section 2.2.2.2: "a Malformed Packet" for one that is not valid for its packet type
            raise MalformedError(MALFORMED, f"{name} does not belong in this packet")
        value, pos = _value(data, pos, stop, kind)
        if name in _NOT_ZERO and not value:
            raise MalformedError(PROTOCOL_ERROR, f"{name} is 0")
        if kind == FLAG and value > 1:
            raise MalformedError(PROTOCOL_ERROR, f"{name} is neither 0 nor 1")
        if kind == PAIR or (kind == VARIABLE and packet == PUBLISH):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise MalformedError(PROTOCOL_ERROR, f"{name} stands there twice")
        else:
            found[name] = [value] if kind == VARIABLE else value
    return found, pos


def _value(data: bytes, pos: int, end: int, kind: int) -> tuple[Any, int]:
    if kind == TEXT:
        return text(data, pos, end)
    if kind == BINARY:
        return binary(data, pos, end)
    if kind == PAIR:
        name, pos = text(data, pos, end)
        value, pos = text(data, pos, end)
        return (name, value), pos
    if kind == VARIABLE:
        return variable(data, pos, end)
    stop = pos + (4 if kind == FOUR else 2 if kind == TWO else 1)
    if stop > end:
        raise MalformedError(MALFORMED, "a property is cut off")
    return int.from_bytes(data[pos:stop], "big"), stop


def pack_variable(value: int) -> bytes:
    """Return a variable byte integer. Raises ValueError over 268,435,455."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            break
    if len(out) > 4:
        raise ValueError("a packet of over 268,435,455 bytes")
    return bytes(out)


def pack_binary(value: bytes) -> bytes:
    """Return binary data. Raises ValueError over 65,535 bytes."""
    if len(value) > 0xFFFF:
        raise ValueError(f"a field of {len(value)} bytes, over 65,535")
    return len(value).to_bytes(2, "big") + value


def pack_text(value: str) -> bytes:
    """Return a UTF-8 string. Raises ValueError for what no packet can carry."""
    if "\0" in value:
        raise ValueError("a text with U+0000")
    return pack_binary(value.encode())


def pack(properties: Properties) -> bytes:
    """Return properties with their length. Raises ValueError for one that cannot be sent."""
    if not properties:
        return b"\0"
    parts: list[bytes] = []
    for name, value in properties.items():
        if value is None:
            continue
        number, kind = _BY_NAME[name]
        if kind in {PAIR, VARIABLE}:
            for one in value:
                parts.append(bytes((number,)))
                parts.append(
                    pack_text(one[0]) + pack_text(one[1]) if kind == PAIR else pack_variable(one)
                )
            continue
        parts.append(bytes((number,)))
        if kind == TEXT:
            parts.append(pack_text(value))
        elif kind == BINARY:
            parts.append(pack_binary(value))
        else:
            try:
                parts.append(int(value).to_bytes(4 if kind == FOUR else 2 if kind == TWO else 1))
            except OverflowError:
                raise ValueError(f"{name} is out of its range") from None
    body = b"".join(parts)
    return pack_variable(len(body)) + body
