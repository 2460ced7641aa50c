"""Our bytes against paho's: what it packs we read, what we pack it reads and packs alike."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt import properties as props
from gateway.plugins.mqtt.codec import Decoder, encode
from tests.plugins.mqtt import made


class Client(paho.Client):
    """A paho client whose packets are kept."""

    def __init__(self, protocol: int, client_id: str = "c", **options: Any) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion(protocol),
            **options,
        )
        self.packets: list[bytes] = []

    def _packet_queue(self, command: int, packet: bytes, *_: Any) -> Any:
        self.packets.append(bytes(packet))
        return paho.MQTT_ERR_SUCCESS


def theirs(packet: int, values: p.Properties) -> Properties | None:
    """Return properties as paho has them."""
    if not values:
        return None
    found = Properties(PacketTypes.WILLMESSAGE if packet == props.WILL else packet)
    for name, value in values.items():
        parts = name.removesuffix("s") if name == "subscription_identifiers" else name
        parts = "user_property" if name == "user_properties" else parts
        attribute = "".join(part.capitalize() for part in parts.split("_"))
        attribute = attribute.replace("Qos", "QoS")
        if isinstance(value, list):
            for one in value:
                setattr(found, attribute, one)
        else:
            setattr(found, attribute, value)
    return found


def same(ours: bytes, packed: bytes, protocol: int) -> None:
    """Check that both mean the same to us, and are alike but for the order of properties."""
    assert len(ours) == len(packed)
    first = 0 if packed[0] >> 4 == p.CONNECT else protocol
    assert Decoder(protocol=first).feed(packed) == Decoder(protocol=first).feed(ours)
    assert sorted(ours) == sorted(packed)
    if protocol == p.V311:
        assert ours == packed


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_publish(data: Any, protocol: int) -> None:
    """A PUBLISH is packed as paho packs it, and read by it as it was meant."""
    packet = data.draw(made.publishes(protocol))
    its = theirs(p.PUBLISH, packet.properties)
    client = Client(protocol)
    client._sock = object()
    client._send_publish(
        packet.packet_id, packet.topic.encode(), packet.payload, packet.qos, packet.retain,
        packet.duplicate, properties=its,
    )  # fmt: skip
    client._sock = None
    ours = encode(packet, protocol)
    same(ours, client.packets[0], protocol)
    start = next(index for index in range(1, 5) if ours[index] < 0x80) + 1
    read = _packet.decode_publish(ours[0], ours[start:], MQTTProtocolVersion(protocol))
    assert (read.topic.decode(), bytes(read.payload)) == (packet.topic, packet.payload)
    assert (read.qos, bool(read.retain), bool(read.dup)) == (
        packet.qos, packet.retain, packet.duplicate,
    )  # fmt: skip
    if packet.qos:
        assert read.mid == packet.packet_id


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_connect(data: Any, protocol: int) -> None:
    """A CONNECT is packed as paho packs it."""
    packet = data.draw(made.connects(protocol))
    options: dict[str, Any] = {}
    if protocol == p.V311:
        options["clean_session"] = packet.clean_start or not packet.client_id
        clean = options["clean_session"]
    else:
        clean = packet.clean_start
    client = Client(protocol, packet.client_id, **options)
    client._client_id = packet.client_id.encode()
    client._clean_start = packet.clean_start
    client._connect_properties = theirs(p.CONNECT, packet.properties)
    if packet.username is None:
        packet = p.Connect(
            packet.client_id, protocol, clean, packet.keepalive, None, None, packet.will,
            packet.properties,
        )  # fmt: skip
    else:
        client._username = packet.username.encode()
        client._password = packet.password
        packet = p.Connect(
            packet.client_id, protocol, clean, packet.keepalive, packet.username,
            packet.password, packet.will, packet.properties,
        )  # fmt: skip
    if (will := packet.will) is not None:
        client._will = True
        client._will_topic = will.topic.encode()
        client._will_payload = will.payload
        client._will_qos = will.qos
        client._will_retain = will.retain
        client._will_properties = theirs(props.WILL, will.properties)
    client._send_connect(packet.keepalive)
    same(encode(packet, protocol), client.packets[0], protocol)


@settings(deadline=None)  # the machine may be busy
@given(st.data(), made.versions)
def test_subscribe(data: Any, protocol: int) -> None:
    """SUBSCRIBE and UNSUBSCRIBE are packed as paho packs them."""
    asked = data.draw(st.lists(st.tuples(made.filters, st.integers(0, 2)), min_size=1, max_size=4))
    client = Client(protocol)
    if protocol == p.V5:
        its = [(name, SubscribeOptions(qos, noLocal=True, retainHandling=2)) for name, qos in asked]
        asked = [(name, qos | 4 | 2 << 4) for name, qos in asked]
        _, mid = client._send_subscribe(False, [(name.encode(), o) for name, o in its])
    else:
        _, mid = client._send_subscribe(False, [(name.encode(), qos) for name, qos in asked])
    same(encode(p.Subscribe(mid, asked), protocol), client.packets[0], protocol)
    names = [name for name, _ in asked]
    _, mid = client._send_unsubscribe(False, [name.encode() for name in names])
    same(encode(p.Unsubscribe(mid, names), protocol), client.packets[1], protocol)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_properties(data: Any) -> None:
    """Properties of every packet are packed as paho packs them."""
    for packet in (*range(1, 12), 14, 15):
        values = data.draw(made.properties(packet, p.V5))
        if not values or "maximum_qos" in values:
            continue  # paho calls that one by two names
        packed = theirs(packet, values).pack()
        assert sorted(packed) == sorted(props.pack(values))
        assert props.read(packed, 0, len(packed), packet) == (values, len(packed))


@pytest.mark.parametrize("protocol", [p.V311, p.V5])
@pytest.mark.parametrize("code", [0, 0x10, 0x80, 0x97])
def test_answers(protocol: int, code: int) -> None:
    """paho reads in our answers what they say."""
    version = MQTTProtocolVersion(protocol)

    def content(packet: p.Packet) -> tuple[int, bytes]:
        wire = encode(packet, protocol)
        return wire[0], wire[2:]

    read: Any = _packet.decode_suback(*content(p.Suback(7, [0, 0x80])), version)
    assert (read.mid, [found.value for found in read.reason_codes]) == (7, [0, 0x80])
    read = _packet.decode_connack(*content(p.Connack(0, session_present=True)), version)
    assert read.flags & 1
    assert read.reason.value == 0
    for kind, decode in (
        (p.PUBACK, _packet.decode_puback),
        (p.PUBREC, _packet.decode_pubrec),
    ):
        read = decode(*content(p.Ack(kind, 9, code)), version)
        assert read.mid == 9
        if protocol == p.V5:
            assert read.reason.value == code
