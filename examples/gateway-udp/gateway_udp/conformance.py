"""What udp sounds like: the rest of its tests is `PluginSuite`'s."""

from __future__ import annotations

from gateway.testing.plugin_suite import PluginSuite, Turn

from gateway_udp import UdpPlugin


class UdpSuite(PluginSuite):
    """Datagrams, of which nobody says what became of them."""

    plugin = UdpPlugin
    conversation = (
        Turn(b"hello", ("receive", {"data": b"hello"}), replies=({"text": "hi"},), answer=b"hi"),
        Turn(
            b"\0\xff",
            ("receive", {"data": b"\0\xff", "order": 1}),
            replies=({"data": b"\xff"}, {"bytes": b"\0"}),
            answer=b"\xff\0",
        ),
    )
    question = b"hello"
    answers = {"accepted": b"", "rejected": b"", "failed": b"", "released": b"", "unrouted": b""}
    full = b""
    too_much = b"x" * 70_000
    cuttable = False
    pipelined = False
