"""The messages of the mqtt plugin, both roles: what it emits, and what it understands. Pure.

The core adds ``reply_channel``, ``order``, ``client`` and ``server`` to what is emitted.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypedDict

from msgspec import Meta

from gateway.core import names

Properties = list[tuple[str, str]]

CLIENT_ID = Meta(description="The device's client id; in the client role the gateway's own.")
BROKER = Meta(description="Client role: the name of the broker.")


class Will(TypedDict, total=False):
    """What the server says for a device that is lost."""

    topic: Annotated[str, Meta(description="Where it is published.")]
    bytes: Annotated[bytes, Meta(description="Its payload.")]
    qos: Annotated[int, Meta(description="0, 1 or 2.")]
    retain: Annotated[bool, Meta(description="Whether it is kept.")]
    delay: Annotated[int, Meta(description="MQTT 5: seconds until it is published.")]
    properties: Annotated[dict[str, Any], Meta(description="MQTT 5: its other properties.")]


class Connect(TypedDict, total=False):
    """A device asks to be let in (server role); a broker let us in (client role)."""

    client_id: Annotated[str, CLIENT_ID]
    protocol: Annotated[int, Meta(description="4: MQTT 3.1.1. 5: MQTT 5.")]
    username: Annotated[str | None, Meta(description="What the device calls itself.")]
    password: Annotated[
        bytes | None, Meta(description="The device's password.", extra={"secret": True})
    ]
    clean_start: Annotated[bool, Meta(description="Whether it wants no earlier session.")]
    keepalive: Annotated[int, Meta(description="Seconds in which it promises a sign of life.")]
    will: Annotated[Will | None, Meta(description="What is said if it is lost.")]
    properties: Annotated[
        dict[str, Any],
        Meta(
            description="MQTT 5: the properties of its CONNECT by their names, such as "
            "``session_expiry_interval``, ``authentication_method``; those of CONNACK in the "
            "client role.",
            extra={"secret": True},
        ),
    ]
    broker: Annotated[str, BROKER]


class Auth(TypedDict, total=False):
    """A device (MQTT 5) proves who it is, by a method of its own, before ``mqtt.connect``.

    Its consumer answers with ``auth``, which the device answers in turn; or returns: it is proven.
    """

    client_id: Annotated[str, CLIENT_ID]
    method: Annotated[str, Meta(description="The authentication method, such as SCRAM-SHA-256.")]
    data: Annotated[
        bytes | None,
        Meta(description="The authentication data of this step.", extra={"secret": True}),
    ]
    step: Annotated[int, Meta(description="1, and one more for each answer of the device.")]
    again: Annotated[
        bool, Meta(description="Whether a device that was let in proves anew who it is.")
    ]


class Subscribe(TypedDict):
    """A device asks for subscriptions. Refused, it gets none of them."""

    client_id: Annotated[str, CLIENT_ID]
    filters: Annotated[
        list[tuple[str, int]], Meta(description="(topic filter, QoS that is asked for).")
    ]


class Unsubscribe(TypedDict):
    """A device has given up subscriptions."""

    client_id: Annotated[str, CLIENT_ID]
    filters: Annotated[list[str], Meta(description="The topic filters.")]


class Receive(TypedDict, total=False):
    """A publish of a device, or of a broker: exactly one of ``text`` and ``bytes``.

    With QoS 1 or 2 it is acknowledged once its consumer has returned.
    """

    topic: Annotated[str, Meta(description="The topic.")]
    bytes: Annotated[bytes, Meta(description="The payload.")]
    text: Annotated[
        str, Meta(description="The payload where the publisher (MQTT 5) says that it is UTF-8.")
    ]
    qos: Annotated[int, Meta(description="0, 1 or 2.")]
    retain: Annotated[bool, Meta(description="Whether the publisher wants it kept.")]
    duplicate: Annotated[
        bool,
        Meta(description="Whether it may have been handled before: sent again, or tried again."),
    ]
    attempt: Annotated[
        int, Meta(description="1, or one more for each time that it was tried before.")
    ]
    packet_id: Annotated[
        int, Meta(description="QoS 1 and 2: the packet identifier, for ``idempotent``.")
    ]
    response_topic: Annotated[
        str | None, Meta(description="MQTT 5: where the publisher waits for an answer.")
    ]
    correlation_data: Annotated[
        bytes | None, Meta(description="MQTT 5: what the answer is to carry.")
    ]
    content_type: Annotated[str | None, Meta(description="MQTT 5: what the payload is.")]
    user_properties: Annotated[Properties, Meta(description="MQTT 5: (name, value), in order.")]
    client_id: Annotated[str, CLIENT_ID]
    broker: Annotated[str, BROKER]


class Failed(Receive, total=False):
    """A publish that failed for good, where ``on_failure`` is ``dead_letter``."""

    reason: Annotated[str, Meta(description="What the last attempt ended with.")]


class Disconnect(TypedDict, total=False):
    """The connection is over, whoever ended it. One for each that was accepted."""

    client_id: Annotated[str, CLIENT_ID]
    code: Annotated[
        int,
        Meta(
            description="The reason code (MQTT 5, section 3.14.2.1): 0 the device left as it "
            "should, 0x8D it was silent for too long, 0x8E another connection took the session "
            "over, 0x80 it left without a word."
        ),
    ]
    reason: Annotated[str, Meta(description="Words, where there are any.")]
    broker: Annotated[str, BROKER]


class Reply(TypedDict, total=False):
    """The uniform reply, and what MQTT adds to it: a publish.

    The same keys on ``mqtt.publish``, where ``topic`` is required, and on the addresses
    ``mqtt.publish!TOPIC`` and ``mqtt.at!BROKER.TOPIC``, where it is not.
    """

    text: Annotated[
        str, Meta(description="Publish this text, marked as UTF-8. Not together with ``bytes``.")
    ]
    bytes: Annotated[bytes, Meta(description="Publish these bytes.")]
    topic: Annotated[
        str,
        Meta(
            description="Where to. Without it: the response topic of the message that is "
            "answered, else ``reply_topic``."
        ),
    ]
    qos: Annotated[int, Meta(ge=0, le=2, description="0, 1 or 2; 0 if it is not said.")]
    retain: Annotated[
        bool, Meta(description="Keep it for later subscribers; empty, it ends what was kept.")
    ]
    expiry: Annotated[
        int,
        Meta(ge=0, le=0xFFFFFFFF, description="Seconds after which nobody need get it any more."),
    ]
    content_type: Annotated[str, Meta(description="MQTT 5: what the payload is.")]
    user_properties: Annotated[Properties, Meta(description="MQTT 5: (name, value), in order.")]
    response_topic: Annotated[str, Meta(description="MQTT 5: where we wait for an answer.")]
    correlation_data: Annotated[
        bytes, Meta(description="MQTT 5: what the answer is to carry; the request's, if not said.")
    ]
    broker: Annotated[
        str, Meta(description="The broker to publish at; without it ``mqtt.default``.")
    ]
    auth: Annotated[
        bytes,
        Meta(
            description="Answering ``mqtt.auth``: authentication data for the device, which "
            "answers with another; with ``accept`` the last."
        ),
    ]
    accept: Annotated[
        bool, Meta(description="Let the device in, or refuse it, while that is undecided.")
    ]
    close: Annotated[
        bool | int,
        Meta(
            description="End the connection, after what is sent with it; a number is the reason "
            "code (MQTT 5)."
        ),
    ]
    reason: Annotated[str, Meta(description="The words for ``close`` or a refusal (MQTT 5).")]
    pin: Annotated[
        str,
        Meta(
            pattern=names.PIN_PATTERN,
            description="From now on what this connection sends, and its disconnect, goes to one "
            "worker process: `pin.` and the name of that process on the layer. In a direct reply "
            "only.",
        ),
    ]
    ack: Annotated[
        int,
        Meta(
            description="Report under this number when it is done: with QoS 1 and 2 when it was "
            "acknowledged."
        ),
    ]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]


KINDS: Final = {
    "auth": Auth,
    "connect": Connect,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "receive": Receive,
    "failed": Failed,
    "disconnect": Disconnect,
}
"""What the plugin emits, by kind."""

REPLY: Final = Reply
"""What the plugin understands."""
