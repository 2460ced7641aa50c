"""CONNECT and CONNACK: what is refused without asking, and our limits. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.plugin import FAILED, RELEASED, Outcome, Refusal
from gateway.plugins.mqtt import codec, reasons
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import V5, V311, Connack, Connect, Properties

WORDS: Final = 200
"""Characters of a reason string: it is for people."""

UNREACHED: Final = {
    Refusal.FULL: (reasons.QUOTA_EXCEEDED, "the application is busy"),
    Refusal.DRAINING: (reasons.UNAVAILABLE, "the gateway is shutting down"),
    Refusal.UNAVAILABLE: (reasons.UNAVAILABLE, "the application cannot be reached"),
    Refusal.TOO_BIG: (reasons.TOO_LARGE, "too big for one message"),
    Refusal.TOO_SLOW: (reasons.QUOTA_EXCEEDED, "too much waits to be worked on"),
    Refusal.TIMEOUT: (reasons.UNAVAILABLE, "no answer in time"),
    Refusal.BROKEN: (reasons.IMPLEMENTATION_ERROR, "the gateway made a mistake"),
}
"""What a CONNECT is answered that never reached a consumer."""

_ALWAYS_TOLD: Final = frozenset(
    (
        reasons.UNSUPPORTED_VERSION,
        reasons.BAD_CLIENT_ID,
        reasons.BAD_AUTHENTICATION_METHOD,
    )
)

Wrong = tuple[int, str]


def topic_limit(topic: str, config: MqttConfig) -> str | None:
    """Return which limit a topic or filter is over; None for none."""
    if len(topic.encode()) > config.max_topic:
        return f"a topic of over {config.max_topic} bytes"
    if topic.count("/") >= config.max_topic_levels:
        return f"a topic of over {config.max_topic_levels} levels"
    return None


def fault(hello: Connect, config: MqttConfig, *, authenticates: bool) -> Wrong | None:
    """Return why a CONNECT is refused without asking; None where the application decides.

    ``authenticates``: it also does so step by step (`gateway.plugins.mqtt.server.proof`).
    """
    if "authentication_method" in hello.properties and not authenticates:
        return reasons.BAD_AUTHENTICATION_METHOD, "there is no such authentication method"
    if not hello.client_id and hello.protocol == V311 and not hello.clean_start:
        return reasons.BAD_CLIENT_ID, "a client id is needed"  # 3.1.1, section 3.1.3-8
    if len(hello.client_id.encode()) > config.max_topic:
        return reasons.BAD_CLIENT_ID, "the client id is too long"
    will = hello.will
    if will is not None:
        if will.topic.startswith("$"):
            return reasons.BAD_TOPIC, "the will: a topic of the server's"
        if limit := topic_limit(will.topic, config):
            return reasons.BAD_TOPIC, f"the will: {limit}"
        if will.retain and not config.max_retained:
            return reasons.RETAIN_UNSUPPORTED, "nothing is retained here"
    return None


def undecided(outcome: Outcome) -> Wrong:
    """Return what a CONNECT is answered that was neither accepted nor rejected."""
    if outcome.kind == FAILED:
        return reasons.IMPLEMENTATION_ERROR, "the application failed"
    if outcome.kind == RELEASED:
        return reasons.UNAVAILABLE, "nobody was there to answer"
    return reasons.NOT_AUTHORIZED, "nobody asks for devices here"


def code_of(said: Any) -> int | None:
    """Return the CONNACK's code that an application asks for; None for one that is foreign."""
    if said is None or isinstance(said, bool):
        return reasons.NOT_AUTHORIZED
    return int(said) if said in reasons.OF_CONNACK else None


def refusal(code: int, reason: str, protocol: int, *, known: bool) -> bytes:
    """Return the CONNACK that refuses.

    Where it is not ``known`` that there was a CONNECT at all there is none (3.1.1, section
    3.1.4-1), unless the code says so.
    """
    if not known and code not in _ALWAYS_TOLD:
        return b""
    if protocol == V5:
        properties = {"reason_string": reason[:WORDS]} if reason else {}
        return codec.encode(Connack(code, properties=properties), V5)
    return codec.encode(Connack(reasons.return_code(code)), V311)


def terms(hello: Connect, config: MqttConfig, keepalive: int, assigned: str) -> Properties:
    """Return what a CONNACK of MQTT 5 says of our limits (section 3.2.2.3)."""
    said: Properties = {
        "receive_maximum": config.receive_maximum,
        "maximum_packet_size": config.max_packet,
    }
    if config.topic_aliases:
        said["topic_alias_maximum"] = config.topic_aliases
    if hello.properties.get("session_expiry_interval", 0) > config.max_session_expiry:
        said["session_expiry_interval"] = config.max_session_expiry
    if not config.max_retained:
        said["retain_available"] = 0
    if assigned:
        said["assigned_client_identifier"] = assigned
    if keepalive != hello.keepalive:
        said["server_keep_alive"] = keepalive
    return said


def expiry(hello: Connect, config: MqttConfig) -> int:
    """Return for how many seconds the session outlives its connection."""
    asked: int = hello.properties.get("session_expiry_interval", 0)
    if hello.protocol == V311 and not hello.clean_start:
        asked = config.max_session_expiry
    return min(asked, config.max_session_expiry)


def keepalive(hello: Connect, config: MqttConfig) -> int:
    """Return in how many seconds the device is to give a sign of life; 0: in any."""
    if config.max_keepalive and not 0 < hello.keepalive <= config.max_keepalive:
        return config.max_keepalive
    return hello.keepalive


def bounds(properties: Properties, config: MqttConfig) -> tuple[int, int, int]:
    """Return what a device takes by its CONNECT (`MqttSession.bounds`)."""
    return (
        min(properties.get("receive_maximum", 0xFFFF), config.max_inflight),
        properties.get("maximum_packet_size", codec.MAX_PACKET),
        min(properties.get("topic_alias_maximum", 0), config.topic_aliases),
    )
