"""What telnet sounds like: the rest of its tests is `PluginSuite`'s."""

from __future__ import annotations

from gateway.core.plugin import REJECTED, Outcome
from gateway.testing.plugin_suite import PluginSuite, Turn

from gateway_telnet import TelnetPlugin


class TelnetSuite(PluginSuite):
    """A client as they are: it offers options, ends lines in three ways, and talks."""

    plugin = TelnetPlugin
    opening = (Turn(hears=("connect", {}), replies=({"text": "welcome"},), answer=b"welcome\r\n"),)
    conversation = (
        Turn(b"hello\r\n", ("receive", {"text": "hello"})),
        Turn(
            b"who\r\0",
            ("receive", {"text": "who"}),
            replies=({"text": "a\nb"},),
            answer=b"a\r\nb\r\n",
        ),
        Turn(
            b"\n", ("receive", {"text": ""}), replies=({"bytes": b"\xff> "},), answer=b"\xff\xff> "
        ),
        Turn(b"\xff\xfb\x18\xff\xfd\x01", answer=b"\xff\xfe\x18\xff\xfc\x01"),
        Turn(b"\xff\xfc\x18\xff\xfe\x01\xff\xf1"),
        Turn(
            b"a\xff\xfa\x18\0x\r\n\xff\xffy\xff\xfd\x03\xff\xf0b\xff\xf6c\r\n",
            ("receive", {"text": "abc"}),
        ),
        Turn(b"\xff\xff\r\n", ("receive", {"text": "�"})),
        Turn(
            b"sit\r\n",
            ("receive", {"text": "sit"}),
            Outcome(REJECTED, reason="no seats"),
            answer=b"no seats\r\n",
        ),
        Turn(b"one\r\ntwo\r\n", (("receive", {"text": "one"}), ("receive", {"text": "two"}))),
    )
    question = b"hello\r\n"
    answers = {
        "accepted": b"",
        "rejected": b"refused\r\n",
        "failed": b"try again later\r\n",
        "released": b"try again later\r\n",
        "unrouted": b"nobody listens\r\n",
    }
    full = b"try again later\r\n"
    too_much = b"x" * 10_000
