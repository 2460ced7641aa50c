"""The bytes of MQTT 3.1.1 and 5, both directions. Pure.

::

    byte 1    type (4 bits) | flags (4 bits)
    byte 2…   remaining length: a variable byte integer, 1 to 4 bytes
    …         variable header, with properties in MQTT 5; payload

`Decoder` turns a stream of bytes, cut anywhere, into the packets of `packets`; the first thing
that is no packet comes out as a `Fault` with the reason code to answer, and nothing after it.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.plugins.mqtt import properties as props
from gateway.plugins.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NOTHING,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V311,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Fault,
    Packet,
    Ping,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from gateway.plugins.mqtt.properties import MalformedError, pack_text, pack_variable
from gateway.plugins.mqtt.reasons import (
    BAD_FILTER,
    BAD_TOPIC,
    MALFORMED,
    PROTOCOL_ERROR,
    TOO_LARGE,
    UNSUPPORTED_VERSION,
)
from gateway.plugins.mqtt.topics import filter_fault, topic_fault

MAX_PACKET: Final = 268_435_455 + 5
"""Bytes of the largest packet that there can be (section 2.1.4)."""
KNOWN: Final = 4096
"""Topics that are kept as checked texts: devices publish to the same ones again and again."""

_FLAGS: Final = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
"""The flags of a type, 0 where it is not here (section 2.1.3)."""


class Decoder:
    """What one peer says. ``protocol`` is known from the CONNECT, 0 before it."""

    __slots__ = ("_data", "_failed", "_pos", "_want", "most", "protocol")

    def __init__(self, most: int = MAX_PACKET, protocol: int = 0) -> None:
        self.most = most
        """Bytes of the largest packet that is taken."""
        self.protocol = protocol
        self._data: bytes | bytearray = b""
        self._pos = 0
        self._want = 0
        """How many bytes make the packet whole that has begun."""
        self._failed = False

    @property
    def waiting(self) -> int:
        """How many bytes are there that have not been handed over."""
        return len(self._data) - self._pos

    def hold(self, data: bytes) -> None:
        """Keep bytes for a later `feed`."""
        if data:
            self._data = bytes(self._data[self._pos :]) + data
            self._pos = 0

    def feed(self, data: bytes, most: int = 1 << 30) -> list[Packet | Fault]:
        """Take bytes and return the packets that are whole, ``most`` at once: b"" for the rest."""
        if self._failed:
            return []
        if self._data:
            if data:
                if self._pos:
                    held = bytearray(self._data[self._pos :])
                    self._pos = 0
                elif isinstance(self._data, bytearray):
                    held = self._data
                else:
                    held = bytearray(self._data)
                held += data
                self._data = held
                if len(held) < self._want:
                    return []
            data = bytes(self._data) if isinstance(self._data, bytearray) else self._data
            pos, self._pos = self._pos, 0
            self._data = b""
        else:
            pos = 0
        self._want = 0
        out: list[Packet | Fault] = []
        try:
            pos = self._split(data, pos, out, most)
        except MalformedError as error:
            self._failed = True
            out.append(Fault(error.code, str(error)))
            return out
        if pos < len(data):
            if pos and len(out) < most:
                data, pos = data[pos:], 0
            self._data = data
            self._pos = pos
        return out

    def _split(self, data: bytes, pos: int, out: list[Packet | Fault], most: int) -> int:
        """Append what is whole to ``out``; return where what is not begins."""
        size = len(data)
        count = 0
        while pos + 1 < size and count < most:
            first = data[pos]
            if first >> 4 != PUBLISH or first & 6 == 6 or not self.protocol:
                self._check_start(first)
            length = data[pos + 1]
            start = pos + 2
            if length > 0x7F:
                shift = 7
                length &= 0x7F
                while True:
                    if start >= size:
                        return pos
                    byte = data[start]
                    start += 1
                    length |= (byte & 0x7F) << shift
                    if byte < 0x80:
                        if not byte:
                            raise MalformedError(MALFORMED, "a length in too many bytes")
                        break
                    shift += 7
                    if shift > 21:
                        raise MalformedError(MALFORMED, "a length that does not end")
            end = start + length
            if end - pos > self.most:
                raise MalformedError(TOO_LARGE, f"a packet of over {self.most} bytes")
            if end > size:
                self._want = end - pos
                return pos
            if first >> 4 == PUBLISH:
                out.append(self._publish(first, data, start, end))
            else:
                out.append(self._other(first >> 4, data, start, end))
            count += 1
            pos = end
        if pos + 1 == size:
            self._check_start(data[pos])
        return pos

    def _check_start(self, first: int) -> None:
        """Refuse what cannot become a packet before it is waited for."""
        kind = first >> 4
        if kind == 0 or (kind == AUTH and self.protocol == V311):
            raise MalformedError(MALFORMED, f"there is no packet of type {kind}")
        if not self.protocol and kind != CONNECT:
            # section 3.1.0-1: "the first packet sent … MUST be a CONNECT packet"
            raise MalformedError(PROTOCOL_ERROR, "the first packet is no CONNECT")
        if kind != PUBLISH and first & 0x0F != _FLAGS.get(kind, 0):
            raise MalformedError(MALFORMED, "flags that are reserved")
        if kind == PUBLISH and first & 0x06 == 0x06:
            raise MalformedError(MALFORMED, "QoS 3")

    def _publish(self, first: int, data: bytes, pos: int, end: int) -> Publish:
        qos = (first >> 1) & 3
        body = pos + 2
        if body > end:
            raise MalformedError(MALFORMED, "a field is cut off")
        stop = body + (data[pos] << 8 | data[pos + 1])
        if stop > end:
            raise MalformedError(MALFORMED, "a field is cut off")
        raw = data[body:stop]
        topic = _known.get(raw)
        if topic is None:
            topic = _topic(raw, pos, data, end, self.protocol)
        packet_id = 0
        if qos:
            if stop + 2 > end:
                raise MalformedError(MALFORMED, "a packet identifier is cut off")
            packet_id = data[stop] << 8 | data[stop + 1]
            if not packet_id:
                raise MalformedError(PROTOCOL_ERROR, "packet identifier 0")
            stop += 2
        elif first & 8:
            # section 3.3.1-2: "The DUP flag MUST be set to 0 for all QoS 0 messages"
            raise MalformedError(MALFORMED, "DUP with QoS 0")
        found = NOTHING
        if self.protocol == V5:
            if stop < end and not data[stop]:
                stop += 1
            else:
                found, stop = props.read(data, stop, end, PUBLISH)
                response = found.get("response_topic")
                if response is not None and (fault := topic_fault(response)):
                    raise MalformedError(PROTOCOL_ERROR, f"a response topic: {fault}")
            if not topic and "topic_alias" not in found:
                raise MalformedError(PROTOCOL_ERROR, "neither a topic nor an alias")
        return Publish(topic, data[stop:end], qos, first & 1 == 1, first & 8 == 8, packet_id, found)

    def _other(self, kind: int, data: bytes, pos: int, end: int) -> Packet:
        if PUBACK <= kind <= PUBCOMP:
            return self._ack(kind, data, pos, end)
        if kind in {PINGREQ, PINGRESP}:
            if pos != end:
                raise MalformedError(MALFORMED, "a ping with a body")
            return Ping(kind)
        if kind == CONNECT:
            found = _connect(data, pos, end)
            if self.protocol:
                raise MalformedError(PROTOCOL_ERROR, "a second CONNECT")
            self.protocol = found.protocol
            return found
        if kind in {SUBSCRIBE, UNSUBSCRIBE}:
            return self._filters(kind, data, pos, end)
        if kind in {SUBACK, UNSUBACK}:
            return self._granted(kind, data, pos, end)
        if kind == CONNACK:
            return self._connack(data, pos, end)
        if kind == DISCONNECT:
            if self.protocol != V5:
                if pos != end:
                    raise MalformedError(MALFORMED, "a DISCONNECT with a body")
                return Disconnect()
            return Disconnect(*self._reason(kind, data, pos, end))
        if kind == AUTH:
            return Auth(*self._reason(kind, data, pos, end))
        raise MalformedError(MALFORMED, f"there is no packet of type {kind}")

    def _reason(self, kind: int, data: bytes, pos: int, end: int) -> tuple[int, Properties]:
        """Read a reason code and properties, either of which may be left out."""
        if pos == end:
            return 0, NOTHING
        code = data[pos]
        pos += 1
        found = NOTHING
        if pos < end:
            found, pos = props.read(data, pos, end, kind)
        _ends(pos, end)
        return code, found

    def _ack(self, kind: int, data: bytes, pos: int, end: int) -> Ack:
        packet_id, pos = _packet_id(data, pos, end)
        if self.protocol != V5 or pos == end:
            _ends(pos, end)
            return Ack(kind, packet_id)
        code, found = self._reason(kind, data, pos, end)
        return Ack(kind, packet_id, code, found)

    def _filters(self, kind: int, data: bytes, pos: int, end: int) -> Subscribe | Unsubscribe:
        packet_id, pos = _packet_id(data, pos, end)
        found = NOTHING
        if self.protocol == V5:
            found, pos = props.read(data, pos, end, kind)
        asked: list[tuple[str, int]] = []
        while pos < end:
            name, pos = props.text(data, pos, end)
            if fault := filter_fault(name):
                raise MalformedError(BAD_FILTER, fault)
            options = 0
            if kind == SUBSCRIBE:
                if pos == end:
                    raise MalformedError(MALFORMED, "a filter without its options")
                options = data[pos]
                pos += 1
                if options & 3 == 3 or options & (0xC0 if self.protocol == V5 else 0xFC):
                    raise MalformedError(MALFORMED, "options that are reserved")
                if options & 0x30 == 0x30:
                    raise MalformedError(PROTOCOL_ERROR, "retain handling 3")
                if options & 4 and name.startswith("$share/"):
                    # section 3.8.3.1-4
                    raise MalformedError(PROTOCOL_ERROR, "No Local of a shared subscription")
            asked.append((name, options))
        if not asked:
            raise MalformedError(PROTOCOL_ERROR, "no filter at all")
        if kind == SUBSCRIBE:
            return Subscribe(packet_id, asked, found)
        return Unsubscribe(packet_id, [name for name, _ in asked], found)

    def _granted(self, kind: int, data: bytes, pos: int, end: int) -> Suback | Unsuback:
        packet_id, pos = _packet_id(data, pos, end)
        found = NOTHING
        if self.protocol == V5:
            found, pos = props.read(data, pos, end, kind)
        codes = list(data[pos:end])
        if kind == SUBACK:
            return Suback(packet_id, codes, found)
        return Unsuback(packet_id, codes, found)

    def _connack(self, data: bytes, pos: int, end: int) -> Connack:
        if end - pos < 2:
            raise MalformedError(MALFORMED, "a CONNACK is cut off")
        flags, code = data[pos], data[pos + 1]
        pos += 2
        if flags > 1:
            raise MalformedError(MALFORMED, "flags that are reserved")
        found = NOTHING
        if self.protocol == V5:
            found, pos = props.read(data, pos, end, CONNACK)
        _ends(pos, end)
        return Connack(code, bool(flags), found)


_known: dict[bytes, str] = {}


def _topic(raw: bytes, pos: int, data: bytes, end: int, protocol: int) -> str:
    """Check a topic that is not known yet, and know it."""
    topic, _ = props.text(data, pos, end)
    if topic or protocol != V5:  # of MQTT 5 an alias may stand for it
        fault = topic_fault(topic)
        if fault is not None:
            raise MalformedError(BAD_TOPIC, fault)
    if len(raw) <= 256:
        if len(_known) >= KNOWN:
            _known.clear()
        if topic:
            _known[raw] = topic
    return topic


def _packet_id(data: bytes, pos: int, end: int) -> tuple[int, int]:
    if pos + 2 > end:
        raise MalformedError(MALFORMED, "a packet identifier is cut off")
    found = data[pos] << 8 | data[pos + 1]
    if not found:
        raise MalformedError(PROTOCOL_ERROR, "packet identifier 0")
    return found, pos + 2


def _ends(pos: int, end: int) -> None:
    if pos != end:
        raise MalformedError(MALFORMED, "bytes behind the end of a packet")


def _connect(data: bytes, pos: int, end: int) -> Connect:
    """Read a CONNECT (section 3.1)."""
    name, pos = props.binary(data, pos, end)
    if pos == end:
        raise MalformedError(MALFORMED, "a CONNECT is cut off")
    protocol = data[pos]
    pos += 1
    if name != b"MQTT" or protocol not in {V311, V5}:
        raise MalformedError(UNSUPPORTED_VERSION, "neither MQTT 3.1.1 nor MQTT 5")
    if pos + 3 > end:
        raise MalformedError(MALFORMED, "a CONNECT is cut off")
    flags = data[pos]
    keepalive = data[pos + 1] << 8 | data[pos + 2]
    pos += 3
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 4 and flags & 0x38):
        raise MalformedError(MALFORMED, "flags that are reserved")
    if protocol == V311 and flags & 0x40 and not flags & 0x80:
        raise MalformedError(MALFORMED, "a password without a user name")
    found = NOTHING
    if protocol == V5:
        found, pos = props.read(data, pos, end, CONNECT)
        if "authentication_data" in found and "authentication_method" not in found:
            raise MalformedError(PROTOCOL_ERROR, "authentication data without a method")
    client_id, pos = props.text(data, pos, end)
    will = None
    if flags & 4:
        its = NOTHING
        if protocol == V5:
            its, pos = props.read(data, pos, end, props.WILL)
        topic, pos = props.text(data, pos, end)
        if fault := topic_fault(topic):
            raise MalformedError(BAD_TOPIC, f"a will: {fault}")
        payload, pos = props.binary(data, pos, end)
        will = Will(topic, payload, will_qos, bool(flags & 0x20), its)
    username = password = None
    if flags & 0x80:
        username, pos = props.text(data, pos, end)
    if flags & 0x40:
        password, pos = props.binary(data, pos, end)
    _ends(pos, end)
    return Connect(client_id, protocol, bool(flags & 2), keepalive, username, password, will, found)


# ---------------------------------------------------------------- encoding

PINGREQ_BYTES: Final = b"\xc0\0"
PINGRESP_BYTES: Final = b"\xd0\0"
PUBACK_HEAD: Final = b"\x40\2"
"""What stands before the packet identifier of a PUBACK that says nothing else."""


def encode(packet: Packet, protocol: int) -> bytes:
    """Return the bytes of a packet. Raises ValueError for what no packet can carry."""
    if isinstance(packet, Publish):
        return publish(packet, protocol)
    first: int
    body: bytes
    first, body = _ENCODERS[packet.__class__](packet, protocol)
    return bytes((first,)) + pack_variable(len(body)) + body


def publish(packet: Publish, protocol: int) -> bytes:
    """Return the bytes of a PUBLISH."""
    head, tail = halves(packet, protocol)
    if packet.qos:
        return head + packet.packet_id.to_bytes(2, "big") + tail
    return head + tail


def halves(packet: Publish, protocol: int) -> tuple[bytes, bytes]:
    """Return what stands before and behind the packet identifier of a PUBLISH.

    So that one frame serves all subscribers of the same QoS: only the identifier differs.
    """
    topic = pack_text(packet.topic)
    qos = packet.qos
    tail = packet.payload
    if protocol == V5:
        tail = props.pack(packet.properties) + tail
    first = 0x30 | (8 if packet.duplicate else 0) | qos << 1 | (1 if packet.retain else 0)
    length = len(topic) + (2 if qos else 0) + len(tail)
    return bytes((first,)) + pack_variable(length) + topic, tail


def ack(kind: int, packet_id: int, code: int = 0, protocol: int = V311) -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP without properties."""
    first = kind << 4 | (2 if kind == PUBREL else 0)
    if code and protocol == V5:
        return bytes((first, 3, packet_id >> 8, packet_id & 0xFF, code))
    return bytes((first, 2, packet_id >> 8, packet_id & 0xFF))


