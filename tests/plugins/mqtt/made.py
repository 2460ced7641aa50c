"""Packets made by chance, for properties and differential tests of the codec."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt import properties as props

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topics = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#$"), min_size=1, max_size=40
)
levels = st.sampled_from(["a", "", "+", "sensors", "é"])
filters = st.tuples(st.lists(levels, min_size=1, max_size=4), st.booleans()).map(
    lambda made: "/".join([*made[0], "#"] if made[1] or made[0] == [""] else made[0])
)
ids = st.integers(1, 0xFFFF)
payloads = st.binary(max_size=200) | st.integers(120, 20_000).map(bytes)
versions = st.sampled_from([p.V311, p.V5])

_VALUES = {
    props.BYTE: st.integers(0, 255),
    props.FLAG: st.integers(0, 1),
    props.TWO: st.integers(1, 0xFFFF),
    props.FOUR: st.integers(1, 0xFFFFFFFF),
    props.TEXT: texts,
    props.BINARY: st.binary(max_size=30),
    props.PAIR: st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
}


@st.composite
def properties(draw: Any, packet: int, protocol: int) -> p.Properties:
    """Some of the properties that such a packet may have."""
    if protocol != p.V5:
        return {}
    found: p.Properties = {}
    for name, kind, where in props.TABLE.values():
        if packet not in where or not draw(st.booleans()):
            continue
        if kind == props.VARIABLE:
            most = 3 if packet == p.PUBLISH else 1
            values = st.lists(st.integers(1, 268_435_455), min_size=1, max_size=most)
        elif name == "response_topic":
            values = topics
        elif name == "maximum_packet_size":
            values = st.integers(1, 268_435_455)  # what paho sends
        else:
            values = _VALUES[kind]
        found[name] = draw(values)
    if packet in {p.CONNECT, p.AUTH} and "authentication_method" not in found:
        found.pop("authentication_data", None)
    return found


@st.composite
def connects(draw: Any, protocol: int) -> p.Connect:
    will = None
    if draw(st.booleans()):
        will = p.Will(
            draw(topics),
            draw(st.binary(max_size=50)),
            draw(st.integers(0, 2)),
            draw(st.booleans()),
            draw(properties(props.WILL, protocol)),
        )
    username = draw(st.none() | texts)
    password = draw(st.none() | st.binary(max_size=20))
    return p.Connect(
        draw(texts),
        protocol,
        draw(st.booleans()),
        draw(st.integers(0, 0xFFFF)),
        username,
        password if username is not None or protocol == p.V5 else None,
        will,
        draw(properties(p.CONNECT, protocol)),
    )


@st.composite
def publishes(draw: Any, protocol: int) -> p.Publish:
    qos = draw(st.integers(0, 2))
    return p.Publish(
        draw(topics),
        draw(payloads),
        qos,
        draw(st.booleans()),
        bool(qos) and draw(st.booleans()),
        draw(ids) if qos else 0,
        draw(properties(p.PUBLISH, protocol)),
    )


@st.composite
def others(draw: Any, protocol: int) -> p.Packet:
    """Return any other packet."""
    five = protocol == p.V5
    code = draw(st.integers(0, 255)) if five else 0
    kinds = [
        p.CONNACK, p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP, p.SUBSCRIBE, p.SUBACK,
        p.UNSUBSCRIBE, p.UNSUBACK, p.PINGREQ, p.PINGRESP, p.DISCONNECT,
    ]  # fmt: skip
    kind = draw(st.sampled_from([*kinds, p.AUTH] if five else kinds))
    its = draw(properties(kind, protocol))
    if kind == p.CONNACK:
        return p.Connack(draw(st.integers(0, 255)), draw(st.booleans()), its)
    if p.PUBACK <= kind <= p.PUBCOMP:
        return p.Ack(kind, draw(ids), code, its)
    if kind == p.SUBSCRIBE:
        options = st.integers(0, 2)
        if five:
            options = st.builds(
                lambda qos, flags, handling: qos | flags << 2 | handling << 4,
                st.integers(0, 2), st.integers(0, 3), st.integers(0, 2),
            )  # fmt: skip
        asked = st.lists(st.tuples(filters, options), min_size=1, max_size=4)
        return p.Subscribe(draw(ids), draw(asked), its)
    if kind == p.UNSUBSCRIBE:
        return p.Unsubscribe(draw(ids), draw(st.lists(filters, min_size=1, max_size=4)), its)
    codes = draw(st.lists(st.integers(0, 255), max_size=4))
    if kind == p.SUBACK:
        return p.Suback(draw(ids), codes, its)
    if kind == p.UNSUBACK:
        return p.Unsuback(draw(ids), codes if five else [], its)
    if kind in {p.PINGREQ, p.PINGRESP}:
        return p.Ping(kind)
    return (p.Disconnect if kind == p.DISCONNECT else p.Auth)(code, its)


def said(protocol: int) -> st.SearchStrategy[p.Packet]:
    """Any packet but a CONNECT."""
    return publishes(protocol) | others(protocol)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]
