"""paho's client, as it is used here, and its terms in ours. No decisions.

All that reaches into paho is in this file: what it creates its socket by, one packet that it has
no verb for, and the end without a word.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.core.client import Target
from gateway.core.plugin import Message
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.terms import Publish

_JOINT: Final = re.compile("(?<=[a-z])(?=[A-Z])")
CHUNK: Final = 65_536
"""Bytes of one read and of one write: many packets, where many are there."""


Tls = Callable[[], ssl.SSLContext | None]
"""What TLS is spoken with, asked anew for each connection: certificates are renewed."""


class Buffered:
    """A socket that reads and writes in large pieces: paho asks for single bytes."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._read = b""
        self._pos = 0
        self._unsent = bytearray()

    @property
    def unread(self) -> bool:
        """Whether something has been read that paho has not taken."""
        return self._pos < len(self._read)

    @property
    def unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    def recv(self, size: int) -> bytes:
        """Return up to so many bytes."""
        if self._pos >= len(self._read):
            self._read = self._socket.recv(CHUNK)
            self._pos = 0
        data = self._read[self._pos : self._pos + size]
        self._pos += len(data)
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Take bytes to be written by the next `flush`."""
        if len(self._unsent) >= CHUNK:
            self.flush()
            if len(self._unsent) >= CHUNK:
                raise BlockingIOError
        self._unsent += data
        return len(data)

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it now. Raises OSError."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._unsent[:sent]

    def close(self) -> None:
        """Close it, after a last try to write what waits."""
        try:
            self.flush()
        except OSError:
            self._unsent.clear()
        self._socket.close()

    def fileno(self) -> int:
        """Return its descriptor."""
        return cast("int", self._socket.fileno())

    def setblocking(self, flag: bool) -> None:
        """Have its verbs wait, or not."""
        self._socket.setblocking(flag)

    def getpeername(self) -> Any:
        """Return the peer's address."""
        return self._socket.getpeername()

    def getsockname(self) -> Any:
        """Return our address."""
        return self._socket.getsockname()