def _encode_ack(packet: Any, protocol: int) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big")
    if protocol == V5 and (packet.code or packet.properties):
        body += bytes((packet.code,))
        if packet.properties:
            body += props.pack(packet.properties)
    return packet.type << 4 | _FLAGS.get(packet.type, 0), body


def _encode_reason(packet: Any, protocol: int) -> tuple[int, bytes]:
    kind = DISCONNECT if isinstance(packet, Disconnect) else AUTH
    body = b""
    if protocol == V5 and (packet.code or packet.properties):
        body = bytes((packet.code,))
        if packet.properties:
            body += props.pack(packet.properties)
    return kind << 4, body


def _encode_connect(packet: Any, protocol: int) -> tuple[int, bytes]:
    will = packet.will
    flags = (
        (2 if packet.clean_start else 0)
        | (0x80 if packet.username is not None else 0)
        | (0x40 if packet.password is not None else 0)
    )
    if will is not None:
        flags |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
    body = b"\0\4MQTT" + bytes((protocol, flags)) + packet.keepalive.to_bytes(2, "big")
    if protocol == V5:
        body += props.pack(packet.properties)
    body += pack_text(packet.client_id)
    if will is not None:
        if protocol == V5:
            body += props.pack(will.properties)
        body += pack_text(will.topic) + props.pack_binary(will.payload)
    if packet.username is not None:
        body += pack_text(packet.username)
    if packet.password is not None:
        body += props.pack_binary(packet.password)
    return CONNECT << 4, body


