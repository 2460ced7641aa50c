"""The test's end of a device of MQTT."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final, Literal

from django_gateway.testing.conversation import ANY, Conversation, Event, fits, wanted_as
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt import reasons
from gateway.plugins.mqtt.codec import Decoder, ack, encode
from gateway.testing.line import Line

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient

VERSIONS: Final = (p.V311, p.V5)
METHOD: Final = "authentication_method"
DATA: Final = "authentication_data"

Answer = Callable[[bytes], bytes]
"""What a device answers in an authentication by steps."""


class MqttMessage(Event):
    """A message that a device got: "text" or "bytes"; its ``name`` is the topic."""

    packet: p.Publish
    """As it came: its ``qos``, ``retain``, ``duplicate``, ``properties``."""


class _Packets:
    """What the device does by itself: it reads packets, acknowledges and answers them."""

    def __init__(
        self,
        events: list[Event],
        protocol: int,
        method: str,
        answer: Answer | None,
        *,
        acknowledges: bool,
    ) -> None:
        self.events = events
        self.protocol = protocol
        self._decoder = Decoder(protocol=protocol)
        self._method = method
        self._answer = answer
        self._acknowledges = acknowledges
        self.line: Line | None = None
        self.connack: p.Connack | None = None
        self.answers: dict[int, p.Packet] = {}
        """What came for a packet identifier of ours."""
        self.proven: bytes | None = None
        """What was said last of an authentication once it was let in."""
        self.over = False
        self.pings = 0
        self._topics: dict[int, str] = {}
        """What the server's topic aliases stand for."""
        self._unreleased: dict[int, Event] = {}

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        for packet in self._decoder.feed(data):
            self._take(packet)

    def _take(self, packet: Any) -> None:
        if isinstance(packet, p.Publish):
            self._came(packet)
        elif isinstance(packet, p.Connack):
            self.connack = packet
        elif isinstance(packet, p.Suback | p.Unsuback):
            self.answers[packet.packet_id] = packet
        elif isinstance(packet, p.Ack):
            self._acknowledged(packet)
        elif isinstance(packet, p.Ping):
            self.pings += 1
        elif isinstance(packet, p.Auth):
            self._challenged(packet)
        elif isinstance(packet, p.Disconnect):
            self.over = True
            words = packet.properties.get("reason_string", "")
            self.events.append(Event("close", (packet.code, words)))
        else:
            self.events.append(Event("unexpected", packet))

    def _came(self, packet: p.Publish) -> None:
        topic, alias = packet.topic, packet.properties.get("topic_alias")
        if alias is not None:
            topic = self._topics[alias] = topic or self._topics[alias]
        marked = packet.properties.get("payload_format_indicator")
        value: Any = packet.payload.decode() if marked else packet.payload
        event = MqttMessage("text" if marked else "bytes", value, name=topic)
        event.packet = packet
        if packet.qos == 2:
            if packet.packet_id not in self._unreleased:
                self._unreleased[packet.packet_id] = event
                self.events.append(event)
        else:
            self.events.append(event)
        if packet.qos and self._acknowledges:
            self.acknowledge(packet)

    def acknowledge(self, packet: p.Publish, code: int = 0) -> None:
        """Say PUBACK or PUBREC."""
        kind = p.PUBACK if packet.qos == 1 else p.PUBREC
        self._soon(ack(kind, packet.packet_id, code, self.protocol))

    def _acknowledged(self, packet: p.Ack) -> None:
        if packet.type == p.PUBREC and packet.code < reasons.ERROR:
            self._soon(ack(p.PUBREL, packet.packet_id))
        elif packet.type == p.PUBREL:
            self._unreleased.pop(packet.packet_id, None)
            self._soon(ack(p.PUBCOMP, packet.packet_id))
        else:
            self.answers[packet.packet_id] = packet

    def _challenged(self, packet: p.Auth) -> None:
        said = packet.properties.get(DATA, b"")
        if packet.code == reasons.SUCCESS:
            self.proven = said
        elif self._answer is not None:
            properties = {METHOD: self._method, DATA: self._answer(said)}
            self._soon(encode(p.Auth(reasons.CONTINUE_AUTHENTICATION, properties), p.V5))

    def _soon(self, data: bytes) -> None:
        if self.line is not None:
            self.line.soon(self.line.send, data)


