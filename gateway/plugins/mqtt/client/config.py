"""The settings of one broker: ``[mqtt.brokers.NAME]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
QoS = Literal[0, 1, 2]


class LastWill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a broker says for the gateway if that is lost."""

    topic: Annotated[str, Meta(description="Where it is published.")]
    text: Annotated[str, Meta(description="What is published.")] = ""
    qos: Annotated[QoS, Meta(description="0, 1 or 2.")] = 1
    retain: Annotated[bool, Meta(description="Whether it is kept for later subscribers.")] = False
    delay: Annotated[
        int,
        Meta(
            ge=0,
            le=0xFFFFFFFF,
            description="MQTT 5: seconds until it is published. 10: a gateway that is restarted, "
            "or taken over from, is back by then.",
        ),
    ] = 10


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A broker that the gateway joins."""

    connect: Annotated[
        str, Meta(description="Where it is: ``broker.example:1883``, ``tls:broker.example:8883``.")
    ]
    version: Annotated[
        Literal["5", "3.1.1"],
        Meta(
            description="Of MQTT. 5: it tells the broker how much may be unacknowledged, and why "
            "a message was refused, and does not hear itself."
        ),
    ] = "5"
    ca: Annotated[
        str, Meta(description="A PEM file: whose certificates to trust beside the system's.")
    ] = ""
    verify: Annotated[
        bool, Meta(description="Whether the broker's certificate must be good. False: any will do.")
    ] = True
    certificate: Annotated[
        str, Meta(description="A PEM file: the certificate (chain) that the gateway shows.")
    ] = ""
    key: Annotated[
        str, Meta(description="A PEM file: the key of that. Empty: it is in the same file.")
    ] = ""
    username: Annotated[str, Meta(description="What the gateway calls itself.")] = ""
    password: Annotated[str, Meta(description="Its password.", extra={"secret": True})] = ""
    client_id: Annotated[
        str,
        Meta(
            description="By which the broker knows the gateway's session again. Empty: derived "
            "from the project's directory, its settings module and the broker's name; two sites "
            "for which those are the same need one each."
        ),
    ] = ""
    mode: Annotated[
        Literal["single", "shared"],
        Meta(
            description="single: of several gateway processes one is connected, and if it dies "
            "another takes its session over within seconds. shared: each is, and the broker "
            "deals messages out among them (``$share/GROUP/…``); what is of one topic may then be "
            "handled at the same time."
        ),
    ] = "single"
    group: Annotated[str, Meta(description="The name of the share, for the mode shared.")] = (
        "gateway"
    )
    will: Annotated[
        LastWill | None, Meta(description="What the broker says if the gateway is lost.")
    ] = None
    subscribe: Annotated[
        tuple[str, ...],
        Meta(description="Topic filters to subscribe to, whatever the routing table says."),
    ] = ()
    routes: Annotated[
        bool,
        Meta(
            description="Whether to subscribe to the topics that routing tables name by "
            "``mqtt_topic`` and ``MqttConsumer.topics``, too, while a worker has them."
        ),
    ] = True
    qos: Annotated[
        QoS,
        Meta(
            description="Of the subscriptions. 1: every message comes, and is marked where it may "
            "be a second time. 2: as 1, and what comes a second time while the session lives is "
            "not handed in again. 0: what comes while nobody listens is lost."
        ),
    ] = 1
    publish: Annotated[
        tuple[str, ...],
        Meta(description="Topic filters that all publishes must be within. Empty: anywhere."),
    ] = ()
    reply_topics: Annotated[
        tuple[str, ...],
        Meta(
            description="Topic filters: a publisher may ask for its answer there (MQTT 5, response "
            "topic). Any other answer goes to ``mqtt.reply_topic``, since a publisher could have "
            "the gateway say anything anywhere. ``#``: all publishers are trusted."
        ),
    ] = ()
    allow_loop: Annotated[
        bool,
        Meta(
            description="Whether the gateway may publish to what it subscribes to where the broker "
            "would send that back: with 3.1.1, and in the mode shared. It is an endless loop "
            "where a consumer answers what it is answered."
        ),
    ] = False
    keepalive: Annotated[
        int,
        Meta(
            ge=5,
            le=65535,
            description="Seconds of silence after which the broker is asked whether it is there. "
            "60: below the timeouts of most routers.",
        ),
    ] = 60
    session_expiry: Annotated[
        int,
        Meta(
            ge=0,
            le=0xFFFFFFFF,
            description="Seconds that the broker keeps for the gateway what comes while it is "
            "away (MQTT 5; 3.1.1 brokers decide themselves). 86400: a day. 0: nothing.",
        ),
    ] = 86_400
    receive_maximum: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="QoS 1 and 2 messages that may be unacknowledged at once. 128: two "
            "deliveries, one with a consumer and one on its way.",
        ),
    ] = 128
    max_packet: Annotated[
        int,
        Meta(
            ge=1024,
            le=268_435_460,
            description="Bytes of one packet; a broker of MQTT 5 does not send a larger one. "
            "1,000,000: the layer carries 1 MiB (layer.message_bytes, to be raised first).",
        ),
    ] = 1_000_000
    max_topics: Annotated[
        Count,
        Meta(
            description="Topics whose order is remembered while nothing of them is in hand; of the "
            "one that was silent longest ``order`` begins anew. 10,000: some 5 MB."
        ),
    ] = 10_000
    max_queued: Annotated[
        Count,
        Meta(
            description="Publishes that wait while the broker is away or behind; more are dropped, "
            "counted. 10,000: some seconds of a busy site."
        ),
    ] = 10_000
    max_queued_bytes: Annotated[Count, Meta(description="Their payloads' bytes. 16 MiB.")] = (
        16 << 20
    )
    connect_timeout: Annotated[
        Seconds,
        Meta(description="Seconds for a connection to be there. 10: lost packets, and TLS."),
    ] = 10.0
    retry_longest: Annotated[
        Seconds,
        Meta(
            description="Seconds between two attempts to connect, at most. 30: soon enough for "
            "people, and no load for a broker that is down."
        ),
    ] = 30.0

    @property
    def hears_itself(self) -> bool:
        """Whether the broker sends back what the gateway publishes: there is no No Local."""
        return self.version != "5" or self.mode == "shared"
