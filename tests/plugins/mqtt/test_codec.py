"""The codec: round trips, any cutting of the bytes, and what is no packet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import Decoder, ack, encode, halves
from gateway.plugins.mqtt.packets import Fault
from tests.plugins.mqtt import made

HELLO = {version: encode(p.Connect("c", version), version) for version in (p.V311, p.V5)}


def read(pieces: list[bytes], protocol: int = 0, most: int = 1 << 30) -> list[Any]:
    decoder = Decoder(most, protocol)
    return [packet for piece in pieces for packet in decoder.feed(piece)]


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_round_trip(data: Any, protocol: int) -> None:
    """What is encoded is decoded as it was, whatever the packet and the version."""
    packet = data.draw(made.said(protocol))
    assert read([encode(packet, protocol)], protocol) == [packet]
    hello = data.draw(made.connects(protocol))
    assert read([encode(hello, protocol)]) == [hello]


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_any_cutting(data: Any, protocol: int) -> None:
    """However the bytes are cut, and however few packets are taken at once, they are the same."""
    conversation = [data.draw(made.connects(protocol)), *data.draw(st.lists(made.said(protocol)))]
    wire = b"".join(encode(packet, protocol) for packet in conversation)
    pieces = made.cut(wire, data.draw(st.lists(st.integers(0, 1 << 16), max_size=8)))
    assert read(pieces) == conversation
    decoder, few = Decoder(), []
    for piece in pieces:
        few += decoder.feed(piece, 2)
        while more := decoder.feed(b"", 2):
            few += more
    assert few == conversation
    assert not decoder.waiting


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_any_cutting_of_damage(data: Any, protocol: int) -> None:
    """Damaged bytes mean the same however they are cut: packets, then perhaps one fault."""
    wire = bytearray(HELLO[protocol])
    for packet in data.draw(st.lists(made.said(protocol), max_size=4)):
        wire += encode(packet, protocol)
    for place in data.draw(st.lists(st.integers(0, 1 << 16), max_size=4)):
        wire[place % len(wire)] ^= 1 << data.draw(st.integers(0, 7))
    whole = read([bytes(wire)], most=5000)
    pieces = made.cut(bytes(wire), data.draw(st.lists(st.integers(0, 1 << 16), max_size=8)))
    assert read(pieces, most=5000) == whole
    assert not any(isinstance(found, Fault) for found in whole[:-1])


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """No bytes at all make the decoder raise."""
    for protocol in (0, p.V311, p.V5):
        read([data], protocol)
        read([HELLO[p.V5], data])


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_halves(data: Any, protocol: int) -> None:
    """A PUBLISH is its two halves with the packet identifier in between."""
    packet = data.draw(made.publishes(protocol))
    head, tail = halves(packet, protocol)
    between = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    assert head + between + tail == encode(packet, protocol)


@pytest.mark.parametrize("kind", [p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP])
def test_short_acks(kind: int) -> None:
    """The short way to an acknowledgement gives the bytes of the long one."""
    assert ack(kind, 517) == encode(p.Ack(kind, 517), p.V311)
    assert ack(kind, 517, 0x10, p.V5) == encode(p.Ack(kind, 517, 0x10), p.V5)


def body(first: int, content: bytes) -> bytes:
    return bytes((first, len(content))) + content


CONNECT = b"\0\4MQTT"
WRONG: dict[str, tuple[int, int, bytes]] = {
    # what is wrong: the version that was agreed on (0: none yet), the code, the bytes
    "no CONNECT first": (0, 0x82, b"\xc0\0"),
    "CONNECT type 0": (0, 0x81, b"\0\0"),
    "CONNECT flags": (0, 0x81, body(0x11, CONNECT + b"\4\2\0\0\0\0")),
    "CONNECT twice": (4, 0x82, HELLO[p.V311]),
    "CONNECT other name": (0, 0x84, body(0x10, b"\0\6MQIsdp\3\2\0\0\0\0")),
    "CONNECT other version": (0, 0x84, body(0x10, CONNECT + b"\6\2\0\0\0\0")),
    "CONNECT reserved flag": (0, 0x81, body(0x10, CONNECT + b"\4\3\0\0\0\0")),
    "CONNECT will QoS 3": (0, 0x81, body(0x10, CONNECT + b"\4\x1e\0\0\0\0\0\1t\0\0")),
    "CONNECT will flags without a will": (0, 0x81, body(0x10, CONNECT + b"\4\x22\0\0\0\0")),
    "CONNECT password alone": (0, 0x81, body(0x10, CONNECT + b"\4\x42\0\0\0\0\0\1p")),
    "CONNECT cut off": (0, 0x81, body(0x10, CONNECT + b"\4\2\0")),
    "CONNECT client id cut off": (0, 0x81, body(0x10, CONNECT + b"\4\2\0\0\0\5ab")),
    "CONNECT more behind": (0, 0x81, body(0x10, CONNECT + b"\4\2\0\0\0\0x")),
    "CONNECT client id with NUL": (0, 0x81, body(0x10, CONNECT + b"\4\2\0\0\0\1\0")),
    "CONNECT client id not UTF-8": (0, 0x81, body(0x10, CONNECT + b"\4\2\0\0\0\1\xff")),
    "CONNECT client id surrogate": (0, 0x81, body(0x10, CONNECT + b"\4\2\0\0\0\3\xed\xa0\x80")),
    "CONNECT will topic wild": (0, 0x90, body(0x10, CONNECT + b"\4\6\0\0\0\0\0\1#\0\0")),
    "CONNECT property twice": (0, 0x82, body(0x10, CONNECT + b"\5\2\0\0\6\x21\0\1\x21\0\1\0\0")),
    "CONNECT receive maximum 0": (0, 0x82, body(0x10, CONNECT + b"\5\2\0\0\3\x21\0\0\0\0")),
    "CONNECT foreign property": (0, 0x81, body(0x10, CONNECT + b"\5\2\0\0\3\x23\0\1\0\0")),
    "CONNECT unknown property": (0, 0x81, body(0x10, CONNECT + b"\5\2\0\0\2\x7e\0\0\0")),
    "CONNECT flag property 2": (0, 0x82, body(0x10, CONNECT + b"\5\2\0\0\2\x17\2\0\0")),
    "CONNECT data without method": (0, 0x82, body(0x10, CONNECT + b"\5\2\0\0\4\x16\0\1x\0\0")),
    "CONNACK flags": (5, 0x81, body(0x20, b"\2\0\0")),
    "CONNACK cut off": (4, 0x81, body(0x20, b"\0")),
    "PUBLISH QoS 3": (4, 0x81, body(0x36, b"\0\1t\0\1")),
    "PUBLISH DUP with QoS 0": (4, 0x81, body(0x38, b"\0\1t")),
    "PUBLISH identifier 0": (5, 0x82, body(0x32, b"\0\1t\0\0\0")),
    "PUBLISH identifier cut off": (4, 0x81, body(0x32, b"\0\1t\1")),
    "PUBLISH topic cut off": (4, 0x81, body(0x30, b"\0\5t")),
    "PUBLISH no topic at all": (4, 0x81, body(0x30, b"")),
    "PUBLISH wildcard": (4, 0x90, body(0x30, b"\0\1+")),
    "PUBLISH empty topic": (4, 0x90, body(0x30, b"\0\0")),
    "PUBLISH neither topic nor alias": (5, 0x82, body(0x30, b"\0\0\0")),
    "PUBLISH topic alias 0": (5, 0x82, body(0x30, b"\0\0\3\x23\0\0")),
    "PUBLISH topic not UTF-8": (5, 0x81, body(0x30, b"\0\2\xc3\x28\0")),
    "PUBLISH properties cut off": (5, 0x81, body(0x30, b"\0\1t\5\x01\1")),
    "PUBLISH wild response topic": (5, 0x82, body(0x30, b"\0\1t\5\x08\0\2a#")),
    "PUBLISH without properties": (5, 0x81, body(0x30, b"\0\1t")),
    "PUBACK flags": (4, 0x81, body(0x41, b"\0\1")),
    "PUBACK identifier 0": (4, 0x82, body(0x40, b"\0\0")),
    "PUBACK cut off": (4, 0x81, body(0x40, b"\0")),
    "PUBACK more behind": (4, 0x81, body(0x40, b"\0\1\0")),
    "PUBREC flags": (4, 0x81, body(0x52, b"\0\1")),
    "PUBREL flags": (4, 0x81, body(0x60, b"\0\1")),
    "PUBREL foreign property": (5, 0x81, body(0x62, b"\0\1\0\3\x23\0\1")),
    "PUBCOMP flags": (4, 0x81, body(0x72, b"\0\1")),
    "SUBSCRIBE flags": (4, 0x81, body(0x80, b"\0\1\0\1a\0")),
    "SUBSCRIBE nothing": (4, 0x82, body(0x82, b"\0\1")),
    "SUBSCRIBE identifier 0": (4, 0x82, body(0x82, b"\0\0\0\1a\0")),
    "SUBSCRIBE options cut off": (4, 0x81, body(0x82, b"\0\1\0\1a")),
    "SUBSCRIBE QoS 3": (4, 0x81, body(0x82, b"\0\1\0\1a\3")),
    "SUBSCRIBE options of MQTT 5": (4, 0x81, body(0x82, b"\0\1\0\1a\4")),
    "SUBSCRIBE reserved options": (5, 0x81, body(0x82, b"\0\1\0\0\1a\x40")),
    "SUBSCRIBE retain handling 3": (5, 0x82, body(0x82, b"\0\1\0\0\1a\x30")),
    "SUBSCRIBE shared, no local": (5, 0x82, body(0x82, b"\0\1\0\0\x0a$share/g/a\4")),
    "SUBSCRIBE subscription id 0": (5, 0x82, body(0x82, b"\0\1\2\x0b\0\0\1a\0")),
    "SUBSCRIBE bad filter": (4, 0x8F, body(0x82, b"\0\1\0\2a+\0")),
    "SUBSCRIBE empty filter": (4, 0x8F, body(0x82, b"\0\1\0\0\0")),
    "SUBSCRIBE # not last": (4, 0x8F, body(0x82, b"\0\1\0\3#/a\0")),
    "SUBACK flags": (4, 0x81, body(0x91, b"\0\1\0")),
    "SUBACK identifier 0": (4, 0x82, body(0x90, b"\0\0\0")),
    "UNSUBSCRIBE flags": (4, 0x81, body(0xA0, b"\0\1\0\1a")),
    "UNSUBSCRIBE nothing": (5, 0x82, body(0xA2, b"\0\1\0")),
    "UNSUBSCRIBE bad filter": (4, 0x8F, body(0xA2, b"\0\1\0\2#a")),
    "UNSUBACK cut off": (4, 0x81, body(0xB0, b"\0")),
    "PINGREQ flags": (4, 0x81, b"\xc1\0"),
    "PINGREQ body": (4, 0x81, b"\xc0\1x"),
    "PINGRESP flags": (4, 0x81, b"\xd8\0"),
    "DISCONNECT flags": (4, 0x81, b"\xe1\0"),
    "DISCONNECT body": (4, 0x81, b"\xe0\1\0"),
    "DISCONNECT more behind": (5, 0x81, b"\xe0\4\0\0xx"),
    "AUTH in 3.1.1": (4, 0x81, b"\xf0\0"),
    "AUTH flags": (5, 0x81, b"\xf1\0"),
    "AUTH property cut off": (5, 0x81, b"\xf0\5\x18\3\x15\0\5"),
    "type 0": (5, 0x81, b"\0\0"),
    "length without an end": (4, 0x81, b"\x30\xff\xff\xff\xff\x7f"),
    "length in too many bytes": (4, 0x81, b"\xc0\x80\0"),
    "too large": (4, 0x95, b"\x30\xff\x7f"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case: str) -> None:
    """What is no packet has its reason code, after what stood before it, and is the end."""
    protocol, code, data = WRONG[case]
    before = b"" if not protocol else HELLO[protocol]
    for pieces in ([before + data + b"\xc0\0"], [bytes((byte,)) for byte in before + data]):
        found = read(pieces, most=10_000)
        assert len(found) == 1 + bool(protocol), found
        assert isinstance(found[-1], Fault)
        assert found[-1].code == code, found[-1]
        assert found[-1].reason


def test_wrong_covers_every_type() -> None:
    """There is a malformed packet of every type."""
    names = {name for name, value in vars(p).items() if type(value) is int and value < 16}
    named = {case.split()[0] for case in WRONG}
    types = {
        "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
        "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
    }  # fmt: skip
    assert types <= names
    assert types <= named


UNSENDABLE: dict[str, p.Packet] = {
    "a text with NUL": p.Publish("a\0b", b""),
    "a long topic": p.Publish("x" * 65_536, b""),
    "a long property": p.Publish("t", b"", properties={"content_type": "x" * 65_536}),
    "a number out of range": p.Publish("t", b"", properties={"message_expiry_interval": 1 << 32}),
    "a surrogate": p.Publish("\ud800", b""),
}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_what_cannot_be_sent(case: str) -> None:
    """What no packet can carry is a ValueError, not a broken packet."""
    with pytest.raises(ValueError, match=r".+"):
        encode(UNSENDABLE[case], p.V5)
