"""The settings table ``[mqtt]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.plugins.mqtt.client.config import Broker

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class MqttConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[mqtt]``: where devices connect, which brokers are joined, and the limits."""

    listen: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where devices connect, one endpoint or several: 1883, *:1883, "
            "tls:*:8883, unix:/run/mqtt.sock. Without an interface: loopback. An empty list: the "
            "gateway only joins brokers."
        ),
    ] = "127.0.0.1:1883"
    brokers: Annotated[
        dict[str, Broker],
        Meta(description="Brokers that the gateway joins, by name: ``[mqtt.brokers.NAME]``."),
    ] = {}
    default: Annotated[
        str,
        Meta(
            description="The broker that gets what is published without saying where. Empty: the "
            "devices that are connected here get it."
        ),
    ] = ""
    websocket: Annotated[
        bool,
        Meta(
            description="Whether devices and pages may speak MQTT over WebSocket on the http "
            "port, by the subprotocol mqtt. Only where the plugin http is served."
        ),
    ] = True
    websocket_paths: Annotated[
        tuple[str, ...],
        Meta(description="Path prefixes at which that may be. /mqtt: where clients look first."),
    ] = ("/mqtt",)
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may do so, as websocket.origins. Clients that are no "
            "browsers send no origin and are let in."
        ),
    ] = ("same-host",)
    relay: Annotated[
        Literal["accepted", "off"],
        Meta(
            description="Whether what devices publish reaches other devices that subscribe to it. "
            "accepted: once its consumer has accepted it. off: only what the application "
            "publishes reaches devices."
        ),
    ] = "accepted"
    reply_topic: Annotated[
        str,
        Meta(
            description="Where a reply goes that names no topic, where its message named none "
            "either: {topic} is that of the message, {client_id} whose it was."
        ),
    ] = "{topic}/reply"
    attempts: Annotated[
        Count,
        Meta(
            description="How often a QoS 1 or 2 message is given to a consumer before on_failure. "
            "5: with the waits between, about 15 seconds of trouble."
        ),
    ] = 5
    retry_wait: Annotated[
        Seconds,
        Meta(
            description="Seconds before the second attempt; each further wait is twice as long. "
            "1: what a worker needs to start."
        ),
    ] = 1.0
    on_failure: Annotated[
        Literal["close", "dead_letter"],
        Meta(
            description="What becomes of a message that failed so often. close: the connection "
            "ends unacknowledged, and the sender comes back with it. dead_letter: it goes to "
            "mqtt.failed, and is acknowledged if that was accepted."
        ),
    ] = "close"
    max_packet: Annotated[
        int,
        Meta(
            ge=1024,
            le=268_435_460,
            description="Bytes of one packet of a device; a larger one ends the connection (0x95). "
            "1,000,000: the layer carries 1 MiB (layer.message_bytes, to be raised first).",
        ),
    ] = 1_000_000
    max_topic: Annotated[
        int,
        Meta(ge=16, le=65535, description="Bytes of a topic or filter. 1024: far above usual."),
    ] = 1024
    max_topic_levels: Annotated[
        Count, Meta(description="Levels of a topic or filter. 32: a deeper one is a mistake.")
    ] = 32
    max_subscriptions: Annotated[
        Count,
        Meta(description="Subscriptions of one device; more are refused (0x97). 100: usual: 1-5."),
    ] = 100
    max_connections: Annotated[
        Count,
        Meta(description="Connections at once. 10,000: what 1 GiB serves easily."),
    ] = 10_000
    max_connections_per_address: Annotated[
        Count | None,
        Meta(
            description="Connections of one client address at once. Absent: any number; thousands "
            "of devices may be behind one address."
        ),
    ] = None
    max_pending: Annotated[
        Count,
        Meta(
            description="Devices that may wait for a decision at once; more are answered 0x97. "
            "1000: as many as may wait on the channel mqtt.connect."
        ),
    ] = 1000
    connect_timeout: Annotated[
        Seconds,
        Meta(description="Seconds for a device to send its CONNECT. 10: a slow radio's handshake."),
    ] = 10.0
    decision_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds until an undecided CONNECT or SUBSCRIBE is answered 0x88. 10: "
            "clients give up after 5 to 30."
        ),
    ] = 10.0
    implicit_accept: Annotated[
        bool,
        Meta(
            description="Whether a device is let in when its connect consumer returns without "
            "having decided. Off, it waits for a direct reply."
        ),
    ] = True
    max_keepalive: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Most seconds of silence that a device may ask for; who asks for more, or "
            "for none, is told this (MQTT 5) or watched so (3.1.1). 3600: a device that is "
            "gone for an hour is noticed. 0: any.",
        ),
    ] = 3600
    receive_maximum: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="QoS 1 and 2 messages that a device may have unacknowledged; who sends "
            "more is closed (0x93). 64: what one connection's inbox holds.",
        ),
    ] = 64
    max_inflight: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="QoS 1 and 2 messages that wait for a device's acknowledgement at once, "
            "where it says nothing smaller. 32: devices are small.",
        ),
    ] = 32
    max_queued: Annotated[
        Count,
        Meta(
            description="QoS 1 and 2 messages that wait for a device beyond those, connected or "
            "not; more are dropped, counted. 1000: an hour of one every few seconds."
        ),
    ] = 1000
    max_queued_bytes: Annotated[
        Count,
        Meta(
            description="Their bytes, with properties. 1 MiB: a device that is away is no archive."
        ),
    ] = 1 << 20
    max_session_expiry: Annotated[
        int,
        Meta(
            ge=0,
            le=0xFFFFFFFF,
            description="Most seconds that a session is kept for a device that is away. 86400: a "
            "day; 3.1.1 clients without clean session get this.",
        ),
    ] = 86_400
    max_sessions: Annotated[
        Count,
        Meta(
            description="Sessions kept for devices that are away; beyond that the oldest ends. "
            "10,000: as many as may be connected."
        ),
    ] = 10_000
    max_retained: Annotated[
        int,
        Meta(
            ge=0,
            description="Topics with a retained message, in each gateway process; beyond that a "
            "new one is not kept, counted. 100,000: some 50 MB. 0: nothing is retained.",
        ),
    ] = 100_000
    max_retained_bytes: Annotated[
        Count, Meta(description="Bytes of all that is retained, with properties. 64 MiB.")
    ] = 64 << 20
    topic_aliases: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Topic aliases that a device may define (MQTT 5), and that are used "
            "towards it if it allows. 16: devices publish to few topics.",
        ),
    ] = 16
    message_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Packets a second that a device may send for long; more ends the "
            "connection (0x96). 10,000: far above a device. 0: any number.",
        ),
    ] = 10_000.0
    message_burst: Annotated[
        Count,
        Meta(description="Packets that may come at once, on top of the rate. 10,000: a second."),
    ] = 10_000
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"] | None,
        Meta(
            description="What happens to QoS 0 messages for a device whose outbox is full. Absent: "
            "what [gateway] says of every protocol."
        ),
    ] = None
