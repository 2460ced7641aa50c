"""The control packets of MQTT 3.1.1 and 5, as values. Pure.

Sections are those of MQTT 5. Properties are a dict by their names in `properties`, empty in
3.1.1. ``protocol`` is 4 for 3.1.1 and 5 for 5, as in CONNECT.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15
"""The types of packets (section 2.1.2)."""

V311: Final = 4
V5: Final = 5
"""Protocol versions (section 3.1.2.2)."""

Properties = dict[str, Any]

NOTHING: Final[Properties] = {}
"""No properties; one for all, never written to."""


class Will(msgspec.Struct, frozen=True):
    """What a CONNECT asks to be published (section 3.1.3.2 to 3.1.3.4)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NOTHING


class Connect(msgspec.Struct, frozen=True):
    """Section 3.1. A password is bytes, a user name text; None where there is none."""

    client_id: str
    protocol: int = V5
    clean_start: bool = True
    keepalive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NOTHING


class Connack(msgspec.Struct, frozen=True):
    """Section 3.2. ``code`` is a return code of 3.1.1, 0 to 5, in 3.1.1."""

    code: int = 0
    session_present: bool = False
    properties: Properties = NOTHING


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Section 3.3. ``packet_id`` is 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    packet_id: int = 0
    properties: Properties = NOTHING


class Ack(msgspec.Struct, frozen=True, gc=False):
    """PUBACK, PUBREC, PUBREL or PUBCOMP, by ``type`` (sections 3.4 to 3.7)."""

    type: int
    packet_id: int
    code: int = 0
    properties: Properties = NOTHING


class Subscribe(msgspec.Struct, frozen=True):
    """Section 3.8. ``filters``: (filter, options), as `options` reads them."""

    packet_id: int
    filters: list[tuple[str, int]]
    properties: Properties = NOTHING


class Suback(msgspec.Struct, frozen=True):
    """Section 3.9: a reason code for each filter."""

    packet_id: int
    codes: list[int]
    properties: Properties = NOTHING


class Unsubscribe(msgspec.Struct, frozen=True):
    """Section 3.10."""

    packet_id: int
    filters: list[str]
    properties: Properties = NOTHING


class Unsuback(msgspec.Struct, frozen=True):
    """Section 3.11: a reason code for each filter, none in 3.1.1."""

    packet_id: int
    codes: list[int]
    properties: Properties = NOTHING


class Ping(msgspec.Struct, frozen=True, gc=False):
    """PINGREQ or PINGRESP, by ``type`` (sections 3.12 and 3.13)."""

    type: int


class Disconnect(msgspec.Struct, frozen=True):
    """Section 3.14."""

    code: int = 0
    properties: Properties = NOTHING


class Auth(msgspec.Struct, frozen=True):
    """Section 3.15; in MQTT 5 alone."""

    code: int = 0
    properties: Properties = NOTHING


class Fault(msgspec.Struct, frozen=True):
    """Bytes that are no packet: the last thing that a decoder says. ``code``: a reason code."""

    code: int
    reason: str


Packet = (
    Connect
    | Connack
    | Publish
    | Ack
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Ping
    | Disconnect
    | Auth
)

# Subscription options (section 3.8.3.1):
#
#     bits   7  6    5  4      3    2   1  0
#           reserved  retain   RAP  NL   QoS
#                     handling
QOS: Final = 0b11
NO_LOCAL: Final = 0b100
RETAIN_AS_PUBLISHED: Final = 0b1000
RETAIN_HANDLING: Final = 0b110000