def _encode_connack(packet: Any, protocol: int) -> tuple[int, bytes]:
    body = bytes((1 if packet.session_present else 0, packet.code))
    if protocol == V5:
        body += props.pack(packet.properties)
    return CONNACK << 4, body


def _encode_subscribe(packet: Any, protocol: int) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big")
    if protocol == V5:
        body += props.pack(packet.properties)
    for name, options in packet.filters:
        body += pack_text(name) + bytes((options,))
    return SUBSCRIBE << 4 | 2, body


def _encode_unsubscribe(packet: Any, protocol: int) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big")
    if protocol == V5:
        body += props.pack(packet.properties)
    for name in packet.filters:
        body += pack_text(name)
    return UNSUBSCRIBE << 4 | 2, body


def _encode_granted(packet: Any, protocol: int) -> tuple[int, bytes]:
    kind = SUBACK if isinstance(packet, Suback) else UNSUBACK
    body = packet.packet_id.to_bytes(2, "big")
    if protocol == V5:
        body += props.pack(packet.properties)
    return kind << 4, body + bytes(packet.codes)


def _encode_ping(packet: Any, _: int) -> tuple[int, bytes]:
    return packet.type << 4, b""


_ENCODERS: Final[dict[type, Any]] = {
    Ack: _encode_ack,
    Auth: _encode_reason,
    Connack: _encode_connack,
    Connect: _encode_connect,
    Disconnect: _encode_reason,
    Ping: _encode_ping,
    Suback: _encode_granted,
    Subscribe: _encode_subscribe,
    Unsuback: _encode_granted,
    Unsubscribe: _encode_unsubscribe,
}
