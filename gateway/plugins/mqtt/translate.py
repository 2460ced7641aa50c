"""What both roles say and hear, as messages of the application. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Message
from gateway.plugins.mqtt.packets import NOTHING, Connect, Properties, Publish, Will
from gateway.plugins.mqtt.topics import topic_fault

MAX_TOPIC: Final = 65_535
"""Bytes of a topic (section 1.5.4)."""


def connect(packet: Connect, client_id: str) -> Message:
    """Return the content of ``mqtt.connect``."""
    return {
        "client_id": client_id,
        "protocol": packet.protocol,
        "username": packet.username,
        "password": packet.password,
        "clean_start": packet.clean_start,
        "keepalive": packet.keepalive,
        "will": None if packet.will is None else will(packet.will),
        "properties": dict(packet.properties),
    }


def will(found: Will) -> Message:
    """Return a will as the application hears of it."""
    properties = dict(found.properties)
    return {
        "topic": found.topic,
        "bytes": found.payload,
        "qos": found.qos,
        "retain": found.retain,
        "delay": properties.pop("will_delay_interval", 0),
        "properties": properties,
    }


def receive(packet: Publish, topic: str, *, duplicate: bool, attempt: int) -> Message:
    """Return the content of ``mqtt.receive``, but for whose it is.

    ``topic`` is the packet's, with its alias resolved. A payload that is said to be UTF-8 and is
    none comes as bytes.
    """
    message: Message = {
        "topic": topic,
        "qos": packet.qos,
        "retain": packet.retain,
        "duplicate": duplicate,
        "attempt": attempt,
    }
    if packet.qos:
        message["packet_id"] = packet.packet_id
    properties = packet.properties
    if properties:
        for name in ("response_topic", "correlation_data", "content_type", "user_properties"):
            if name in properties:
                message[name] = properties[name]
        if properties.get("payload_format_indicator"):
            try:
                message["text"] = packet.payload.decode()
            except UnicodeDecodeError:
                message["bytes"] = packet.payload
            return message
    message["bytes"] = packet.payload
    return message


def says(reply: Message) -> bool:
    """Return whether a reply publishes something."""
    return reply.get("text") is not None or reply.get("bytes") is not None


def payload(reply: Message) -> bytes:
    """Return the payload of a reply; empty where it has neither text nor bytes."""
    text = reply.get("text")
    if text is None:
        found: bytes = reply.get("bytes") or b""
        return found
    try:
        encoded: bytes = text.encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("a text with a surrogate") from None
    return encoded


def checked_topic(topic: Any) -> str:
    """Return a topic to publish to. Raises LocalProtocolError for what is none."""
    if not isinstance(topic, str):
        raise LocalProtocolError("mqtt.publish needs a topic")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError("a topic with a surrogate") from None
    if size > MAX_TOPIC:
        raise LocalProtocolError("a topic of over 65,535 bytes")
    if fault := topic_fault(topic):
        raise LocalProtocolError(fault)
    return topic


def properties(reply: Message) -> Properties:
    """Return the properties of the publish that a reply asks for, its expiry left out.

    Raises LocalProtocolError for one that no packet can carry.
    """
    found: Properties = {}
    if reply.get("text") is not None:
        found["payload_format_indicator"] = 1
    for name in ("content_type", "response_topic", "correlation_data", "user_properties"):
        value = reply.get(name)
        if value is None:
            continue
        if name == "response_topic":
            checked_topic(value)
        _check_size(name, value)
        found[name] = value
    return found or NOTHING


def _check_size(name: str, value: Any) -> None:
    pieces = [piece for pair in value for piece in pair] if isinstance(value, list) else [value]
    for piece in pieces:
        try:
            raw = piece if isinstance(piece, bytes) else piece.encode()
        except UnicodeEncodeError:
            raise LocalProtocolError(f"{name} has a surrogate") from None
        if len(raw) > MAX_TOPIC or (isinstance(piece, str) and "\0" in piece):
            raise LocalProtocolError(f"{name} is too long, or has U+0000")
