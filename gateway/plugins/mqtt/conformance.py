"""What mqtt sounds like, for `gateway.testing.plugin_suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.core.plugin import OK
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import ack, encode
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.plugin import MqttPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn

FIVE: Final = p.V5

_ASSIGNED: Final = re.compile(rb"gateway-[0-9a-f]{16}")


def said(packet: p.Packet) -> bytes:
    """Return the bytes of a packet of MQTT 5."""
    return encode(packet, FIVE)


def closed(code: int, reason: str) -> bytes:
    """Return a DISCONNECT of the server's."""
    return said(p.Disconnect(code, {"reason_string": reason}))


class MqttSuite(PluginSuite):
    """A device of MQTT 5."""

    plugin = MqttPlugin
    config = MqttConfig(attempts=1)
    opening: ClassVar = (
        Turn(
            said(p.Connect("", username="u", password=b"secret")),
            ("connect", {"username": "u", "protocol": 5, "password": b"secret"}),
            answer=said(
                p.Connack(
                    properties={
                        "receive_maximum": 64,
                        "maximum_packet_size": 1_000_000,
                        "topic_alias_maximum": 16,
                        "assigned_client_identifier": "gateway-0123456789abcdef",
                        "server_keep_alive": 3600,
                    }
                )
            ),
        ),
    )
    conversation: ClassVar = (
        Turn(
            said(p.Publish("sensors/7/temp", b"20.5", 1, packet_id=9)),
            ("receive", {"topic": "sensors/7/temp", "bytes": b"20.5", "qos": 1, "attempt": 1}),
            replies=({"text": "noted"},),
            answer=said(
                p.Publish(
                    "sensors/7/temp/reply", b"noted", properties={"payload_format_indicator": 1}
                )
            )
            + ack(p.PUBACK, 9),
        ),
        Turn(said(p.Ping(p.PINGREQ)), answer=said(p.Ping(p.PINGRESP))),
        Turn(
            said(p.Publish("a", b"x", 2, packet_id=10)),
            ("receive", {"topic": "a", "bytes": b"x", "qos": 2}),
            answer=ack(p.PUBREC, 10),
        ),
        Turn(ack(p.PUBREL, 10), answer=ack(p.PUBCOMP, 10)),
        Turn(
            said(p.Subscribe(11, [("jobs/#", 1), ("$share/g/x", 0)])),
            ("subscribe", {"filters": [["jobs/#", 1], ["$share/g/x", 0]]}),
            outcome=OK,
            answer=said(p.Suback(11, [1, 0])),
        ),
        Turn(
            said(p.Unsubscribe(12, ["jobs/#", "nothing"])),
            ("unsubscribe", {"filters": ["jobs/#", "nothing"]}),
            answer=said(p.Unsuback(12, [0, 0x11])),
        ),
    )
    question = said(p.Publish("q", b"?", 1, packet_id=77))
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": ack(p.PUBACK, 77),
        "rejected": ack(p.PUBACK, 77, 0x87, FIVE),
        "failed": closed(0x83, "a message could not be handled"),
        "released": closed(0x83, "a message could not be handled"),
        "unrouted": closed(0x83, "a message could not be handled"),
    }
    closes = frozenset({"failed", "released", "unrouted", "full", "unavailable"})
    full = closed(0x83, "a message could not be handled")
    unavailable = closed(0x83, "a message could not be handled")
    too_much = said(p.Publish("q", bytes(1_000_001)))
    too_much_answer = closed(0x95, "a packet of over 1000000 bytes")
    farewell = closed(0x8B, "the gateway is shutting down")

    def test_fast_client(self) -> None:
        """A client that asks faster than workers answer is read no further, and loses nothing.

        One of 3.1.1, since one of 5 may not; and each question has an identifier of its own.
        """
        with self.rig(inbox_messages=8) as rig:
            client = self.connect(rig)
            client.send(encode(p.Connect("fast", p.V311), p.V311))
            rig.hear().settle(OK)
            self.expect(rig, client, encode(p.Connack(), p.V311), "to its CONNECT")
            for number in range(1, 121):
                client.send(encode(p.Publish("q", b"?", 1, packet_id=number), p.V311))
            first = rig.hear()
            waiting: list[Any] = rig.call(lambda: list(rig.context.connections()))
            self.that(not any(one.is_over(2) for one in waiting), "reading goes on: heed pause()")
            first.settle(OK)
            for _ in range(2, 121):
                rig.hear().settle(OK)
            answers = b"".join(ack(p.PUBACK, number) for number in range(1, 121))
            self.expect(rig, client, answers, "to 120 questions")

    def normal(self, data: bytes) -> bytes:
        """Return what was heard with the same client id for all."""
        return _ASSIGNED.sub(b"gateway-0123456789abcdef", data)