class Client(paho.Client):
    """A client of one broker, for one session of ours."""

    def __init__(self, broker: Broker, target: Target, client_id: str, tls: Tls) -> None:
        self._five = broker.version == "5"
        # paho's callbacks come typed as the first of its two interfaces; the second is meant.
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            None if self._five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._broker = broker
        self._target = target
        # Not from 1, as after each start: a broker may still know one of QoS 2 by that.
        self._last_mid = secrets.randbelow(65_535)
        self.max_queued_messages_set(0)
        self._tls = tls
        if broker.username or broker.password:
            self.username_pw_set(broker.username, broker.password or None)
        self._set_will()

    def _set_will(self) -> None:
        will = self._broker.will
        if will is None:
            return
        properties = None
        if self._five:
            properties = _new(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = will.delay
            properties.PayloadFormatIndicator = 1
        self.will_set(will.topic, will.text, will.qos, will.retain, properties)

    def join(self) -> None:
        """Connect, shake hands, send CONNECT. Blocks: for a thread. Raises OSError."""
        broker, target = self._broker, self._target
        where: Any = (target.path or target.host, target.port or 1, broker.keepalive)
        if not self._five:
            self.connect(*where)
            return
        properties = _new(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = broker.session_expiry
        properties.ReceiveMaximum = broker.receive_maximum
        properties.MaximumPacketSize = broker.max_packet
        more: dict[str, Any] = {"clean_start": False, "properties": properties}
        self.connect(*where, **more)

    def _create_socket(self) -> Any:
        """Connect. Not paho's way: that leaves a socket open whose handshake fails."""
        target, seconds = self._target, self._broker.connect_timeout
        sock: socket.socket
        if target.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = socket.create_connection((target.host, target.port), seconds)
        try:
            sock.settimeout(seconds)
            if target.path:
                sock.connect(target.path)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls()
            if tls is not None:
                name = target.host or "localhost"
                sock = tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return Buffered(sock)

    @property
    def buffered(self) -> Buffered | None:
        """The socket, while there is one."""
        return cast("Buffered | None", self.socket())

    def acknowledge(self, packet_id: int, qos: int, code: int) -> None:
        """Acknowledge a publish of the broker's; with a code where MQTT 5 can say that."""
        if code and self._five and qos == 1:
            packet = bytes((paho.PUBACK, 3, packet_id >> 8, packet_id & 0xFF, code))
            self._packet_queue(paho.PUBACK, packet, packet_id, 1)
        else:
            self.ack(packet_id, qos)

    def ping(self) -> None:
        """Give a sign of life, without waiting for one."""
        self._send_simple_command(paho.PINGREQ)

    def cut(self) -> None:
        """End the connection without a word."""
        self._sock_close()

    def ask(self, filters: list[str], *, again: bool) -> int | None:
        """Subscribe; return the packet's identifier. ``again``: it may have been before."""
        # QoS 1 at most: paho acknowledges what has QoS 2 before it hands it over, so that it
        # would be lost with this process.
        qos = min(self._broker.qos, 1)
        topics: Any = [(found, qos) for found in filters]
        if self._five:
            options = SubscribeOptions(
                qos,
                noLocal=not self._broker.hears_itself,
                retainAsPublished=True,
                # What is retained comes with a subscription that is new.
                retainHandling=1 if again else 0,
            )
            topics = [(found, options) for found in filters]
        code, packet_id = self.subscribe(topics)
        return packet_id if code == paho.MQTT_ERR_SUCCESS else None

    def say(self, publish: Publish, best_qos: int, *, retains: bool) -> paho.MQTTMessageInfo:
        """Publish, as far as the broker can. Raises ValueError for what paho takes for wrong."""
        properties = _properties(publish) if self._five else None
        return self.publish(
            publish.topic,
            publish.payload,
            min(publish.qos, best_qos),
            publish.retain and retains,
            properties,
        )


def _new(packet: int) -> Any:
    make: Any = Properties  # which paho has not typed
    return make(packet)


def _properties(publish: Publish) -> Any:
    named = {
        "MessageExpiryInterval": publish.expiry,
        "PayloadFormatIndicator": 1 if publish.text else None,
        "ContentType": publish.content_type,
        "ResponseTopic": publish.response_topic,
        "CorrelationData": publish.correlation_data,
        "UserProperty": list(publish.user_properties) or None,
    }
    if not any(value is not None for value in named.values()):
        return None
    found = _new(PacketTypes.PUBLISH)
    for name, value in named.items():
        if value is not None:
            setattr(found, name, value)
    return found


def named(properties: Any) -> dict[str, Any]:
    """Return properties by the names that MQTT gives them, as in ``mqtt.connect``."""
    if properties is None:
        return {}
    found = {
        _JOINT.sub("_", name.replace("QoS", "Qos")).lower(): value
        for name, value in vars(properties).items()
        if name[0].isupper()
    }
    if "user_property" in found:
        found["user_properties"] = found.pop("user_property")
    return found


def received(message: paho.MQTTMessage, client_id: str, broker: str) -> Message:
    """Return a publish of a broker's as ``mqtt.receive`` has it.

    Raises UnicodeDecodeError where its topic is no UTF-8.
    """
    said = vars(message.properties) if message.properties is not None else {}
    found: Message = {
        "topic": message.topic,
        "qos": message.qos,
        "retain": bool(message.retain),
        "duplicate": bool(message.dup),
        "attempt": 1,
        "response_topic": said.get("ResponseTopic"),
        "correlation_data": said.get("CorrelationData"),
        "content_type": said.get("ContentType"),
        "user_properties": said.get("UserProperty", []),
        "client_id": client_id,
        "broker": broker,
    }
    if message.qos:
        found["packet_id"] = message.mid
    payload = bytes(message.payload)
    if said.get("PayloadFormatIndicator") == 1:
        try:
            found["text"] = payload.decode()
        except UnicodeDecodeError:
            found["bytes"] = payload  # whatever its publisher says of it
    else:
        found["bytes"] = payload
    return found