class MqttDevice(Conversation):
    """A device of a `GatewayClient`: it is let in, subscribes, publishes, and hears.

    It acknowledges what it gets, unless it was made with ``acknowledges=False``. What it gets are
    events of the kinds "text", where the publisher says that it is UTF-8, and "bytes"; ``name`` is
    the topic, and its ``packet`` has ``qos``, ``retain``, ``duplicate`` and ``properties``.
    """

    plugin = "mqtt"

    def __init__(
        self,
        client: GatewayClient,
        client_id: str = "",
        *,
        username: str | None = None,
        password: str | bytes | None = None,
        clean_start: bool = True,
        will: Mapping[str, Any] | None = None,
        keepalive: int = 0,
        protocol: Literal[4, 5] = 5,
        properties: Mapping[str, Any] | None = None,
        method: str = "",
        data: bytes = b"",
        answer: Answer | None = None,
        acknowledges: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(client, f"mqtt({client_id!r})")
        if protocol not in VERSIONS:
            raise ValueError(f"protocol is 4 (MQTT 3.1.1) or 5, not {protocol!r}")
        if protocol == p.V311 and (properties or method):
            raise ValueError("MQTT 3.1.1 has no properties and no method: protocol=5 has")
        more = dict(properties or {})
        if method:
            more |= {METHOD: method, DATA: data}
        secret = password.encode() if isinstance(password, str) else password
        self._host = host
        self._method = method
        self._hello_said = p.Connect(
            client_id, protocol, clean_start, keepalive, username, secret, _will(will), more
        )
        self._packets = _Packets(self.received, protocol, method, answer, acknowledges=acknowledges)
        self._last_id = 0

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        line = self._site.gateway.connect(self.plugin, self._packets.heard, host=self._host)
        self._packets.line = line
        return line

    def _hello(self, line: Line) -> None:
        self._say(self._encoded(self._hello_said))

    def _encoded(self, packet: p.Packet) -> bytes:
        return encode(packet, self._packets.protocol)

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was let in."""
        connack = self._packets.connack
        return connack is not None and not connack.code

    @property
    def rejected(self) -> int | None:
        """The code of the CONNACK that refused it; None while nobody has."""
        connack = self._packets.connack
        return None if connack is None or not connack.code else connack.code

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet: let the clock of the client advance, or decide."""
        return self._line is not None and self._packets.connack is None and not self.closed

    @property
    def client_id(self) -> str:
        """What it is called: by itself, or by the gateway."""
        assigned: str = self.properties.get("assigned_client_identifier", "")
        return assigned or self._hello_said.client_id

    @property
    def session_present(self) -> bool:
        """Whether the gateway knew it: its subscriptions, and what came for it meanwhile."""
        connack = self._packets.connack
        return connack is not None and connack.session_present

    @property
    def properties(self) -> Mapping[str, Any]:
        """What the CONNACK said, by the specification's names, such as ``reason_string``."""
        connack = self._packets.connack
        return {} if connack is None else connack.properties

    @property
    def closed(self) -> bool:
        """Whether it is over, whoever ended it."""
        return self._packets.over or super().closed

    def _state(self) -> str:
        if self.rejected is not None:
            return f"it was refused: 0x{self.rejected:02X}"
        return "" if self.accepted else "nobody has decided on it yet"

    # ------------------------------------------------ asking and publishing

    def subscribe(self, name: str, qos: int = 0, **options: Any) -> int | None:
        """Subscribe; return the QoS that is granted, or from 0x80 on the code of the refusal.

        ``no_local``, ``retain_as_published``, ``retain_handling`` and ``identifier`` are options
        of MQTT 5. None: nothing is run yet, in a block of `GatewayClient.together`.
        """
        packet = self._subscribing(name, qos, options)
        self._act("subscribe", lambda: self._send(packet))
        return self._code_of(packet)

    async def asubscribe(self, name: str, qos: int = 0, **options: Any) -> int | None:
        """Async twin of `subscribe`."""
        packet = self._subscribing(name, qos, options)
        await self._aact(lambda: self._send(packet))
        return self._code_of(packet)

    def unsubscribe(self, name: str) -> int | None:
        """Give a subscription up; return the code, 0x11 where there was none; None in 3.1.1."""
        packet = p.Unsubscribe(self._next_id(), [name])
        self._act("unsubscribe", lambda: self._send(packet))
        return self._code_of(packet)

    async def aunsubscribe(self, name: str) -> int | None:
        """Async twin of `unsubscribe`."""
        packet = p.Unsubscribe(self._next_id(), [name])
        await self._aact(lambda: self._send(packet))
        return self._code_of(packet)

    def publish(
        self,
        topic: str,
        payload: str | bytes = b"",
        qos: int = 0,
        *,
        retain: bool = False,
        **properties: Any,
    ) -> int | None:
        """Publish; return the code of the acknowledgement: 0, or from 0x80 on it was refused.

        None: there is none, as for QoS 0, and while its consumer has not returned. A text is
        marked as one, where the device speaks MQTT 5.
        """
        packet = self._publishing(topic, payload, qos, retain, properties)
        self._act("publish", lambda: self._send(packet))
        return self._code_of(packet)

    async def apublish(
        self,
        topic: str,
        payload: str | bytes = b"",
        qos: int = 0,
        *,
        retain: bool = False,
        **properties: Any,
    ) -> int | None:
        """Async twin of `publish`."""
        packet = self._publishing(topic, payload, qos, retain, properties)
        await self._aact(lambda: self._send(packet))
        return self._code_of(packet)

    def acknowledge(self, event: Event, code: int = 0) -> None:
        """Acknowledge what came with QoS 1 or 2, where it does not do so by itself."""
        self._act("acknowledge", lambda: self._packets.acknowledge(_packet(event), code))

    async def aacknowledge(self, event: Event, code: int = 0) -> None:
        """Async twin of `acknowledge`."""
        await self._aact(lambda: self._packets.acknowledge(_packet(event), code))

    def ping(self) -> bool:
        """Give a sign of life, which no device of a test gives by itself; return if it is heard."""
        before = self._packets.pings
        self._act("ping", lambda: self._send(p.Ping(p.PINGREQ)))
        return self._packets.pings > before

    async def aping(self) -> bool:
        """Async twin of `ping`."""
        before = self._packets.pings
        await self._aact(lambda: self._send(p.Ping(p.PINGREQ)))
        return self._packets.pings > before

    def authenticate(self, data: bytes = b"") -> bytes | None:
        """Prove anew who it is, by its ``method``; return what is said last, None: it is not."""
        self._packets.proven = None
        self._act("authenticate", lambda: self._send(self._proving(data)))
        return self._packets.proven

    async def aauthenticate(self, data: bytes = b"") -> bytes | None:
        """Async twin of `authenticate`."""
        self._packets.proven = None
        await self._aact(lambda: self._send(self._proving(data)))
        return self._packets.proven

    # ------------------------------------------------ expecting

    def expect_message(self, topic: str, payload: Any = ANY) -> MqttMessage:
        """Return the next message, which is of this topic, and has this payload if it is given.

        A text, or a compiled regular expression, fits a payload that is its UTF-8, too.
        """
        found: MqttMessage = self._settled("expect_message", lambda: self._message(topic, payload))
        return found

    async def aexpect_message(self, topic: str, payload: Any = ANY) -> MqttMessage:
        """Async twin of `expect_message`."""
        found: MqttMessage = await self._asettled(lambda: self._message(topic, payload))
        return found

    def expect_close(self, code: Any = ANY) -> int:
        """Return the code of the server's DISCONNECT, which is next; 3.1.1 knows `closed` alone."""
        return int(self._settled("expect_close", lambda: self._expect_close(code)))

    async def aexpect_close(self, code: Any = ANY) -> int:
        """Async twin of `expect_close`."""
        return int(await self._asettled(lambda: self._expect_close(code)))

    def _message(self, topic: str, payload: Any) -> MqttMessage:
        wanted = f"a message of {topic!r}"
        if payload is not ANY:
            wanted += f": {wanted_as(payload)}"
        event = self._next(wanted)
        value = event.value
        if isinstance(payload, str | re.Pattern) and isinstance(value, bytes):
            value = value.decode(errors="replace")
        if not isinstance(event, MqttMessage) or event.name != topic or not fits(value, payload):
            self._fail(f"expected {wanted}, got {event}")
        return event

    def _expect_close(self, code: Any) -> int:
        wanted = "close" if code is ANY else f"close 0x{code:02X}"
        event = self._next(wanted)
        if event.kind != "close" or code not in {ANY, event.value[0]}:
            self._fail(f"expected {wanted}, got {event}")
        found: int = event.value[0]
        return found

    # ------------------------------------------------ the end

    def close(self, code: int = 0, *, session_expiry: int | None = None) -> None:
        """Leave with a DISCONNECT, and so without its will unless the code is 4.

        `cut` leaves without a word. ``session_expiry``: seconds that the session is kept (MQTT 5).
        """
        self._act("close", lambda: self._close(code, session_expiry))

    async def aclose(self, code: int = 0, *, session_expiry: int | None = None) -> None:
        """Async twin of `close`."""
        await self._aact(lambda: self._close(code, session_expiry))

    def _close(self, code: int, expiry: int | None) -> None:
        if not self.closed:
            properties = {} if expiry is None else {"session_expiry_interval": expiry}
            self._say(self._encoded(p.Disconnect(code, properties)))
            self._hang_up_politely()

    def _hang_up_politely(self) -> None:
        line = self._line
        if line is not None and not line.is_closing():
            self._site.gateway.loop.call(line.leave)

    def _goodbye(self) -> None:
        self._close(0, None)

    # ------------------------------------------------ own

    def _send(self, packet: p.Packet) -> None:
        if not self.accepted or self.closed:
            self._fail("it is not open: nothing can be sent")
        self._say(self._encoded(packet))

    def _next_id(self) -> int:
        self._last_id = self._last_id % 0xFFFF + 1
        self._packets.answers.pop(self._last_id, None)
        return self._last_id

    def _subscribing(self, name: str, qos: int, options: dict[str, Any]) -> p.Subscribe:
        flags = qos
        flags |= p.NO_LOCAL if options.pop("no_local", False) else 0
        flags |= p.RETAIN_AS_PUBLISHED if options.pop("retain_as_published", False) else 0
        flags |= options.pop("retain_handling", 0) << 4
        identifier = options.pop("identifier", None)
        if options:
            raise TypeError(
                f"subscribe() takes no {min(options)!r}: no_local, retain_as_published, "
                "retain_handling, identifier"
            )
        if self._packets.protocol == p.V311 and (flags != qos or identifier):
            raise ValueError("MQTT 3.1.1 knows no options of subscriptions: protocol=5 does")
        properties = {} if identifier is None else {"subscription_identifiers": [identifier]}
        return p.Subscribe(self._next_id(), [(name, flags)], properties)

    def _publishing(
        self, topic: str, payload: str | bytes, qos: int, retain: bool, properties: dict[str, Any]
    ) -> p.Publish:
        five = self._packets.protocol == p.V5
        if properties and not five:
            raise ValueError("MQTT 3.1.1 has no properties: protocol=5 has")
        if isinstance(payload, str):
            payload = payload.encode()
            if five:
                properties = {"payload_format_indicator": 1, **properties}
        packet_id = self._next_id() if qos else 0
        return p.Publish(topic, payload, qos, retain, False, packet_id, properties)

    def _proving(self, data: bytes) -> p.Auth:
        if not self._method:
            raise ValueError("it has no method to prove who it is: mqtt(…, method=…)")
        return p.Auth(reasons.REAUTHENTICATE, {METHOD: self._method, DATA: data})

    def _code_of(self, packet: Any) -> int | None:
        """Return the code of what a packet was answered; None for nothing."""
        found: Any = self._packets.answers.get(packet.packet_id) if packet.packet_id else None
        if found is None:
            return None
        if isinstance(found, p.Ack):
            return found.code
        return found.codes[0] if found.codes else None


def _will(will: Mapping[str, Any] | None) -> p.Will | None:
    if will is None:
        return None
    more = dict(will)
    payload = more.pop("text", None)
    raw = more.pop("bytes", b"") if payload is None else payload.encode()
    properties = dict(more.pop("properties", {}))
    if (delay := more.pop("delay", 0)) or properties:
        properties["will_delay_interval"] = delay
    found = p.Will(
        more.pop("topic"), raw, more.pop("qos", 0), more.pop("retain", False), properties
    )
    if more:
        raise TypeError(
            f"a will has no {min(more)!r}: topic, text or bytes, qos, retain, delay, properties"
        )
    return found


def _packet(event: Event) -> p.Publish:
    if isinstance(event, MqttMessage) and event.packet.qos:
        return event.packet
    raise ValueError(f"only what came with QoS 1 or 2 is acknowledged, not {event}")
