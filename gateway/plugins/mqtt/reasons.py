"""Reason codes (MQTT 5, section 2.4), and what 3.1.1 has instead. Pure."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x00
DISCONNECT_WITH_WILL: Final = 0x04
NO_MATCHING_SUBSCRIBERS: Final = 0x10
NO_SUBSCRIPTION_EXISTED: Final = 0x11
CONTINUE_AUTHENTICATION: Final = 0x18
REAUTHENTICATE: Final = 0x19
UNSPECIFIED: Final = 0x80
MALFORMED: Final = 0x81
PROTOCOL_ERROR: Final = 0x82
IMPLEMENTATION_ERROR: Final = 0x83
UNSUPPORTED_VERSION: Final = 0x84
BAD_CLIENT_ID: Final = 0x85
BAD_CREDENTIALS: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
UNAVAILABLE: Final = 0x88
BUSY: Final = 0x89
BAD_AUTHENTICATION_METHOD: Final = 0x8C
SHUTTING_DOWN: Final = 0x8B
KEEP_ALIVE_TIMEOUT: Final = 0x8D
TAKEN_OVER: Final = 0x8E
BAD_FILTER: Final = 0x8F
BAD_TOPIC: Final = 0x90
PACKET_ID_IN_USE: Final = 0x91
PACKET_ID_NOT_FOUND: Final = 0x92
RECEIVE_MAXIMUM_EXCEEDED: Final = 0x93
BAD_TOPIC_ALIAS: Final = 0x94
TOO_LARGE: Final = 0x95
RATE_TOO_HIGH: Final = 0x96
QUOTA_EXCEEDED: Final = 0x97
ADMINISTRATIVE: Final = 0x98
BAD_PAYLOAD_FORMAT: Final = 0x99
RETAIN_UNSUPPORTED: Final = 0x9A
QOS_UNSUPPORTED: Final = 0x9B
SHARED_UNSUPPORTED: Final = 0x9E

ERROR: Final = 0x80
"""The least code that is an error; also SUBACK's "failure" in 3.1.1."""

OF_CONNACK: Final = frozenset(
    (
        *range(0x80, 0x8B),
        BAD_AUTHENTICATION_METHOD,
        BAD_TOPIC,
        TOO_LARGE,
        QUOTA_EXCEEDED,
        *range(0x99, 0xA0),
    )
)
"""The errors that a CONNACK may carry (section 3.2.2.2)."""
OF_SUBACK: Final = frozenset((0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))
"""… a SUBACK (section 3.9.3)."""
OF_PUBACK: Final = frozenset((0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
"""… a PUBACK or PUBREC (sections 3.4.2.1 and 3.5.2.1)."""
OF_DISCONNECT: Final = frozenset(
    (
        *range(0x80, 0x84),
        NOT_AUTHORIZED,
        BUSY,
        SHUTTING_DOWN,
        KEEP_ALIVE_TIMEOUT,
        TAKEN_OVER,
        BAD_FILTER,
        BAD_TOPIC,
        *range(0x93, 0xA3),
    )
)
"""… a DISCONNECT of the server (section 3.14.2.1)."""

_RETURN_CODES: Final = {
    SUCCESS: 0,
    UNSUPPORTED_VERSION: 1,
    BAD_CLIENT_ID: 2,
    UNAVAILABLE: 3,
    BUSY: 3,
    QUOTA_EXCEEDED: 3,
    UNSPECIFIED: 3,
    IMPLEMENTATION_ERROR: 3,
    BAD_CREDENTIALS: 4,
}


def return_code(code: int) -> int:
    """Return the CONNACK return code of 3.1.1 (its section 3.2.2.3) nearest to a reason code.

    What is none of "version", "identifier", "unavailable", "user name or password" is 5, not
    authorized.
    """
    return _RETURN_CODES.get(code, 5)
